package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EnvoySettings are the keys of proxy.config that shape Envoy's bootstrap.
// They mean what they mean to "consul connect envoy -bootstrap". All other
// keys are for Consul, which builds Envoy's dynamic configuration from them.
type EnvoySettings struct {
	PrometheusBindAddr netip.AddrPort // envoy_prometheus_bind_addr; zero is off
	StatsBindAddr      netip.AddrPort // envoy_stats_bind_addr; zero is off
	StatsdSink         *SinkAddress   // envoy_statsd_url
	DogStatsdSink      *SinkAddress   // envoy_dogstatsd_url
	StatsTags          []string       // envoy_stats_tags: name=value
	StatsFlushInterval time.Duration  // envoy_stats_flush_interval; 0 is Envoy's own

	// The following are Envoy's JSON, passed on as it is.
	StatsConfig     json.RawMessage   // envoy_stats_config_json, in place of the standard tags
	ExtraStatsSinks []json.RawMessage // envoy_extra_stats_sinks_json
	ExtraClusters   []json.RawMessage // envoy_extra_static_clusters_json
	ExtraListeners  []json.RawMessage // envoy_extra_static_listeners_json
	Tracing         json.RawMessage   // envoy_tracing_json
}

// SinkAddress is where a statistics sink sends to: a UDP address or the path
// of a Unix domain socket.
type SinkAddress struct {
	UDP  netip.AddrPort
	Unix string
}

func readEnvoySettings(d *document, getenv func(string) string) EnvoySettings {
	settings := EnvoySettings{
		PrometheusBindAddr: d.addrPort("envoy_prometheus_bind_addr"),
		StatsBindAddr:      d.addrPort("envoy_stats_bind_addr"),
		StatsdSink:         d.sink("envoy_statsd_url", getenv, "udp"),
		DogStatsdSink:      d.sink("envoy_dogstatsd_url", getenv, "udp", "unix"),
		StatsTags:          d.texts("envoy_stats_tags"),
		StatsFlushInterval: d.duration("envoy_stats_flush_interval", 0, time.Hour),
		ExtraStatsSinks:    d.rawObjects("envoy_extra_stats_sinks_json"),
		ExtraClusters:      d.rawObjects("envoy_extra_static_clusters_json"),
		ExtraListeners:     d.rawObjects("envoy_extra_static_listeners_json"),
		StatsConfig:        d.rawObject("envoy_stats_config_json"),
		Tracing:            d.rawObject("envoy_tracing_json"),
	}
	if i := settings.StatsFlushInterval; i != 0 && (i < time.Millisecond || i >= 5*time.Minute) {
		d.fault("envoy_stats_flush_interval", i.String(), "want 1ms or more, and less than 5m")
	}
	for _, name := range []string{"envoy_bootstrap_json_tpl", "envoy_telemetry_collector_bind_socket_dir", "envoy_hcp_metrics_bind_socket_dir"} {
		d.refuse(name, "ecsmesh writes all of the bootstrap itself; remove it")
	}
	return settings
}

func (d *document) addrPort(name string) netip.AddrPort {
	text := d.text(name, "")
	if text == "" {
		return netip.AddrPort{}
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || addr.Port() == 0 {
		d.fault(name, show(text), "want an IP address and a port, such as 0.0.0.0:9102")
		return netip.AddrPort{}
	}
	return addr
}

// sink reads the URL of a statistics sink. As with Consul, a value that begins
// with $ names a variable that holds the URL, and ${HOST_IP} within it stands
// for that variable.
func (d *document) sink(name string, getenv func(string) string, schemes ...string) *SinkAddress {
	text := d.text(name, "")
	if text == "" {
		return nil
	}
	var resolved string
	if variable, whole := strings.CutPrefix(text, "$"); whole && !strings.HasPrefix(variable, "{") {
		if resolved = getenv(variable); resolved == "" {
			d.fault(name, show(text), fmt.Sprintf("the environment variable %s is not set", legible(variable)))
			return nil
		}
	} else {
		resolved = os.Expand(text, func(variable string) string {
			if variable == "HOST_IP" {
				return getenv(variable)
			}
			return "${" + variable + "}"
		})
	}
	want := "want a URL such as udp://127.0.0.1:8125"
	if slices.Contains(schemes, "unix") {
		want += " or unix:///var/run/datadog/dsd.socket"
	}
	u, err := url.Parse(resolved)
	if err != nil || !slices.Contains(schemes, u.Scheme) {
		d.fault(name, show(text), want)
		return nil
	}
	if u.Scheme == "unix" {
		if u.Path == "" {
			d.fault(name, show(text), want)
			return nil
		}
		return &SinkAddress{Unix: u.Path}
	}
	addr, err := netip.ParseAddr(u.Hostname())
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || portErr != nil || port == 0 {
		d.fault(name, show(text), want+" (an IP address, not a name)")
		return nil
	}
	return &SinkAddress{UDP: netip.AddrPortFrom(addr, uint16(port))}
}

// rawObject reads a string that holds a JSON object.
func (d *document) rawObject(name string) json.RawMessage {
	text := d.text(name, "")
	if text == "" {
		return nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
		d.fault(name, show(text), "want a string that holds one JSON object, in Envoy's own form")
		return nil
	}
	return json.RawMessage(text)
}

// rawObjects reads a string that holds JSON objects separated by commas.
func (d *document) rawObjects(name string) []json.RawMessage {
	text := d.text(name, "")
	if text == "" {
		return nil
	}
	var objects []json.RawMessage
	err := json.Unmarshal([]byte("["+text+"]"), &objects)
	for _, object := range objects {
		var fields map[string]json.RawMessage
		if json.Unmarshal(object, &fields) != nil || fields == nil {
			err = fmt.Errorf("%s is not an object", object)
		}
	}
	if err != nil {
		d.fault(name, show(text), "want a string that holds JSON objects separated by commas, in Envoy's own form")
		return nil
	}
	return objects
}
