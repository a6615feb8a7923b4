package main

import (
	"log/slog"
	"strings"
	"testing"

	"ecsmesh/shared/access"
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
			map[string]string{"SERVERS_PARAMETER": "/ecsmesh/consul-servers", "PATH": "/usr/bin"},
			config{ServersParameter: "/ecsmesh/consul-servers"},
		},
		"everything": {
			map[string]string{"SERVERS_PARAMETER": "/a/b", "CONSUL_HTTP_PORT": "18500", "CONSUL_HTTP_SSL": "false", "FORCE_LEAVE": "true", "LOG_LEVEL": "warn"},
			config{
				Settings:         access.Settings{HTTPPort: 18500},
				Logging:          function.Logging{LogLevel: slog.LevelWarn},
				ServersParameter: "/a/b",
				ForceLeave:       true,
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

func TestConfigReportsAllFaultsAtOnce(t *testing.T) {
	_, err := environment.Parse[config](map[string]string{"CONSUL_HTTP_PORT": "0", "CONSUL_HTTP_SSL": "maybe", "LOG_LEVEL": "CHATTY"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, words := range []string{
		"SERVERS_PARAMETER is not set",
		`CONSUL_HTTP_PORT is "0", want a port from 1 to 65535`,
		`CONSUL_HTTP_SSL is "maybe", want true or false`,
		`LOG_LEVEL is "CHATTY"`,
	} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}

func TestConfigReportsWhatDoesNotGoTogether(t *testing.T) {
	_, err := environment.Parse[config](map[string]string{"SERVERS_PARAMETER": "/a/b", "CONSUL_HTTP_SSL": "true"})
	if err == nil || !strings.Contains(err.Error(), "CONSUL_HTTP_SSL is true, so CONSUL_CACERT_PEM") {
		t.Errorf("got %v, want an error that asks for a CA", err)
	}
}
