package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
)

// Variables by which ECS hands in what it has from SSM or Secrets Manager; see
// the secrets of a container definition.
const (
	CACertVariable      = "CONSUL_CACERT_PEM"       // for both interfaces
	HTTPSCACertVariable = "CONSUL_HTTPS_CACERT_PEM" // wins for HTTP
	GRPCCACertVariable  = "CONSUL_GRPC_CACERT_PEM"  // wins for gRPC
	TokenVariable       = "CONSUL_HTTP_TOKEN"       //nolint:gosec // its name, not a token
)

// ConsulServers says where the Consul servers are, and how they are reached.
type ConsulServers struct {
	Parameter string   // SSM parameter with their addresses
	Hosts     []string // IP addresses or DNS names; when given, Parameter isn't read
	HTTP      Interface
	GRPC      Interface

	// Token is an ACL token that was given; TokenParameter the SSM parameter
	// that holds one. At most one of them and Config.Login is set.
	Token          Secret
	TokenParameter string

	// SkipServerWatch has consul-dataplane keep to the addresses that it was
	// given, as through a load balancer.
	SkipServerWatch bool
}

// Interface is one of the ports of every server.
type Interface struct {
	Port int
	TLS  *TLS // nil is plaintext
}

// TLS says by what the servers are known.
type TLS struct {
	CA          string // in PEM; "" where CAParameter has it
	CAParameter string // SSM parameter with the CA
	ServerName  string // "" is server.<datacenter>.consul
}

// Secret is a text that shows itself only to who converts it to a string.
type Secret string

const hidden = "(secret)"

// String implements fmt.Stringer.
func (Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON implements json.Marshaler.
func (Secret) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }

// Addresses returns the hosts if all of them are IP addresses.
func (s ConsulServers) Addresses() ([]netip.Addr, bool) {
	addrs := make([]netip.Addr, len(s.Hosts))
	for i, host := range s.Hosts {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return nil, false
		}
		addrs[i] = addr
	}
	return addrs, len(addrs) > 0
}

// uuid is the form of Consul's tokens.
var uuid = pattern(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

// headerValue is what can be sent in a header, in which tokens travel.
var headerValue = pattern(`^[!-~]*$`)

func readConsulServers(d *document, topology string, getenv func(string) string) ConsulServers {
	servers := ConsulServers{
		Parameter:      d.text("parameter", DefaultServersParameter),
		Token:          Secret(strings.TrimSpace(getenv(TokenVariable))),
		TokenParameter: d.text("tokenParameter", ""),
	}
	for _, host := range strings.FieldsFunc(d.text("hosts", ""), func(r rune) bool { return r == ',' || r == ' ' }) {
		if strings.HasPrefix(host, "exec=") {
			d.fault("hosts", show(host), "commands are not run; give IP addresses or a DNS name, or use consulServers.parameter")
			break
		}
		if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":/") {
			d.fault("hosts", show(host), "want IP addresses or DNS names alone; ports are consulServers.http.port and consulServers.grpc.port")
		}
		servers.Hosts = append(servers.Hosts, host)
	}
	if servers.Parameter == "" {
		d.fault("parameter", `""`, "want the name of an SSM parameter, such as "+DefaultServersParameter)
	}
	switch {
	case uuid().MatchString(servers.TokenParameter):
		d.fault("tokenParameter", "what looks like a token", "want the name of the SSM parameter that holds it: a task definition is no place for a token, and others have seen this one")
	case servers.Token != "" && servers.TokenParameter != "":
		d.fault("tokenParameter", show(servers.TokenParameter), TokenVariable+" holds a token as well; keep one of them")
	}
	if !headerValue().MatchString(string(servers.Token)) {
		d.report.faults = append(d.report.faults, Fault{TokenVariable, fmt.Sprintf("%d characters, some of which no token has", len(servers.Token)), "want an ACL token of Consul's and nothing else"})
	}
	if skip := d.boolean("skipServerWatch", false); topology == Dataplane {
		servers.SkipServerWatch = skip
	} else {
		d.ignore("skipServerWatch")
	}

	section := d.section("defaults")
	defaults := interfaceSettings{tls: section.boolean("tls", true)}
	defaults.read(section)
	section.end()
	servers.HTTP = readHTTP(d.section("http"), defaults, getenv)
	servers.GRPC = readGRPC(d.section("grpc"), defaults, getenv)
	d.end()
	return servers
}

func readHTTP(d *document, defaults interfaceSettings, getenv func(string) string) Interface {
	defaults.tls = d.boolean("tls", defaults.tls)
	https := d.boolean("https", defaults.tls)
	if d.has("tls") && defaults.tls && !https {
		d.fault("tls", "true", "https is false: set both, or none")
	}
	defaults.tls = https
	return readInterface(d, defaults, DefaultConsulHTTPPort, DefaultConsulHTTPSPort, getenv, HTTPSCACertVariable)
}

func readGRPC(d *document, defaults interfaceSettings, getenv func(string) string) Interface {
	defaults.tls = d.boolean("tls", defaults.tls)
	return readInterface(d, defaults, DefaultConsulGRPCPort, DefaultConsulGRPCTLSPort, getenv, GRPCCACertVariable)
}

