package register

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"ecsmesh/initcontainer/clientagent"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/mesh"
)

// DiscoverServers writes the configuration with which the task's own Consul
// agent joins the servers. Its error is final, as Run's.
func (r Registrar) DiscoverServers(ctx context.Context) (err error) {
	if r.Config.Topology != config.ClientAgent {
		return fmt.Errorf("topology is %q; a Consul client that joins the servers is there with %q only", r.Config.Topology, config.ClientAgent)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.Deadline, fmt.Errorf("gave up after %s", r.Deadline))
	defer cancel()
	s, err := r.begin(ctx)
	if err != nil || s == nil {
		return err
	}
	defer s.name(&err)
	// First whether the file can be given to its reader: what follows may cost
	// a login, and a token that nobody gets.
	private := volume.Volume(r.Config.BootstrapDir)
	user := r.clientUser()
	if err := private.PrepareClient(user); err != nil {
		return err
	}
	if err := private.WritePrivate(private.Client(), nil, user); err != nil {
		return err
	}
	if err := s.findSecrets(ctx); err != nil {
		return err
	}
	gossipKey, err := s.gossipKey(ctx)
	if err != nil {
		return err
	}
	err = s.until(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, consulRound)
		defer cancel()
		_, err := s.logIn(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.writeClient(private, user, gossipKey); err != nil {
		return err
	}
	s.Log.Info("the Consul client can join", "servers", s.servers, "file", private.Client())
	return nil
}

// clientUser is whose the agent's configuration is. A task whose containers all
// run as one user need not say which.
func (r Registrar) clientUser() int {
	if uid := r.Config.ConsulClient.UID; uid >= 0 {
		return uid
	}
	return cmp.Or(os.Geteuid(), volume.ConsulUser)
}

func (s *session) gossipKey(ctx context.Context) (string, error) {
	name := s.Config.ConsulClient.GossipKeyParameter
	if name == "" {
		return string(s.Config.ConsulClient.GossipKey), nil
	}
	key, err := s.readParameter(ctx, s.parameters, name)
	if err != nil {
		return "", fmt.Errorf("read the gossip key: %w", err)
	}
	if !config.ValidGossipKey(key) {
		return "", fmt.Errorf("read the gossip key: SSM parameter %s holds %d characters; %s", name, len(key), config.WantGossipKey)
	}
	return key, nil
}

func (s *session) writeClient(private volume.Volume, user int, gossipKey string) error {
	client := clientagent.Client{
		NodeName:  mesh.NodeName(s.task.ARN.ID),
		NodeMeta:  registration.NodeMeta(s.Config.Topology, s.task, time.Now()),
		Partition: s.Config.Tenancy.Partition,
		Address:   s.address,
		Servers:   s.servers,
		DataDir:   private.ClientData(),
		LogLevel:  s.Config.LogLevel,
		Settings:  *s.Config.ConsulClient,
		GossipKey: gossipKey,
		Token:     s.token.Secret,
	}
	if s.tls.http != nil {
		client.CAFile = private.ClientCA()
		if err := private.Write(client.CAFile, []byte(s.tls.http.CA)); err != nil {
			return err
		}
	}
	content, err := clientagent.Config(client)
	if err != nil {
		return fmt.Errorf("build the Consul client's configuration: %w", err)
	}
	return private.WritePrivate(private.Client(), content, user)
}
