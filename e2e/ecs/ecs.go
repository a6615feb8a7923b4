// Package ecs is a small ECS for one host. It runs the containers of a task
// definition as processes and keeps to what ECS promises about them: the
// order in which containers start and stop, health checks, SIGTERM and later
// SIGKILL, the states of a task, the event at each change of state, the task
// metadata endpoint, and the answers of the API.
//
// Where a host differs from ECS:
//
//   - A container's file system is the host's. A volume is a folder of the
//     task, and its containerPath is replaced by that folder in the
//     container's command line, environment and health check.
//   - A task has no network namespace but a loopback address of its own.
//     What would be 127.0.0.1 inside a task must be that address instead:
//     the task definition says so itself, by a parameter for instance.
//   - The metadata and credentials endpoints are not at 169.254.170.2, so
//     containers get AWS_CONTAINER_CREDENTIALS_FULL_URI in place of
//     AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.
package ecs

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options configures a Fake. The zero value of a field stands for the default
// that its comment names.
type Options struct {
	// Dir holds a folder for each task: logs, and volumes while it lives.
	Dir string

	// Listener is where the API, the metadata and the credentials are served:
	// by default a free port of 127.0.0.1. The Fake closes it.
	Listener net.Listener

	// Addresses are given to tasks, from the first on, each once.
	Addresses netip.Prefix

	// Images maps a task definition's image to what it is on this host.
	Images map[string]Image

	// Environment is added to every container's: the lab's own endpoints.
	Environment map[string]string

	// Events gets every "ECS Task State Change", those of one task in their
	// order, those of different tasks side by side.
	Events func(context.Context, Event)

	// Credentials answers for the credentials endpoint: the role's temporary
	// credentials. By default fixed ones, which an emulator takes.
	Credentials func(ctx context.Context, roleARN, sessionName string) (Credentials, error)

	// Secret has the value of a secret, fetched with the task's execution role.
	// By default there are none, and a container that wants one can't start.
	Secret func(ctx context.Context, executionRoleARN, valueFrom string) (string, error)

	// Deprovisioning is the time between the exit of a task's last container
	// and STOPPED: in Fargate about 22 seconds, here none by default.
	Deprovisioning time.Duration

	// Second is how long a second of a task definition lasts: of intervals,
	// timeouts and periods. A real one by default; tests shorten it.
	Second time.Duration

	Region  string // us-east-1
	Account string // 000000000000
	VPC     string // vpc-0ec5
}

// Image is what a container image is on this host.
type Image struct {
	Entrypoint []string // the program and its first arguments
	Command    []string // where the task definition has no command
	Path       string   // PATH in the container
}

// Credentials are a task role's temporary credentials.
type Credentials struct {
	AccessKeyID, SecretAccessKey, Token string
	Expiration                          time.Time
}

// Fake is a running ECS.
type Fake struct {
	opts     Options
	url      string
	server   *http.Server
	launcher *launcher
	faults   faults

	// ctx ends when the Fake closes; everything that waits ends with it.
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards what follows, and the state in every task
	byARN    map[string]*task
	order    []*task
	clusters map[string]bool
	services map[string]bool // cluster/service

	revisions   map[string]ServiceRevision   // by their ARNs
	deployments map[string]ServiceDeployment // by their ARNs

	next   netip.Addr
	closed bool
}

var errClosed = errors.New("ECS is closed")

// Start starts a Fake. Close ends it.
func Start(opts Options) (*Fake, error) {
	opts.Region = cmp.Or(opts.Region, "us-east-1")
	opts.Account = cmp.Or(opts.Account, "000000000000")
	opts.VPC = cmp.Or(opts.VPC, "vpc-0ec5")
	opts.Second = cmp.Or(opts.Second, time.Second)
	if opts.Events == nil {
		opts.Events = func(context.Context, Event) {}
	}
	if opts.Credentials == nil {
		opts.Credentials = fixedCredentials
	}
	if opts.Secret == nil {
		opts.Secret = func(context.Context, string, string) (string, error) {
			return "", errors.New("there are no secrets here")
		}
	}
	if !opts.Addresses.IsValid() {
		opts.Addresses = netip.MustParsePrefix("127.0.1.0/24")
	}
	if opts.Listener == nil {
		var err error
		if opts.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("start ECS: %w", err)
		}
	}
	f := &Fake{
		opts:        opts,
		url:         "http://" + opts.Listener.Addr().String(),
		launcher:    newLauncher(),
		byARN:       map[string]*task{},
		clusters:    map[string]bool{},
		services:    map[string]bool{},
		revisions:   map[string]ServiceRevision{},
		deployments: map[string]ServiceDeployment{},
		next:        opts.Addresses.Addr(),
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.server = &http.Server{Handler: f.handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = f.server.Serve(opts.Listener) }()
	return f, nil
}

// URL is the endpoint of the API.
func (f *Fake) URL() string { return f.url }

// Close kills all containers, emits no further events, and returns when
// nothing of the Fake runs any more. Closing it again does nothing.
func (f *Fake) Close() error {
	f.mu.Lock()
	again := f.closed
	f.closed = true
	f.cancel() // under the lock: no task starts from here on
	f.mu.Unlock()
	f.tasks.Wait()
	if again {
		return nil
	}
	f.launcher.close()
	if err := f.server.Close(); err != nil {
		return fmt.Errorf("close ECS: %w", err)
	}
	return nil
}

// CreateCluster makes a cluster known that has no tasks yet.
func (f *Fake) CreateCluster(name string) (arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clusters[name] = true
	return f.arn("cluster/" + name)
}

