package config

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func FuzzRead(f *testing.F) {
	const servers = `"consulServers": {"defaults": {"tls": false}}`
	for _, document := range []string{
		minimal, ``, `null`, `[]`, `{`, minimal + minimal, "\xef\xbb\xbf" + minimal, strings.Repeat("[", 20000), `{"service": {"port": 1e9}, "service": 2}`,
		`{` + servers + `, "service": {"name": "api", "port": 8080, "tags": ["a"], "meta": {"k": "v"}, "weights": {"passing": 3, "warning": 2},
			"checks": [{"name": "h", "http": "https://127.0.0.1:8080/health", "method": "POST", "header": {"X": ["1"]}, "body": "b", "tlsSkipVerify": true, "timeout": "1s"},
				{"name": "t", "tcp": "127.0.0.1:1"}, {"name": "g", "grpc": "[::1]:2/svc", "timeout": "1m"}]}}`,
		`{` + servers + `, "service": {"port": 8080}, "healthSyncContainers": ["app", "app"], "bootstrapDir": "/../mesh/", "logLevel": "Trace"}`,
		`{` + servers + `, "service": {"port": 80}, "proxy": {"adminBindAddress": "::", "adminBindPort": 1, "publicListenerPort": 65535, "healthCheckPort": 65536,
			"upstreams": [{"destinationName": "db", "localBindPort": 5432, "destinationType": "prepared_query", "meshGateway": {"mode": "remote"}}, {"destinationName": "db", "destinationPeer": "p", "localBindSocketPath": "/s", "localBindSocketMode": "600"}, null]}}`,
		`{` + servers + `, "service": {"port": 80}, "proxy": {"config": {"envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_stats_bind_addr": "0.0.0.0:9102",
			"envoy_statsd_url": "$STATSD", "envoy_dogstatsd_url": "unix:///s", "envoy_stats_tags": ["a=b=c", 1], "envoy_stats_flush_interval": "-1s",
			"envoy_tracing_json": "{} {}", "envoy_extra_static_clusters_json": "{\"name\": \"a\"},", "envoy_stats_config_json": "{\"a\": 1, \"a\": 2}"}}}`,
		`{"consulServers": {"hosts": "10.0.0.1, consul.example.com,,exec=x", "http": {"https": false, "port": 0}, "grpc": {"tls": null}}, "service": {"port": -1, "name": "\n"}}`,
		`{"consulServers": {"defaults": {"caCertParameter": "/ca", "tlsServerName": "server.dc1.consul"}, "http": {"https": true, "tls": true}, "grpc": {"tls": true, "tlsServerName": "10.0.0.1"}, "tokenParameter": "/token"}, "service": {"port": 80}, "proxy": {"uid": 101}}`,
		`{"consulServers": {"defaults": {"caCertFile": "/nowhere", "caCertParameter": ""}, "grpc": {"caCertParameter": "/ca"}}, "service": {"port": 80}, "proxy": {"uid": 4294967295}}`,
		`{` + servers + `, "service": {"port": 80}, "consulLogin": {"enabled": true, "method": "m", "includeEntity": false, "meta": {"a": "b"}, "region": "eu-west-1", "datacenter": "dc1", "stsEndpoint": "https://sts.example.com", "serverIdHeaderValue": "x"}}`,
		`{` + servers + `, "service": {"port": 80}, "proxy": {"config": {"envoy_statsd_url": "$\n"}}}`,
		`{` + servers + `, "gateway": {"kind": "mesh-gateway", "name": "gw", "tags": ["a"], "meta": {"k": "v"}, "healthCheckPort": 22001, "lanAddress": {"address": "10.0.0.5", "port": 8443},
			"wanAddress": {"address": "gw.example.com", "port": 443}, "proxy": {"config": {"envoy_stats_bind_addr": "0.0.0.0:9102"}}}, "proxy": {"adminBindPort": 8443}, "healthSyncContainers": []}`,
		`{` + servers + `, "gateway": {"kind": "api", "lanAddress": {"address": "0.0.0.0"}, "wanAddress": 7, "healthCheckPort": 8443}, "proxy": {"upstreams": []}}`,
		`{"servce\n": {}, "": 1, "service": {"port": "80", "checks": [{"name": "a\u2028b", "tcp": ":1"}]}}`,
	} {
		f.Add(document)
	}
	schema := compileSchema(f)
	f.Fuzz(func(t *testing.T, document string) {
		getenv := env(Variable, document, "STATSD", "udp://127.0.0.1:8125", "HOST_IP", "10.0.0.9")
		got, err := Read(getenv)
		again, errAgain := Read(getenv)
		if diff := cmp.Diff([]string{text(err)}, []string{text(errAgain)}); diff != "" {
			t.Errorf("read again, it is otherwise (-first +second):\n%s", diff)
		}
		if err != nil {
			expectClear(t, err)
			return
		}
		if diff := cmp.Diff(got, again, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("read again, it is otherwise (-first +second):\n%s", diff)
		}
		expectUsable(t, got)
		if err := validate(schema, document); err != nil {
			t.Errorf("the schema refuses what the reader takes: %v", err)
		}
	})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// expectClear expects one line that names the variable and every fault.
func expectClear(t *testing.T, err error) {
	t.Helper()
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("the error is a %T", err)
	}
	message := err.Error()
	if !strings.HasPrefix(message, Variable+" ") || strings.ContainsAny(message, "\n\r") {
		t.Errorf("the message is no single line that names the variable: %q", message)
	}
	if (invalid.Reason == "") == (len(invalid.Faults) == 0) {
		t.Errorf("there is neither a reason nor a fault, or both: %+v", invalid)
	}
	for _, fault := range invalid.Faults {
		if fault.Path == "" || fault.Found == "" || fault.Want == "" {
			t.Errorf("a fault that doesn't say where, what was found and what is wanted: %+v", fault)
		}
	}
}

