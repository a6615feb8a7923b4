package model

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"ecsmesh/functions/deregister-tasks/deregister"
	"ecsmesh/functions/sweep/sweep"
	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/publisher"

	"github.com/aws/aws-lambda-go/events"
	"github.com/hashicorp/consul/api"
)

// invokeDeregister hands a batch to deregister-tasks. When it has ended, SQS
// does with the messages what the answer says.
func (m *model) invokeDeregister(f *front, messages []*message) {
	p := &process{name: "deregister-tasks", front: f, concerns: []string{"of its messages"}}
	for _, msg := range messages {
		msg.receives++
		m.note("deregister-tasks gets %s: %s", msg.id, msg.about())
		if msg.task != nil {
			p.concerns = append(p.concerns, msg.task.id)
		}
	}
	handler := deregister.New(catalog.New(m.servers(f)), m.metrics, m.logOf(p))
	payload := json.RawMessage(m.encode(batch(messages)))
	var (
		answer any
		err    error
	)
	m.start(p, func(ctx context.Context) {
		answer, err = handler.Handle(ctx, payload)
	}, func() {
		// A function whose time is over can still answer; one that is killed
		// can't.
		if p.killed && m.chance(50) {
			m.receiveAgain(messages)
			return
		}
		m.receiveAgain(m.judgeAnswer(p, messages, answer, err))
	})
}

// receiveAgain puts messages back into the queue, those that were tried too
// often into the dead-letter queue.
func (m *model) receiveAgain(messages []*message) {
	for _, msg := range messages {
		if msg.receives < mostReceives {
			m.queue = append(m.queue, msg)
		}
	}
}

// published has nothing to publish: in the model there is one Consul server.
type published struct{}

func (published) Publish(context.Context) error { return nil }

// Lists is for reports, for which nobody asks here.
func (published) Lists(context.Context) publisher.Lists { return publisher.Lists{} }

// brake is tight, since in the model there are not many tasks.
var brake = sweep.Brake{MaxTasks: 4, MaxPercent: 30}

// invokeSweep runs the sweep. With an override it is the operator's, who has
// looked and found that the tasks are gone.
func (m *model) invokeSweep(override bool) {
	payload := json.RawMessage(`{"source": "aws.scheduler"}`)
	if override {
		payload = json.RawMessage(`{"maxDeletes": 1000}`)
	}
	p := &process{name: "sweep", front: m.sweeper}
	swept := &sweep.Sweep{
		Publisher: published{},
		Nodes:     catalog.New(m.servers(p.front)),
		Tasks:     sweep.NewECS(&describe{m: m, p: p, asked: map[string]time.Time{}}),
		Region:    region,
		Brake:     brake,
		Metrics:   m.metrics,
		Log:       m.logOf(p),
		Pause:     time.Nanosecond, // see describe
		Calls:     1,               // the model lets one thing happen at a time
		Now:       m.clock,
	}
	m.start(p, func(ctx context.Context) {
		// An error is there for people; what it didn't do, the catalog shows.
		_ = swept.Handle(ctx, payload)
	}, func() {
		if !override {
			m.judgeBrake(p)
		}
	})
}

// initialize runs the task's init container: the same steps as the package
// register's, on the model's clock.
func (m *model) initialize(t *task) {
	p := &process{name: "init of " + t.id, task: t, front: t.front, concerns: []string{t.id}}
	var (
		done bool
		err  error
	)
	m.start(p, func(ctx context.Context) {
		done, err = m.register(ctx, p)
	}, func() {
		if err != nil {
			m.noteOf(p, "failed: %v", err)
		}
		if m.calm && !done {
			m.violated(t.id, "the init container failed, though nothing was in its way: %v", err)
		}
		t.initialized = t.initialized || done && err == nil
	})
}

