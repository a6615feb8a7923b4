package main

import (
	"log/slog"
	"strings"
	"testing"

	"ecsmesh/shared/environment"
	"ecsmesh/shared/function"
	"ecsmesh/shared/publisher"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		want        config
	}{
		"defaults": {
			map[string]string{},
			config{MaxDeletedTasks: 10, MaxDeletedPercent: 30},
		},
		"everything": {
			map[string]string{"SWEEP_MAX_DELETED_TASKS": "0", "SWEEP_MAX_DELETED_PERCENT": "100", "LOG_LEVEL": "warn"},
			config{MaxDeletedTasks: 0, MaxDeletedPercent: 100, Logging: function.Logging{LogLevel: slog.LevelWarn}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.Config = publisher.Config{ServersParameter: "/a/b", Cluster: "consul", Service: "consul-server"}
			for name, value := range map[string]string{"SERVERS_PARAMETER": "/a/b", "CONSUL_SERVER_CLUSTER": "consul", "CONSUL_SERVER_SERVICE": "consul-server"} {
				test.environment[name] = value
			}
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
	_, err := environment.Parse[config](map[string]string{
		"CONSUL_HTTP_PORT": "0", "SWEEP_MAX_DELETED_TASKS": "-1", "SWEEP_MAX_DELETED_PERCENT": "101", "LOG_LEVEL": "CHATTY",
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, words := range []string{
		"SERVERS_PARAMETER is not set",
		`CONSUL_HTTP_PORT is "0", want a port from 1 to 65535`,
		`SWEEP_MAX_DELETED_TASKS is "-1", want a whole number, 0 or more`,
		`SWEEP_MAX_DELETED_PERCENT is "101", want a whole number from 0 to 100`,
		`LOG_LEVEL is "CHATTY"`,
	} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}

func TestPercent(t *testing.T) {
	for text, fine := range map[string]bool{"0": true, "30": true, "100": true, "-1": false, "101": false, "1.5": false, "30%": false, "": false} {
		var got percent
		if err := got.UnmarshalText([]byte(text)); (err == nil) != fine {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestConfigReportsWhatDoesNotGoTogether(t *testing.T) {
	_, err := environment.Parse[config](map[string]string{"SERVERS_PARAMETER": "/a/b", "CONSUL_SERVER_CLUSTER": "consul", "CONSUL_HTTP_SSL": "true"})
	want := "read configuration from the environment: CONSUL_SERVER_CLUSTER is set, so CONSUL_SERVER_SERVICE must be too" +
		"; CONSUL_HTTP_SSL is true, so CONSUL_CACERT_PEM or CONSUL_CACERT_PARAMETER must be set"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
