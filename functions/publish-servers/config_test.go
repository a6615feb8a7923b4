package main

import (
	"log/slog"
	"strings"
	"testing"

	"ecsmesh/shared/environment"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	got, err := environment.Parse[config](map[string]string{
		"SERVERS_PARAMETER":     "/ecsmesh/consul-servers",
		"CONSUL_SERVER_CLUSTER": "arn:aws:ecs:eu-west-1:123456789012:cluster/consul",
		"CONSUL_SERVER_SERVICE": "consul-server",
		"LOG_LEVEL":             "DEBUG",
		"PATH":                  "/usr/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		ServersParameter: "/ecsmesh/consul-servers",
		Cluster:          "arn:aws:ecs:eu-west-1:123456789012:cluster/consul",
		Service:          "consul-server",
		LogLevel:         slog.LevelDebug,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigReportsAllFaultsAtOnce(t *testing.T) {
	_, err := environment.Parse[config](map[string]string{"CONSUL_SERVER_SERVICE": "", "LOG_LEVEL": "CHATTY"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, words := range []string{"SERVERS_PARAMETER is not set", "CONSUL_SERVER_CLUSTER is not set", "CONSUL_SERVER_SERVICE is empty", `LOG_LEVEL is "CHATTY"`} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
}