func (m *model) register(ctx context.Context, p *process) (done bool, err error) {
	t := p.task
	endpoint, err := taskmeta.FromEnvironment(m.environment(t))
	if err != nil {
		return false, err
	}
	meta, err := endpoint.Task(ctx)
	if err != nil || meta.Stopping() {
		return false, err
	}
	address, err := meta.Address()
	if err != nil {
		return false, err
	}
	cfg, err := config.Read(m.environment(t))
	if err != nil {
		return false, err
	}
	registered, err := registration.New(cfg, meta, address, m.clock())
	if err != nil {
		return false, err
	}
	if err := t.volume.Prepare(); err != nil {
		return false, err
	}
	err = m.servers(p.front).Do(ctx, func(ctx context.Context, client *api.Client) error {
		if _, err := registered.RemoveStale(ctx, client); err != nil {
			return err
		}
		_, err := registered.Write(ctx, client)
		return err
	})
	if err != nil {
		return false, err
	}
	if f := p.ask(&call{process: p, what: "writes its files"}, m.over); f != carryOut {
		return false, ctx.Err()
	}
	if err := t.volume.Remove(t.volume.Checks(), t.volume.Passed(), t.volume.Upkeep()); err != nil {
		return false, err
	}
	ready := m.envoyAndApps.Listener.Addr().String()
	return true, t.volume.WriteJSON(t.volume.Task(), check.Task{
		Registration: registered,
		Checks:       cfg.Service.Checks,
		Envoy:        check.Envoy{Admin: ready, PublicListener: ready},
		Servers:      p.front.addrs(),
		Source:       discovery.Source{Hosts: cfg.ConsulServers.Hosts},
		HTTPPort:     cfg.ConsulServers.HTTP.Port,
		GRPCPort:     cfg.ConsulServers.GRPC.Port,
	})
}

// environment is the environment of the task's containers.
func (m *model) environment(t *task) func(string) string {
	document := fmt.Sprintf(`{
		"consulServers": {"hosts": %q, "defaults": {"tls": false}, "http": {"port": %d}, "grpc": {"port": 1}},
		"service": {"name": %q, "port": 8080, "checks": [{"name": "http", "http": %q, "timeout": "2s"}]}
	}`, t.front.addr.Addr(), t.front.addr.Port(), t.service, m.envoyAndApps.URL+"/"+t.id)
	variables := map[string]string{
		taskmeta.Variable: m.metadata.URL + "/" + t.id,
		config.Variable:   document,
	}
	return func(name string) string { return variables[name] }
}

// runCheck runs the health check of the task's Envoy.
func (m *model) runCheck(t *task) {
	p := &process{name: "check of " + t.id, task: t, front: t.front, concerns: []string{t.id}}
	run := check.Run{
		Volume:  t.volume,
		Budget:  time.Minute,
		Refresh: check.LeastRefresh, // see tick
		Getenv:  m.environment(t),
		Log:     m.logOf(p),
		Now:     m.clock,
	}
	var err error
	m.start(p, func(ctx context.Context) {
		err = run.Do(ctx)
		waitForTheRest(t.volume)
	}, func() {
		switch {
		case p.killed:
		case err != nil: // Envoy is always ready
			m.violated(t.id, "%s failed: %v", p.name, err)
		case !p.faulty:
			m.judgeCheck(p)
		}
	})
}

// waitForTheRest waits until nothing is left of a check's run that was killed.
// A real one's process is gone at once, with the lock that it held.
func waitForTheRest(v volume.Volume) {
	lock, err := os.Open(v.Lock())
	if err != nil {
		return // there is no rest either
	}
	defer lock.Close()
	_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
}

// newVolume is a shared volume for a task.
func (m *model) newVolume(id string) volume.Volume {
	return volume.Volume(filepath.Join(m.folder, id))
}

// reported are the IDs of the messages that an answer reports as failed.
func reported(answer any) (map[string]bool, error) {
	response, ok := answer.(events.SQSEventResponse)
	if !ok || response.BatchItemFailures == nil {
		return nil, fmt.Errorf("the answer is %T %+v, want a list of failures", answer, answer)
	}
	failed := map[string]bool{}
	for _, failure := range response.BatchItemFailures {
		failed[failure.ItemIdentifier] = true
	}
	return failed, nil
}
