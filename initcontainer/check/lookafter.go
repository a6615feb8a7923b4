package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/serverlist"
)

// askTimeout bounds one reading of the servers' addresses from their source,
// which comes before Consul's share.
const askTimeout = 2 * time.Second

// lookAfter reads the task's registration back, mends what is damaged, and then
// follows Consul's servers. It says whether it tried to register the task again.
func (s *synchronization) lookAfter(ctx context.Context, now statuses, alive bool) (tried bool, err error) {
	// It takes what is left of the run's time, since it comes rarely and half of
	// it helps nobody.
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-s.consulShare()/4))
		defer cancel()
	}
	found, err := s.task.Registration.Read(ctx, s)
	if err != nil {
		return false, err
	}
	tried, err = s.mend(ctx, found, now, alive)
	if s.task.Registration.Tenancy().IsDefault() {
		s.follow(ctx) // the servers are where a token of another tenant's may not look
	}
	return tried, err
}

// mend has Consul have the task's registration, and its checks as they are now.
func (s *synchronization) mend(ctx context.Context, found registration.Found, now statuses, alive bool) (tried bool, err error) {
	seen := s.upkeep.answered()
	seen.Lost = s.task.Registration.Gone(found)
	damage := s.task.Registration.Damage(found)
	if damage == "" {
		seen = seen.whole(s.Now())
	}
	s.keep(seen)
	if damage != "" && s.mayRestore(damage, seen.Lost, alive) {
		return true, s.restore(ctx, found, now, damage)
	}
	if seen.Lost {
		return false, nil
	}
	// What Consul has counts, not what it was told: a write may have been lost,
	// or come late, and others can write, too.
	return false, s.tell(ctx, memory{statuses: statusesOf(found.Checks)}, now)
}

// mayRestore tells whether the task may register again. One of which it is not
// certain that ECS wants it to run stays out: deregister-tasks or the sweep may
// be right.
func (s *synchronization) mayRestore(damage string, gone, alive bool) bool {
	log := s.Log.With("node", s.task.Registration.Node(), "damage", damage)
	at := s.upkeep.restoreAt(s.Refresh, gone)
	switch {
	case !alive:
		log.Warn("the registration is damaged, and stays so while it is not known whether the task is stopping")
		return false
	case s.Now().Before(at) && !s.upkeep.of(gone).At.IsZero():
		log.Warn("the registration is damaged again after it was restored: something takes it away", "notBefore", at)
		return false
	case s.Now().Before(at):
		log.Warn("the registration is damaged, and was not restored at the last try", "notBefore", at)
		return false
	}
	return true
}

// restore registers the task again, with its checks as they are.
func (s *synchronization) restore(ctx context.Context, found registration.Found, now statuses, damage string) error {
	log := s.Log.With("node", s.task.Registration.Node(), "damage", damage)
	gone := s.task.Registration.Gone(found)
	if err := s.note(s.upkeep.tried(s.Now(), gone)); err != nil {
		return fmt.Errorf("register again: %w", err)
	}
	s.forget()
	err := now.in(s.task.Registration).Restore(ctx, s, found)
	var successor *registration.SuccessorError
	if errors.As(err, &successor) {
		return fmt.Errorf("not registered again: %w; if that is a dead task's, the sweep removes it", err)
	}
	if err != nil {
		return fmt.Errorf("register again: %w", err)
	}
	log.Warn("registered again")
	s.keep(s.upkeep.restored(s.Now(), s.Refresh, gone))
	return s.confirm(now)
}

// takeBack removes what was registered again of a task that ECS is stopping.
func (s *synchronization) takeBack(ctx context.Context) error {
	s.Log.Info("the task is stopping; that it was registered again is taken back")
	ctx, cancel := context.WithTimeout(ctx, s.consulShare())
	defer cancel()
	if err := s.reach(ctx); err != nil {
		return err
	}
	if err := s.task.Registration.Remove(ctx, s); err != nil {
		return err // the next run tries again
	}
	over := s.upkeep
	over.WatchUntil = time.Time{}
	s.keep(over)
	return nil
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
	if err := s.note(s.upkeep.asked(s.Now())); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := s.task.Source.Open()
	if err != nil {
		return false, err
	}
	addrs, err := list.Read(ctx)
	if err != nil {
		return false, err
	}
	if serverlist.Equal(addrs, s.current()) {
		return false, s.note(s.upkeep.unchanged(s.Now(), s.Refresh))
	}
	return true, s.adopt(addrs)
}

// follow takes over the servers that Consul itself names, if the task can
// reach one of them as Envoy does and as it does itself: where it reaches
// Consul through a load balancer, or from another network, the servers' own
// addresses may be of no use to it.
func (s *synchronization) follow(ctx context.Context) {
	servers, err := s.servers.Current(ctx)
	switch {
	case err != nil:
	case serverlist.Equal(servers, s.current()):
		return
	case !consul.AnyReachable(ctx, servers, s.task.HTTPPort, s.task.GRPCPort):
		err = fmt.Errorf("follow Consul's servers: none of %s can be reached at the ports %d and %d", servers, s.task.HTTPPort, s.task.GRPCPort)
	default:
		err = s.adopt(servers)
	}
	if err != nil {
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
