package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/functions/setup-acl/acl"
	"ecsmesh/shared/consul"
)

func startGateway(t *testing.T, server *consultest.Server, kind, more string) *meshTask {
	t.Helper()
	task := startTask(t, server, fmt.Sprintf(`"gateway": {"kind": %q%s}, "proxy": {"adminBindAddress": "OWN"}`, kind, more))
	task.awaitHealthy(t, server)
	return task
}

// TestGatewaysNeedNoEntries has them be ready before anything is configured in
// Consul for them. API gateways alone wait.
func TestGatewaysNeedNoEntries(t *testing.T) {
	server := consultest.Start(t)
	for kind, listener := range map[string]string{
		"mesh-gateway": "default:OWN:8443", "terminating-gateway": "default:OWN:8443", "ingress-gateway": "",
	} {
		t.Run(kind, func(t *testing.T) {
			task := startGateway(t, server, kind, "")
			listeners, err := task.admin("/listeners")
			if err != nil || !strings.Contains(listeners, strings.ReplaceAll(listener, "OWN", task.address)) {
				t.Errorf("the listeners are %v:\n%s", err, listeners)
			}
		})
	}
}

// TestAGatewayBehindALoadBalancer is registered at an address that isn't the
// task's, where its Envoy couldn't listen.
func TestAGatewayBehindALoadBalancer(t *testing.T) {
	server := consultest.Start(t)
	task := startGateway(t, server, "mesh-gateway", `, "lanAddress": {"address": "192.0.2.1", "port": 8444}`)
	instances, _, err := server.Client.Health().Service("gateway", "", true, nil)
	if err != nil || len(instances) != 1 || instances[0].Service.Address != "192.0.2.1" || instances[0].Service.Port != 8444 {
		t.Errorf("the passing instances are %+v, %v", instances, err)
	}
	listeners, err := task.admin("/listeners")
	if want := "default:" + task.address + ":8444"; err != nil || !strings.Contains(listeners, want) {
		t.Errorf("no %s in %v:\n%s", want, err, listeners)
	}
}

// TestATerminatingGatewayLeadsOut has a service reach one that is not in the
// mesh.
func TestATerminatingGatewayLeadsOut(t *testing.T) {
	server := consultest.Start(t)
	outside := netip.AddrFrom4([4]byte{127, 7, byte(rand.IntN(256)), byte(1 + rand.IntN(254))}).String()
	serveAt(t, outside, 8080, "outside")
	legacy := &api.CatalogRegistration{Node: "legacy", Address: outside, NodeMeta: map[string]string{"external-node": "true"}, Service: &api.AgentService{Service: "outside", Port: 8080}}
	if _, err := server.Client.Catalog().Register(legacy, nil); err != nil {
		t.Fatal(err)
	}
	startGateway(t, server, "terminating-gateway", `, "name": "egress"`)
	configure(t, server, `{"Kind": "terminating-gateway", "Name": "egress", "Services": [{"Name": "outside"}]}`)
	web := startService(t, server, "web", `"destinationName": "outside"`)
	awaitAnswer(t, "http://"+web.address+":9001/", "outside")
}

// TestAnAPIGatewayLeadsIn has who is not in the mesh reach a service by a route.
func TestAnAPIGatewayLeadsIn(t *testing.T) {
	server := consultest.Start(t)
	gateway := startTask(t, server, `"gateway": {"kind": "api-gateway", "name": "edge"}, "proxy": {"adminBindAddress": "OWN"}`)
	startService(t, server, "web", "")
	// Consul gives an API gateway nothing before it has its entry.
	await(t, "Envoy to wait for Consul", func() error {
		if code, log := gateway.check(t); code != 1 || !strings.Contains(log, "it waits for its configuration from Consul") {
			return fmt.Errorf("exit %d:\n%s", code, log)
		}
		return nil
	})
	configure(t, server,
		`{"Kind": "service-defaults", "Name": "web", "Protocol": "http"}`,
		`{"Kind": "api-gateway", "Name": "edge", "Listeners": [{"Name": "http", "Port": 8081, "Protocol": "http"}]}`,
		`{"Kind": "http-route", "Name": "web", "Parents": [{"Kind": "api-gateway", "Name": "edge", "SectionName": "http"}],
			"Rules": [{"Matches": [{"Path": {"Match": "prefix", "Value": "/shop"}}], "Services": [{"Name": "web"}]}]}`)
	gateway.awaitHealthy(t, server)
	awaitAnswer(t, "http://"+gateway.address+":8081/shop", "web")
	if _, err := get("http://" + gateway.address + ":8081/elsewhere"); err == nil || err.Error() != "404 Not Found" {
		t.Errorf("a path without a route: %v", err)
	}
}

