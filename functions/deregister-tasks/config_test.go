package main

import (
	"log/slog"
	"strings"
	"testing"

	"ecsmesh/shared/environment"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		want        config
	}{
		"defaults": {
			map[string]string{"SERVERS_PARAMETER": "/ecsmesh/consul-servers", "PATH": "/usr/bin"},
			config{ServersParameter: "/ecsmesh/consul-servers", HTTPPort: 8500, LogLevel: slog.LevelInfo},
		},
		"everything": {
			map[string]string{"SERVERS_PARAMETER": "/a/b", "CONSUL_HTTP_PORT": "18500", "CONSUL_HTTP_SSL": "false", "LOG_LEVEL": "warn"},
			config{ServersParameter: "/a/b", HTTPPort: 18500, LogLevel: slog.LevelWarn},
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
	_, err := environment.Parse[config](map[string]string{"CONSUL_HTTP_PORT": "0", "CONSUL_HTTP_SSL": "true", "LOG_LEVEL": "CHATTY"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, words := range []string{
		"SERVERS_PARAMETER is not set",
		`CONSUL_HTTP_PORT is "0", want a port from 1 to 65535`,
		`CONSUL_HTTP_SSL is "true", want false: TLS to Consul is not supported yet`,
		`LOG_LEVEL is "CHATTY"`,
	} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}

func TestConfigRefusesWhatIsNoPort(t *testing.T) {
	for _, port := range []string{"0", "-1", "65536", "http"} {
		if _, err := environment.Parse[config](map[string]string{"SERVERS_PARAMETER": "/a/b", "CONSUL_HTTP_PORT": port}); err == nil {
			t.Errorf("%s: no error", port)
		}
	}
}
