package register

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/shared/consul"
)

// useAgent has the task's own agent stand for the servers, in all that follows.
func (s *session) useAgent() {
	s.joins = s.source
	s.Config.ConsulServers = s.Config.LocalAgent()
	s.source = discovery.Source{Hosts: s.Config.ConsulServers.Hosts}
}

// agent says how the task's agent runs the checks.
func (s *session) agent() registration.Agent {
	ready := net.JoinHostPort(s.address.String(), strconv.Itoa(s.Config.Proxy.HealthCheckPort))
	return registration.Agent{
		Interval:       s.Config.ConsulClient.CheckInterval,
		Ready:          "http://" + ready + "/ready",
		PublicListener: s.publicListener(),
	}
}

// writeToAgent registers with the agent, and waits until the servers know. The
// agent has a token of its own.
func (s *session) writeToAgent(ctx context.Context, agent *consul.Servers) error {
	err := agent.Do(ctx, func(ctx context.Context, client *api.Client) error {
		// An agent that has not joined can't answer this one.
		if err := s.removeStale(ctx, client); err != nil {
			return err
		}
		if err := s.writeResilience(ctx, client); err != nil {
			return err
		}
		return s.registered.WriteToAgent(ctx, client, s.agent(), s.Config.Service.Checks)
	})
	if err == nil {
		s.datacenter, err = s.registered.AwaitSynced(ctx, agent)
	}
	return err
}

// explain says where to look when the task's agent is why there is no Consul.
func (s *session) explain(err error) error {
	if s.Config.Topology != config.ClientAgent {
		return err
	}
	at := net.JoinHostPort(s.Config.ConsulClient.Address, strconv.Itoa(s.Config.ConsulClient.HTTPPort))
	return fmt.Errorf("register with the task's Consul client at %s: %w; see the log of the container consul-client", at, err)
}