// TestAnIngressGatewayLeadsIn is the older way.
func TestAnIngressGatewayLeadsIn(t *testing.T) {
	server := consultest.Start(t)
	gateway := startGateway(t, server, "ingress-gateway", `, "name": "ingress"`)
	startService(t, server, "web", "")
	configure(t, server, `{"Kind": "ingress-gateway", "Name": "ingress", "Listeners": [{"Port": 8081, "Protocol": "tcp", "Services": [{"Name": "web"}]}]}`)
	awaitAnswer(t, "http://"+gateway.address+":8081/", "web")
}

// TestMeshGatewaysJoinClusters has a service reach one of a cluster that is a
// peer, by both clusters' gateways.
func TestMeshGatewaysJoinClusters(t *testing.T) {
	west, east := consultest.StartPeer(t), consultest.StartPeer(t)
	peer(t, west, east)
	configure(t, east, `{"Kind": "exported-services", "Name": "default", "Services": [{"Name": "api", "Consumers": [{"Peer": "west"}]}]}`)
	startService(t, east, "api", "")
	gateways := []*meshTask{startGateway(t, east, "mesh-gateway", ""), startGateway(t, west, "mesh-gateway", "")}
	web := startService(t, west, "web", `"destinationName": "api", "destinationPeer": "east", "meshGateway": {"mode": "local"}`)
	awaitAnswer(t, "http://"+web.address+":9001/", "api")
	for _, gateway := range gateways {
		passed, err := gateway.admin("/stats?usedonly&filter=^tcp.mesh_gateway.*downstream_cx_total")
		if err != nil || passed == "" {
			t.Errorf("nothing passed the gateway at %s: %v", gateway.address, err)
		}
	}
}

// peer makes two clusters know each other.
func peer(t *testing.T, west, east *consultest.Server) {
	t.Helper()
	token, _, err := east.Client.Peerings().GenerateToken(t.Context(), api.PeeringGenerateTokenRequest{PeerName: "west"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := west.Client.Peerings().Establish(t.Context(), api.PeeringEstablishRequest{PeerName: "east", PeeringToken: token.PeeringToken}, nil); err != nil {
		t.Fatal(err)
	}
}

// TestGatewaysWithTheirRights has a Consul that denies by default, and what
// setup-acl makes in it: the token of each kind is one that a login gives.
func TestGatewaysWithTheirRights(t *testing.T) {
	server := consultest.StartSecure(t)
	servers, err := consul.NewServers([]netip.Addr{server.Addr}, consul.Options{
		Port: consultest.HTTPSPort, TLS: &consul.TLS{CA: server.CA, ServerName: consul.ServerName(consultest.Datacenter)},
	})
	if err != nil {
		t.Fatal(err)
	}
	servers.UseToken(server.Token, time.Time{})
	stack, err := acl.ParseStack("arn:aws:cloudformation:eu-west-1:123456789012:stack/ecsmesh/0a1b2c3d-0000-0000-0000-000000000000")
	if err != nil {
		t.Fatal(err)
	}
	system, err := acl.Open(t.Context(), servers, stack, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	settings := acl.Settings{
		TasksMethod: "tasks", TaskRoles: []string{"arn:aws:iam::123456789012:role/gateways/*"}, TaskTokenTTL: time.Hour,
		FunctionsMethod: "functions",
	}
	if err := system.Make(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
	configure(t, server, `{"Kind": "api-gateway", "Name": "api-gateway", "Listeners": [{"Name": "http", "Port": 8081, "Protocol": "http"}]}`)
	for kind, roles := range map[string][]string{
		"mesh-gateway":        {"tasks-task", "tasks-mesh-gateway"},
		"api-gateway":         {"tasks-task", "tasks-api-gateway"},
		"terminating-gateway": {"tasks-task", "tasks-terminating-gateway"},
		"ingress-gateway":     {"tasks-task"},
	} {
		t.Run(kind, func(t *testing.T) {
			wanted := &api.ACLToken{ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: kind}}}
			for _, role := range roles {
				wanted.Roles = append(wanted.Roles, &api.ACLTokenRoleLink{Name: role})
			}
			token, _, err := server.Client.ACL().TokenCreate(wanted, nil)
			if err != nil {
				t.Fatal(err)
			}
			task := startTask(t, server, fmt.Sprintf(`"gateway": {"kind": %q, "name": %q}, "proxy": {"adminBindAddress": "OWN"}`, kind, kind),
				"CONSUL_CACERT_PEM="+server.CA, "CONSUL_HTTP_TOKEN="+token.SecretID)
			task.awaitHealthy(t, server)
		})
	}
}
