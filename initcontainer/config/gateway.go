package config

import (
	"net/netip"
	"strings"
)

// Kinds of gateways, as Consul has them.
const (
	MeshGateway        = "mesh-gateway"
	TerminatingGateway = "terminating-gateway"
	APIGateway         = "api-gateway"
	IngressGateway     = "ingress-gateway"
)

// Gateway is the registration of a task that is nothing but Envoy.
type Gateway struct {
	Kind     string // as Consul has it: mesh-gateway, api-gateway, …
	Name     string // "" is the task family, lower-cased
	Tags     []string
	Meta     map[string]string
	LAN, WAN GatewayAddress
}

// GatewayAddress is where others reach a gateway.
type GatewayAddress struct {
	Address string // an IP address or a DNS name; "" is the task's own
	Port    int
	Source  string // of the WAN address: PublicIP, or "" for Address
}

// HasListener tells whether Consul has Envoy listen at the LAN port whatever
// else is configured. The listeners of the other kinds, and their ports, are in
// configuration entries of Consul's.
func (g *Gateway) HasListener() bool { return g.Kind == MeshGateway || g.Kind == TerminatingGateway }

// readGateway reads the configuration of a task that is a gateway, and refuses
// what only a service has.
func readGateway(root *document, cfg *Config, getenv func(string) string) {
	root.read = append(root.read, "service")
	if containers := root.texts("healthSyncContainers"); len(containers) > 0 {
		root.fault("healthSyncContainers", "a list", "remove it: a gateway is as healthy as its Envoy")
	}
	readGatewayProxy(root.section("proxy"), &cfg.Proxy)
	cfg.Gateway = &Gateway{}
	d := root.object("gateway")
	if d == nil {
		return // it is no object, which was said
	}
	kinds := []string{MeshGateway, APIGateway, TerminatingGateway, IngressGateway}
	cfg.Gateway.Kind = d.oneOf("kind", MeshGateway, kinds...)
	if !d.has("kind") {
		d.fault("kind", "nothing", "want one of "+strings.Join(kinds, ", "))
	}
	cfg.Gateway.Name = d.text("name", "")
	d.serviceName("name", cfg.Gateway.Name)
	cfg.Gateway.Tags = d.texts("tags")
	cfg.Gateway.Meta = d.textMap("meta")
	cfg.Gateway.LAN = readGatewayAddress(d.section("lanAddress"))
	cfg.Gateway.WAN = readWANAddress(d.section("wanAddress"))
	cfg.Proxy.HealthCheckPort = d.port("healthCheckPort", DefaultHealthCheckPort)
	proxy := d.section("proxy")
	cfg.Proxy.Config = proxy.opaque("config")
	settings := proxy.section("config")
	cfg.Proxy.Envoy = readEnvoySettings(settings, getenv)
	settings.refuse("envoy_ready_bind_addr", "use gateway.healthCheckPort")
	proxy.end()
	cfg.Tenancy = readTenancy(d)
	d.end()
}

// readGatewayProxy reads what is under proxy, of which a gateway has little.
func readGatewayProxy(d *document, proxy *Proxy) {
	const noApplication = "remove it: a gateway has no application"
	readEnvoyItself(d, proxy)
	d.refuse("config", "use gateway.proxy.config")
	d.refuse("healthCheckPort", "use gateway.healthCheckPort")
	d.refuse("publicListenerPort", "use gateway.lanAddress.port")
	d.refuse("meshGateway", "remove it: Consul's configuration entries say how a gateway reaches others")
	for _, name := range []string{"localServiceAddress", "upstreams", "expose"} {
		d.refuse(name, noApplication)
	}
	d.end()
}

func readGatewayAddress(d *document) GatewayAddress {
	found := GatewayAddress{Address: d.text("address", ""), Port: d.port("port", DefaultGatewayPort)}
	if addr, err := netip.ParseAddr(found.Address); found.Address != "" && (err != nil && !isDNSName(found.Address) || err == nil && addr.IsUnspecified()) {
		d.fault("address", show(found.Address), "want the IP address or DNS name at which others reach the gateway, or nothing, for the task's own address")
	}
	d.end()
	return found
}

// gatewayListeners are the ports of a gateway that are known before Consul says
// more.
func gatewayListeners(cfg Config) []Listener {
	var listeners []Listener
	if cfg.Gateway.HasListener() {
		listeners = append(listeners, Listener{"gateway.lanAddress.port", ownAddress, cfg.Gateway.LAN.Port})
	}
	return append(listeners,
		Listener{"gateway.healthCheckPort", ownAddress, cfg.Proxy.HealthCheckPort},
		Listener{"proxy.adminBindPort", cfg.Proxy.AdminBindAddress, cfg.Proxy.AdminBindPort},
	)
}
