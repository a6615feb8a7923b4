package envoy

import (
	"encoding/json"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"ecsmesh/initcontainer/config"
)

// FuzzBootstrap expects of every configuration that is valid a bootstrap that
// Envoy can read: when it is written, the task is in Consul already.
func FuzzBootstrap(f *testing.F) {
	for _, proxy := range []string{
		`{}`,
		`{"adminBindAddress": "::1", "adminBindPort": 1, "healthCheckPort": 65535, "config": {"protocol": "http"}}`,
		`{"config": {"envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_stats_bind_addr": "[::1]:9103", "envoy_stats_flush_interval": "2500ms"}}`,
		`{"config": {"envoy_statsd_url": "udp://127.0.0.1:8125", "envoy_dogstatsd_url": "unix:///var/run/datadog/dsd.socket", "envoy_stats_tags": ["canary", "env=prod", "=", "a=\u0000"]}}`,
		`{"config": {"envoy_statsd_url": "$HOST", "envoy_stats_flush_interval": "1ms"}}`,
		`{"config": {"envoy_stats_flush_interval": "0.1ms"}}`, `{"config": {"envoy_stats_flush_interval": "5m"}}`,
		`{"config": {"envoy_extra_static_clusters_json": "{\"name\": \"a\"}, {}", "envoy_extra_stats_sinks_json": "{}", "envoy_extra_static_listeners_json": "{}", "envoy_tracing_json": "{}", "envoy_stats_config_json": "{}"}}`,
	} {
		f.Add(proxy)
	}
	f.Fuzz(func(t *testing.T, proxy string) {
		cfg, err := config.Read(func(name string) string {
			switch name {
			case config.Variable:
				return `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080}, "proxy": ` + proxy + `}`
			case "HOST":
				return "udp://[2001:db8::1]:8125"
			}
			return ""
		})
		if err != nil {
			return
		}
		s := sidecar(cfg.Proxy.Envoy)
		s.Proxy = cfg.Proxy
		got, err := Bootstrap(s)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(got) {
			t.Fatalf("this is no JSON:\n%s", got)
		}
		// What users pass on as it is, is theirs.
		e := cfg.Proxy.Envoy
		if e.StatsConfig == nil && e.Tracing == nil && e.ExtraClusters == nil && e.ExtraListeners == nil && e.ExtraStatsSinks == nil {
			decodeStrictly(t, got, &bootstrapv3.Bootstrap{})
		}
	})
}
