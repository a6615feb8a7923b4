package registration

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
)

const (
	gateway        = `{"consulServers": {"defaults": {"tls": false}}, "gateway": {"kind": "terminating-gateway"}}`
	atLoadBalancer = `{"consulServers": {"defaults": {"tls": false}}, "gateway": {"kind": "mesh-gateway", "name": "dc1-gateway", "tags": ["public"], "meta": {"team": "a", "source": "theirs"},
		"lanAddress": {"address": "10.0.9.9", "port": 8444}, "wanAddress": {"address": "gateway.example.com", "port": 443}, "proxy": {"config": {"envoy_dns_discovery_type": "STRICT_DNS"}}}}`
)

// TestTheUserSaysWhereAGatewayListens has options that say it, one of which
// suffices.
func TestTheUserSaysWhereAGatewayListens(t *testing.T) {
	document := strings.Replace(atLoadBalancer, `"envoy_dns_discovery_type": "STRICT_DNS"`, `"envoy_gateway_bind_tagged_addresses": true`, 1)
	got := build(t, "a1", document).Sidecar.Service.Proxy.Config
	if diff := cmp.Diff(map[string]any{"envoy_gateway_bind_tagged_addresses": true}, got); diff != "" {
		t.Error(diff)
	}
}

// TestConsulKeepsAllOfAGateway writes it twice, as after a crash.
func TestConsulKeepsAllOfAGateway(t *testing.T) {
	client := consultest.Start(t).Client
	r := build(t, "a1", atLoadBalancer)
	for range 2 {
		if datacenter, err := r.Write(t.Context(), client); err != nil || datacenter != "dc1" {
			t.Fatalf("got %q, %v", datacenter, err)
		}
	}
	found, err := r.Read(t.Context(), only{client})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Services) != 1 || len(found.Checks) != 1 {
		t.Fatalf("%d services and %d checks, want one each", len(found.Services), len(found.Checks))
	}
	service, check := found.Services[0], found.Checks[0]
	if service.Kind != "mesh-gateway" || service.ID != "dc1-gateway-a1" || service.Service != "dc1-gateway" || service.Address != "10.0.9.9" || service.Port != 8444 ||
		service.TaggedAddresses["wan"] != (api.ServiceAddress{Address: "gateway.example.com", Port: 443}) || service.Meta["source"] != "ecsmesh" || service.Meta["team"] != "a" {
		t.Errorf("service: %+v", service)
	}
	if check.CheckID != "dc1-gateway-a1-envoy" || check.ServiceID != service.ID || check.Status != "critical" {
		t.Errorf("check: %+v", check)
	}
	if found.Node.Address != "10.0.1.5" || found.Node.Meta["ecsmesh-task-arn"] == "" {
		t.Errorf("node: %+v", found.Node)
	}
}

// TestAGatewayIsRestored takes away what there is of it, one after the other.
func TestAGatewayIsRestored(t *testing.T) {
	client := consultest.Start(t).Client
	r := build(t, "a1", atLoadBalancer)
	for _, c := range []struct {
		what, want string
		gone       bool
		damage     func(*Registration)
	}{
		{"nobody registered it", "its node is gone", true, nil},
		{"no gateway", "its service dc1-gateway-a1 is gone", true, func(r *Registration) { r.Sidecar.Service.ID = "another" }},
		{"another kind", "has another Kind", false, func(r *Registration) { r.Sidecar.Service.Kind = api.ServiceKindTerminatingGateway }},
		{"another WAN address", "has another TaggedAddresses.wan.Address", false, func(r *Registration) {
			r.Sidecar.Service.TaggedAddresses["wan"] = api.ServiceAddress{Address: "10.0.0.1", Port: 443}
		}},
		{"another listener", "has another Proxy.Config.envoy_gateway_bind_addresses", false, func(r *Registration) {
			delete(r.Sidecar.Service.Proxy.Config, "envoy_gateway_bind_addresses")
		}},
		{"another node address", "its node's address is 10.0.9.9", false, func(r *Registration) { r.Sidecar.Address = "10.0.9.9" }},
	} {
		if c.damage != nil {
			if err := r.Remove(t.Context(), only{client}); err != nil {
				t.Fatal(err)
			}
			damaged := build(t, "a1", atLoadBalancer)
			c.damage(&damaged)
			damaged.Sidecar.Checks = nil
			if _, err := damaged.Write(t.Context(), client); err != nil {
				t.Fatal(err)
			}
		}
		found, err := r.Read(t.Context(), only{client})
		if err != nil {
			t.Fatal(err)
		}
		if damage := r.Damage(found); !strings.Contains(damage, c.want) || r.Gone(found) != c.gone {
			t.Errorf("%s: %q, gone: %t", c.what, damage, r.Gone(found))
		}
		// As it is read from the task's volume.
		var kept Registration
		content, err := json.Marshal(r)
		if err == nil {
			err = json.Unmarshal(content, &kept)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := kept.Restore(t.Context(), only{client}, found); err != nil {
			t.Fatal(err)
		}
		after, err := r.Read(t.Context(), only{client})
		if err != nil || r.Damage(after) != "" || r.Gone(after) {
			t.Errorf("%s: restored, with damage %q: %v", c.what, r.Damage(after), err)
		}
	}
}
