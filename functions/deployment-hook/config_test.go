package main

import (
	"log/slog"
	"strings"
	"testing"

	"ecsmesh/shared/access"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/function"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		want        config
	}{
		"defaults": {
			map[string]string{"SERVERS_PARAMETER": "/a/b", "DEPLOYMENT_HOOK_SERVICES": ""},
			config{ServersParameter: "/a/b", LimitMinutes: 30},
		},
		"everything": {
			map[string]string{"SERVERS_PARAMETER": "/a/b", "CONSUL_HTTP_PORT": "18500", "DEPLOYMENT_HOOK_LIMIT_MINUTES": "5", "DEPLOYMENT_HOOK_SERVICES": "api,web", "LOG_LEVEL": "warn", "DRY_RUN": "true", "AWS_SAM_LOCAL": "true"},
			config{
				Settings:         access.Settings{HTTPPort: 18500},
				Logging:          function.Logging{LogLevel: slog.LevelWarn},
				Switch:           dryrun.Switch{DryRun: dryrun.On, Local: true},
				ServersParameter: "/a/b",
				LimitMinutes:     5,
				Services:         []string{"api", "web"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := environment.Parse[config](test.environment)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// ECS takes no plan for an answer; a person at `sam local invoke` wants one.
func TestThePlanIsForPeople(t *testing.T) {
	for local, want := range map[bool]bool{false: true, true: false} {
		if got := (config{Switch: dryrun.Switch{DryRun: dryrun.On, Local: local}}).LogsPlan(); got != want {
			t.Errorf("local %t: the plan is for the log alone: %t", local, got)
		}
	}
}

func TestConfigReportsAllFaultsAtOnce(t *testing.T) {
	_, err := environment.Parse[config](map[string]string{"DEPLOYMENT_HOOK_LIMIT_MINUTES": "soon", "CONSUL_HTTP_PORT": "0", "DRY_RUN": "perhaps"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, words := range []string{"SERVERS_PARAMETER is not set", `DEPLOYMENT_HOOK_LIMIT_MINUTES is "soon", want a number of minutes`, `CONSUL_HTTP_PORT is "0"`, `DRY_RUN is "perhaps"`} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}
