package config

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/shared/consul"
)

func TestTenancy(t *testing.T) {
	for fields, want := range map[string]consul.Tenancy{
		`"service": {"port": 80}`: {},
		`"service": {"port": 80, "namespace": "default", "partition": "default"}`:            {},
		`"service": {"port": 80, "namespace": "team", "partition": "east"}`:                  {Namespace: "team", Partition: "east"},
		`"gateway": {"kind": "mesh-gateway", "namespace": "default", "partition": "east-1"}`: {Partition: "east-1"},
	} {
		cfg, err := Read(env(Variable, `{"consulServers": {"defaults": {"tls": false}}, `+fields+`}`))
		if err != nil || cfg.Tenancy != want {
			t.Errorf("%s: %+v, %v", fields, cfg.Tenancy, err)
		}
	}
}

// TestDefaultsAreNamedOnlyWhereTheyDiffer has upstreams of the default namespace:
// to a service that is in it, that is its own, as in the Community Edition.
func TestDefaultsAreNamedOnlyWhereTheyDiffer(t *testing.T) {
	for service, want := range map[string][2]string{
		`"port": 80`: {}, `"port": 80, "namespace": "team"`: {"default", ""}, `"port": 80, "partition": "east"`: {"", "default"},
	} {
		cfg, err := Read(env(Variable, fmt.Sprintf(`{"consulServers": {"defaults": {"tls": false}}, "service": {%s},
			"proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 1, "destinationNamespace": "default", "destinationPartition": "default"}]}}`, service)))
		if err != nil {
			t.Fatal(err)
		}
		upstream := cfg.Proxy.Upstreams[0]
		if got := [2]string{upstream.DestinationNamespace, upstream.DestinationPartition}; got != want {
			t.Errorf("%s: %q, want %q", service, got, want)
		}
	}
}

func TestTenantsThatCannotBe(t *testing.T) {
	const upstream = `, "proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 1, %s}]}`
	for _, test := range []struct {
		service, upstream string
		want              []string
	}{
		{`"namespace": "Team", "partition": "a_b"`, `"destinationNamespace": "-a", "destinationPartition": "b."`, []string{
			"service.namespace", "service.partition", "proxy.upstreams[0].destinationNamespace", "proxy.upstreams[0].destinationPartition"}},
		{`"partition": "east"`, `"destinationPeer": "p", "destinationPartition": "east"`, []string{}},
		{`"partition": "east"`, `"destinationPeer": "p", "destinationPartition": "west"`, []string{"proxy.upstreams[0].destinationPartition"}},
		{`"partition": "east"`, `"datacenter": "dc2"`, []string{"proxy.upstreams[0].datacenter"}},
		{`"namespace": "team"`, `"datacenter": "dc2", "destinationPartition": "default"`, []string{}},
		{`"namespace": "team"`, `"datacenter": "dc2", "destinationPartition": "west"`, []string{"proxy.upstreams[0].datacenter"}},
	} {
		got := faultsOf(t, fmt.Sprintf(`"service": {"port": 80, %s}`+upstream, test.service, test.upstream))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s, %s: %s", test.service, test.upstream, diff)
		}
	}
}
