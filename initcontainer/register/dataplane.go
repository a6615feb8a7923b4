package register

import (
	"fmt"

	"ecsmesh/initcontainer/dataplane"
	"ecsmesh/initcontainer/volume"
)

// writeDataplane writes consul-dataplane's configuration and, with TLS, the CA
// that it names. What is secret is its user's alone, who is Envoy's, too.
func (s *session) writeDataplane(shared volume.Volume) error {
	proxy := dataplane.Proxy{
		NodeName: s.registered.Node(),
		ID:       s.registered.Sidecar.Service.ID,
		Tenancy:  s.registered.Tenancy(),
		Address:  s.address,
		Volume:   shared,
		LogLevel: s.Config.LogLevel,

		GRPCPort:        s.Config.ConsulServers.GRPC.Port,
		SkipServerWatch: s.Config.ConsulServers.SkipServerWatch,
		Token:           s.token.Secret,

		Envoy:    s.Config.Proxy,
		Settings: *s.Config.Dataplane,
	}
	if tls := s.known(s.tls.grpc); tls != nil {
		proxy.ServerName = tls.ServerName
		if err := shared.Write(shared.CA(), []byte(tls.CA)); err != nil {
			return err
		}
	}
	content, err := dataplane.Config(proxy)
	if err != nil {
		return fmt.Errorf("build consul-dataplane's configuration: %w", err)
	}
	if proxy.Token == "" {
		return shared.Write(shared.Dataplane(), content)
	}
	return shared.WritePrivate(shared.Dataplane(), content, s.envoyUser())
}
