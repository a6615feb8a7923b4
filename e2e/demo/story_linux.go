package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

const (
	requestsPerSecond = 100
	warmUp            = 2500 * time.Millisecond // of requests before the stop
	afterwards        = time.Second             // of requests after each change
)

// story is the demo: what it runs and what it has seen so far.
type story struct {
	out       *printer
	dir       string
	keep      bool
	secure    bool
	picture   string    // its file
	dashboard string    // and CloudWatch's
	own       *ownTasks // nil: the example's tasks are the story's

	lab         *lab.Lab
	monitoring  *lab.Monitoring
	unwatch     func() error
	servers     []*actor
	web         *actor
	lost        *actor // whose end nobody hears of
	apis        []*actor
	cast        []*actor // all tasks of the mesh
	load        *lab.Load
	requests    []lab.Request
	milestones  []milestone
	publication []publication
	stop        stopTimes

	silenced atomic.Pointer[string] // ARN of the task whose events get lost
}

// actor is a task in the story, with the moments that ECS does not know.
type actor struct {
	name string
	task ecs.Task

	of          *ecs.Service
	application string // its container, where that hasn't the service's name
	gateway     bool

	registered time.Time // T1: in the catalog
	envoy      time.Time // T2: Envoy has its configuration
	started    time.Time // T3: the application runs
	passing    time.Time // T4: Consul calls it passing
}

// publication is a value that the parameter had from some moment on.
type publication struct {
	at      time.Time
	servers []netip.Addr
}

// stopTimes are the moments of api-1's stop.
type stopTimes struct {
	asked        time.Time
	drained      time.Time // web-1's Envoy sends nothing there any more
	last         time.Time // the end of the last request that it answered
	ended        time.Time // its last container is gone
	deregistered time.Time
}

// tell runs the story from its beginning to its end, and cleans up.
func (s *story) tell(ctx context.Context) (err error) {
	title := "ECS tasks in a Consul service mesh"
	if s.own != nil {
		title = "Your ECS tasks in a Consul service mesh"
	}
	s.out.title(title,
		"Consul, Envoy and everything of ecsmesh are real here and run as processes.",
		"AWS is an emulator; its ECS starts, checks and stops the containers as ECS does.")
	defer func() {
		if s.load != nil {
			s.load.Stop()
		}
		if s.lab != nil {
			err = errors.Join(err, s.lab.Close())
		}
	}()
	if s.own != nil {
		return s.tellOwn(ctx)
	}
	steps := []func(context.Context) error{
		s.setTheStage, s.findServers, s.register, s.startEnvoys, s.startApplications, s.sendRequests,
		s.stopOne, s.loseEvents, s.replaceServers,
	}
	if s.secure {
		steps = append(steps, s.tryWithStolenToken, s.revokeTokens)
	}
	if err := s.play(ctx, append(steps, s.wipeCatalog, s.lookAround, s.stopAll, s.drawDashboard)...); err != nil {
		return err
	}
	return s.draw()
}

