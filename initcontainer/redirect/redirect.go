// Package redirect has a task's traffic go through its Envoy without the
// application's doing: by rules of iptables in the task's network namespace,
// which Consul's own package for that lays out.
//
// Applying them again is the same as applying them once, and they come all at
// once: a run that is killed leaves those of before, or the new ones.
package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/hashicorp/consul/sdk/iptables"

	"ecsmesh/initcontainer/config"
)

// serversPort is where agents reach the Consul servers.
const serversPort = 8300

// linkLocal is where AWS serves a task its metadata and its credentials, and an
// instance its own.
const linkLocal = "169.254.0.0/16"

// Redirection is which of a task's traffic goes through Envoy: all TCP but for
// what is excluded here, or always.
type Redirection struct {
	config.TransparentProxy

	Address   netip.Addr // the task's own
	EnvoyUser int        // whose traffic is on its way already
	Proxy     config.Proxy
	Client    *config.ConsulClient // that Envoy gets its configuration from; nil is none
}

// Apply has the rules take the place of those of an earlier run.
func (r Redirection) Apply(ctx context.Context) error {
	rules := &rules{}
	if err := iptables.Setup(r.layout(rules), false); err != nil {
		return fmt.Errorf("lay out the rules for transparentProxy: %w", err)
	}
	if err := rules.replace(ctx); err != nil {
		return fmt.Errorf("redirect the task's traffic to Envoy: %w", err)
	}
	if r.ConsulDNS {
		return askConsulFirst(resolverFile, r.dnsAddress())
	}
	return nil
}

func (r Redirection) layout(into iptables.Provider) iptables.Config {
	layout := iptables.Config{
		ProxyUserID:       strconv.Itoa(r.EnvoyUser),
		ProxyInboundPort:  r.Proxy.PublicListenerPort,
		ProxyOutboundPort: config.OutboundListenerPort,
		// Envoy's own listeners, which are not for the mesh.
		ExcludeInboundPorts: texts(append([]int{r.Proxy.HealthCheckPort, r.Proxy.AdminBindPort}, r.ExcludeInboundPorts...)),
		// What a task sends to itself doesn't leave it.
		ExcludeOutboundCIDRs: append([]string{linkLocal, netip.PrefixFrom(r.Address, r.Address.BitLen()).String()}, texts(r.ExcludeOutboundCIDRs)...),
		ExcludeOutboundPorts: texts(r.ExcludeOutboundPorts),
		ExcludeUIDs:          texts(r.ExcludeUIDs),
		IptablesProvider:     into,
	}
	for _, stats := range []netip.AddrPort{r.Proxy.Envoy.PrometheusBindAddr, r.Proxy.Envoy.StatsBindAddr} {
		if stats.IsValid() {
			layout.ExcludeInboundPorts = append(layout.ExcludeInboundPorts, strconv.Itoa(int(stats.Port())))
		}
	}
	for _, exposed := range r.Proxy.Expose.Paths { // who calls these isn't in the mesh
		layout.ExcludeInboundPorts = append(layout.ExcludeInboundPorts, strconv.Itoa(exposed.ListenerPort))
	}
	if r.ConsulDNS {
		layout.ConsulDNSIP, layout.ConsulDNSPort = r.dnsAddress(), config.DefaultDNSPort
	}
	// Without a client that reaches the servers, and is reached, there is no Envoy
	// that could pass its traffic on.
	if r.Client != nil {
		serf := strconv.Itoa(r.Client.SerfPort)
		layout.ExcludeInboundPorts = append(layout.ExcludeInboundPorts, serf)
		layout.ExcludeOutboundPorts = append(layout.ExcludeOutboundPorts, serf, strconv.Itoa(serversPort))
		if r.ConsulDNS {
			layout.ConsulDNSPort = r.Client.DNSPort
		}
	}
	return layout
}

// dnsAddress is where Consul's DNS is in the task: that of the client or, at the
// port that is its own, of consul-dataplane.
func (r Redirection) dnsAddress() string {
	if r.Client != nil {
		return r.Client.Address
	}
	return config.DefaultClientAddress
}

func texts[T any](values []T) []string {
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = fmt.Sprint(value)
	}
	return texts
}
