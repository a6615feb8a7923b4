package check

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/mesh"
)

// drainTTL outlasts every task that stops: nobody passes the check before.
const drainTTL = 24 * time.Hour

// drain gives the task's agent the check by which deregister-tasks drains the
// task. What only the servers have of its node, the agent takes away again
// within two minutes. A stop is final, so nobody takes this one away.
func (s *synchronization) drain(ctx context.Context) error {
	if s.upkeep.Drained {
		return nil
	}
	if err := s.reach(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.consulShare())
	defer cancel()
	check := &api.AgentCheckRegistration{
		ID: mesh.LifecycleCheckID, Name: mesh.LifecycleCheckName, Notes: mesh.LifecycleCheckNotes,
		AgentServiceCheck: api.AgentServiceCheck{TTL: drainTTL.String(), Status: api.HealthCritical},
	}
	err := s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		return client.Agent().CheckRegisterOpts(check, (&api.QueryOptions{}).WithContext(ctx))
	})
	if err != nil {
		return fmt.Errorf("have the Consul client drain the task, which is stopping: %w", err)
	}
	s.Log.Info("the task is stopping; its Consul client drains it")
	next := s.upkeep
	next.Drained = true
	s.keep(next)
	return nil
}
