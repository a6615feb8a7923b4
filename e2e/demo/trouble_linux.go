package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// loseEvents kills a task of which no event arrives from then on, and has the
// sweep find it.
func (s *story) loseEvents(ctx context.Context) error {
	s.chapter("", s.lost.name+" dies, and its events are lost")
	s.silenced.Store(&s.lost.task.TaskARN)
	if err := s.lab.ECS.Signal(s.lost.task.TaskARN, service(s.lost), syscall.SIGKILL); err != nil {
		return err
	}
	died := time.Now()
	var err error
	if s.lost.task, err = s.lab.WaitTask(ctx, s.lost.task, ecs.Task.Stopped); err != nil {
		return err
	}
	if err := s.lab.WaitPassing(ctx, "web", s.web.task, s.lost.task); err != nil {
		return err
	}
	s.out.line("%8s  ECS says STOPPED, but Consul still calls it passing", after(died, time.Now()))
	s.out.aside("The sweep compares Consul with ECS every five minutes; here it is invoked now …")
	begun := time.Now()
	if err := s.lab.Sweep(ctx, ""); err != nil {
		return err
	}
	if err := s.lab.WaitPassing(ctx, "web", s.web.task); err != nil {
		return err
	}
	s.out.holds("the sweep has removed it, and nothing else, in %s", brief(time.Since(begun)))
	return s.lab.WaitPassing(ctx, "api", s.apis[1].task)
}

// replaceServers replaces every Consul server by a new one at a new address.
func (s *story) replaceServers(ctx context.Context) error {
	s.chapter("", "every Consul server is replaced while requests flow")
	s.out.aside("A new one starts, then an old one goes; three times …")
	begun := time.Now()
	done := s.watchParameter(ctx, func(p publication) {
		s.out.line("%8s  %d servers: %s", after(begun, p.at), len(p.servers), join(p.servers))
	})
	for _, old := range slices.Clone(s.servers) {
		fresh, err := s.lab.ReplaceServer(ctx, old.task)
		if err != nil {
			return err
		}
		old.task, _ = s.lab.ECS.Task(old.task.TaskARN)
		s.servers = append(s.servers, &actor{name: fmt.Sprintf("consul-%d", len(s.servers)+1), task: fresh, passing: old.task.StoppingAt.Time})
		if err := s.lab.WaitPublished(ctx, tasksOf(s.servers[len(s.servers)-3:])...); err != nil {
			return err
		}
		if err := s.lab.WaitLeader(ctx); err != nil {
			return err
		}
	}
	s.publication = append(s.publication, done()...)
	fresh := tasksOf(s.servers[3:])
	for _, a := range []*actor{s.web, s.apis[1]} {
		if err := s.lab.WaitConsulServers(ctx, a.task, fresh...); err != nil {
			return err
		}
	}
	s.out.line("%8s  the Envoys have followed, without a restart: none of the first servers is left", after(begun, time.Now()))
	requests := s.load.Requests()
	if err := noFailures(requests); err != nil {
		return err
	}
	s.out.holds("the cluster has a leader, the tasks have new servers; %d requests so far, 0 failed", len(requests))
	return nil
}

// watchParameter tells and records each new value of the parameter until its
// result is called.
func (s *story) watchParameter(ctx context.Context, changed func(publication)) func() []publication {
	ctx, stop := context.WithCancel(ctx)
	var seen []publication
	last := s.publication[len(s.publication)-1].servers
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for pause(ctx, 20*time.Millisecond) == nil {
			list, err := s.lab.ServerList(ctx)
			if err == nil && !slices.Equal(list, last) {
				seen, last = append(seen, publication{time.Now(), list}), list
				changed(seen[len(seen)-1])
			}
		}
	}()
	return func() []publication {
		stop()
		<-ended
		return seen
	}
}

// wipeCatalog has the tasks come back by themselves.
func (s *story) wipeCatalog(ctx context.Context) error {
	if err := pause(ctx, afterwards); err != nil {
		return err
	}
	before := s.load.Requests()
	if err := noFailures(before); err != nil {
		return err
	}
	s.chapter("", "the catalog is wiped")
	begun := time.Now()
	if err := s.lab.WipeCatalog(ctx); err != nil {
		return err
	}
	s.out.line("No task is in Consul any more; nobody restarts anything …")
	for _, a := range []*actor{s.web, s.apis[1]} {
		if err := s.lab.WaitPassing(ctx, service(a), a.task); err != nil {
			return err
		}
	}
	if err := s.lab.WaitEndpoints(ctx, s.web.task, "api", s.apis[1].task); err != nil {
		return err
	}
	back := time.Now()
	s.out.line("%8s  the tasks' health checks have registered them again, passing", after(begun, back))
	if err := pause(ctx, afterwards); err != nil {
		return err
	}
	s.requests = s.load.Stop()
	s.load = nil
	since := slices.DeleteFunc(slices.Clone(s.requests), func(r lab.Request) bool { return r.Start.Before(back) })
	if err := noFailures(since); err != nil {
		return err
	}
	s.out.holds("%d requests since then, 0 failed (%d while Consul knew of no api)", len(since), len(lab.Failures(s.requests)))
	return nil
}
