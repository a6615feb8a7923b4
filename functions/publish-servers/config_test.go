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
		},
		Logging: function.Logging{LogLevel: slog.LevelDebug},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestConfigOfConsul is of interest only where Consul is asked.
func TestConfigOfConsul(t *testing.T) {
	variables := map[string]string{
		"SERVERS_PARAMETER": "/a/b", "CONSUL_HTTP_SSL": "true", // without a CA
		"CONSUL_SERVER_CLUSTER": "consul", "CONSUL_SERVER_SERVICE": "consul-server",
	}
	if _, err := environment.Parse[config](variables); err != nil {
		t.Errorf("with the servers in ECS: %v", err)
	}
	variables["CONSUL_SEED_ADDRESSES"] = "10.0.1.10"
	_, err := environment.Parse[config](variables)
	for _, words := range []string{"not both ways", "CONSUL_CACERT_PARAMETER must be set"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("with seeds: %v does not say %q", err, words)
		}
	}
}
