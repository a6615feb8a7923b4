package dataplane

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"ecsmesh/e2e/golden"
	"ecsmesh/initcontainer/config"
	"ecsmesh/shared/consul"
)

func plain() Proxy {
	return Proxy{
		NodeName: "ecs-0123456789abcdef", ID: "api-0123456789abcdef-sidecar-proxy",
		Address: netip.MustParseAddr("10.0.1.5"), Volume: "/ecsmesh", GRPCPort: 8502,
		Envoy: config.Proxy{HealthCheckPort: 22000, AdminBindAddress: "127.0.0.1", AdminBindPort: 19000},
		Settings: config.DataplaneSettings{
			DNSBindAddress: "127.0.0.1", Concurrency: 2, GracefulPort: 20300,
			ScrapePath: "/metrics", MergePort: 20100, RetentionTime: time.Minute,
		},
	}
}

func full() Proxy {
	p := plain()
	p.GRPCPort, p.ServerName, p.Token, p.SkipServerWatch = 8503, "server.dc1.consul", "11111111-2222-3333-4444-555555555555", true
	p.Tenancy = consul.Tenancy{Namespace: "shop", Partition: "eu"}
	p.Settings.DNSBindPort, p.Settings.ServiceMetricsURL = 8600, "http://127.0.0.1:8080/metrics"
	return p
}

func TestGoldenConfigurations(t *testing.T) {
	for name, p := range map[string]Proxy{"plain": plain(), "full": full()} {
		t.Run(name, func(t *testing.T) {
			got, err := Config(p)
			if err != nil {
				t.Fatal(err)
			}
			golden.Expect(t, filepath.Join("testdata", name+".json"), got)
			readStrictly(t, got)
		})
	}
}

// TestNoTokenIsNoCredentials has a configuration without one say nothing of credentials:
// consul-dataplane would take an empty one for a token.
func TestNoTokenIsNoCredentials(t *testing.T) {
	got, err := Config(plain())
	if err != nil || bytes.Contains(got, []byte("credentials")) {
		t.Errorf("%s, %v", got, err)
	}
}

// accepted are the fields that consul-dataplane reads, from version 1.3 on, of
// those that are any use here. Text, number and flag stand for their types;
// consul-dataplane refuses others.
type (
	text     *string
	number   *int
	flagged  *bool
	accepted struct {
		Consul struct {
			Addresses           text    `json:"addresses"`
			GRPCPort            number  `json:"grpcPort"`
			ServerWatchDisabled flagged `json:"serverWatchDisabled"`
			TLS                 struct {
				Disabled    flagged `json:"disabled"`
				CACertsPath text    `json:"caCertsPath"`
				ServerName  text    `json:"serverName"`
			} `json:"tls"`
			Credentials struct {
				Type   text `json:"type"`
				Static struct {
					Token text `json:"token"`
				} `json:"static"`
			} `json:"credentials"`
		} `json:"consul"`
		Proxy struct {
			NodeName  text `json:"nodeName"`
			ID        text `json:"id"`
			Namespace text `json:"namespace"`
			Partition text `json:"partition"`
		} `json:"proxy"`
		Logging struct {
			LogLevel text `json:"logLevel"`
		} `json:"logging"`
		DNSServer struct {
			BindAddress text   `json:"bindAddress"`
			BindPort    number `json:"bindPort"`
		} `json:"dnsServer"`
		Telemetry struct {
			Prometheus struct {
				RetentionTime     text   `json:"retentionTime"` // a duration
				ServiceMetricsURL text   `json:"serviceMetricsURL"`
				ScrapePath        text   `json:"scrapePath"`
				MergePort         number `json:"mergePort"`
			} `json:"prometheus"`
		} `json:"telemetry"`
		Envoy struct {
			AdminBindAddress text   `json:"adminBindAddress"`
			AdminBindPort    number `json:"adminBindPort"`
			ReadyBindAddress text   `json:"readyBindAddress"`
			ReadyBindPort    number `json:"readyBindPort"`
			Concurrency      number `json:"concurrency"`
			GracefulPort     number `json:"gracefulPort"`
		} `json:"envoy"`
	}
)

// readStrictly fails for a name that consul-dataplane would overlook, letter for
// letter, or a value of another type.
func readStrictly(t *testing.T, content []byte) {
	t.Helper()
	var found accepted
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&found); err != nil {
		t.Error(err)
	}
	for _, needed := range []text{found.Consul.Addresses, found.Proxy.NodeName, found.Proxy.ID, found.Envoy.AdminBindAddress} {
		if needed == nil || *needed == "" {
			t.Errorf("consul-dataplane doesn't start without all of its addresses, proxy and admin interface: %s", content)
		}
	}
	if duration := found.Telemetry.Prometheus.RetentionTime; duration != nil {
		if _, err := time.ParseDuration(*duration); err != nil {
			t.Error(err)
		}
	}
}
