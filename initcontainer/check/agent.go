package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
)

// Agent is what a run has to know of the task's own agent.
type Agent struct {
	registration.Agent
	Source   discovery.Source // of the servers that it is to join
	SerfPort int              // at which they are
}

// leaveToAgent is sync in the topology client-agent: the task's own agent runs
// the checks and tells the servers. What it can't know, it is told: the health
// of containers, a new token, and the registration once more, if it lost that.
func (r Run) leaveToAgent(ctx context.Context, task Task) error {
	if err := r.readRequests(&task); err != nil {
		return err
	}
	s := r.newSync(task, r.metadata(ctx))
	kept := s.remember()
	due := kept && s.upkeep.lookDue(s.Now())
	look := due || s.awaitsPassing()
	renew := kept && s.renewDue()
	ask := kept && s.upkeep.askDue(s.Now())
	behind := kept && s.upkeep.AgentBehind
	meta, err := s.metadata()
	alive := err == nil
	if alive && meta.Stopping() {
		return s.drain(ctx)
	}
	if !look && !renew && !ask && !behind && len(task.Containers) == 0 {
		return nil
	}
	if !alive {
		s.Log.Warn("not known whether the task is stopping", "error", err)
	}
	if due {
		if err := s.note(s.upkeep.looked(s.Now(), s.Refresh)); err != nil {
			return err
		}
	}
	if err := s.reach(ctx); err != nil {
		return err
	}
	err = s.speakToAgent(ctx, meta, look, alive, behind)
	if due {
		s.noteWhetherJoined(ctx)
	}
	if ask {
		err = errors.Join(err, s.join(ctx))
	}
	if renew {
		s.renewInTime(ctx)
	}
	return err
}

// awaitsPassing tells whether the service has not passed yet, as far as is known.
func (s *synchronization) awaitsPassing() bool {
	_, err := os.Stat(s.Volume.Passed())
	return err != nil && s.Volume.Writable()
}

func (s *synchronization) speakToAgent(ctx context.Context, meta taskmeta.Task, look, alive, behind bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.consulShare())
	defer cancel()
	if behind {
		if err := s.writeToAgent(ctx); err != nil {
			return err
		}
	}
	if alive && len(s.task.Containers) > 0 {
		err := s.tellContainers(ctx, meta)
		var refused api.StatusError
		unknown := errors.As(err, &refused) && refused.Code == http.StatusNotFound
		if err != nil && !unknown {
			return err
		}
		look = look || unknown
	}
	if !look {
		return nil
	}
	has, err := s.agentChecks(ctx)
	if err != nil {
		return err
	}
	for _, check := range s.task.Registration.Checks() {
		if _, there := has[check.CheckID]; !there {
			return s.registerAgain(ctx, check.CheckID, alive)
		}
	}
	return s.confirm(has)
}

// agentChecks are the task's checks as its agent has them.
func (s *synchronization) agentChecks(ctx context.Context) (statuses, error) {
	var parts []string
	for _, check := range s.task.Registration.Checks() {
		parts = append(parts, fmt.Sprintf("CheckID == %q", check.CheckID))
	}
	has := statuses{}
	err := s.Do(ctx, func(ctx context.Context, client *api.Client) error {
		checks, err := client.Agent().ChecksWithFilterOpts(strings.Join(parts, " or "), (&api.QueryOptions{}).WithContext(ctx))
		for _, check := range checks {
			has[check.CheckID] = status{check.Status, check.Output}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask the Consul client for the task's checks: %w", err)
	}
	return has, nil
}

// tellContainers tells the agent what ECS says of containers' health. It tells
// the servers what has changed.
func (s *synchronization) tellContainers(ctx context.Context, meta taskmeta.Task) error {
	checks := s.task.Registration.Service.Checks[len(s.task.Checks):]
	return s.Do(ctx, func(ctx context.Context, client *api.Client) error {
		for i, found := range containersHealth(s.task.Containers, meta) {
			err := client.Agent().UpdateTTLOpts(checks[i].CheckID, found.Output, found.Status, (&api.QueryOptions{}).WithContext(ctx))
			if err != nil {
				return fmt.Errorf("tell the Consul client of check %s: %w", checks[i].CheckID, err)
			}
		}
		return nil
	})
}

// noteWhetherJoined has the source of servers asked when the agent knows none
// that answers: all of them may have been replaced at once.
func (s *synchronization) noteWhetherJoined(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, consulAttempt)
	defer cancel()
	err := s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		_, err := client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	switch {
	case err == nil && !s.upkeep.AskAt.IsZero():
		s.keep(s.upkeep.answered())
	case err != nil:
		s.Log.Warn("the Consul client knows no server that answers", "error", err)
		s.keep(s.upkeep.silent(s.Now(), s.Refresh))
	}
}

// join has the agent join the servers that the source names now.
func (s *synchronization) join(ctx context.Context) error {
	if err := s.note(s.upkeep.asked(s.Now())); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := s.task.Agent.Source.Open()
	if err != nil {
		return err
	}
	addrs, err := list.Read(ctx)
	if err != nil {
		return err
	}
	s.Log.Info("the Consul client joins the servers", "servers", addrs)
	// One that isn't there must not be first each time.
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	err = s.servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		for _, addr := range addrs {
			at := net.JoinHostPort(addr.String(), strconv.Itoa(s.task.Agent.SerfPort))
			if _, err = client.Raw().Write("/v1/agent/join/"+at, nil, nil, (&api.WriteOptions{}).WithContext(ctx)); err == nil {
				return nil // gossip tells the agent of the others
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("have the Consul client join the servers: %w", err)
	}
	return nil
}

// registerAgain gives the agent what it lost, as when it started anew without
// what it had kept.
func (s *synchronization) registerAgain(ctx context.Context, check string, alive bool) error {
	if !s.mayRestore("the Consul client has no check "+check, true, alive) {
		return nil
	}
	if err := s.note(s.upkeep.tried(s.Now(), true)); err != nil {
		return fmt.Errorf("register again: %w", err)
	}
	if err := s.writeToAgent(ctx); err != nil {
		return fmt.Errorf("register again: %w", err)
	}
	s.Log.Warn("registered again with the Consul client", "node", s.task.Registration.Node())
	s.keep(s.upkeep.restored(s.Now(), s.Refresh, true))
	return nil
}

// writeToAgent gives the agent the token that Envoy has, and the registration:
// that goes on with the token with which it came.
func (s *synchronization) writeToAgent(ctx context.Context) error {
	if err := s.giveToken(ctx); err != nil {
		return err
	}
	err := s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		return s.task.Registration.WriteToAgent(ctx, client, s.task.Agent.Agent, s.task.Checks)
	})
	if err == nil && s.upkeep.AgentBehind {
		next := s.upkeep
		next.AgentBehind = false
		s.keep(next)
	}
	return err
}

func (s *synchronization) giveToken(ctx context.Context) error {
	if s.task.Token == nil {
		return nil
	}
	secret, _, err := s.heldToken()
	if err != nil {
		return err
	}
	err = s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		options := (&api.WriteOptions{}).WithContext(ctx)
		_, agent := client.Agent().UpdateAgentACLToken(secret, options)
		_, registrations := client.Agent().UpdateDefaultACLToken(secret, options)
		return errors.Join(agent, registrations)
	})
	if err != nil {
		return fmt.Errorf("give the Consul client the ACL token: %w; the token needs agent:write of its own agent", err)
	}
	return nil
}
