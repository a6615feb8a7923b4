package config

import (
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
)

// consulECS reads a document of testdata/consul-ecs. They are as the Terraform
// modules of consul-ecs 0.9 and 0.10 write them, but where their name says else.
func consulECS(t *testing.T, name string, variables ...string) (Config, error) {
	t.Helper()
	document, err := os.ReadFile(filepath.Join("testdata", "consul-ecs", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return Read(env(append(variables, LegacyVariable, string(document))...))
}

// meshTask is what most of the documents have in common.
func meshTask(more func(*Config)) Config {
	cfg := Config{
		Topology: "direct", BootstrapDir: "/consul", LogLevel: slog.LevelInfo,
		ConsulServers: ConsulServers{
			Parameter: "/ecsmesh/consul-servers", Hosts: []string{"consul.mesh.internal"},
			HTTP: Interface{Port: 8500}, GRPC: Interface{Port: 8502},
		},
		Service: Service{
			Name: "shop", Port: 8080, Meta: map[string]string{"ecs-version": "0.10.0", "dataplane-version": "1.8.0"},
			Checks: []Check{{Name: "tcp", TCP: "127.0.0.1:8080", Timeout: 2 * time.Second}},
		},
		Proxy: Proxy{
			LocalServiceAddress: "127.0.0.1", PublicListenerPort: 20000, HealthCheckPort: 22000,
			AdminBindAddress: "127.0.0.1", AdminBindPort: 19000, UID: -1,
		},
		Warnings: []string{"consulServers.skipServerWatch has no meaning in ecsmesh and is ignored"},
	}
	more(&cfg)
	return cfg
}

func gatewayTask(kind string, more func(*Config)) Config {
	return meshTask(func(cfg *Config) {
		meta := cfg.Service.Meta
		cfg.Service = Service{}
		cfg.Gateway = &Gateway{Kind: kind, Name: kind, Meta: meta, LAN: GatewayAddress{Port: 8443}, WAN: GatewayAddress{Port: 8443}}
		cfg.Proxy = Proxy{HealthCheckPort: 22000, AdminBindAddress: "127.0.0.1", AdminBindPort: 19000, UID: -1}
		more(cfg)
	})
}

// TestDocumentsOfConsulECS has documents that work as they are.
func TestDocumentsOfConsulECS(t *testing.T) {
	https, grpc := newCA(t), newCA(t)
	secure := func(cfg *Config) {
		cfg.ConsulServers.Hosts = []string{"10.0.1.10"}
		cfg.ConsulServers.HTTP = Interface{8501, &TLS{CA: https}}
		cfg.ConsulServers.GRPC = Interface{8503, &TLS{CA: grpc}}
		cfg.Login = &login.Method{AuthMethod: "iam-ecs-service-token", IncludeEntity: true}
	}
	documents := map[string]Config{
		"mesh-task": meshTask(func(cfg *Config) {
			cfg.Service.Tags = []string{"v1"}
			cfg.Proxy.Upstreams = []Upstream{
				{DestinationType: "service", DestinationName: "cart", LocalBindAddress: "127.0.0.1", LocalBindPort: 9091},
				{DestinationType: "service", DestinationName: "stock", LocalBindAddress: "127.0.0.1", LocalBindPort: 9092, Datacenter: "dc2", MeshGatewayMode: "local"},
			}
		}),
		"mesh-task-secure": meshTask(func(cfg *Config) {
			secure(cfg)
			cfg.Service.Checks, cfg.Service.HealthSyncContainers = nil, []string{"shop"}
			cfg.Proxy.Upstreams = []Upstream{{DestinationType: "service", DestinationName: "bank", DestinationPeer: "payments", LocalBindAddress: "127.0.0.1", LocalBindPort: 9093, MeshGatewayMode: "remote"}}
		}),
		"mesh-task-outbound-only": meshTask(func(cfg *Config) {
			cfg.Service.Name, cfg.Service.Port, cfg.Service.Checks = "worker", 0, nil
			cfg.Proxy.Upstreams = []Upstream{{DestinationType: "service", DestinationName: "cart", LocalBindAddress: "127.0.0.1", LocalBindPort: 9091}}
		}),
		"mesh-task-all-extras": meshTask(func(cfg *Config) {
			secure(cfg)
			cfg.Login = &login.Method{
				AuthMethod: "shop-tasks", Meta: map[string]string{"team": "shop"}, Region: "eu-central-1",
				STSEndpoint: "https://sts.eu-central-1.amazonaws.com", ServerIDHeaderValue: "consul.example.com",
			}
			cfg.Service.EnableTagOverride, cfg.Service.Weights = true, &Weights{10, 1}
			cfg.Proxy.PublicListenerPort, cfg.Proxy.HealthCheckPort, cfg.Proxy.MeshGatewayMode = 21000, 23000, "local"
			cfg.Proxy.Envoy.PrometheusBindAddr = netip.MustParseAddrPort("0.0.0.0:9102")
		}),
		"mesh-task-behind-a-load-balancer": meshTask(func(cfg *Config) {
			secure(cfg)
			cfg.ConsulServers.Hosts = []string{"consul.private.example.com"}
			cfg.ConsulServers.HTTP = Interface{443, &TLS{CA: https, ServerName: "server.dc1.consul"}}
			cfg.ConsulServers.GRPC = Interface{8502, &TLS{CA: grpc, ServerName: "server.dc1.consul"}}
		}),
		"mesh-gateway": gatewayTask("mesh-gateway", func(cfg *Config) {
			secure(cfg)
			cfg.Gateway.Name = "dc1-gateway"
			cfg.Gateway.Meta["consul-wan-federation"] = "1"
			cfg.Gateway.WAN = GatewayAddress{Address: "gateway-1.elb.eu-west-1.amazonaws.com", Port: 443}
			cfg.Warnings = append(cfg.Warnings, "transparentProxy has no effect on a gateway: there is no application whose traffic it could redirect")
		}),
		"api-gateway": gatewayTask("api-gateway", func(*Config) {}),
		"mesh-task-resilient": meshTask(func(cfg *Config) {
			cfg.Service.OutlierDetection = &OutlierDetection{Interval: 10 * time.Second, MaxFailures: 5, EnforcingConsecutive5xx: 100, MaxEjectionPercent: 50}
		}),
		"mesh-task-transparent": meshTask(func(cfg *Config) {
			cfg.TransparentProxy = &TransparentProxy{
				ExcludeInboundPorts: []int{9229}, ExcludeOutboundPorts: []int{5432},
				ExcludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}, ExcludeUIDs: []uint32{1000},
			}
		}),
		"mesh-task-exposing": meshTask(func(cfg *Config) {
			cfg.Proxy.Expose.Paths = []ExposePath{{ListenerPort: 21500, Path: "/health", LocalPathPort: 8080, Protocol: "http"}}
		}),
		"mesh-task-enterprise": meshTask(func(cfg *Config) {
			cfg.Tenancy = consul.Tenancy{Namespace: "shop", Partition: "ecs"}
			cfg.Proxy.Upstreams = []Upstream{{
				DestinationType: "service", DestinationName: "cart", DestinationNamespace: "shop", DestinationPartition: "ecs",
				LocalBindAddress: "127.0.0.1", LocalBindPort: 9091,
			}}
		}),
		"mesh-gateway-enterprise": gatewayTask("mesh-gateway", func(cfg *Config) { cfg.Tenancy.Partition = "ecs" }),
		"terminating-gateway": gatewayTask("terminating-gateway", func(cfg *Config) {
			cfg.Gateway.LAN.Port, cfg.Gateway.WAN.Port = 8444, 8444
		}),
	}
	for name, want := range documents {
		t.Run(name, func(t *testing.T) {
			var variables []string
			if want.Login != nil {
				variables = []string{HTTPSCACertVariable, https, GRPCCACertVariable, grpc}
			}
			got, err := consulECS(t, name, variables...)
			if err != nil {
				t.Fatal(err)
			}
			opaque := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Config" }, cmp.Ignore())
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{}), opaque); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	expectAllNamed(t, slices.Concat(slices.Collect(maps.Keys(documents)), slices.Collect(maps.Keys(refusedDocuments))))
}

// refusedDocuments are refused with an error that names the field and the way
// out.
var refusedDocuments = map[string][]string{
	"mesh-task-with-a-command":   {`consulServers.hosts: found "exec=discover"; commands are not run; give IP addresses or a DNS name, or use consulServers.parameter`},
	"mesh-task-with-a-public-ca": {"consulServers.http.caCertParameter: found nothing; TLS is on, so say which CA issued the servers' certificates", "consulServers.grpc.caCertParameter: found nothing"},
	"mesh-task-transparent-dns":  {"transparentProxy.consulDNS.enabled: found true; in the topology direct nothing in the task answers DNS"},
	"controller":                 {"service: found nothing; want"},
	"mesh-task-0.5": {
		`consulHTTPAddr: found "https://consul.mesh.internal:8501"; use consulServers.hosts`,
		`consulCACertFile: found "/consul/consul-https-ca-cert.pem"; use consulServers.defaults.caCertFile`,
		"consulLogin.extraLoginFlags: found a list; use meta, region, stsEndpoint and serverIdHeaderValue",
		`service.checks[0].checkId: found "shop-http"; remove it`, `service.checks[0].interval: found "10s"; remove it`,
	},
}

func TestDocumentsOfConsulECSThatAreRefused(t *testing.T) {
	for name, wants := range refusedDocuments {
		_, err := consulECS(t, name)
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in %v", name, want, err)
			}
		}
	}
}

// expectAllNamed expects all documents to be in some test.
func expectAllNamed(t *testing.T, named []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "consul-ecs", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents, %v", err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".json"); !slices.Contains(named, name) {
			t.Errorf("no test reads %s", file)
		}
	}
}
