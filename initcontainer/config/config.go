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
	if variable == LegacyVariable {
		warnOfNoTransparentProxy(root, cfg)
	}
	cfg.Warnings = root.report.warnings
	return cfg, nil
}
