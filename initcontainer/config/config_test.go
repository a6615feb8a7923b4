package config

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func env(pairs ...string) func(string) string {
	vars := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		vars[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return vars[name] }
}

const minimal = `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080}}`

func TestMinimalConfigurationHasTheDocumentedDefaults(t *testing.T) {
	got, err := Read(env(Variable, minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Topology:      "direct",
		BootstrapDir:  "/ecsmesh",
		LogLevel:      slog.LevelInfo,
		ConsulServers: ConsulServers{Parameter: "/ecsmesh/consul-servers", HTTP: Interface{Port: 8500}, GRPC: Interface{Port: 8502}},
		Service:       Service{Port: 8080, Checks: []Check{{Name: "tcp", TCP: "127.0.0.1:8080", Timeout: 2 * time.Second}}},
		Proxy: Proxy{
			LocalServiceAddress: "127.0.0.1", PublicListenerPort: 20000, HealthCheckPort: 22000,
			AdminBindAddress: "127.0.0.1", AdminBindPort: 19000, UID: -1,
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFieldIsRead(t *testing.T) {
	got, err := Read(env("STATSD", "udp://127.0.0.1:8125", "HOST_IP", "10.0.0.9", Variable, `{
		"bootstrapDir": "/mesh/", "logLevel": "debug", "topology": "direct",
		"consulLogin": {"enabled": false, "method": "x"}, "gateway": null, "transparentProxy": {"enabled": false}, "healthSyncContainers": ["app", "cache"],
		"consulServers": {"parameter": "/p", "hosts": "10.0.0.1, consul.example.com",
			"defaults": {"tls": true, "caCertFile": null}, "http": {"https": false, "port": 9500}, "grpc": {"tls": false, "port": 9502}},
		"service": {"name": "api", "port": 8080, "tags": ["a"], "meta": {"k": "v"}, "weights": {"passing": 3, "warning": 2},
			"enableTagOverride": true, "namespace": "default", "partition": "",
			"networkResilienceConfig": {"enabled": true, "outlierDetection": {"interval": 10000000000, "maxFailures": 5, "enforcingConsecutive5xx": 0, "maxEjectionPercent": 50, "baseEjectionTime": "30s"}},
			"checks": [
				{"name": "h", "http": "https://127.0.0.1:8080/health", "method": "POST", "header": {"X": ["1", "2"]}, "body": "b", "tlsSkipVerify": true, "timeout": "1s"},
				{"name": "t", "tcp": "127.0.0.1:1"}, {"name": "g", "grpc": "127.0.0.1:2/svc"}]},
		"proxy": {"localServiceAddress": "127.0.0.2", "publicListenerPort": 1, "healthCheckPort": 2, "adminBindAddress": "127.0.0.3", "adminBindPort": 3, "uid": 65532,
			"meshGateway": {"mode": "local"},
			"expose": {"checks": true, "paths": [{"listenerPort": 21500, "path": "/health", "localPathPort": 8081, "protocol": "http2"}]},
			"config": {"protocol": "http", "envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_stats_bind_addr": "[::1]:9103",
				"envoy_statsd_url": "$STATSD", "envoy_dogstatsd_url": "udp://${HOST_IP}:8125", "envoy_stats_tags": ["canary", "env=prod"], "envoy_stats_flush_interval": "10s",
				"envoy_tracing_json": "{\"http\": {}}", "envoy_extra_static_clusters_json": "{\"name\": \"a\"}, {\"name\": \"b\"}"},
			"upstreams": [{"destinationName": "db", "localBindPort": 5432, "destinationType": "prepared_query", "datacenter": "dc2",
				"localBindAddress": "127.0.0.9", "meshGateway": {"mode": "remote"}, "config": {"connect_timeout_ms": 100}, "destinationNamespace": null},
				{"destinationName": "db", "destinationPeer": "p", "localBindSocketPath": "/mesh/db.sock", "localBindSocketMode": "0660"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	sink := netip.MustParseAddrPort("127.0.0.1:8125")
	want := Config{
		Topology:     "direct",
		BootstrapDir: "/mesh", LogLevel: slog.LevelDebug,
		ConsulServers: ConsulServers{Parameter: "/p", Hosts: []string{"10.0.0.1", "consul.example.com"}, HTTP: Interface{Port: 9500}, GRPC: Interface{Port: 9502}},
		Service: Service{
			Name: "api", Port: 8080, Tags: []string{"a"}, Meta: map[string]string{"k": "v"}, Weights: &Weights{3, 2}, EnableTagOverride: true,
			OutlierDetection: &OutlierDetection{Interval: 10 * time.Second, MaxFailures: 5, EnforcingConsecutive5xx: 0, MaxEjectionPercent: 50, BaseEjectionTime: 30 * time.Second},
			Checks: []Check{
				{Name: "h", HTTP: "https://127.0.0.1:8080/health", Method: "POST", Header: map[string][]string{"X": {"1", "2"}}, Body: "b", TLSSkipVerify: true, Timeout: time.Second},
				{Name: "t", TCP: "127.0.0.1:1", Timeout: 2 * time.Second},
				{Name: "g", GRPC: "127.0.0.1:2/svc", Timeout: 2 * time.Second},
			},
			HealthSyncContainers: []string{"app", "cache"},
		},
		Proxy: Proxy{
			LocalServiceAddress: "127.0.0.2", PublicListenerPort: 1, HealthCheckPort: 2, AdminBindAddress: "127.0.0.3", AdminBindPort: 3, UID: 65532, MeshGatewayMode: "local",
			Upstreams: []Upstream{{
				DestinationType: "prepared_query", DestinationName: "db", Datacenter: "dc2",
				LocalBindAddress: "127.0.0.9", LocalBindPort: 5432, MeshGatewayMode: "remote",
			}, {
				DestinationType: "service", DestinationName: "db", DestinationPeer: "p", LocalBindSocketPath: "/mesh/db.sock", LocalBindSocketMode: "0660",
			}},
			Expose: Expose{Checks: true, Paths: []ExposePath{{ListenerPort: 21500, Path: "/health", LocalPathPort: 8081, Protocol: "http2"}}},
			Envoy: EnvoySettings{
				PrometheusBindAddr: netip.MustParseAddrPort("0.0.0.0:9102"), StatsBindAddr: netip.MustParseAddrPort("[::1]:9103"),
				StatsdSink: &SinkAddress{UDP: sink}, DogStatsdSink: &SinkAddress{UDP: netip.MustParseAddrPort("10.0.0.9:8125")},
				StatsTags: []string{"canary", "env=prod"}, StatsFlushInterval: 10 * time.Second,
				Tracing: []byte(`{"http": {}}`), ExtraClusters: []json.RawMessage{[]byte(`{"name": "a"}`), []byte(`{"name": "b"}`)},
			},
		},
		Warnings: []string{"proxy.expose.checks has no effect: the checks are run inside the task, and need no way in"},
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Config" }, cmp.Ignore())
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{}), ignore); diff != "" {
		t.Error(diff)
	}
	if got.Proxy.Config["protocol"] != "http" || got.Proxy.Upstreams[0].Config["connect_timeout_ms"] == nil {
		t.Error("opaque configuration was lost")
	}
}

func TestNullCountsAsAbsentAsInConsulECS(t *testing.T) {
	got, err := Read(env(LegacyVariable, `{"bootstrapDir": "/consul", "logLevel": null, "consulLogin": null, "controller": null, "healthSyncContainers": null, "transparentProxy": null,
		"consulServers": {"hosts": "10.0.0.1", "defaults": {"tls": false, "tlsServerName": null, "caCertFile": null}, "http": null, "grpc": {"port": null}, "skipServerWatch": true},
		"service": {"name": null, "port": 80, "tags": null, "meta": null, "weights": null}, "proxy": null}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"consulServers.skipServerWatch has no meaning in ecsmesh and is ignored", noTransparentProxy}; !cmp.Equal(want, got.Warnings) {
		t.Error(cmp.Diff(want, got.Warnings))
	}
	if addrs, ok := got.ConsulServers.Addresses(); !ok || len(addrs) != 1 {
		t.Errorf("addresses: %v, %v", addrs, ok)
	}
}

func TestAllFaultsAreReportedAtOnce(t *testing.T) {
	_, err := Read(env(Variable, `{
		"bootstrapDir": "relative", "logLevel": "LOUD", "topology": "star", "gateway": {"kind": "mesh-gateway"}, "servce": {},
		"consulLogin": {"enabled": true, "method": 1, "extra": 1, "extraLoginFlags": []}, "transparentProxy": {"excludeUIDs": ["root"]}, "healthSyncContainers": ["app", "ecsmesh-init", "a", "app", "x/y"],
		"consulServers": {"parameter": "", "hosts": "exec=discover", "defaults": {"caCertFile": "/nowhere/ca.pem"}, "grpc": {"port": 70000}, "http": {"port": "8500"}},
		"service": {"name": "consul", "port": 8080.5, "namespace": "team", "tags": "a", "meta": {"k": 1}, "weights": {"passing": 0, "warning": 65536}, "networkResilienceConfig": {"enabled": "yes"},
			"checks": [{"name": "a"}, {"name": "a", "tcp": "nowhere"}, {"name": "b/c", "http": "ftp://x", "grpc": "x:1"}, {"name": "c", "tcp": "x:1", "method": "GET", "timeout": "2"}, {"name": "d", "interval": "5s", "grpc": "127.0.0.1"}, 7]},
		"proxy": {"adminBindAddress": "localhost", "healthCheckPort": 20000, "expose": 7, "meshGateway": {"mode": "far"},
			"config": {"envoy_prometheus_bind_addr": ":9102", "envoy_statsd_url": "unix:///x", "envoy_dogstatsd_url": "$NOPE", "envoy_tracing_json": "[]", "envoy_extra_static_clusters_json": "{},1", "envoy_bootstrap_json_tpl": "{}", "envoy_ready_bind_addr": "x"},
			"upstreams": [{"destinationName": "a", "localBindPort": 1, "config": {"b": null, "c": [{"d": [1, null]}]}}, {"destinationName": "", "localBindPort": 1, "destinationPartition": "p"}, {}]}}`))
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	got := map[string]string{}
	for _, fault := range invalid.Faults {
		got[fault.Path] = fault.Found
	}
	want := map[string]string{
		"bootstrapDir": `"relative"`, "logLevel": `"LOUD"`, "topology": `"star"`, "gateway": "an object", "servce": "an unknown field",
		"consulLogin.method": "1", "consulLogin.extra": "an unknown field", "consulLogin.extraLoginFlags": "a list", "transparentProxy.excludeUIDs[0]": `"root"`, "healthSyncContainers[1]": `"ecsmesh-init"`, "healthSyncContainers[2]": `"a"`, "healthSyncContainers[3]": `"app"`, "healthSyncContainers[4]": `"x/y"`,
		"consulServers.parameter": `""`, "consulServers.hosts": `"exec=discover"`, "consulServers.http.caCertFile": `"/nowhere/ca.pem"`, "consulServers.grpc.caCertFile": `"/nowhere/ca.pem"`, "consulServers.grpc.port": "70000", "consulServers.http.port": `"8500"`,
		"proxy.upstreams[0].config.c[0].d[1]": "null", "service.name": `"consul"`, "service.port": "8080.5", "service.tags": `"a"`, "service.meta.k": "1", "service.weights.passing": "0", "service.weights.warning": "65536", "service.networkResilienceConfig.enabled": `"yes"`,
		"service.checks[0]": "0 of tcp, http and grpc", "service.checks[1].name": `"a"`, "service.checks[1].tcp": `"nowhere"`,
		"service.checks[2].name": `"b/c"`, "service.checks[2]": "2 of tcp, http and grpc", "service.checks[3].method": `"GET"`, "service.checks[3].timeout": `"2"`,
		"service.checks[4].interval": `"5s"`, "service.checks[4].grpc": `"127.0.0.1"`, "service.checks[5]": "7",
		"proxy.adminBindAddress": `"localhost"`, "proxy.healthCheckPort": "20000", "proxy.expose": "7", "proxy.meshGateway.mode": `"far"`,
		"proxy.config.envoy_prometheus_bind_addr": `":9102"`, "proxy.config.envoy_statsd_url": `"unix:///x"`, "proxy.config.envoy_dogstatsd_url": `"$NOPE"`,
		"proxy.config.envoy_tracing_json": `"[]"`, "proxy.config.envoy_extra_static_clusters_json": `"{},1"`, "proxy.config.envoy_bootstrap_json_tpl": `"{}"`, "proxy.config.envoy_ready_bind_addr": `"x"`,
		"proxy.upstreams[1].destinationName": "nothing", "proxy.upstreams[1].localBindPort": "1",
		"proxy.upstreams[2].destinationName": "nothing", "proxy.upstreams[2].localBindPort": "nothing",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if message := err.Error(); strings.Contains(message, "\n") || !strings.HasPrefix(message, "ECSMESH_CONFIG is invalid: ") {
		t.Errorf("the message is no single line that names the variable: %q", message)
	}
}

func TestSwitchingTLSOff(t *testing.T) {
	for name, test := range map[string]struct {
		servers string
		faults  []string
	}{
		"nothing said":            {`{}`, []string{"consulServers.http.caCertParameter", "consulServers.grpc.caCertParameter"}},
		"defaults":                {`{"defaults": {"tls": false}}`, nil},
		"each interface":          {`{"http": {"https": false}, "grpc": {"tls": false}}`, nil},
		"defaults and http":       {`{"defaults": {"tls": false}, "http": {"https": false}}`, nil},
		"https in spite of it":    {`{"defaults": {"tls": false}, "http": {"https": true}}`, []string{"consulServers.http.caCertParameter"}},
		"grpc in spite of it":     {`{"defaults": {"tls": false}, "grpc": {"tls": true}}`, []string{"consulServers.grpc.caCertParameter"}},
		"http contradicts itself": {`{"defaults": {"tls": false}, "http": {"https": false, "tls": true}}`, []string{"consulServers.http.tls"}},
		"only http is plain text": {`{"http": {"https": false}}`, []string{"consulServers.grpc.caCertParameter"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(Variable, `{"service": {"port": 80}, "consulServers": `+test.servers+`}`))
			var invalid *InvalidError
			var got []string
			if errors.As(err, &invalid) {
				for _, fault := range invalid.Faults {
					got = append(got, fault.Path)
				}
			}
			if diff := cmp.Diff(test.faults, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDocumentsThatCannotBeRead(t *testing.T) {
	for document, want := range map[string]string{
		"":                     "ECSMESH_CONFIG is not set: give the container its configuration as a JSON document in this environment variable",
		`{"service": {`:        "ECSMESH_CONFIG is not valid JSON: it ends too early; check that its value was not cut off",
		"{\n  \"service\": x}": "ECSMESH_CONFIG is not valid JSON: invalid character 'x' looking for beginning of value at line 2, column 14",
		`[]`:                   "ECSMESH_CONFIG is not a JSON object: found a list",
		`{"service": {"port": 1, "checks": [{"name": "a", "name": "b"}]}}`: "ECSMESH_CONFIG has the field service.checks[0].name twice; keep one",
		`{"a": {"x": 1}, "b": {"x": 1}, "a": 1}`:                           "ECSMESH_CONFIG has the field a twice; keep one",
		minimal + "}":                                                      "ECSMESH_CONFIG is not one JSON document: something follows its end at line 1, column 75",
	} {
		_, err := Read(env(Variable, document))
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", document, err, want)
		}
	}
}

// TestWhatEnvoyWouldRejectInSilence has configurations with which a task would
// pass, but for a listener that is missing.
func TestWhatEnvoyWouldRejectInSilence(t *testing.T) {
	for name, test := range map[string]struct{ proxy, want string }{
		"a name as an upstream's address":    {`{"upstreams": [{"destinationName": "a", "localBindPort": 1, "localBindAddress": "localhost"}]}`, "proxy.upstreams[0].localBindAddress"},
		"a name as the local address":        {`{"localServiceAddress": "localhost"}`, "proxy.localServiceAddress"},
		"an upstream on the admin port":      {`{"upstreams": [{"destinationName": "a", "localBindPort": 19000}]}`, "proxy.upstreams[0].localBindPort"},
		"an upstream on the service port":    {`{"upstreams": [{"destinationName": "a", "localBindPort": 80, "localBindAddress": "127.0.0.9"}]}`, "proxy.upstreams[0].localBindPort"},
		"an upstream everywhere":             {`{"upstreams": [{"destinationName": "a", "localBindPort": 20000, "localBindAddress": "0.0.0.0"}]}`, "proxy.upstreams[0].localBindPort"},
		"an exposed path on the public port": {`{"expose": {"paths": [{"listenerPort": 20000, "path": "/", "localPathPort": 80}]}}`, "proxy.expose.paths[0].listenerPort"},
		"two paths that look alike":          {`{"expose": {"paths": [{"listenerPort": 1, "path": "/a/b", "localPathPort": 80}, {"listenerPort": 2, "path": "/a-b", "localPathPort": 80}]}}`, "proxy.expose.paths[1].path"},
		"metrics on the public port":         {`{"config": {"envoy_prometheus_bind_addr": "0.0.0.0:20000"}}`, "proxy.config.envoy_prometheus_bind_addr"},
		"another public listener":            {`{"config": {"bind_port": 1234}}`, "proxy.config.bind_port"},
		"the same port on two addresses":     {`{"upstreams": [{"destinationName": "a", "localBindPort": 1}, {"destinationName": "b", "localBindPort": 1, "localBindAddress": "127.0.0.2"}]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(Variable, `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 80}, "proxy": `+test.proxy+`}`))
			var invalid *InvalidError
			got := ""
			if errors.As(err, &invalid) {
				for _, fault := range invalid.Faults {
					got += fault.Path
				}
			}
			if got != test.want {
				t.Errorf("faults %q, want %q", got, test.want)
			}
		})
	}
}

func TestChecksThatCouldOnlyFail(t *testing.T) {
	for check, want := range map[string]string{
		`{"name": "a", "http": "http://127.0.0.1:99999/"}`:                            "service.checks[0].http",
		`{"name": "a", "http": "http://127.0.0.1/", "method": "GE T"}`:                "service.checks[0].method",
		`{"name": "a", "http": "http://127.0.0.1/", "header": {"X Y": ["1"]}}`:        "service.checks[0].header",
		`{"name": "a", "http": "http://127.0.0.1/", "header": {"Authorization": []}}`: "",
	} {
		_, err := Read(env(Variable, `{"consulServers": {"hosts": "10.0.0.1", "defaults": {"tls": false}}, "service": {"port": 80, "checks": [`+check+`]}}`))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want+": found")) {
			t.Errorf("%s: got %v", check, err)
		}
	}
	_, err := Read(env(Variable, `{"consulServers": {"hosts": "10.0.0.1:8500,2001:db8::1", "defaults": {"tls": false}}, "service": {"port": 80}}`))
	if err == nil || !strings.Contains(err.Error(), `consulServers.hosts: found "10.0.0.1:8500"`) || strings.Contains(err.Error(), "2001") {
		t.Errorf("got %v", err)
	}
}

func TestTheNewVariableWins(t *testing.T) {
	if _, err := Read(env(Variable, minimal, LegacyVariable, "{")); err != nil {
		t.Error(err)
	}
	_, err := Read(env(LegacyVariable, "{"))
	if err == nil || !strings.HasPrefix(err.Error(), LegacyVariable) {
		t.Errorf("the error does not name the variable that was read: %v", err)
	}
}

// Faults are logged, and what an application's check sends may be its password.
func TestFaultsShowNoSecrets(t *testing.T) {
	for check, want := range map[string]string{
		`{"name": "a", "http": "http://127.0.0.1/", "header": {"Authorization": "Bearer s3cret"}}`:     "service.checks[0].header.Authorization: found a value that isn't shown, as it may be a secret; want a list of strings",
		`{"name": "a", "http": "http://127.0.0.1/", "header": {"Authorization": [["Bearer s3cret"]]}}`: "service.checks[0].header.Authorization[0]: found a list; want a string",
		`{"name": "a", "http": "http://me:s3cret@127.0.0.1:80x/"}`:                                     `service.checks[0].http: found "http://…@127.0.0.1:80x/"; want a URL such as`,
		`{"name": "a", "http": "me:s3cret@127.0.0.1"}`:                                                 `service.checks[0].http: found "…@127.0.0.1"; want a URL such as`,
	} {
		document := `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080, "checks": [` + check + `]}}`
		_, err := Read(func(name string) string { return map[string]string{Variable: document}[name] })
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), want) {
			t.Errorf("of %s the error is %v and should have %q", check, err, want)
		}
	}
}

func TestAnUnknownFieldsAlternativesAreNamedOnce(t *testing.T) {
	document := `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080}, "proxy": {"publicListenerport": 1}}`
	_, err := Read(func(name string) string { return map[string]string{Variable: document}[name] })
	if err == nil || strings.Count(err.Error(), " config,") != 1 {
		t.Errorf("the error is %v", err)
	}
}

// What is registered in Consul and said in its outputs is read by everybody.
func TestChecksAreShownWithoutSecrets(t *testing.T) {
	for address, want := range map[string]string{
		"http://127.0.0.1:8080/health":                        "http://127.0.0.1:8080/health",
		"http://127.0.0.1:8080/a@b":                           "http://127.0.0.1:8080/a@b",
		"http://me:s3cret@127.0.0.1:8080/health":              "http://127.0.0.1:8080/health",
		"https://127.0.0.1/health?token=s3cret":               "https://127.0.0.1/health?…",
		"https://me:s3cret@127.0.0.1/health?token=s3cret&a=b": "https://127.0.0.1/health?…",
	} {
		check := Check{HTTP: address}
		if got := check.Shown(); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
		if got := check.Private(); got != strings.Contains(address, "me:") {
			t.Errorf("%s: private is %t", address, got)
		}
	}
}
