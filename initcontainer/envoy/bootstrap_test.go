package envoy

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/golden"
	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

func sidecar(settings config.EnvoySettings) Sidecar {
	return Sidecar{
		NodeName: "ecs-0123456789abcdef", ProxyID: "api-0123456789abcdef-sidecar-proxy", Service: "api", Datacenter: "dc1",
		Address: netip.MustParseAddr("10.0.1.5"), Volume: "/ecsmesh",
		Proxy: config.Proxy{
			LocalServiceAddress: "127.0.0.1", PublicListenerPort: 20000, HealthCheckPort: 22000,
			AdminBindAddress: "127.0.0.1", AdminBindPort: 19000, Envoy: settings,
		},
	}
}

// full has every setting that a bootstrap depends on.
func full() config.EnvoySettings {
	return config.EnvoySettings{
		PrometheusBindAddr: netip.MustParseAddrPort("0.0.0.0:9102"),
		StatsBindAddr:      netip.MustParseAddrPort("[::1]:9103"),
		StatsdSink:         &config.SinkAddress{UDP: netip.MustParseAddrPort("127.0.0.1:8125")},
		DogStatsdSink:      &config.SinkAddress{Unix: "/var/run/datadog/dsd.socket"},
		StatsTags:          []string{"canary", "consul.source.datacenter=mine", "Env=prod"},
		StatsFlushInterval: 2500 * time.Millisecond,
		ExtraStatsSinks:    []json.RawMessage{json.RawMessage(`{"name": "envoy.stat_sinks.statsd", "typed_config": {"@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 9}}}}`)},
		ExtraClusters:      []json.RawMessage{json.RawMessage(`{"name": "zipkin", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "zipkin", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9411}}}}]}]}}`)},
		ExtraListeners:     []json.RawMessage{json.RawMessage(`{"name": "extra", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 9999}}, "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "extra", "cluster": "zipkin"}}]}]}`)},
		Tracing:            json.RawMessage(`{"http": {"name": "envoy.tracers.zipkin", "typed_config": {"@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig", "collector_cluster": "zipkin", "collector_endpoint": "/api/v2/spans", "collector_endpoint_version": "HTTP_JSON"}}}`),
	}
}