// NewAddress takes the next free address out of the block, for a task whose
// definition must know it.
func (f *Fake) NewAddress() (netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = f.next.Next()
	if bytes := f.next.As4(); bytes[3] == 255 {
		f.next = f.next.Next().Next() // neither .255 nor .0
	}
	if !f.opts.Addresses.Contains(f.next) {
		return netip.Addr{}, fmt.Errorf("assign an address: %s is used up", f.opts.Addresses)
	}
	return f.next, nil
}

// TaskOptions are RunTask's. The zero value of a field stands for the default
// that its comment names.
type TaskOptions struct {
	Cluster    string     // "default"
	Group      string     // "family:FAMILY"
	StartedBy  string     // empty
	LaunchType string     // FARGATE
	Address    netip.Addr // NewAddress
}

// RunTask starts a task and returns it as ECS does: PROVISIONING.
func (f *Fake) RunTask(def TaskDefinition, opts TaskOptions) (Task, error) {
	if err := def.Validate(); err != nil {
		return Task{}, fmt.Errorf("run task: %w", err)
	}
	opts.Cluster = cmp.Or(opts.Cluster, "default")
	opts.Group = cmp.Or(opts.Group, "family:"+def.Family)
	opts.LaunchType = cmp.Or(opts.LaunchType, LaunchTypeFargate)
	if !opts.Address.IsValid() {
		var err error
		if opts.Address, err = f.NewAddress(); err != nil {
			return Task{}, fmt.Errorf("run task: %w", err)
		}
	}
	t, err := newTask(f, def, opts)
	if err != nil {
		return Task{}, fmt.Errorf("run task: %w", err)
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil {
		return Task{}, fmt.Errorf("run task: %w", errClosed)
	}
	f.clusters[opts.Cluster] = true
	if service, ok := strings.CutPrefix(opts.Group, "service:"); ok {
		f.services[opts.Cluster+"/"+service] = true
	}
	f.byARN[t.arn] = t
	f.order = append(f.order, t)
	f.tasks.Go(t.run)
	f.tasks.Go(t.emit)
	t.advance(StatusProvisioning)
	return t.describe(), nil
}

// StopTask asks for a task's end, as the API call of that name does: it
// returns at once. A task that is stopping already stays as it is.
func (f *Fake) StopTask(arn, reason string) error {
	return f.stop(arn, StopCodeUserInitiated, cmp.Or(reason, "Task stopped by user"))
}

func (f *Fake) stop(arn string, code StopCode, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.byARN[arn]
	if t == nil {
		return fmt.Errorf("stop task %s: no such task", arn)
	}
	t.requestStop(code, reason)
	return nil
}

// Signal sends a signal to a running container's process: a fault, of which
// ECS knows nothing.
func (f *Fake) Signal(arn, container string, signal syscall.Signal) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.byARN[arn]; t != nil {
		for _, c := range t.containers {
			if c.def.Name == container && c.process != nil {
				return syscall.Kill(-c.process.pid, signal)
			}
		}
	}
	return fmt.Errorf("signal container %s of task %s: it does not run", container, arn)
}

// Forget drops a stopped task, as ECS does about an hour after its end: it is
// MISSING from then on.
func (f *Fake) Forget(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.byARN[arn]; t != nil && t.lastStatus == StatusStopped {
		delete(f.byARN, arn)
		f.order = slices.DeleteFunc(f.order, func(o *task) bool { return o == t })
	}
}

// Task returns a task as DescribeTasks does.
func (f *Fake) Task(arn string) (Task, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.byARN[arn]
	if t == nil {
		return Task{}, false
	}
	return t.describe(), true
}

// Tasks returns all tasks, in the order of their start.
func (f *Fake) Tasks() []Task {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Task
	for _, t := range f.order {
		all = append(all, t.describe())
	}
	return all
}

// TaskDir is the task's folder, with a log for each container, NAME.log, and
// for each health check, NAME.health.log.
func (f *Fake) TaskDir(task Task) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.byARN[task.TaskARN]; t != nil {
		return t.dir
	}
	return ""
}

// Wait returns the task as soon as done holds for it, and an error with its
// last state when ctx ends first. A task that stops while something else is
// waited for is an error at once.
func (f *Fake) Wait(ctx context.Context, arn string, done func(Task) bool) (Task, error) {
	f.mu.Lock()
	t := f.byARN[arn]
	f.mu.Unlock()
	if t == nil {
		return Task{}, fmt.Errorf("wait for task %s: no such task", arn)
	}
	var last Task
	stopped := false
	err := t.await(ctx, func() bool {
		last = t.describe()
		stopped = !done(last) && last.LastStatus == StatusStopped
		return stopped || done(last)
	})
	switch {
	case err != nil:
		return last, fmt.Errorf("wait for task %s: %w (it is %s)", arn, err, last.Summary())
	case stopped:
		return last, fmt.Errorf("wait for task %s: it is %s", arn, last.Summary())
	}
	return last, nil
}

func (f *Fake) arn(resource string) string {
	return "arn:aws:ecs:" + f.opts.Region + ":" + f.opts.Account + ":" + resource
}

// last is how long a duration of a task definition lasts here.
func (f *Fake) last(d time.Duration) time.Duration {
	return time.Duration(d.Seconds() * float64(f.opts.Second))
}

func fixedCredentials(context.Context, string, string) (Credentials, error) {
	return Credentials{AccessKeyID: "test", SecretAccessKey: "test", Token: "test", Expiration: time.Now().Add(6 * time.Hour)}, nil
}

// newID returns 32 hexadecimal digits, the form of a task's ID.
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

// newUUID returns an ID in the form that containers, attachments and events
// have.
func newUUID() string {
	id := newID()
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}
