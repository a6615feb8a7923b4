// Package config reads the configuration of the init container: one JSON
// document in an environment variable, with the field names of consul-ecs.
//
// It is checked whole. Every fault is reported at once, each with its path,
// what was found and what to do, because a task that fails at its fifth start
// for its fifth mistake costs its owner an afternoon.
package config

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
)

// Variables that hold the document; the first that is set counts.
const (
	Variable       = "ECSMESH_CONFIG"
	LegacyVariable = "CONSUL_ECS_CONFIG_JSON"
)

// Defaults of fields that a document leaves out.
const (
	DefaultBootstrapDir       = "/ecsmesh"
	DefaultServersParameter   = "/ecsmesh/consul-servers"
	DefaultAdminBindAddress   = "127.0.0.1"
	DefaultAdminBindPort      = 19000
	DefaultPublicListenerPort = 20000
	DefaultHealthCheckPort    = 22000
	DefaultGatewayPort        = 8443
	DefaultLocalServiceAddr   = "127.0.0.1"
	DefaultUpstreamBindAddr   = "127.0.0.1"
	DefaultCheckTimeout       = 2 * time.Second
	DefaultConsulHTTPPort     = 8500
	DefaultConsulHTTPSPort    = 8501
	DefaultConsulGRPCPort     = 8502
	DefaultConsulGRPCTLSPort  = 8503
)

// Config is a valid configuration with its defaults filled in.
type Config struct {
	Topology     string     // Direct, ClientAgent or Dataplane
	BootstrapDir string     // absolute path of the shared volume
	LogLevel     slog.Level // of the init container

	ConsulServers ConsulServers
	ConsulClient  *ConsulClient  // nil, but in the topology ClientAgent
	Login         *login.Method  // nil is no login
	Service       Service        // zero, where there is a Gateway
	Gateway       *Gateway       // nil, where the task is a service
	Tenancy       consul.Tenancy // of either
	Proxy         Proxy
	Dataplane     *DataplaneSettings // nil, where the topology is another

	TransparentProxy *TransparentProxy // nil is off

	// Warnings are of fields that were accepted and have no effect, or one that
	// nobody should want.
	Warnings []string
}

// Service is the application's registration.
type Service struct {
	Name              string // "" is the task family, lower-cased
	Port              int    // 0 is a service that only calls others
	Tags              []string
	Meta              map[string]string
	Weights           *Weights
	EnableTagOverride bool
	OutlierDetection  *OutlierDetection // nil: nothing is said of it

	// Checks are run by check; HealthSyncContainers are the containers whose
	// health, as ECS knows it, is told to Consul. At least one of both is
	// there, where there is a Port: by default a TCP check of that.
	Checks               []Check
	HealthSyncContainers []string
}

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

// Weights of a service instance in DNS SRV answers and in load balancing.
type Weights struct{ Passing, Warning int }

// Check is one of the service's health checks; exactly one of TCP, HTTP and
// GRPC is set. It is kept on the shared volume as JSON, for the runs of check.
type Check struct {
	Name          string
	TCP           string              `json:",omitempty"` // host:port
	HTTP          string              `json:",omitempty"` // URL
	GRPC          string              `json:",omitempty"` // host:port or host:port/service
	Method        string              `json:",omitempty"` // of HTTP
	Header        map[string][]string `json:",omitempty"` // of HTTP
	Body          string              `json:",omitempty"` // of HTTP
	TLSSkipVerify bool                `json:",omitempty"` // of HTTP with https://
	Timeout       time.Duration
}

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

// Fault is one thing that is wrong with a configuration.
type Fault struct {
	Path  string // JSON path: service.checks[0].http
	Found string
	Want  string
}

func (f Fault) String() string { return fmt.Sprintf("%s: found %s; %s", f.Path, f.Found, f.Want) }

// InvalidError is a configuration that can't be used. Trying again with the
// same one can't help.
type InvalidError struct {
	Variable string
	Reason   string  // where the document could not be read at all
	Faults   []Fault // where it could
}

// Error is a single line with every fault.
func (e *InvalidError) Error() string {
	if e.Reason != "" {
		return e.Variable + " " + e.Reason
	}
	faults := make([]string, len(e.Faults))
	for i, fault := range e.Faults {
		faults[i] = fault.String()
	}
	return fmt.Sprintf("%s is invalid: %s", e.Variable, strings.Join(faults, " | "))
}

// Read reads and checks the configuration from the environment. Its error is
// an *InvalidError.
func Read(getenv func(string) string) (Config, error) {
	variable := Variable
	raw := getenv(Variable)
	if raw == "" {
		if raw = getenv(LegacyVariable); raw == "" {
			return Config{}, &InvalidError{Variable: Variable, Reason: "is not set: give the container its configuration as a JSON document in this environment variable"}
		}
		variable = LegacyVariable
	}
	root, err := parse([]byte(raw))
	if err != nil {
		return Config{}, &InvalidError{Variable: variable, Reason: err.Error()}
	}
	cfg := readConfig(root, getenv)
	if faults := root.report.faults; len(faults) > 0 {
		return Config{}, &InvalidError{Variable: variable, Faults: faults}
	}
	cfg.Warnings = root.report.warnings
	return cfg, nil
}
