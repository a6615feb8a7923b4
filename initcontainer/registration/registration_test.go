package registration

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/golden"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/taskmeta"
)

const vpc = "vpc-0a1b2c3d"

func task(t *testing.T, id string) taskmeta.Task {
	t.Helper()
	task, err := taskmeta.Parse([]byte(`{"TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/` + id + `", "Family": "Api", "Revision": "7", "VPCID": "` + vpc + `", "AvailabilityZone": "eu-west-1b", "LaunchType": "FARGATE"}`))
	if err != nil {
		t.Fatal(err)
	}
	return task
}

var (
	address = netip.MustParseAddr("10.0.1.5")
	now     = time.Date(2026, 3, 1, 13, 0, 0, 0, time.FixedZone("", 3600))
)

func build(t *testing.T, id, document string) Registration {
	t.Helper()
	cfg, err := config.Read(func(name string) string {
		if name != config.Variable {
			return ""
		}
		return document
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(cfg, task(t, id), address, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	plain = `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080}}`
	rich  = `{"consulServers": {"defaults": {"tls": false}},
		"service": {"name": "backend", "port": 8080, "tags": ["v2"], "meta": {"team": "a", "source": "theirs"}, "weights": {"passing": 3, "warning": 2}, "enableTagOverride": true,
			"checks": [{"name": "health", "http": "http://127.0.0.1:8080/health"}, {"name": "rpc", "grpc": "127.0.0.1:9090"}]},
		"proxy": {"localServiceAddress": "127.0.0.2", "publicListenerPort": 20001, "meshGateway": {"mode": "local"}, "config": {"protocol": "http", "max_inbound_connections": 12345678901},
			"upstreams": [
				{"destinationName": "db", "localBindPort": 5432, "config": {"connect_timeout_ms": 100}},
				{"destinationName": "geo", "destinationType": "prepared_query", "datacenter": "dc2", "localBindAddress": "127.0.0.9", "localBindPort": 5433, "meshGateway": {"mode": "remote"}},
				{"destinationName": "far", "destinationPeer": "cloud", "localBindPort": 5434},
				{"destinationName": "cache", "localBindSocketPath": "/ecsmesh/cache.sock", "localBindSocketMode": "0666"}],
			"expose": {"checks": true, "paths": [{"listenerPort": 21500, "path": "/metrics", "localPathPort": 8081, "protocol": "http2"}]}}}`
)

const transparent = `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080}, "transparentProxy": {}}`

func TestGoldenRegistrations(t *testing.T) {
	for name, document := range map[string]string{"plain": plain, "rich": rich, "gateway": gateway, "gateway-at-load-balancer": atLoadBalancer, "transparent": transparent} {
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(build(t, "0123456789abcdef", document), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden.Expect(t, filepath.Join("testdata", name+".json"), got)
		})
	}
}

func TestAFamilyThatIsNoServiceNameIsRefused(t *testing.T) {
	odd := task(t, "1")
	odd.Family = "_Api"
	for want, cfg := range map[string]config.Config{"set service.name": {}, "set gateway.name": {Gateway: &config.Gateway{}}} {
		if _, err := New(cfg, odd, address, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
}

// TestConsulKeepsAllOfIt is why /v1/catalog/register is used: nothing of the
// registration is lost on the way.
func TestConsulKeepsAllOfIt(t *testing.T) {
	client := consultest.Start(t).Client
	r := build(t, "a1", rich)
	for range 2 { // again, as after a crash
		datacenter, err := r.Write(t.Context(), client)
		if err != nil || datacenter != "dc1" {
			t.Fatalf("got %q, %v", datacenter, err)
		}
	}
	node, _, err := client.Catalog().NodeServiceList("ecs-a1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if node.Node.Address != "10.0.1.5" || node.Node.Meta["ecsmesh-registered-at"] != "2026-03-01T12:00:00Z" || node.Node.ID != "" {
		t.Errorf("node: %+v", node.Node)
	}
	var service, sidecar *api.AgentService
	for _, found := range node.Services {
		switch found.ID {
		case "backend-a1":
			service = found
		case "backend-a1-sidecar-proxy":
			sidecar = found
		default:
			t.Errorf("there is a service %s too", found.ID)
		}
	}
	for _, part := range []*api.AgentService{service, sidecar} {
		if part == nil || part.Locality == nil || *part.Locality != (api.Locality{Region: "eu-west-1", Zone: "eu-west-1b"}) {
			t.Errorf("the locality of %+v", part)
		}
	}
	if service == nil || service.Weights != (api.AgentWeights{Passing: 3, Warning: 2}) || service.Meta["source"] != "ecsmesh" || service.Meta["team"] != "a" || !service.EnableTagOverride {
		t.Errorf("service: %+v", service)
	}
	if sidecar == nil || len(sidecar.Proxy.Upstreams) != 4 || sidecar.Proxy.Config["protocol"] != "http" || sidecar.Proxy.Upstreams[0].Config["connect_timeout_ms"] != 100.0 || sidecar.Proxy.Upstreams[2].DestinationPeer != "cloud" {
		t.Errorf("sidecar: %+v", sidecar)
	}
	checks, _, err := client.Health().Node("ecs-a1", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, check := range checks {
		got[check.CheckID] = check.Status + " of " + check.ServiceID
	}
	want := map[string]string{
		"backend-a1-health":              "critical of backend-a1",
		"backend-a1-rpc":                 "critical of backend-a1",
		"backend-a1-sidecar-proxy-envoy": "critical of backend-a1-sidecar-proxy",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRegisteringAgainDoesNotUndrain(t *testing.T) {
	client := consultest.Start(t).Client
	r := build(t, "a1", plain)
	if _, err := r.Write(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	drain := &api.CatalogRegistration{Node: "ecs-a1", Address: "10.0.1.5", SkipNodeUpdate: true, Check: &api.AgentCheck{Node: "ecs-a1", CheckID: "ecsmesh-lifecycle", Name: "x", Status: "critical"}}
	if _, err := client.Catalog().Register(drain, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	checks, _, err := client.Health().Node("ecs-a1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range checks {
		if check.CheckID == "ecsmesh-lifecycle" && check.Status == "critical" {
			return
		}
	}
	t.Errorf("the drain is gone: %v", checks)
}

func TestOnlyTheRemainsOfADeadTaskAreRemoved(t *testing.T) {
	client := consultest.Start(t).Client
	synthetic := map[string]string{"synthetic-node": "true"}
	in := func(vpc string) map[string]string {
		return map[string]string{"synthetic-node": "true", "ecsmesh-vpc-id": vpc}
	}
	for _, node := range []api.CatalogRegistration{
		{Node: "ecs-dead", Address: "10.0.1.5", NodeMeta: in(vpc)},
		{Node: "ecs-deadagent", Address: "10.0.1.5", NodeMeta: map[string]string{"ecsmesh-task-arn": "arn", "ecsmesh-vpc-id": vpc}},
		{Node: "ecs-othervpc", Address: "10.0.1.5", NodeMeta: in("vpc-other")},
		{Node: "ecs-unknown", Address: "10.0.1.5", NodeMeta: synthetic},
		{Node: "ecs-elsewhere", Address: "10.0.1.6", NodeMeta: in(vpc)},
		{Node: "agent", Address: "10.0.1.5", NodeMeta: in(vpc)},
		{Node: "ecs-like", Address: "10.0.1.5", NodeMeta: map[string]string{"ecsmesh-vpc-id": vpc}},
		{Node: "ecs-a1", Address: "10.0.1.5", NodeMeta: in(vpc)}, // itself, before a crash
	} {
		if _, err := client.Catalog().Register(&node, nil); err != nil {
			t.Fatal(err)
		}
	}
	found, err := build(t, "a1", plain).RemoveStale(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, stale := range found {
		got[stale.Node] = stale.Removed
	}
	if diff := cmp.Diff(map[string]bool{"ecs-dead": true, "ecs-deadagent": true, "ecs-othervpc": false, "ecs-unknown": false}, got); diff != "" {
		t.Error(diff)
	}
	nodes, _, err := client.Catalog().Nodes(&api.QueryOptions{Filter: `Node != "server"`})
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{}
	for _, node := range nodes {
		left[node.Node] = true
	}
	for _, name := range []string{"ecs-othervpc", "ecs-unknown", "ecs-elsewhere", "agent", "ecs-like", "ecs-a1"} {
		if !left[name] {
			t.Errorf("%s was removed", name)
		}
	}
	if left["ecs-dead"] || left["ecs-deadagent"] {
		t.Error("a dead task's node is still there")
	}
}

func TestAnUnknownVPCRemovesNothing(t *testing.T) {
	client := consultest.Start(t).Client
	if _, err := client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-x", Address: "10.0.1.5", NodeMeta: map[string]string{"synthetic-node": "true"}}, nil); err != nil {
		t.Fatal(err)
	}
	r := build(t, "a1", plain)
	delete(r.Service.NodeMeta, "ecsmesh-vpc-id")
	found, err := r.RemoveStale(t.Context(), client)
	if err != nil || len(found) != 1 || found[0].Removed {
		t.Errorf("got %v, %v", found, err)
	}
}
