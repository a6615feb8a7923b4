package ecs

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Service starts, replaces and stops tasks of one kind the way ECS's service
// scheduler does. It does what it is told and no more: a task that ends by
// itself is not replaced.
type Service struct {
	fake       *Fake
	opts       ServiceOptions
	deployment string // "ecs-svc/…", the startedBy of its tasks

	mu    sync.Mutex
	tasks []string // ARNs, oldest first
}

// ServiceOptions describe a service.
type ServiceOptions struct {
	Name       string
	Cluster    string
	LaunchType string // FARGATE

	// Define returns the definition of a task that will have that address.
	Define func(ctx context.Context, address netip.Addr) (TaskDefinition, error)
}

// CreateService creates a service that has no tasks yet.
func (f *Fake) CreateService(opts ServiceOptions) *Service {
	n, _ := rand.Int(rand.Reader, big.NewInt(9e18)) // never fails
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clusters[opts.Cluster] = true
	f.services[opts.Cluster+"/"+opts.Name] = true
	return &Service{fake: f, opts: opts, deployment: fmt.Sprintf("ecs-svc/%019d", n)}
}

// Tasks returns the ARNs of the service's tasks, oldest first.
func (s *Service) Tasks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tasks)
}

// Define returns the definition of a task of the service that will have that
// address, for a task that is to differ from the service's.
func (s *Service) Define(ctx context.Context, address netip.Addr) (TaskDefinition, error) {
	return s.opts.Define(ctx, address)
}

// Launch starts one more task and returns it at once: PROVISIONING. Each
// change is made to its definition before.
func (s *Service) Launch(ctx context.Context, changes ...func(*TaskDefinition)) (Task, error) {
	address, err := s.fake.NewAddress()
	if err != nil {
		return Task{}, fmt.Errorf("launch a task of service %s: %w", s.opts.Name, err)
	}
	def, err := s.opts.Define(ctx, address)
	if err != nil {
		return Task{}, fmt.Errorf("launch a task of service %s: %w", s.opts.Name, err)
	}
	for _, change := range changes {
		change(&def)
	}
	t, err := s.fake.RunTask(def, TaskOptions{
		Cluster:    s.opts.Cluster,
		Group:      "service:" + s.opts.Name,
		StartedBy:  s.deployment,
		LaunchType: s.opts.LaunchType,
		Address:    address,
	})
	if err != nil {
		return Task{}, fmt.Errorf("launch a task of service %s: %w", s.opts.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks = append(s.tasks, t.TaskARN)
	return t, nil
}

// Stop stops one of the service's tasks, as when it is scaled in. It returns
// at once.
func (s *Service) Stop(arn string) error {
	s.mu.Lock()
	s.tasks = slices.DeleteFunc(s.tasks, func(t string) bool { return t == arn })
	s.mu.Unlock()
	return s.fake.stop(arn, StopCodeServiceSchedulerInitiated, "Scaling activity initiated by (deployment "+s.deployment+")")
}

// Replace starts a new task, waits until it is ready, stops the old one and
// waits for its end: one step of a rolling deployment. It returns the new
// task, to whose definition each change is made before.
func (s *Service) Replace(ctx context.Context, arn string, changes ...func(*TaskDefinition)) (Task, error) {
	fresh, err := s.Launch(ctx, changes...)
	if err != nil {
		return Task{}, err
	}
	if fresh, err = s.fake.Wait(ctx, fresh.TaskARN, Task.Ready); err != nil {
		return Task{}, fmt.Errorf("replace a task of service %s: %w", s.opts.Name, err)
	}
	if err := s.Stop(arn); err != nil {
		return Task{}, fmt.Errorf("replace a task of service %s: %w", s.opts.Name, err)
	}
	if _, err := s.fake.Wait(ctx, arn, Task.Stopped); err != nil {
		return Task{}, fmt.Errorf("replace a task of service %s: %w", s.opts.Name, err)
	}
	return fresh, nil
}

// service is the name of the task's service, if it has one.
func (t *task) service() (string, bool) { return strings.CutPrefix(t.opts.Group, "service:") }
