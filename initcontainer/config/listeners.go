package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Listener is something that will listen in the task.
type Listener struct {
	Field   string // that says so
	Address string // an IP address, or what stands for the task's own
	Port    int    // 0 is none
}

// ownAddress stands for the task's address, which isn't known yet.
const ownAddress = "the task's address"

// Listeners are the ports of the application, Envoy and what else ecsmesh has in
// the task, whose containers share them.
func (c Config) Listeners() []Listener {
	listeners := []Listener{
		{"service.port", c.Proxy.LocalServiceAddress, c.Service.Port},
		{"proxy.publicListenerPort", ownAddress, c.Proxy.PublicListenerPort},
		{"proxy.healthCheckPort", ownAddress, c.Proxy.HealthCheckPort},
		{"proxy.adminBindPort", c.Proxy.AdminBindAddress, c.Proxy.AdminBindPort},
	}
	settings := "proxy.config"
	if c.Gateway != nil {
		listeners, settings = gatewayListeners(c), "gateway.proxy.config"
	}
	listeners = append(listeners, clientListeners(c.ConsulClient)...)
	for i, upstream := range c.Proxy.Upstreams {
		listeners = append(listeners, Listener{fmt.Sprintf("proxy.upstreams[%d].localBindPort", i), upstream.LocalBindAddress, upstream.LocalBindPort})
	}
	for i, exposed := range c.Proxy.Expose.Paths {
		listeners = append(listeners, Listener{fmt.Sprintf("proxy.expose.paths[%d].listenerPort", i), ownAddress, exposed.ListenerPort})
	}
	for _, stats := range []struct {
		field string
		at    netip.AddrPort
	}{
		{settings + ".envoy_prometheus_bind_addr", c.Proxy.Envoy.PrometheusBindAddr},
		{settings + ".envoy_stats_bind_addr", c.Proxy.Envoy.StatsBindAddr},
	} {
		if stats.at.IsValid() {
			listeners = append(listeners, Listener{stats.field, stats.at.Addr().String(), int(stats.at.Port())})
		}
	}
	if c.TransparentProxy != nil {
		listeners = slices.Insert(listeners, 0, Listener{"transparentProxy", DefaultLocalServiceAddr, OutboundListenerPort})
	}
	listeners = append(listeners, c.Dataplane.listeners(c.Proxy.Envoy)...)
	return listeners
}

// checkPorts refuses what would listen on another's port: Envoy would reject
// that listener alone, and the task would pass without it.
func checkPorts(root *document, cfg Config) {
	listeners := cfg.Listeners()
	for i, l := range listeners {
		for _, earlier := range listeners[:i] {
			if l.Port != 0 && l.Port == earlier.Port && overlap(l, earlier) {
				root.fault(l.Field, strconv.Itoa(l.Port), "want a port of its own: "+earlier.Field+" has the same")
				break
			}
		}
	}
}

// overlap tells whether two listeners' addresses have one in common. Most
// applications listen on all addresses, so service.port is everyone's.
func overlap(a, b Listener) bool {
	anywhere := func(l Listener) bool {
		addr, err := netip.ParseAddr(l.Address)
		return l.Field == "service.port" || err == nil && addr.IsUnspecified()
	}
	own := func(l Listener) bool { // may be the task's address
		addr, err := netip.ParseAddr(l.Address)
		return l.Address == ownAddress || err == nil && !addr.IsLoopback()
	}
	return a.Address == b.Address || anywhere(a) || anywhere(b) || own(a) && own(b)
}
