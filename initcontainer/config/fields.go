package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ecsmesh/shared/consul"
)

// notYet is the advice for what this version knows by name but can't do.
const notYet = "not supported by this version of ecsmesh; remove it"

var serviceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`)

// ValidServiceName tells whether Consul's DNS and mesh can serve a name. That of
// Consul's own servers is theirs.
func ValidServiceName(name string) bool { return serviceName.MatchString(name) && name != "consul" }

func readConfig(root *document, getenv func(string) string) Config {
	readSchema(root)
	cfg := Config{
		Topology:     readTopology(root),
		BootstrapDir: root.text("bootstrapDir", DefaultBootstrapDir),
		LogLevel:     readLogLevel(root),
	}
	cfg.ConsulServers = readConsulServers(root.section("consulServers"), cfg.Topology, getenv)
	if root.has("gateway") && !root.has("service") {
		readGateway(root, &cfg, getenv)
	} else {
		root.refuseObject("gateway", "a task is a service or a gateway: keep one of them")
		cfg.Service, cfg.Tenancy = readService(root)
		cfg.Proxy = readProxy(root.section("proxy"), cfg, getenv)
		cfg.Service.HealthSyncContainers = readHealthSyncContainers(root, cfg.Service.Checks)
	}
	cfg.ConsulClient = readConsulClient(root, cfg.Topology, cfg.ConsulServers, getenv)
	cfg.Login = readLogin(root, cfg.ConsulServers)
	warnOfPlaintext(root, cfg.ConsulServers, cfg.Login)
	if !path.IsAbs(cfg.BootstrapDir) {
		root.fault("bootstrapDir", show(cfg.BootstrapDir), "want the absolute path at which the shared volume is mounted")
	}
	cfg.BootstrapDir = path.Clean(cfg.BootstrapDir)
	if cfg.Service.Port != 0 && len(cfg.Service.Checks) == 0 && len(cfg.Service.HealthSyncContainers) == 0 {
		cfg.Service.Checks = []Check{defaultCheck(cfg)}
	}
	cfg.TransparentProxy = readTransparentProxy(root, cfg)
	cfg.Dataplane = readDataplane(root, cfg)
	checkPorts(root, cfg)

	root.ignore("controller")
	root.refuseOlder(olderFields)
	root.end()
	return cfg
}

func (d *document) refuseObject(name, advice string) {
	if value, present := d.get(name); present {
		d.fault(name, show(value), advice)
	}
}

func readLogLevel(root *document) slog.Level {
	levels := map[string]slog.Level{
		"TRACE": slog.LevelDebug, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo,
		"WARN": slog.LevelWarn, "ERROR": slog.LevelError,
	}
	name := root.text("logLevel", "INFO")
	level, ok := levels[strings.ToUpper(name)]
	if !ok {
		root.fault("logLevel", show(name), "want one of TRACE, DEBUG, INFO, WARN, ERROR")
	}
	return level
}

func readService(root *document) (Service, consul.Tenancy) {
	d := root.object("service")
	if d == nil {
		if !root.has("service") {
			root.fault("service", "nothing", `want an object with at least the application's port: "service": {"port": 8080}; or, for a gateway, "gateway": {"kind": "mesh-gateway"}`)
		}
		return Service{}, consul.Tenancy{}
	}
	service := Service{
		Name:              d.text("name", ""),
		Port:              d.integer("port", 0, 0, 65535),
		Tags:              d.texts("tags"),
		Meta:              d.textMap("meta"),
		EnableTagOverride: d.boolean("enableTagOverride", false),
	}
	d.serviceName("name", service.Name)
	if !d.has("port") {
		d.fault("port", "nothing", "want the port on which the application listens, or 0 where it listens on none")
	}
	if weights := d.object("weights"); weights != nil {
		service.Weights = &Weights{Passing: weights.integer("passing", 1, 1, 65535), Warning: weights.integer("warning", 1, 0, 65535)}
		weights.end()
	}
	names := map[string]bool{}
	for _, item := range d.objects("checks") {
		check := readCheck(item)
		if names[check.Name] {
			item.fault("name", show(check.Name), "want a name that no other check of the service has")
		}
		names[check.Name] = true
		service.Checks = append(service.Checks, check)
	}
	tenancy := readTenancy(d)
	service.OutlierDetection = readResilience(d)
	d.end()
	return service, tenancy
}

// serviceName accepts what Consul can serve, and nothing, for the task family.
func (d *document) serviceName(name, value string) {
	if value != "" && !ValidServiceName(value) {
		d.fault(name, show(value), "want lower-case letters, digits, - and _, beginning and ending with a letter or digit, and not consul, the name of Consul's own servers")
	}
}

// httpToken is what HTTP allows for methods and the names of headers (RFC 9110).
var httpToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

var checkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// longestCheck is the most that ECS lets Envoy's health check take, within
// which all of the service's checks run.
const longestCheck = 60 * time.Second

func readCheck(d *document) Check {
	check := Check{
		Name:          d.text("name", ""),
		TCP:           d.text("tcp", ""),
		HTTP:          d.text("http", ""),
		GRPC:          d.text("grpc", ""),
		Method:        d.text("method", ""),
		Body:          d.text("body", ""),
		TLSSkipVerify: d.boolean("tlsSkipVerify", false),
		Timeout:       d.duration("timeout", DefaultCheckTimeout, longestCheck),
	}
	if !checkName.MatchString(check.Name) {
		d.fault("name", show(check.Name), "want a name of letters, digits, ., - and _: it ends the check's ID in Consul")
	}
	if header := d.object("header"); header != nil {
		check.Header = map[string][]string{}
		for _, name := range header.names() {
			check.Header[name] = header.texts(name)
		}
	}
	kinds := 0
	for _, target := range []string{check.TCP, check.HTTP, check.GRPC} {
		if target != "" {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		d.report.faults = append(d.report.faults, Fault{Path: d.path, Found: fmt.Sprintf("%d of tcp, http and grpc", kinds), Want: "want exactly one of them"})
	case check.TCP != "":
		d.hostPort("tcp", check.TCP)
	case check.GRPC != "":
		target, _, _ := strings.Cut(check.GRPC, "/")
		d.hostPort("grpc", target)
	default:
		u, err := url.Parse(check.HTTP)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.Port() != "" && !isPort(u.Port()) {
			d.fault("http", show(check.HTTP), "want a URL such as http://127.0.0.1:8080/health")
		}
	}
	if check.Method != "" && !httpToken.MatchString(check.Method) {
		d.fault("method", show(check.Method), "want an HTTP method such as GET or POST")
	}
	for name := range check.Header {
		if !httpToken.MatchString(name) {
			d.fault("header", show(name), "want the names of HTTP headers")
		}
	}
	if check.HTTP == "" {
		for _, name := range []string{"method", "header", "body", "tlsSkipVerify"} {
			if d.has(name) {
				d.fault(name, show(d.fields[name]), "it goes with http only; remove it")
			}
		}
	}
	d.refuseOlder(olderCheckFields)
	d.end()
	return check
}

// initContainer has exited by the time at which containers' health counts.
const initContainer = "ecsmesh-init"

// readHealthSyncContainers reads names of containers, whose checks must not
// have the IDs of the service's own.
func readHealthSyncContainers(root *document, checks []Check) []string {
	taken := map[string]string{}
	for i, check := range checks {
		taken[check.Name] = fmt.Sprintf("service.checks[%d]", i)
	}
	names := root.texts("healthSyncContainers")
	for i, name := range names {
		field := fmt.Sprintf("healthSyncContainers[%d]", i)
		switch {
		case !checkName.MatchString(name):
			root.fault(field, show(name), "want the name of a container of the task definition that has a health check")
		case name == initContainer:
			root.fault(field, show(name), "remove it: the init container exits, and is never healthy")
		case taken[name] != "":
			root.fault(field, show(name), "want a name of its own: "+taken[name]+" has the same")
		}
		taken[name] = field
	}
	return names
}

func defaultCheck(cfg Config) Check {
	return Check{
		Name:    "tcp",
		TCP:     net.JoinHostPort(cfg.Proxy.LocalServiceAddress, strconv.Itoa(cfg.Service.Port)),
		Timeout: DefaultCheckTimeout,
	}
}

func (d *document) hostPort(name, value string) {
	host, port, err := net.SplitHostPort(value)
	if err != nil || host == "" || !isPort(port) {
		d.fault(name, show(value), "want host:port, such as 127.0.0.1:8080")
	}
}

func isPort(text string) bool {
	n, err := strconv.Atoi(text)
	return err == nil && n >= 1 && n <= 65535
}

func (d *document) duration(name string, standard, most time.Duration) time.Duration {
	text := d.text(name, "")
	if text == "" {
		return standard
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration <= 0 || duration > most {
		d.fault(name, show(text), fmt.Sprintf("want a duration such as 500ms or 2s, up to %s", most))
		return standard
	}
	return duration
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
	config.refuseObject("envoy_ready_bind_addr", "use proxy.healthCheckPort")
	config.refuseObject("bind_port", "use proxy.publicListenerPort")
	config.refuseObject("bind_address", "remove it: Envoy listens on the task's address")
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

func (d *document) ipAddress(name, value string) {
	if _, err := netip.ParseAddr(value); err != nil {
		d.fault(name, show(value), "want an IP address, such as 127.0.0.1")
	}
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
