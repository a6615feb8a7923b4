package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
)

// OutboundListenerPort is where a transparent proxy takes what the application
// sends, on the loopback address. It is Consul's own default.
const OutboundListenerPort = 15001

// TransparentProxy has the task's traffic go through Envoy by redirection, and
// says of which that is not true.
type TransparentProxy struct {
	ExcludeInboundPorts  []int
	ExcludeOutboundPorts []int
	ExcludeOutboundCIDRs []netip.Prefix // IPv4
	ExcludeUIDs          []uint32

	// ConsulDNS has the task's containers ask Consul first for every name.
	ConsulDNS bool
}

// readTransparentProxy returns nil where it is off. As in consul-ecs it is on
// where the object is there and doesn't say; without the object it is off, since
// most tasks can't have it.
func readTransparentProxy(root *document, cfg Config) *TransparentProxy {
	d := root.object("transparentProxy")
	if d == nil {
		return nil
	}
	enabled := d.boolean("enabled", true)
	proxy := &TransparentProxy{
		ExcludeInboundPorts:  d.ports("excludeInboundPorts"),
		ExcludeOutboundPorts: d.ports("excludeOutboundPorts"),
		ExcludeOutboundCIDRs: d.prefixes("excludeOutboundCIDRs"),
		ExcludeUIDs:          d.uids("excludeUIDs"),
	}
	dns := d.section("consulDNS")
	proxy.ConsulDNS = dns.boolean("enabled", false)
	dns.end()
	d.end()
	if !enabled {
		return nil
	}
	if cfg.Gateway != nil { // consul-ecs takes it there, too, and does nothing
		d.report.warnings = append(d.report.warnings, "transparentProxy has no effect on a gateway: there is no application whose traffic it could redirect")
		return nil
	}
	if proxy.ConsulDNS && cfg.Topology == Direct {
		// The servers' addresses change, which rules in the kernel can't follow.
		dns.fault("enabled", "true", "in the topology "+Direct+" nothing in the task answers DNS; forward the domain consul to port 8600 of the Consul servers in your VPC, as Route 53 Resolver can, or use the topology "+Dataplane+" or "+ClientAgent)
	}
	if client := cfg.ConsulClient; proxy.ConsulDNS && client != nil {
		// What is sent to 0.0.0.0 is on its way to 127.0.0.1 before rules see it.
		if addr, err := netip.ParseAddr(client.Address); err == nil && (!addr.Is4() || addr.IsUnspecified()) {
			dns.fault("enabled", "true", "questions are redirected to one IPv4 address, and consulClient.address is "+client.Address+"; set that to "+DefaultClientAddress)
		}
	}
	return proxy
}

// warnOfNoTransparentProxy is for documents of consul-ecs, which has it on where
// they don't have the object: without a word, what came by Envoy alone would
// reach the application past it.
func warnOfNoTransparentProxy(root *document, cfg Config) {
	if cfg.Gateway == nil && !root.has("transparentProxy") {
		root.report.warnings = append(root.report.warnings, "transparentProxy is off, since it is not there; consul-ecs 0.8 and newer have it on then: set transparentProxy.enabled to what is wanted")
	}
}

func (d *document) ports(name string) []int {
	var ports []int
	for i, item := range d.list(name, "ports") {
		number, ok := item.(json.Number)
		if !ok || !isPort(number.String()) {
			d.fault(fmt.Sprintf("%s[%d]", name, i), show(item), "want a whole number from 1 to 65535")
			continue
		}
		port, _ := strconv.Atoi(number.String())
		ports = append(ports, port)
	}
	return ports
}

// prefixes reads networks and single addresses.
func (d *document) prefixes(name string) []netip.Prefix {
	var prefixes []netip.Prefix
	for i, text := range d.texts(name) {
		prefix, err := netip.ParsePrefix(text)
		if addr, single := netip.ParseAddr(text); single == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || !prefix.Addr().Is4() {
			d.fault(fmt.Sprintf("%s[%d]", name, i), show(text), "want an IPv4 network or address, such as 10.1.0.0/16; IPv6 is not redirected")
			continue
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes
}

// uids reads users' numbers, which are strings in consul-ecs.
func (d *document) uids(name string) []uint32 {
	var uids []uint32
	for i, text := range d.texts(name) {
		uid, err := strconv.ParseUint(text, 10, 32)
		if err != nil || uid == 1<<32-1 { // that is nobody's: it stands for none
			d.fault(fmt.Sprintf("%s[%d]", name, i), show(text), `want a user's number in quotes, such as "1000"`)
			continue
		}
		uids = append(uids, uint32(uid))
	}
	return uids
}
