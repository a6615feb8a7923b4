package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/shared/consul"
)

// askTimeout bounds one reading of the servers' addresses from their source,
// which comes before Consul's share.
const askTimeout = 2 * time.Second

func (s *synchronization) lookAndTell(ctx context.Context, told, now statuses, alive bool) error {
	if err := s.note(s.upkeep.looked(s.Now(), s.Refresh)); err != nil {
		// Once more at the next run, and at every one, would be too much.
		s.Log.Warn("the task is not looked after", "error", err)
		return s.tell(ctx, told, now)
	}
	found, servers, err := s.read(ctx)
	if err != nil {
		return err
	}
	s.keep(s.upkeep.answered())
	if len(servers) > 0 && !sameServers(servers, s.current()) {
		s.follow(ctx, servers)
	}
	if damage := s.task.Registration.Damage(found); damage != "" {
		restored, err := s.restore(ctx, now, damage, alive)
		if restored || err != nil || found.Node == nil {
			return err
		}
	} else {
		s.keep(s.upkeep.whole(s.Now(), s.Refresh))
	}
	// What Consul has counts, not what it was told: a write may have been lost,
	// or come late, and others can write, too.
	if told = statusesOf(found.Checks); len(now.changed(s.task.Registration, told)) == 0 {
		return s.confirm(now)
	}
	return s.tell(ctx, told, now)
}

// restore registers the task again, with its checks as they are, and says
// whether it did. A task of which it is not certain that ECS wants it to run
// stays out: deregister-tasks or the sweep may be right.
func (s *synchronization) restore(ctx context.Context, now statuses, damage string, alive bool) (bool, error) {
	log := s.Log.With("node", s.task.Registration.Service.Node, "damage", damage)
	switch {
	case !alive:
		log.Warn("the registration is damaged, and stays so while it is not known whether the task is stopping")
		return false, nil
	case !s.upkeep.restoreDue(s.Now()):
		log.Warn("the registration has vanished again; something takes it away", "next", s.upkeep.RestoredAt.Add(s.upkeep.RestorePause))
		return false, nil
	}
	if err := s.note(s.upkeep.restored(s.Now(), s.Refresh)); err != nil {
		return false, err
	}
	s.forget()
	var (
		whole    = now.in(s.task.Registration)
		givenWay bool
	)
	err := s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		err := whole.Restore(ctx, client)
		var successor *registration.SuccessorError
		if givenWay = errors.As(err, &successor); givenWay {
			log.Warn("the registration is not restored", "because", successor)
			return nil // no server will say otherwise
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("register again: %w", err)
	}
	if givenWay {
		return true, nil
	}
	log.Warn("registered again")
	return true, errors.Join(s.takeBackIfStopping(ctx), s.confirm(now))
}

// takeBackIfStopping removes what was just registered if ECS began to stop the
// task meanwhile: its drain found no node, and won't come again.
func (s *synchronization) takeBackIfStopping(ctx context.Context) error {
	meta, err := s.readMetadata(ctx)
	if err != nil {
		s.Log.Warn("not known whether the task began to stop meanwhile", "error", err)
		return nil
	}
	if !meta.Stopping() {
		return nil
	}
	s.Log.Info("the task is stopping; its registration is taken back")
	return s.servers.Do(ctx, s.task.Registration.Remove)
}

// ask reads the servers from where the task had the first from, after none of
// those that it knows answered for a while, and says whether there are others:
// all of them may have been replaced.
func (s *synchronization) ask(ctx context.Context) (others bool) {
	others, err := s.askSource(ctx)
	if err != nil {
		s.Log.Warn("no Consul server answers, and the list of servers was not read", "error", err)
	}
	return others
}

func (s *synchronization) askSource(ctx context.Context) (others bool, err error) {
	if err := s.note(s.upkeep.asked(s.Now(), s.Refresh)); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := s.task.Source.Open(ctx)
	if err != nil {
		return false, err
	}
	addrs, err := list.Read(ctx)
	if err != nil || sameServers(addrs, s.current()) {
		return false, err
	}
	return true, s.adopt(addrs)
}

// read asks Consul for the task's registration and for its servers, which are
// none where it doesn't say.
func (s *synchronization) read(ctx context.Context) (found registration.Found, servers []netip.Addr, err error) {
	err = s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		var err error
		if found, err = s.task.Registration.Read(ctx, client); err != nil {
			return err
		}
		if servers, err = consul.CurrentServers(ctx, client); err != nil {
			s.Log.Warn("the list of servers stays as it is", "error", err)
		}
		return nil
	})
	return found, servers, err
}

// follow takes over the servers that Consul itself names, if the task can
// reach one of them: where it reaches Consul through a load balancer, or from
// another network, the servers' own addresses may be of no use to it.
func (s *synchronization) follow(ctx context.Context, servers []netip.Addr) {
	if !consul.AnyReachable(ctx, servers, s.task.GRPCPort) {
		s.Log.Warn("the list of servers stays as it is: none of those that Consul names can be reached", "servers", servers)
		return
	}
	if err := s.adopt(servers); err != nil {
		s.Log.Warn("the list of servers stays as it is", "error", err)
	}
}

// adopt gives Envoy, and the runs to come, another list of servers.
func (s *synchronization) adopt(servers []netip.Addr) error {
	endpoints, err := envoy.Endpoints(servers, s.task.GRPCPort)
	if err != nil {
		return fmt.Errorf("build Envoy's list of servers: %w", err)
	}
	if err := s.Volume.Write(s.Volume.LiveServers(), endpoints); err != nil {
		return err
	}
	s.Log.Info("Consul's servers have changed", "servers", servers, "before", s.current())
	next := s.upkeep
	next.Servers = servers
	return s.note(next)
}

func sameServers(a, b []netip.Addr) bool {
	sorted := func(addrs []netip.Addr) []netip.Addr {
		return slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
	}
	return slices.Equal(slices.Compact(sorted(a)), slices.Compact(sorted(b)))
}
