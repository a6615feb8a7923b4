package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const plaintext = `"consulServers": {"defaults": {"tls": false}}`

func TestAGatewayHasTheDocumentedDefaults(t *testing.T) {
	got, err := Read(env(Variable, `{`+plaintext+`, "gateway": {"kind": "terminating-gateway"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Topology:      "direct",
		BootstrapDir:  "/ecsmesh",
		LogLevel:      slog.LevelInfo,
		ConsulServers: ConsulServers{Parameter: "/ecsmesh/consul-servers", HTTP: Interface{Port: 8500}, GRPC: Interface{Port: 8502}},
		Gateway:       &Gateway{Kind: "terminating-gateway", LAN: GatewayAddress{Port: 8443}, WAN: GatewayAddress{Port: 8443}},
		Proxy:         Proxy{HealthCheckPort: 22000, AdminBindAddress: "127.0.0.1", AdminBindPort: 19000, UID: -1},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

// TestEveryFieldOfAGatewayIsRead reads a document as consul-ecs's Terraform
// module writes it, and Envoy's own settings, which are ours.
func TestEveryFieldOfAGatewayIsRead(t *testing.T) {
	got, err := Read(env(LegacyVariable, `{`+plaintext+`, "bootstrapDir": "/consul", "service": null, "healthSyncContainers": [], "proxy": {"adminBindAddress": "127.0.0.3", "adminBindPort": 3, "uid": 101},
		"gateway": {"kind": "mesh-gateway", "name": "dc1-gateway", "tags": ["a"], "meta": {"consul-wan-federation": "1"}, "namespace": null, "partition": "default", "healthCheckPort": 22001,
			"lanAddress": {"address": null, "port": 8444}, "wanAddress": {"address": "gateway.example.com", "port": 443},
			"proxy": {"config": {"envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_dns_discovery_type": "STRICT_DNS"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	wantGateway := &Gateway{
		Kind: "mesh-gateway", Name: "dc1-gateway", Tags: []string{"a"}, Meta: map[string]string{"consul-wan-federation": "1"},
		LAN: GatewayAddress{Port: 8444}, WAN: GatewayAddress{Address: "gateway.example.com", Port: 443},
	}
	if diff := cmp.Diff(wantGateway, got.Gateway); diff != "" {
		t.Error(diff)
	}
	wantProxy := Proxy{
		HealthCheckPort: 22001, AdminBindAddress: "127.0.0.3", AdminBindPort: 3, UID: 101,
		Config: map[string]any{"envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_dns_discovery_type": "STRICT_DNS"},
		Envoy:  EnvoySettings{PrometheusBindAddr: netip.MustParseAddrPort("0.0.0.0:9102")},
	}
	if diff := cmp.Diff(wantProxy, got.Proxy, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsOfAGateway(t *testing.T) {
	for name, test := range map[string]struct {
		fields string
		want   map[string]string
	}{
		"neither a service nor a gateway": {`"bootstrapDir": "/mesh"`, map[string]string{"service": "nothing"}},
		"both":                            {`"service": {"port": 80}, "gateway": {"kind": "mesh-gateway"}`, map[string]string{"gateway": "an object"}},
		"no object":                       {`"gateway": "mesh-gateway"`, map[string]string{"gateway": `"mesh-gateway"`}},
		"no kind":                         {`"gateway": {}`, map[string]string{"gateway.kind": "nothing"}},
		"no port on which it listens":     {`"gateway": {"kind": "api-gateway", "healthCheckPort": 8443}`, nil},
		"a port of another's": {`"gateway": {"kind": "mesh-gateway", "lanAddress": {"port": 22000}, "proxy": {"config": {"envoy_stats_bind_addr": "0.0.0.0:19000"}}}`, map[string]string{
			"gateway.healthCheckPort": "22000", "gateway.proxy.config.envoy_stats_bind_addr": "19000",
		}},
		"two sources of an address": {`"gateway": {"kind": "mesh-gateway", "lanAddress": {"source": "public-ip"}, "wanAddress": {"source": "public-ip", "address": "192.0.2.1"}}`, map[string]string{
			"gateway.lanAddress.source": "an unknown field", "gateway.wanAddress.source": `"public-ip"`,
		}},
		"everything": {`"healthSyncContainers": ["envoy"],
			"gateway": {"kind": "api", "name": "Gateway", "namespace": "Team", "port": 1, "healthCheckPort": 0, "lanAddress": {"address": "0.0.0.0", "port": 65536}, "wanAddress": {"address": "a:b", "source": "public"},
				"proxy": {"upstreams": [], "config": {"envoy_ready_bind_addr": "x"}}},
			"proxy": {"adminBindAddress": "localhost", "config": {}, "healthCheckPort": 1, "publicListenerPort": 2, "localServiceAddress": "127.0.0.1", "upstreams": [], "meshGateway": {}, "expose": {}, "x": 1}`, map[string]string{
			"healthSyncContainers": "a list",
			"gateway.kind":         `"api"`, "gateway.name": `"Gateway"`, "gateway.namespace": `"Team"`, "gateway.port": "an unknown field", "gateway.healthCheckPort": "0",
			"gateway.lanAddress.address": `"0.0.0.0"`, "gateway.lanAddress.port": "65536", "gateway.wanAddress.address": `"a:b"`, "gateway.wanAddress.source": `"public"`,
			"gateway.proxy.upstreams": "an unknown field", "gateway.proxy.config.envoy_ready_bind_addr": `"x"`,
			"proxy.adminBindAddress": `"localhost"`, "proxy.config": "an object", "proxy.healthCheckPort": "1", "proxy.publicListenerPort": "2", "proxy.localServiceAddress": `"127.0.0.1"`,
			"proxy.upstreams": "a list", "proxy.meshGateway": "an object", "proxy.expose": "an object", "proxy.x": "an unknown field",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(Variable, `{`+plaintext+`, `+test.fields+`}`))
			var (
				invalid *InvalidError
				got     map[string]string
			)
			if errors.As(err, &invalid) {
				got = map[string]string{}
				for _, fault := range invalid.Faults {
					got[fault.Path] = fault.Found
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
