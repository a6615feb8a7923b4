package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSettingsOfDataplane(t *testing.T) {
	defaults := DataplaneSettings{
		DNSBindAddress: "127.0.0.1", Concurrency: 2, GracefulPort: 20300,
		ScrapePath: "/metrics", MergePort: 20100, RetentionTime: time.Minute,
	}
	for name, test := range map[string]struct {
		fields string
		want   *DataplaneSettings
	}{
		"another topology": {`"topology": "direct", "dataplane": null`, nil},
		"defaults":         {`"topology": "dataplane"`, &defaults},
		"a transparent proxy that asks it": {`"topology": "dataplane", "transparentProxy": {"consulDNS": {"enabled": true}}`, func() *DataplaneSettings {
			asked := defaults
			asked.DNSBindPort = 8600
			return &asked
		}()},
		"all": {
			`"topology": "dataplane", "dataplane": {"dnsServer": {"bindAddress": "::1", "bindPort": 8600}, "envoy": {"concurrency": 4, "gracefulPort": 20301},
				"telemetry": {"prometheus": {"serviceMetricsURL": "http://127.0.0.1:8080/metrics", "scrapePath": "/all", "mergePort": 20101, "retentionTime": "90s"}}}`,
			&DataplaneSettings{
				DNSBindAddress: "::1", DNSBindPort: 8600, Concurrency: 4, GracefulPort: 20301,
				ServiceMetricsURL: "http://127.0.0.1:8080/metrics", ScrapePath: "/all", MergePort: 20101, RetentionTime: 90 * time.Second,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(env(Variable, `{`+plaintext+`, "service": {"port": 8080}, `+test.fields+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Dataplane); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFaultsOfDataplane(t *testing.T) {
	for name, test := range map[string]struct {
		fields string
		want   map[string]string
	}{
		"of another topology": {`"dataplane": {}`, map[string]string{"dataplane": "an object"}},
		"a token that ends":   {`"topology": "dataplane", "consulLogin": {"enabled": true}`, map[string]string{"consulLogin.enabled": "true"}},
		"a path of two words": {`"topology": "dataplane", "bootstrapDir": "/my mesh"`, map[string]string{"bootstrapDir": `"/my mesh"`}},
		"ports of others": {
			`"topology": "dataplane", "dataplane": {"dnsServer": {"bindPort": 19000}, "envoy": {"gracefulPort": 8080}, "telemetry": {"prometheus": {"mergePort": 9102}}}, "proxy": {"config": {"envoy_prometheus_bind_addr": "0.0.0.0:9102"}}`,
			map[string]string{"dataplane.dnsServer.bindPort": "19000", "dataplane.envoy.gracefulPort": "8080", "dataplane.telemetry.prometheus.mergePort": "9102"},
		},
		"questions sent elsewhere": {
			`"topology": "dataplane", "transparentProxy": {"consulDNS": {"enabled": true}}, "dataplane": {"dnsServer": {"bindAddress": "127.0.0.2", "bindPort": 53}}`,
			map[string]string{"dataplane.dnsServer.bindAddress": `"127.0.0.2"`, "dataplane.dnsServer.bindPort": "53"},
		},
		"everything": {
			`"topology": "dataplane", "dataplane": {"mode": "sidecar", "dnsServer": {"bindAddress": "0.0.0.0", "bindPort": -1, "x": 1}, "envoy": {"concurrency": 0, "adminBindPort": 1},
				"telemetry": {"useCentralConfig": false, "prometheus": {"serviceMetricsURL": "/metrics", "scrapePath": "metrics", "mergePort": "1", "retentionTime": "1", "keyFile": "x"}}}`,
			map[string]string{
				"dataplane.mode": "an unknown field", "dataplane.dnsServer.bindAddress": `"0.0.0.0"`, "dataplane.dnsServer.bindPort": "-1", "dataplane.dnsServer.x": "an unknown field",
				"dataplane.envoy.concurrency": "0", "dataplane.envoy.adminBindPort": "an unknown field", "dataplane.telemetry.useCentralConfig": "an unknown field",
				"dataplane.telemetry.prometheus.serviceMetricsURL": `"/metrics"`, "dataplane.telemetry.prometheus.scrapePath": `"metrics"`, "dataplane.telemetry.prometheus.mergePort": `"1"`,
				"dataplane.telemetry.prometheus.retentionTime": `"1"`, "dataplane.telemetry.prometheus.keyFile": "an unknown field",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(Variable, `{`+plaintext+`, "service": {"port": 8080}, `+test.fields+`}`))
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

func TestWhatDataplaneKeeps(t *testing.T) {
	for fields, want := range map[string]string{
		`"consulServers": {"defaults": {"tls": false}, "skipServerWatch": true}`:                  "",
		`"consulServers": {"defaults": {"caCertParameter": "/ca"}, "tokenParameter": "/acl/api"}`: "replace the tasks before that of consulServers.tokenParameter is deleted",
	} {
		got, err := Read(env(Variable, `{"topology": "dataplane", "service": {"port": 8080}, `+fields+`}`))
		if err != nil || !strings.Contains(strings.Join(got.Warnings, "\n"), want) || want == "" && len(got.Warnings) > 0 {
			t.Errorf("%s: %q, %v", fields, got.Warnings, err)
		}
	}
}
