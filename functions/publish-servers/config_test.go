package main

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	got, err := parseConfig(map[string]string{
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

func TestParseConfigReportsAllFaultsAtOnce(t *testing.T) {
	_, err := parseConfig(map[string]string{"CONSUL_SERVER_SERVICE": "", "LOG_LEVEL": "CHATTY"})
	if err == nil {
		t.Fatal("no error")
	}
	for _, variable := range []string{"SERVERS_PARAMETER", "CONSUL_SERVER_CLUSTER", "CONSUL_SERVER_SERVICE", "CHATTY"} {
		if !strings.Contains(err.Error(), variable) {
			t.Errorf("%q does not name %s", err, variable)
		}
	}
}
