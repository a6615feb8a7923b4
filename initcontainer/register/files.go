package register

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

// writeFiles leaves the bootstrap last but for the task's state, so that Envoy
// never starts without the files it names. The checks begin anew in Consul, so
// what it was told before is forgotten.
func (s *session) writeFiles(shared volume.Volume) error {
	if err := shared.Remove(shared.Checks(), shared.Passed(), shared.Upkeep()); err != nil {
		return err
	}
	endpoints, err := envoy.Endpoints(s.servers, s.Config.ConsulServers.GRPC.Port)
	if err != nil {
		return fmt.Errorf("build Envoy's list of servers: %w", err)
	}
	if err := shared.Write(shared.LiveServers(), endpoints); err != nil {
		return err
	}
	if err := s.writeToken(shared); err != nil {
		return err
	}
	if err := s.writeProxy(shared); err != nil {
		return err
	}
	task := s.state()
	if task.Checks, task.Private, err = s.writeRequests(shared); err != nil {
		return err
	}
	return shared.WriteJSON(shared.Task(), task)
}

// writeProxy writes what the proxy starts with: Envoy itself, or consul-dataplane.
func (s *session) writeProxy(shared volume.Volume) error {
	if s.Config.Dataplane != nil {
		return s.writeDataplane(shared)
	}
	bootstrap, err := envoy.Bootstrap(s.sidecar(shared))
	if err != nil {
		return fmt.Errorf("build Envoy's bootstrap: %w", err)
	}
	return shared.Write(shared.Bootstrap(), bootstrap)
}

// tryPrivate finds out whether secrets can be given to Envoy's user, if there
// will be some: a task that can't start must not be in the catalog.
func (s *session) tryPrivate(shared volume.Volume) error {
	if s.token.Secret == "" && s.tokens.Login == nil && !s.hasPrivateChecks() {
		return nil
	}
	if err := shared.WritePrivate(shared.LiveToken(), nil, s.envoyUser()); err != nil {
		return err
	}
	return shared.Remove(shared.LiveToken())
}

func (s *session) hasPrivateChecks() bool {
	return slices.ContainsFunc(s.Config.Service.Checks, config.Check.Private)
}

func (s *session) writeToken(shared volume.Volume) error {
	if s.token.Secret == "" {
		return nil
	}
	content, err := envoy.Token(s.token.Secret)
	if err != nil {
		return fmt.Errorf("build Envoy's token: %w", err)
	}
	if err := shared.PrepareToken(); err != nil {
		return err
	}
	return shared.WritePrivate(shared.LiveToken(), content, s.envoyUser())
}

// envoyUser is whose the secrets are. A task whose containers all run as one
// user need not say which.
func (s *session) envoyUser() int {
	switch own := os.Geteuid(); {
	case s.Config.Proxy.UID >= 0:
		return s.Config.Proxy.UID
	case own != 0:
		return own
	}
	return volume.EnvoyUser
}

func (s *session) sidecar(shared volume.Volume) envoy.Sidecar {
	return envoy.Sidecar{
		NodeName:   s.registered.Node(),
		ProxyID:    s.registered.Sidecar.Service.ID,
		Service:    s.registered.Instance().Service,
		Datacenter: s.datacenter,
		Tenancy:    s.registered.Tenancy(),
		Address:    s.address,
		Volume:     shared,
		Proxy:      s.Config.Proxy,
		TLS:        s.known(s.tls.grpc),
		Token:      s.token.Secret != "",
	}
}

// known is TLS with the servers' name, now that their datacenter is known.
func (s *session) known(tls *consul.TLS) *consul.TLS {
	if tls == nil || tls.ServerName != "" {
		return tls
	}
	return &consul.TLS{CA: tls.CA, ServerName: consul.ServerName(s.datacenter)}
}

// state is what check has to know.
func (s *session) state() check.Task {
	task := check.Task{
		Registration: s.registered,
		Containers:   s.Config.Service.HealthSyncContainers,
		Envoy: check.Envoy{
			Admin:          net.JoinHostPort(s.Config.Proxy.AdminBindAddress, strconv.Itoa(s.Config.Proxy.AdminBindPort)),
			PublicListener: s.publicListener(),
		},
		Servers:  s.servers,
		Source:   s.source,
		HTTPPort: s.Config.ConsulServers.HTTP.Port,
		GRPCPort: s.Config.ConsulServers.GRPC.Port,
		TLS:      s.known(s.tls.http),
	}
	if s.Config.Topology == config.ClientAgent {
		task.Agent = &check.Agent{Agent: s.agent(), Source: s.joins, SerfPort: s.Config.ConsulClient.SerfPort}
	}
	if s.token.Secret != "" {
		task.Token = &check.Token{Source: s.tokens, RenewAt: s.token.RenewAt()}
	}
	return task
}

// publicListener is where Envoy takes the mesh's traffic; "" where that is not
// known here: Consul may have a gateway listen elsewhere, or not at all.
func (s *session) publicListener() string {
	port := s.Config.Proxy.PublicListenerPort
	if gateway := s.Config.Gateway; gateway != nil {
		if !gateway.HasListener() || registration.ChoosesWhereToListen(s.Config) {
			return ""
		}
		port = gateway.LAN.Port
	}
	return net.JoinHostPort(s.address.String(), strconv.Itoa(port))
}

// writeRequests returns the checks as everybody may read them. Headers, bodies and
// users of their requests, which may be secret, go to a file of their own.
func (s *session) writeRequests(shared volume.Volume) (checks []config.Check, private bool, err error) {
	for _, check := range s.Config.Service.Checks {
		if check.Private() {
			check.Header, check.Body, check.HTTP = nil, "", check.Shown()
		}
		checks = append(checks, check)
	}
	if !s.hasPrivateChecks() {
		return checks, false, shared.Remove(shared.Requests())
	}
	content, err := json.MarshalIndent(s.Config.Service.Checks, "", "  ")
	if err != nil {
		return nil, false, fmt.Errorf("write the service's checks: %w", err)
	}
	return checks, true, shared.WritePrivate(shared.Requests(), content, s.envoyUser())
}
