package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

const (
	// longestShare is the part of the budget that is kept for telling Consul,
	// and the most that it may take, where the budget is that long.
	longestShare = 1500 * time.Millisecond

	// consulAttempt lets a run reach another server after one that hangs.
	consulAttempt = 600 * time.Millisecond
)

// consulShare is the part of the budget for telling Consul.
func (r Run) consulShare() time.Duration { return min(longestShare, r.Budget/3) }

// synchronization is the part of a run that speaks to Consul.
type synchronization struct {
	Run
	task     Task
	metadata func() (taskmeta.Task, error)
	upkeep   upkeep
	servers  *consul.Servers
	heard    bool // a server answered
}

func (r Run) newSync(task Task, metadata func() (taskmeta.Task, error)) *synchronization {
	return &synchronization{Run: r, task: task, metadata: metadata}
}

// bring has Consul know what is so now. Nothing is asked of anyone when that
// is what Consul was told, and it isn't time to look after the task.
func (s *synchronization) bring(ctx context.Context, told memory, now statuses) error {
	kept := s.remember()
	look := kept && s.upkeep.lookDue(s.Now())
	ask := kept && s.upkeep.askDue(s.Now())
	watch := kept && s.upkeep.watching()
	renew := kept && s.renewDue()
	tell := !s.upkeep.Lost && (!told.certain || len(now.changed(s.task.Registration, told.statuses)) > 0)
	if !look && !ask && !watch && !tell && !renew {
		return nil
	}
	meta, err := s.metadata()
	alive := err == nil
	switch {
	case alive && meta.Stopping() && watch:
		return s.takeBack(ctx)
	case alive && meta.Stopping():
		s.Log.Info("the task is stopping; Consul is left as it is")
		return nil
	case alive && watch && s.upkeep.watchOver(s.Now()):
		over := s.upkeep
		over.WatchUntil = time.Time{}
		s.keep(over)
	case !alive:
		// The drain is another check, which the writes of checks don't touch:
		// they are safe even if the task is stopping.
		s.Log.Warn("not known whether the task is stopping", "error", err)
	}
	if ask {
		look = s.ask(ctx) || look
	}
	if look {
		// ECS may kill a run that waits for a silent server. So it is taken for
		// silent before, until it has answered.
		if err := s.note(s.upkeep.looked(s.Now(), s.Refresh).silent(s.Now(), s.Refresh)); err != nil {
			// Once more at the next run, and at every one, would be too much.
			s.Log.Warn("the task is not looked after", "error", err)
			look = false
			// That the registration was gone may be long past, and no look will
			// say so.
			s.upkeep.Lost, told.certain, tell = false, false, true
		}
	}
	if !look && !tell && !renew {
		return nil
	}
	if err := s.reach(ctx); err != nil {
		s.noteWhetherHeard(kept, err)
		return err
	}
	err = nil
	if look || tell {
		err = s.speak(ctx, told, now, look, alive)
		s.noteWhetherHeard(kept, err)
	}
	// Health comes first: a token that is due for renewal is still good.
	if kept && s.renewDue() {
		s.renewInTime(ctx)
	}
	return err
}

// speak looks after the task or, at least, tells what has changed. A Consul
// outage is not waited for: the next run is a few seconds away.
func (s *synchronization) speak(ctx context.Context, told memory, now statuses, look, alive bool) error {
	if look {
		tried, err := s.lookAfter(ctx, now, alive)
		if !tried {
			return err
		}
		// ECS may have begun to stop the task meanwhile: its drain found no
		// node, and won't come again.
		if meta, unknown := s.readMetadata(ctx); unknown == nil && meta.Stopping() {
			err = errors.Join(err, s.takeBack(ctx))
		}
		return err
	}
	share, cancel := context.WithTimeout(ctx, s.consulShare())
	defer cancel()
	if !told.certain {
		var err error
		if told, err = s.readTold(share); err != nil || s.upkeep.Lost {
			return err
		}
	}
	return s.tell(share, told, now)
}

// readTold asks Consul what it has, where nobody remembers what it was told.
func (s *synchronization) readTold(ctx context.Context) (memory, error) {
	found, err := s.task.Registration.ReadChecks(ctx, s)
	if err != nil {
		return memory{}, err
	}
	told := statusesOf(found)
	for _, check := range s.task.Registration.Checks() {
		if _, there := told[check.CheckID]; there {
			return memory{statuses: told}, nil
		}
	}
	s.Log.Warn("Consul has none of the task's checks: is its node still in the catalog? The next runs look after that", "node", s.task.Registration.Node())
	s.keep(s.upkeep.lost(s.Refresh))
	return memory{}, nil
}

