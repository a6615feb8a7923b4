package main

import (
	"log/slog"
	"testing"

	"ecsmesh/shared/environment"
	"ecsmesh/shared/publisher"

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
		Config: publisher.Config{
			ServersParameter: "/ecsmesh/consul-servers",
			Cluster:          "arn:aws:ecs:eu-west-1:123456789012:cluster/consul",
			Service:          "consul-server",
			HTTPPort:         8500,
		},
		LogLevel: slog.LevelDebug,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