func readInterface(d *document, settings interfaceSettings, plainPort, tlsPort int, getenv func(string) string, variable string) Interface {
	settings.read(d)
	standard := plainPort
	if settings.tls {
		standard = tlsPort
	}
	found := Interface{Port: d.port("port", standard)}
	if settings.tls {
		found.TLS = settings.secure(d, getenv, variable)
	}
	d.end()
	return found
}

// interfaceSettings are what an interface inherits where it doesn't set them.
type interfaceSettings struct {
	tls         bool
	caFile      string
	caParameter string
	serverName  string
}

// read reads what is set here. Whoever names a CA here has no other.
func (s *interfaceSettings) read(d *document) {
	file, parameter := d.text("caCertFile", ""), d.text("caCertParameter", "")
	switch {
	case file != "" && parameter != "":
		d.fault("caCertParameter", show(parameter), "caCertFile names a CA as well; keep one of them")
	case file != "" || parameter != "":
		s.caFile, s.caParameter = file, parameter
	}
	if name := d.text("tlsServerName", ""); name != "" {
		s.serverName = name
		if !isDNSName(name) {
			d.fault("tlsServerName", show(name), "want the DNS name in the servers' certificates, such as server.dc1.consul")
		}
	}
}

var dnsName = pattern(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

// isDNSName holds for one name, as Envoy compares it to those of a certificate:
// for no address, and for no pattern.
func isDNSName(name string) bool {
	const longest = 253
	_, err := netip.ParseAddr(name)
	return err != nil && len(name) <= longest && dnsName().MatchString(name)
}

// secure finds the CA.
func (s *interfaceSettings) secure(d *document, getenv func(string) string, variable string) *TLS {
	found := &TLS{ServerName: s.serverName}
	for _, name := range []string{variable, CACertVariable} {
		if text := getenv(name); text != "" {
			var err error
			if found.CA, err = consul.Certificates(text); err != nil {
				d.report.faults = append(d.report.faults, Fault{name, fmt.Sprintf("%d characters", len(text)), err.Error() + "; want the CA of the Consul servers, in PEM"})
			}
			return found
		}
	}
	switch {
	case s.caFile != "":
		content, err := os.ReadFile(s.caFile)
		if err != nil {
			d.fault("caCertFile", show(s.caFile), "it can't be read: "+err.Error())
			break
		}
		if found.CA, err = consul.Certificates(string(content)); err != nil {
			d.fault("caCertFile", show(s.caFile), err.Error()+"; want the CA of the Consul servers, in PEM")
		}
	case s.caParameter != "":
		found.CAParameter = s.caParameter
	default:
		d.fault("caCertParameter", "nothing", "TLS is on, so say which CA issued the servers' certificates: by consulServers.defaults.caCertParameter or .caCertFile or the variable "+
			CACertVariable+"; or switch TLS off by consulServers.defaults.tls")
	}
	return found
}

// DefaultLoginMethod is what consul-ecs calls the auth method for services.
const DefaultLoginMethod = "iam-ecs-service-token"

func readLogin(root *document, servers ConsulServers) *login.Method {
	d := root.object("consulLogin")
	if d == nil {
		return nil
	}
	enabled := d.boolean("enabled", false)
	method := &login.Method{
		AuthMethod:          cmp.Or(d.text("method", ""), DefaultLoginMethod),
		IncludeEntity:       d.boolean("includeEntity", true),
		Meta:                d.textMap("meta"),
		Region:              d.text("region", ""),
		Datacenter:          d.text("datacenter", ""),
		STSEndpoint:         d.text("stsEndpoint", ""),
		ServerIDHeaderValue: d.text("serverIdHeaderValue", ""),
	}
	d.refuseOlder(olderLoginFields)
	d.end()
	if !enabled {
		return nil
	}
	if at, err := url.Parse(method.STSEndpoint); method.STSEndpoint != "" && (err != nil || at.Hostname() == "" || at.Scheme != "http" && at.Scheme != "https") {
		d.fault("stsEndpoint", show(method.STSEndpoint), "want the URL of AWS STS that the auth method has, such as https://sts.eu-west-1.amazonaws.com")
	}
	if !headerValue().MatchString(method.ServerIDHeaderValue) {
		d.fault("serverIdHeaderValue", show(method.ServerIDHeaderValue), "want what the auth method has: letters, digits and signs without spaces")
	}
	if servers.Token != "" {
		d.fault("enabled", "true", TokenVariable+" holds a token as well; keep one of them")
	}
	if servers.TokenParameter != "" {
		d.fault("enabled", "true", "consulServers.tokenParameter names a token as well; keep one of them")
	}
	return method
}

// warnOfPlaintext warns where a token would cross the network for all to read.
func warnOfPlaintext(root *document, servers ConsulServers, login *login.Method) {
	if login == nil && servers.Token == "" && servers.TokenParameter == "" {
		return
	}
	if servers.HTTP.TLS == nil || servers.GRPC.TLS == nil {
		root.report.warnings = append(root.report.warnings, "ACL tokens cross the network in clear: consulServers has an interface without TLS")
	}
}
