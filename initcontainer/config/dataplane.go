package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// Defaults of consul-dataplane, which are its own.
const (
	DefaultDataplaneConcurrency  = 2
	DefaultDataplaneGracefulPort = 20300
	DefaultDataplaneMergePort    = 20100
	DefaultDataplaneScrapePath   = "/metrics"
	DefaultDataplaneRetention    = time.Minute
)

// DataplaneSettings are those of consul-dataplane that are not told by the rest
// of the configuration. Their names are its own.
type DataplaneSettings struct {
	DNSBindAddress string
	DNSBindPort    int // 0 is off

	Concurrency  int // Envoy's threads
	GracefulPort int

	ServiceMetricsURL string // "" has it merge no metrics of the application's
	ScrapePath        string
	MergePort         int
	RetentionTime     time.Duration
}

// readDataplane reads what only the topology dataplane has, and refuses what it
// can't do.
func readDataplane(root *document, cfg Config) *DataplaneSettings {
	if cfg.Topology != Dataplane {
		root.refuse("dataplane", `it goes with "topology": "dataplane" only; remove it`)
		return nil
	}
	d := root.section("dataplane")
	dns, envoy, telemetry := d.section("dnsServer"), d.section("envoy"), d.section("telemetry")
	prometheus := telemetry.section("prometheus")
	settings := &DataplaneSettings{
		DNSBindAddress:    dns.text("bindAddress", "127.0.0.1"),
		DNSBindPort:       dns.port("bindPort", cfg.redirectedDNS()),
		Concurrency:       envoy.integer("concurrency", DefaultDataplaneConcurrency, 1, 1024),
		GracefulPort:      envoy.port("gracefulPort", DefaultDataplaneGracefulPort),
		ServiceMetricsURL: prometheus.text("serviceMetricsURL", ""),
		ScrapePath:        prometheus.text("scrapePath", DefaultDataplaneScrapePath),
		MergePort:         prometheus.port("mergePort", DefaultDataplaneMergePort),
		RetentionTime:     prometheus.duration("retentionTime", DefaultDataplaneRetention, 24*time.Hour),
	}
	if addr, err := netip.ParseAddr(settings.DNSBindAddress); err != nil || !addr.IsLoopback() {
		dns.fault("bindAddress", show(settings.DNSBindAddress), "want a loopback address such as 127.0.0.1: consul-dataplane takes no other")
	}
	if cfg.redirectedDNS() != 0 && settings.DNSBindAddress != DefaultClientAddress {
		dns.fault("bindAddress", show(settings.DNSBindAddress), "want "+DefaultClientAddress+", or nothing: transparentProxy.consulDNS sends the task's questions there")
	}
	if want := cfg.redirectedDNS(); want != 0 && settings.DNSBindPort != want {
		dns.fault("bindPort", show(settings.DNSBindPort), fmt.Sprintf("want %d, or nothing: transparentProxy.consulDNS sends the task's questions there", want))
	}
	if at, err := url.Parse(settings.ServiceMetricsURL); settings.ServiceMetricsURL != "" && (err != nil || at.Hostname() == "" || at.Scheme != "http" && at.Scheme != "https") {
		prometheus.fault("serviceMetricsURL", show(settings.ServiceMetricsURL), "want the URL of the application's metrics, such as http://127.0.0.1:8080/metrics")
	}
	if !strings.HasPrefix(settings.ScrapePath, "/") {
		prometheus.fault("scrapePath", show(settings.ScrapePath), "want a path such as /metrics")
	}
	for _, section := range []*document{dns, envoy, prometheus, telemetry, d} {
		section.end()
	}

	if cfg.Login != nil {
		root.fault("consulLogin.enabled", "true", `consul-dataplane keeps the token that it starts with, and would be cut off when that ends: use "topology": "direct", or give it a token without end by consulServers.tokenParameter`)
	}
	if cfg.ConsulServers.TokenParameter != "" {
		root.report.warnings = append(root.report.warnings, "consul-dataplane keeps the token that it starts with: replace the tasks before that of consulServers.tokenParameter is deleted")
	}
	if strings.ContainsFunc(cfg.BootstrapDir, unicode.IsSpace) {
		root.fault("bootstrapDir", show(cfg.BootstrapDir), "want a path without spaces: consul-dataplane can't run a program there")
	}
	return settings
}

// redirectedDNS is the port to which a transparent proxy sends questions for
// Consul's DNS; 0 is none.
func (c Config) redirectedDNS() int {
	if c.TransparentProxy == nil || !c.TransparentProxy.ConsulDNS {
		return 0
	}
	return DefaultDNSPort
}

// listeners are consul-dataplane's own.
func (s *DataplaneSettings) listeners(envoy EnvoySettings) []Listener {
	if s == nil {
		return nil
	}
	listeners := []Listener{{"dataplane.envoy.gracefulPort", "127.0.0.1", s.GracefulPort}}
	if s.DNSBindPort != 0 {
		listeners = append(listeners, Listener{"dataplane.dnsServer.bindPort", s.DNSBindAddress, s.DNSBindPort})
	}
	if envoy.PrometheusBindAddr.IsValid() {
		listeners = append(listeners, Listener{"dataplane.telemetry.prometheus.mergePort", "127.0.0.1", s.MergePort})
	}
	return listeners
}