// expectUsable expects what the rest of the program relies on.
func expectUsable(t *testing.T, cfg Config) {
	t.Helper()
	ports := map[string]int{
		"consulServers.http.port": cfg.ConsulServers.HTTP.Port, "consulServers.grpc.port": cfg.ConsulServers.GRPC.Port,
		"proxy.healthCheckPort": cfg.Proxy.HealthCheckPort, "proxy.adminBindPort": cfg.Proxy.AdminBindPort,
	}
	addresses := map[string]string{"proxy.adminBindAddress": cfg.Proxy.AdminBindAddress}
	if gateway := cfg.Gateway; gateway != nil {
		ports["gateway.lanAddress.port"], ports["gateway.wanAddress.port"] = gateway.LAN.Port, gateway.WAN.Port
		if gateway.Kind == "" || gateway.Name != "" && !ValidServiceName(gateway.Name) {
			t.Errorf("a gateway of the kind %q, called %q", gateway.Kind, gateway.Name)
		}
	} else {
		ports["service.port or none"], ports["proxy.publicListenerPort"] = max(cfg.Service.Port, 1), cfg.Proxy.PublicListenerPort
		addresses["proxy.localServiceAddress"] = cfg.Proxy.LocalServiceAddress
		expectChecks(t, cfg.Service)
	}
	for _, upstream := range cfg.Proxy.Upstreams {
		if upstream.LocalBindSocketPath == "" {
			ports["upstream "+upstream.DestinationName] = upstream.LocalBindPort
			addresses["upstream "+upstream.DestinationName] = upstream.LocalBindAddress
		} else if upstream.LocalBindPort != 0 || upstream.LocalBindAddress != "" {
			t.Errorf("an upstream at a port and at a socket: %+v", upstream)
		}
		if upstream.DestinationName == "" {
			t.Error("an upstream without a destination")
		}
	}
	for field, port := range ports {
		if port < 1 || port > 65535 {
			t.Errorf("%s is %d", field, port)
		}
	}
	for field, address := range addresses {
		if _, err := netip.ParseAddr(address); err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	if !filepath.IsAbs(cfg.BootstrapDir) || filepath.Clean(cfg.BootstrapDir) != cfg.BootstrapDir {
		t.Errorf("bootstrapDir is %q", cfg.BootstrapDir)
	}
	if name := cfg.Service.Name; name != "" && !ValidServiceName(name) {
		t.Errorf("service.name is %q", name)
	}
	if cfg.ConsulServers.Parameter == "" && len(cfg.ConsulServers.Hosts) == 0 {
		t.Error("there is nowhere to find the Consul servers")
	}
	expectSecure(t, cfg)
}

// expectSecure expects a CA and a name where there is TLS, and one source of
// tokens at most.
func expectSecure(t *testing.T, cfg Config) {
	t.Helper()
	servers := cfg.ConsulServers
	for _, tls := range []*TLS{servers.HTTP.TLS, servers.GRPC.TLS} {
		if tls != nil && ((tls.CA == "") == (tls.CAParameter == "") || tls.ServerName != "" && !isDNSName(tls.ServerName)) {
			t.Errorf("by this no server is known: %+v", *tls)
		}
	}
	sources := 0
	for _, there := range []bool{servers.Token != "", servers.TokenParameter != "", cfg.Login != nil} {
		if there {
			sources++
		}
	}
	if sources > 1 || cfg.Login != nil && cfg.Login.AuthMethod == "" {
		t.Errorf("it is not clear where tokens come from: %+v and %+v", servers, cfg.Login)
	}
}

// expectChecks expects at least one of a service that listens, and that each can
// be run and told apart.
func expectChecks(t *testing.T, service Service) {
	t.Helper()
	names := slices.Clone(service.HealthSyncContainers)
	for _, check := range service.Checks {
		names = append(names, check.Name)
		kinds := 0
		for _, target := range []string{check.TCP, check.HTTP, check.GRPC} {
			if target != "" {
				kinds++
			}
		}
		if kinds != 1 || check.Timeout <= 0 || check.Timeout > time.Minute {
			t.Errorf("a check that can't be run: %+v", check)
		}
	}
	if len(names) == 0 && service.Port != 0 {
		t.Error("nothing says whether the service is healthy")
	}
	slices.Sort(names)
	if unique := slices.Compact(slices.Clone(names)); len(unique) != len(names) {
		t.Errorf("two checks have the same name: %q", names)
	}
}