// Do is consul.Servers.Do on the servers of this run, with another token where
// Consul doesn't know the task's any more.
func (s *synchronization) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	err := s.servers.Do(ctx, attempt)
	if consul.TokenUnknown(err) && s.mayRenew() {
		if renewal := s.renew(ctx); renewal != nil {
			return fmt.Errorf("%w; %w", err, renewal)
		}
		err = s.servers.Do(ctx, attempt)
	}
	if err == nil {
		s.noteTokenKnown()
	}
	// Who can't prove to be a server of Consul's has its address, and no more.
	if err == nil || consul.Permanent(err) && !consul.Untrusted(err) || consul.TokenUnknown(err) {
		s.heard = true
	}
	return err
}

// reach prepares what the run's requests need. Servers are dialled when the
// first is made.
func (s *synchronization) reach(ctx context.Context) (err error) {
	s.servers, err = consul.NewServers(s.current(), consul.Options{Port: s.task.HTTPPort, TLS: s.task.TLS, AttemptTimeout: consulAttempt, Tenancy: s.task.Registration.Tenancy()})
	if err != nil {
		return err
	}
	return s.authorize(ctx)
}

func (s *synchronization) current() []netip.Addr {
	if len(s.upkeep.Servers) > 0 {
		return s.upkeep.Servers
	}
	return s.task.Servers
}

// noteWhetherHeard has the source of servers asked when no server answers.
func (s *synchronization) noteWhetherHeard(kept bool, err error) {
	switch {
	case !kept:
	case s.heard && !s.upkeep.AskAt.IsZero():
		s.keep(s.upkeep.answered())
	case !s.heard && (errors.Is(err, consul.ErrNoAnswer) || consul.Untrusted(err)):
		s.keep(s.upkeep.silent(s.Now(), s.Refresh))
	}
}

// remember reads what earlier runs noted. Where nothing can be noted, nothing
// is looked after: without its pauses that would be done at every run.
func (s *synchronization) remember() bool {
	now := s.Now()
	err := volume.ReadJSON(s.Volume.Upkeep(), &s.upkeep)
	switch {
	case err == nil:
		s.upkeep = s.upkeep.mend(now, s.Refresh)
		return true
	case !errors.Is(err, fs.ErrNotExist):
		s.Log.Warn("beginning anew to look after the task", "error", err)
	}
	if err := s.note(newUpkeep(now, s.Refresh)); err != nil {
		s.Log.Warn("the task is not looked after", "error", err)
		return false
	}
	return true
}

// note keeps what the next runs have to know. Where it matters that a thing is
// not done twice in a row, it comes before that thing: a run may be killed.
func (s *synchronization) note(u upkeep) error {
	s.upkeep = u
	return s.Volume.WriteJSON(s.Volume.Upkeep(), u)
}

// keep is note for what may be forgotten.
func (s *synchronization) keep(u upkeep) {
	if err := s.note(u); err != nil {
		s.Log.Warn("not remembered for the next runs", "error", err)
	}
}

// tell writes the checks that Consul has otherwise.
func (s *synchronization) tell(ctx context.Context, told memory, now statuses) error {
	changed := now.changed(s.task.Registration, told.statuses)
	if len(changed) == 0 {
		return s.confirm(now)
	}
	// A write whose answer is lost may have been carried out. So nothing counts
	// as known to Consul from here on, until it has confirmed.
	s.forget()
	if err := s.write(ctx, changed); err != nil {
		return err
	}
	for _, check := range changed {
		s.Log.Info("told Consul", "check", check.CheckID, "status", check.Status, "output", check.Output)
	}
	return s.confirm(now)
}

func (s *synchronization) forget() {
	if err := s.Volume.Remove(s.Volume.Checks()); err != nil {
		// Consul is told all the same: what it has is read back before long.
		s.Log.Warn("what Consul was told is not forgotten", "error", err)
	}
}

// confirm remembers what Consul has.
func (s *synchronization) confirm(now statuses) error {
	if !s.Volume.Writable() {
		return nil // which was said before
	}
	if now.passing(s.task.Registration) {
		if err := s.Volume.Write(s.Volume.Passed(), nil); err != nil {
			return err
		}
	}
	return s.Volume.WriteJSON(s.Volume.Checks(), now)
}

// write sets checks in one transaction: all of them or, where the task's node
// or service is gone from the catalog, none. /v1/catalog/register would bring
// a node back that was deregistered because its task stopped.
func (s *synchronization) write(ctx context.Context, checks api.HealthChecks) error {
	var ops api.TxnOps
	for _, check := range checks {
		ops = append(ops, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: *check}})
	}
	node := s.task.Registration.Node()
	err := s.Do(ctx, func(ctx context.Context, client *api.Client) error {
		var answer api.TxnResponse
		_, err := client.Raw().Write("/v1/txn", ops, &answer, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
	var refusal api.StatusError
	if errors.As(err, &refusal) && refusal.Code == http.StatusConflict {
		s.keep(s.upkeep.lost(s.Refresh))
		return fmt.Errorf("set the checks of node %s: %w; is it still in the catalog? The next runs look after that", node, err)
	}
	if err != nil {
		return fmt.Errorf("set the checks of node %s: %w", node, err)
	}
	return nil
}