// play runs steps one after the other, until one fails.
func (s *story) play(ctx context.Context, steps ...func(context.Context) error) error {
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// chapter begins a step in the text and in the picture.
func (s *story) chapter(name, about string) {
	s.out.chapter(name, about)
	s.milestones = append(s.milestones, milestone{at: time.Since(s.out.start), name: name, text: about})
}

func (s *story) setTheStage(ctx context.Context) error {
	s.out.chapter("", "the stage")
	begun := time.Now()
	var err error
	if s.lab, err = lab.Start(ctx, lab.Options{Dir: s.dir, Events: s.deliver, Secure: s.secure}); err != nil {
		return err
	}
	s.watch(ctx)
	s.out.line("template.yaml is deployed on the emulator, with the real Lambdas    %s", brief(time.Since(begun)))
	begun = time.Now()
	if err := s.startServers(ctx); err != nil {
		return err
	}
	s.out.line("3 Consul servers run as ECS tasks and have elected a leader         %s", brief(time.Since(begun)))
	if s.secure {
		s.out.line("They speak TLS only and deny all that is not allowed; IAM enforces its policies")
		s.out.line("setup-acl has let in the task roles of web and api, and the functions' own")
		// Where nothing else is said, nobody calls anybody.
		if err := s.lab.Allow(ctx, "web", "api", api.IntentionActionAllow); err != nil {
			return err
		}
	}
	// What a mesh's owner would set: the services speak HTTP.
	return s.lab.UseHTTP(ctx, "web", "api")
}

func (s *story) startServers(ctx context.Context) error {
	tasks, err := s.lab.StartServers(ctx)
	if err != nil {
		return err
	}
	for i, task := range tasks {
		s.servers = append(s.servers, &actor{name: fmt.Sprintf("consul-%d", i+1), task: task, passing: time.Now()})
	}
	return nil
}

// deliver hands ECS's events on to EventBridge, but for those that get lost.
func (s *story) deliver(_ context.Context, event ecs.Event, on func(ecs.Event)) {
	if arn := s.silenced.Load(); arn == nil || event.Task.TaskARN != *arn {
		on(event)
	}
}

// findServers is T0.
func (s *story) findServers(ctx context.Context) error {
	if err := s.lab.WaitPublished(ctx, tasksOf(s.servers)...); err != nil {
		return err
	}
	s.chapter("T0", "servers found")
	list, err := s.lab.ServerList(ctx)
	if err != nil {
		return err
	}
	s.publication = append(s.publication, publication{time.Now(), list})
	s.out.line("The servers' task events made publish-servers write the SSM parameter:")
	s.out.line("%s = %s", lab.ServersParameter, join(list))
	return nil
}

// register is T1.
func (s *story) register(ctx context.Context) error {
	s.web, s.lost = &actor{name: "web-1", of: s.lab.Web}, &actor{name: "web-2", of: s.lab.Web}
	s.apis = []*actor{{name: "api-1", of: s.lab.API}, {name: "api-2", of: s.lab.API}}
	s.cast = append([]*actor{s.web, s.lost}, s.apis...)
	return s.launch(ctx)
}

// launch starts the whole cast, and waits for it to be in the catalog.
func (s *story) launch(ctx context.Context) error {
	for _, a := range s.cast {
		var err error
		if a.task, err = a.of.Launch(ctx); err != nil {
			return err
		}
	}
	err := s.each(func(a *actor) error {
		if err := s.lab.WaitRegistered(ctx, a.task); err != nil {
			return err
		}
		a.registered = time.Now()
		var err error
		a.task, err = s.lab.WaitTask(ctx, a.task, func(t ecs.Task) bool { return t.Container("ecsmesh-init").ExitCode != nil })
		if code := a.task.Container("ecsmesh-init").ExitCode; err == nil && *code != 0 {
			err = fmt.Errorf("ecsmesh-init of %s exited with %d", a.name, *code)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.chapter("T1", "tasks registered, init containers gone")
	for _, a := range s.cast {
		init := a.task.Container("ecsmesh-init")
		s.out.line("%-*s %-12s node %s   ecsmesh-init ran %s", s.nameWidth(), a.name, a.task.Address(), shortNode(a.task), brief(init.FinishedAt.Sub(init.StartedAt)))
	}
	return nil
}

// startEnvoys is T2.
func (s *story) startEnvoys(ctx context.Context) error {
	err := s.each(func(a *actor) (err error) {
		if a.gateway {
			return nil
		}
		if err := s.lab.WaitEnvoy(ctx, a.task); err != nil {
			return err
		}
		a.envoy = time.Now()
		a.task, err = s.lab.WaitTask(ctx, a.task, func(t ecs.Task) bool { return a.proxy(t).LastStatus == ecs.StatusRunning })
		return err
	})
	if err != nil {
		return err
	}
	s.chapter("T2", "Envoys up")
	for _, a := range s.cast {
		if a.gateway {
			continue
		}
		// On a busy host an Envoy may be healthy by now.
		if app := a.app(a.task); app.Name != "" && app.LastStatus != ecs.StatusPending && a.proxy(a.task).HealthStatus != ecs.HealthHealthy {
			return fmt.Errorf("the application of %s is %s before Envoy is healthy", a.name, app.LastStatus)
		}
		s.out.line("%-*s has its certificate and listeners from Consul   %s after its start", s.nameWidth(), a.name, brief(a.envoy.Sub(a.proxy(a.task).StartedAt)))
	}
	s.out.aside("ECS runs Envoy's health check after 5 s; the applications wait for it …")
	return nil
}

// startApplications is T3.
func (s *story) startApplications(ctx context.Context) error {
	err := s.each(func(a *actor) (err error) {
		if a.gateway {
			return nil
		}
		a.task, err = s.lab.WaitTask(ctx, a.task, ecs.Task.Running)
		a.started = a.app(a.task).StartedAt
		return err
	})
	if err != nil {
		return err
	}
	s.chapter("T3", "Envoys healthy, applications started")
	for _, a := range s.cast {
		if a.gateway {
			continue
		}
		envoy := a.proxy(a.task)
		s.out.line("%-*s envoy %s, application started %s after Envoy", s.nameWidth(), a.name, envoy.HealthStatus, brief(a.started.Sub(envoy.StartedAt)))
	}
	s.out.aside("The next run of the health check will find the applications, and tell Consul …")
	return nil
}

// sendRequests is T4.
func (s *story) sendRequests(ctx context.Context) error {
	err := s.each(func(a *actor) error {
		tasks := tasksOf(s.apis)
		if service(a) == "web" {
			tasks = []ecs.Task{s.web.task, s.lost.task}
		}
		err := s.lab.WaitPassing(ctx, service(a), tasks...)
		a.passing = time.Now()
		return err
	})
	if err != nil {
		return err
	}
	if err := s.lab.WaitEndpoints(ctx, s.web.task, "api", tasksOf(s.apis)...); err != nil {
		return err
	}
	s.chapter("T4", "Consul says passing, requests flow")
	s.out.line("web-1 → api, %d requests a second from here on", requestsPerSecond)
	s.load = lab.StartLoad(ctx, s.web.task, requestsPerSecond)
	if err := pause(ctx, warmUp); err != nil {
		return err
	}
	requests := s.load.Requests()
	if err := noFailures(requests); err != nil {
		return err
	}
	for _, a := range s.apis {
		n := len(lab.AnsweredBy(requests, a.task))
		if n == 0 {
			return fmt.Errorf("%s answered none of %d requests", a.name, len(requests))
		}
		s.out.line("%-6s answered %d", a.name, n)
	}
	handshakes, err := s.handshakes(ctx, "api")
	if err != nil {
		return err
	}
	s.out.holds("%d requests, 0 failed, median %s; %d mutual TLS handshakes with api's Envoys", len(requests), median(requests), handshakes)
	return nil
}

// handshakes counts the TLS connections from web's Envoy to those of a service.
// A request that went around them would not.
func (s *story) handshakes(ctx context.Context, callee string) (int64, error) {
	stats, err := lab.EnvoyStats(ctx, s.web.task, `^cluster\.`+regexp.QuoteMeta(callee)+`\..*ssl\.handshake$`)
	if err != nil {
		return 0, err
	}
	var n int64
	for _, count := range stats {
		n += count
	}
	if n == 0 {
		return 0, fmt.Errorf("there was no TLS handshake between the Envoys of %s and %s", service(s.web), callee)
	}
	return n, nil
}

func (s *story) stopOne(ctx context.Context) error {
	leaving, staying := s.apis[0], s.apis[1]
	if err := s.watchStop(ctx, leaving, staying); err != nil {
		return err
	}
	if code := *leaving.app(leaving.task).ExitCode; code != 0 {
		return fmt.Errorf("the application exited with %d", code)
	}
	if err := pause(ctx, afterwards); err != nil {
		return err
	}
	requests := s.load.Requests()
	answered := lab.AnsweredBy(requests, leaving.task)
	s.stop.last = answered[len(answered)-1].End()
	if s.stop.last.Sub(s.stop.asked) > time.Second {
		return fmt.Errorf("%s answered requests until %s after its stop", leaving.name, brief(s.stop.last.Sub(s.stop.asked)))
	}
	since := slices.DeleteFunc(requests, func(r lab.Request) bool { return r.Start.Before(s.stop.asked) })
	if err := noFailures(since); err != nil {
		return err
	}
	var err error
	if leaving.task, err = s.lab.WaitTask(ctx, leaving.task, ecs.Task.Stopped); err != nil {
		return err
	}
	s.out.holds("%d requests since then, 0 failed; %s answered its last one at %s", len(since), leaving.name, after(s.stop.asked, s.stop.last))
	return nil
}

// watchStop stops one of a service's two tasks, and tells what becomes of it.
func (s *story) watchStop(ctx context.Context, leaving, staying *actor) error {
	s.chapter("", leaving.name+" is stopped while requests flow")
	s.stop.asked = time.Now()
	if err := leaving.of.Stop(leaving.task.TaskARN); err != nil {
		return err
	}
	if err := s.lab.WaitEndpoints(ctx, s.web.task, service(leaving), staying.task); err != nil {
		return err
	}
	s.stop.drained = time.Now()
	s.out.line("%8s  deregister-tasks has drained it: %s's Envoy sends nothing there any more", after(s.stop.asked, s.stop.drained), s.web.name)

	task, err := s.lab.WaitTask(ctx, leaving.task, func(t ecs.Task) bool { return !t.ExecutionStoppedAt.IsZero() })
	if err != nil {
		return err
	}
	leaving.task, s.stop.ended = task, task.ExecutionStoppedAt.Time
	app, envoy := leaving.app(task), leaving.proxy(task)
	if envoy.FinishedAt.Before(app.FinishedAt) {
		return fmt.Errorf("the application exited at %v, Envoy at %v", app.FinishedAt, envoy.FinishedAt)
	}
	s.out.line("%8s  the application has finished after SIGTERM, then Envoy has ended", after(s.stop.asked, s.stop.ended))

	if err := s.lab.WaitDeregistered(ctx, leaving.task); err != nil {
		return err
	}
	s.stop.deregistered = time.Now()
	s.out.line("%8s  ECS says STOPPED, the node is gone from Consul", after(s.stop.asked, s.stop.deregistered))
	return nil
}

// errLookedAround is the end of a story that is left where it was kept.
var errLookedAround = errors.New("the demo was kept and then stopped")

// lookAround waits for Ctrl-C with KEEP=1.
func (s *story) lookAround(ctx context.Context) error {
	if !s.keep {
		return nil
	}
	s.out.chapter("", "everything stays up until Ctrl-C")
	s.out.line("%-18s %s", "Consul's UI", s.lab.ConsulURL(s.servers[len(s.servers)-1].task)+"/ui/")
	if s.secure {
		s.out.line("%-18s %s", "its token", s.lab.ManagementTokenFile())
	}
	for _, a := range []*actor{s.web, s.apis[1]} {
		s.out.line("%-18s %s", "Envoy of "+a.name, lab.EnvoyAdminURL(a.task))
	}
	s.out.line("%-18s %s", "web", "curl "+lab.AppURL(s.web.task))
	s.out.line("%-18s %s", "logs", s.dir)
	if err := s.draw(); err != nil {
		return err
	}
	s.out.line("%-18s %s", "the picture", s.picture)
	<-ctx.Done()
	return errLookedAround
}

func (s *story) stopAll(ctx context.Context) error {
	s.chapter("", "everything stops")
	begun := time.Now()
	for _, a := range s.cast {
		if now, _ := s.lab.ECS.Task(a.task.TaskARN); now.DesiredStatus != ecs.StatusStopped {
			if err := a.of.Stop(a.task.TaskARN); err != nil {
				return err
			}
		}
	}
	if err := s.lab.WaitEmpty(ctx); err != nil {
		return err
	}
	empty := time.Now()
	services, err := s.lab.Services(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(services, []string{"consul"}) {
		return fmt.Errorf("services are left in the catalog: %v", services)
	}
	for _, a := range s.cast {
		if a.task, err = s.lab.WaitTask(ctx, a.task, ecs.Task.Stopped); err != nil {
			return err
		}
	}
	s.out.line("%8s  the tasks are stopped and deregistered", after(begun, empty))
	s.out.holds("the catalog is empty but for Consul itself")
	return nil
}

// each does something for all mesh tasks at once.
func (s *story) each(do func(*actor) error) error {
	faults := make([]error, len(s.cast))
	var all sync.WaitGroup
	for i, a := range s.cast {
		all.Go(func() { faults[i] = do(a) })
	}
	all.Wait()
	return errors.Join(faults...)
}

var instance = regexp.MustCompile(`-\d+$`)

// service is the name of the actor's service.
func service(a *actor) string { return instance.ReplaceAllString(a.name, "") }

// app is the application's container in a task.
func (a *actor) app(task ecs.Task) ecs.Container {
	return task.Container(cmp.Or(a.application, service(a)))
}

// proxy is the container that runs Envoy.
func (a *actor) proxy(task ecs.Task) ecs.Container {
	if dataplane := task.Container("consul-dataplane"); dataplane.Name != "" {
		return dataplane
	}
	return task.Container("envoy")
}

// nameWidth is that of the longest name.
func (s *story) nameWidth() int {
	width := len("web-1 ")
	for _, a := range s.cast {
		width = max(width, len(a.name))
	}
	return width
}

func tasksOf(actors []*actor) []ecs.Task {
	var tasks []ecs.Task
	for _, a := range actors {
		tasks = append(tasks, a.task)
	}
	return tasks
}

func shortNode(task ecs.Task) string { return mesh.NodeName(task.ID()[:8]) + "…" }

func join(addresses []netip.Addr) string {
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.String())
	}
	return strings.Join(texts, ",")
}

func after(from, to time.Time) string { return "+" + brief(to.Sub(from)) }

func noFailures(requests []lab.Request) error {
	failed := lab.Failures(requests)
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d requests failed, the first with: %w", len(failed), len(requests), failed[0].Err)
}

func median(requests []lab.Request) string {
	var took []time.Duration
	for _, r := range requests {
		took = append(took, r.Took)
	}
	slices.Sort(took)
	return fmt.Sprintf("%.1f ms", float64(took[len(took)/2].Microseconds())/1000)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
