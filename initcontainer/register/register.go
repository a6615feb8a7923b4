// Package register is what the init container does when a task starts: it
// finds the Consul servers, registers the task, and leaves on the shared
// volume what Envoy and its health check need.
//
// It may be killed at any point and run again. Every step either replaces
// what the step before left, or repeats a write that Consul takes for the same.
package register

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
)

// DefaultDeadline is how long the servers, and then Consul, are waited for.
// It is meant for the first deployment of everything at once; ECS replaces
// the task afterwards.
const DefaultDeadline = 5 * time.Minute

const (
	// metadataDeadline bounds the wait for the metadata endpoint, which is
	// there before any container starts.
	metadataDeadline = 30 * time.Second
)

// Registrar registers one task.
type Registrar struct {
	Config   config.Config
	Metadata *taskmeta.Endpoint
	Binary   string // path of the running executable
	Deadline time.Duration
	Log      *slog.Logger
}

// Run registers the task. Its error is final: either trying again can't help,
// or the deadline is over.
func (r Registrar) Run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Deadline, fmt.Errorf("gave up after %s", r.Deadline))
	defer cancel()
	s, err := r.begin(ctx)
	if err != nil || s == nil {
		return err
	}
	defer s.name(&err)
	if r.Config.Topology == config.ClientAgent {
		s.useAgent()
	}
	redirect, err := r.transparent(ctx, s.task, s.address)
	if err != nil {
		return err
	}
	if s.Config, err = s.withPublicAddress(ctx); err != nil {
		return err
	}
	s.registered, err = registration.New(s.Config, s.task, s.address, time.Now())
	if err != nil {
		return err
	}
	// First what can fail without Consul: a task that can't start must not
	// be in the catalog.
	shared := volume.Volume(r.Config.BootstrapDir)
	if err := prepare(shared, r.Binary); err != nil {
		return err
	}
	if err := s.findSecrets(ctx); err != nil {
		return err
	}
	if err := s.tryPrivate(shared); err != nil {
		return err
	}
	if err := s.until(ctx, s.register); err != nil {
		return s.explain(err)
	}
	if err := s.writeFiles(shared); err != nil {
		return err
	}
	if err := redirect(ctx); err != nil {
		return err
	}
	s.Log.Info("registered", "service", s.registered.Instance().ID, "node", s.registered.Node(), "address", s.address, "datacenter", s.datacenter)
	return nil
}

// taskID is the field of all lines of a task's log, as the functions have it.
const taskID = "taskId"

// name has the error that ends the log say which task it is of.
func (s *session) name(err *error) {
	if *err != nil {
		*err = fmt.Errorf("%w (task %s)", *err, s.task.ARN.ID)
	}
}

// begin reads what ECS says of the task; nil is a task that is stopping.
func (r Registrar) begin(ctx context.Context) (*session, error) {
	task, err := r.readTask(ctx)
	if err == nil {
		r.Log = r.Log.With(taskID, task.ARN.ID)
	}
	for _, warning := range r.Config.Warnings {
		r.Log.Warn(warning)
	}
	if err != nil {
		return nil, err
	}
	if task.Stopping() {
		r.Log.Warn("the task is stopping; it is not registered", "task", task.TaskARN)
		return nil, nil
	}
	address, err := task.Address()
	if err != nil {
		return nil, err
	}
	// On EC2, a container's environment need not name the Region.
	sdk, err := discovery.AWS(task.ARN.Region)
	if err != nil {
		return nil, err
	}
	return &session{
		Registrar: r,
		sdk:       sdk,
		source: discovery.Source{
			Hosts:     r.Config.ConsulServers.Hosts,
			Parameter: r.Config.ConsulServers.Parameter,
			Region:    task.ARN.Region,
		},
		tokens:  r.tokens(task),
		task:    task,
		address: address,
	}, nil
}

// readTask reads the task metadata, again while the endpoint does not answer.
func (r Registrar) readTask(ctx context.Context) (taskmeta.Task, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, metadataDeadline, fmt.Errorf("gave up after %s", metadataDeadline))
	defer cancel()
	var task taskmeta.Task
	err := again(ctx, pauses(50*time.Millisecond, 2*time.Second), taskmeta.Permanent, func(ctx context.Context) (err error) {
		task, err = r.Metadata.Task(ctx)
		return err
	}, func(err error) { r.Log.Debug("task metadata not read yet", "error", err) })
	return task, err
}

func prepare(shared volume.Volume, binary string) error {
	if err := shared.Prepare(); err != nil {
		return err
	}
	return shared.CopyBinary(binary)
}
