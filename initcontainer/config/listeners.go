package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// listener is something that will listen in the task.
type listener struct {
	field   string
	address string // an IP address, or ownAddress
	port    int
}

// ownAddress stands for the task's address, which isn't known yet.
const ownAddress = "the task's address"

// checkPorts refuses what would listen on another's port: Envoy would reject
// that listener alone, and the task would pass without it.
func checkPorts(root *document, cfg Config) {
	listeners := []listener{
		{"service.port", cfg.Proxy.LocalServiceAddress, cfg.Service.Port},
		{"proxy.publicListenerPort", ownAddress, cfg.Proxy.PublicListenerPort},
		{"proxy.healthCheckPort", ownAddress, cfg.Proxy.HealthCheckPort},
		{"proxy.adminBindPort", cfg.Proxy.AdminBindAddress, cfg.Proxy.AdminBindPort},
	}
	settings := "proxy.config"
	if cfg.Gateway != nil {
		listeners, settings = gatewayListeners(cfg), "gateway.proxy.config"
	}
	listeners = append(listeners, clientListeners(cfg.ConsulClient)...)
	for i, upstream := range cfg.Proxy.Upstreams {
		listeners = append(listeners, listener{fmt.Sprintf("proxy.upstreams[%d].localBindPort", i), upstream.LocalBindAddress, upstream.LocalBindPort})
	}
	for i, exposed := range cfg.Proxy.Expose.Paths {
		listeners = append(listeners, listener{fmt.Sprintf("proxy.expose.paths[%d].listenerPort", i), ownAddress, exposed.ListenerPort})
	}
	for _, stats := range []struct {
		field string
		at    netip.AddrPort
	}{
		{settings + ".envoy_prometheus_bind_addr", cfg.Proxy.Envoy.PrometheusBindAddr},
		{settings + ".envoy_stats_bind_addr", cfg.Proxy.Envoy.StatsBindAddr},
	} {
		if stats.at.IsValid() {
			listeners = append(listeners, listener{stats.field, stats.at.Addr().String(), int(stats.at.Port())})
		}
	}
	if cfg.TransparentProxy != nil {
		listeners = slices.Insert(listeners, 0, listener{"transparentProxy", DefaultLocalServiceAddr, OutboundListenerPort})
	}
	listeners = append(listeners, cfg.Dataplane.listeners(cfg.Proxy.Envoy)...)
	for i, l := range listeners {
		for _, earlier := range listeners[:i] {
			if l.port != 0 && l.port == earlier.port && overlap(l, earlier) {
				root.fault(l.field, strconv.Itoa(l.port), "want a port of its own: "+earlier.field+" has the same")
				break
			}
		}
	}
}

// overlap tells whether two listeners' addresses have one in common. Most
// applications listen on all addresses, so service.port is everyone's.
func overlap(a, b listener) bool {
	anywhere := func(l listener) bool {
		addr, err := netip.ParseAddr(l.address)
		return l.field == "service.port" || err == nil && addr.IsUnspecified()
	}
	own := func(l listener) bool { // may be the task's address
		addr, err := netip.ParseAddr(l.address)
		return l.address == ownAddress || err == nil && !addr.IsLoopback()
	}
	return a.address == b.address || anywhere(a) || anywhere(b) || own(a) && own(b)
}