func TestGoldenBootstraps(t *testing.T) {
	for name, s := range map[string]Sidecar{
		"default":      sidecar(config.EnvoySettings{}),
		"full":         sidecar(full()),
		"stats-config": sidecar(config.EnvoySettings{StatsConfig: json.RawMessage(`{"use_all_default_tags": false}`)}),
		"ipv6": func() Sidecar {
			s := sidecar(config.EnvoySettings{})
			s.Address = netip.MustParseAddr("2001:db8::5")
			return s
		}(),
		"secure": func() Sidecar {
			s := sidecar(config.EnvoySettings{})
			s.TLS = &consul.TLS{CA: read(t, "testdata/ca.pem"), ServerName: "server.dc1.consul"}
			s.Token = true
			return s
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Bootstrap(s)
			if err != nil {
				t.Fatal(err)
			}
			golden.Expect(t, filepath.Join("testdata", "bootstrap-"+name+".json"), got)
			decodeStrictly(t, got, &bootstrapv3.Bootstrap{})
			validateWithEnvoy(t, s)
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

type validated interface {
	proto.Message
	ValidateAll() error
}

// decodeStrictly fails for any field that Envoy's API doesn't know, inside of
// typed_config too, and for what breaks its declared constraints.
func decodeStrictly(t *testing.T, content []byte, into validated) {
	t.Helper()
	if err := protojson.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
	if err := into.ValidateAll(); err != nil {
		t.Fatal(err)
	}
}

// TestAnOlderEnvoySaysWhatItNeeds has a bootstrap that asks of a real Envoy what
// it can't do, as ours does of older ones. 1.30 to 1.33 have the credential
// injector, but not for requests of Envoy's own, for which none has the filter
// for CORS. Before that there was no injector.
func TestAnOlderEnvoySaysWhatItNeeds(t *testing.T) {
	binary, err := tools.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	s := sidecar(config.EnvoySettings{})
	s.Token = true
	s = fill(t, s, netip.MustParseAddr("10.0.0.1"), 8502, "11111111-2222-3333-4444-555555555555")
	ours := read(t, s.Volume.Bootstrap())
	injector := regexp.MustCompile(`(?s)"@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector".*?"overwrite": true`)
	if !injector.MatchString(ours) {
		t.Fatalf("no injector in %s", ours)
	}
	for version, other := range map[string]string{"1.33": "cors.v3.Cors", "1.29": "nothing_yet.v3.NothingYet"} {
		theirs := injector.ReplaceAllString(ours, `"@type": "type.googleapis.com/envoy.extensions.filters.http.`+other+`"`)
		if err := s.Volume.Write(s.Volume.Bootstrap(), []byte(theirs)); err != nil {
			t.Fatal(err)
		}
		output, err := exec.Command(binary, "--mode", "validate", "-c", s.Volume.Bootstrap()).CombinedOutput()
		if err == nil || !strings.Contains(string(output), wantsNewer) {
			t.Errorf("like Envoy %s: %v\n%s", version, err, output)
		}
	}
}

// validateWithEnvoy has a real Envoy check the bootstrap, on a volume that
// exists and with the files that it names.
func validateWithEnvoy(t *testing.T, s Sidecar) {
	t.Helper()
	binary, err := tools.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	s = fill(t, s, netip.MustParseAddr("10.0.0.1"), 8502, "11111111-2222-3333-4444-555555555555")
	output, err := exec.Command(binary, "--mode", "validate", "-c", s.Volume.Bootstrap()).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "OK") {
		t.Errorf("Envoy refuses the bootstrap: %v\n%s", err, output)
	}
}

// fill gives the sidecar a volume with all that its Envoy reads.
func fill(t *testing.T, s Sidecar, server netip.Addr, port int, token string) Sidecar {
	t.Helper()
	s.Volume = volume.Volume(t.TempDir())
	content, err := Bootstrap(s)
	if err != nil {
		t.Fatal(err)
	}
	servers, err := Endpoints([]netip.Addr{server}, port)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Volume.Prepare(), s.Volume.PrepareToken(),
		s.Volume.Write(s.Volume.Bootstrap(), content), s.Volume.Write(s.Volume.LiveServers(), servers)); err != nil {
		t.Fatal(err)
	}
	s.giveToken(t, token)
	return s
}

// giveToken replaces the token on the volume.
func (s Sidecar) giveToken(t *testing.T, token string) {
	t.Helper()
	content, err := Token(token)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Volume.WritePrivate(s.Volume.LiveToken(), content, os.Geteuid()); err != nil {
		t.Fatal(err)
	}
}

func TestEndpointsAreWhatEnvoyReads(t *testing.T) {
	content, err := Endpoints([]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}, 8502)
	if err != nil {
		t.Fatal(err)
	}
	var response discoveryv3.DiscoveryResponse
	decodeStrictly(t, content, &response)
	text := protojson.Format(&response)
	for _, want := range []string{ServersCluster, "10.0.0.1", "2001:db8::1", "8502"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

// TestStatsTagsAreConsuls holds our tags against those of Consul's own
// bootstrap: the same names in the same order and, for statistics as Envoy
// names them, the same values.
func TestStatsTagsAreConsuls(t *testing.T) {
	server := consultest.Start(t)
	binary, err := tools.Consul()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, "connect", "envoy", "-bootstrap", "-sidecar-for", "api-1", "-http-addr", server.Addr.String()+":8500", "-grpc-addr", server.Addr.String()+":8502", "-ignore-envoy-compatibility")
	service := &api.AgentServiceRegistration{ID: "api-1", Name: "api", Port: 80, Connect: &api.AgentServiceConnect{SidecarService: &api.AgentServiceRegistration{}}}
	if err := server.Client.Agent().ServiceRegister(service); err != nil {
		t.Fatal(err)
	}
	theirs, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	ours, err := Bootstrap(sidecar(config.EnvoySettings{}))
	if err != nil {
		t.Fatal(err)
	}
	got, want := tagsOf(t, ours), tagsOf(t, theirs)
	if diff := cmp.Diff(names(want), names(got)); diff != "" {
		t.Fatalf("tags differ from Consul's:\n%s", diff)
	}
	for i := range want {
		if want[i].Fixed != got[i].Fixed {
			t.Errorf("%s: got %q, Consul has %q", want[i].Name, got[i].Fixed, want[i].Fixed)
		}
		for _, statistic := range statistics {
			if diff := cmp.Diff(extract(t, want[i].Regex, statistic), extract(t, got[i].Regex, statistic)); diff != "" {
				t.Errorf("%s of %s:\n%s", want[i].Name, statistic, diff)
			}
		}
	}
}

var statistics = []string{
	"cluster.pong.default.dc2.internal.e5b08d03-bfc3.consul.bind_errors",
	"cluster.f8f8f8f8~pong.default.dc2.internal.e5b08d03-bfc3.consul.bind_errors",
	"cluster.v2.pong.default.dc2.internal.e5b08d03-bfc3.consul.bind_errors",
	"cluster.f8f8f8f8~v2.pong.default.dc2.internal.e5b08d03-bfc3.consul.bind_errors",
	"cluster.passthrough~pong.default.dc2.internal.e5b08d03-bfc3.consul.bind_errors",
	"cluster.pong.default.part.dc2.internal-v1.e5b08d03-bfc3.consul.bind_errors",
	"cluster.passthrough~v2.pong.default.part.dc2.internal-v1.e5b08d03-bfc3.consul.bind_errors",
	"cluster.pong.default.cloud.external.e5b08d03-bfc3.consul.bind_errors",
	"cluster.pong.cloud.external.e5b08d03-bfc3.consul.bind_errors",
	"tcp.upstream.db.dc1.downstream_cx_total",
	"http.upstream.web.frontend.west.dc1.downstream_cx_total",
	"http.upstream.web.frontend.dc1.downstream_cx_total",
	"http.upstream_peered.web.frontend.cloud.downstream_cx_total",
	"tcp.upstream_peered.web.cloud.downstream_cx_total",
	"cluster.local_app.upstream_cx_total",
	"http.public_listener.downstream_rq_total",
}

type tag struct {
	Name  string `json:"tag_name"`
	Fixed string `json:"fixed_value"`
	Regex string `json:"regex"`
}

func tagsOf(t *testing.T, bootstrap []byte) []tag {
	t.Helper()
	var decoded struct {
		StatsConfig struct {
			StatsTags []tag `json:"stats_tags"`
		} `json:"stats_config"`
	}
	if err := json.Unmarshal(bootstrap, &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded.StatsConfig.StatsTags
}

func names(tags []tag) (names []string) {
	for _, tag := range tags {
		names = append(names, tag.Name)
	}
	return names
}

// extract is what Envoy takes out of a statistic's name, and the tag's value.
func extract(t *testing.T, expression, statistic string) []string {
	t.Helper()
	if expression == "" {
		return nil
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	match := re.FindStringSubmatch(statistic)
	if len(match) < 3 {
		return nil
	}
	return match[1:3]
}
