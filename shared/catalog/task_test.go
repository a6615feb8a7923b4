package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/consul"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

func TestRegisteredOnConsul(t *testing.T) {
	server := consultest.StartSecure(t)
	for _, registration := range []*api.CatalogRegistration{
		{
			Node: "ecs-a", Address: "10.0.0.1", Service: &api.AgentService{ID: "api-a", Service: "api"},
			Checks: api.HealthChecks{{Node: "ecs-a", CheckID: "api-a-tcp", Name: "tcp", ServiceID: "api-a", Status: api.HealthCritical, Output: "refused"}},
		},
		{
			Node: "ecs-a", Address: "10.0.0.1",
			Service: &api.AgentService{Kind: api.ServiceKindConnectProxy, ID: "api-a-sidecar-proxy", Service: "api-sidecar-proxy", Port: 20000, Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "api"}},
			Checks:  api.HealthChecks{{Node: "ecs-a", CheckID: "ecsmesh-lifecycle", Name: "it stops", Status: api.HealthCritical}},
		},
		{Node: "ecs-b", Address: "10.0.0.2", Service: &api.AgentService{Kind: api.ServiceKindMeshGateway, ID: "gw-b", Service: "gw", Port: 8443}},
		{Node: "ecs-c", Address: "10.0.0.3"},
	} {
		if _, err := server.Client.Catalog().Register(registration, nil); err != nil {
			t.Fatal(err)
		}
	}
	as := func(rules string) *Catalog {
		policy, _, err := server.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: rand.Text(), Rules: rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := server.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		servers, err := consul.NewServers([]netip.Addr{server.Addr}, consul.Options{Port: consultest.HTTPSPort, TLS: &consul.TLS{CA: server.CA}})
		if err != nil {
			t.Fatal(err)
		}
		servers.UseToken(token.SecretID, time.Now())
		return New(servers)
	}
	reader := as(`node_prefix "ecs-" { policy = "read" } service_prefix "" { policy = "read" }`)
	wanted := map[string]Registered{
		"ecs-a": {
			Services: []Service{{ID: "api-a"}, {ID: "api-a-sidecar-proxy", Envoy: true}},
			Checks:   []Check{{ID: "api-a-tcp", ServiceID: "api-a", Status: api.HealthCritical, Output: "refused"}, {ID: "ecsmesh-lifecycle", Status: api.HealthCritical}},
		},
		"ecs-b":    {Services: []Service{{ID: "gw-b", Envoy: true}}},
		"ecs-c":    {},
		"ecs-none": {},
	}
	// More than fit in one attempt.
	for i := range 3 * readTogether {
		node := fmt.Sprintf("ecs-many-%d", i)
		wanted[node] = Registered{Services: []Service{{ID: "many-" + node}}}
		if _, err := server.Client.Catalog().Register(&api.CatalogRegistration{Node: node, Address: "10.0.1.1", Service: &api.AgentService{ID: "many-" + node, Service: "many"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := reader.Registered(t.Context(), slices.Collect(maps.Keys(wanted))...)
	if err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ended, end := context.WithTimeout(t.Context(), 0)
	defer end()
	if got, err := reader.Registered(ended, "ecs-a"); !errors.Is(err, consul.ErrNoAnswer) || got != nil {
		t.Errorf("without time: got %+v, %v", got, err)
	}
	// A part would pass for the whole.
	for name, rules := range map[string]string{
		"no nodes":                `service_prefix "" { policy = "read" }`,
		"no services":             `node_prefix "ecs-" { policy = "read" }`,
		"not all of its services": `node_prefix "ecs-" { policy = "read" } service "api" { policy = "read" }`,
	} {
		if got, err := as(rules).Registered(t.Context(), "ecs-a"); !errors.Is(err, consul.ErrHidden) {
			t.Errorf("%s: got %+v, %v; want ErrHidden", name, got, err)
		}
	}
}
