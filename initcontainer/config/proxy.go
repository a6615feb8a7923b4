package config

// Proxy is the sidecar's registration and Envoy's own settings. Of a gateway's,
// only the latter are there, and Config.
type Proxy struct {
	LocalServiceAddress string
	PublicListenerPort  int
	HealthCheckPort     int
	AdminBindAddress    string
	AdminBindPort       int
	MeshGatewayMode     string // "", none, local or remote
	Upstreams           []Upstream
	Expose              Expose

	// UID is the user that Envoy runs as, and alone may read what is secret;
	// -1 where it isn't given.
	UID int

	// Config is passed to Consul as it is; Envoy is what of it belongs into
	// Envoy's bootstrap.
	Config map[string]any
	Envoy  EnvoySettings
}

func readProxy(d *document, cfg Config, getenv func(string) string) Proxy {
	proxy := Proxy{
		LocalServiceAddress: d.text("localServiceAddress", DefaultLocalServiceAddr),
		PublicListenerPort:  d.port("publicListenerPort", DefaultPublicListenerPort),
		HealthCheckPort:     d.port("healthCheckPort", DefaultHealthCheckPort),
		MeshGatewayMode:     readMeshGateway(d),
		Config:              d.opaque("config"),
		Envoy:               readEnvoySettings(d.section("config"), getenv),
	}
	// They move the listeners that check probes and other Envoys are sent to.
	config := d.section("config")
	config.refuse("envoy_ready_bind_addr", "use proxy.healthCheckPort")
	config.refuse("bind_port", "use proxy.publicListenerPort")
	config.refuse("bind_address", "remove it: Envoy listens on the task's address")
	readEnvoyItself(d, &proxy)
	d.ipAddress("localServiceAddress", proxy.LocalServiceAddress)
	proxy.Upstreams = readUpstreams(d, cfg.Tenancy)
	proxy.Expose = readExpose(d, cfg.Topology)
	d.end()
	return proxy
}

// readEnvoyItself reads what every Envoy has, a sidecar and a gateway.
func readEnvoyItself(d *document, proxy *Proxy) {
	proxy.AdminBindAddress = d.text("adminBindAddress", DefaultAdminBindAddress)
	proxy.AdminBindPort = d.port("adminBindPort", DefaultAdminBindPort)
	proxy.UID = d.integer("uid", -1, 0, 1<<31-1)
	d.ipAddress("adminBindAddress", proxy.AdminBindAddress) // Envoy resolves no names here
}

func readMeshGateway(d *document) string {
	gateway := d.object("meshGateway")
	if gateway == nil {
		return ""
	}
	mode := gateway.oneOf("mode", "", "", "none", "local", "remote")
	gateway.end()
	return mode
}
