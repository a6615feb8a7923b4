// Package check is the command of Envoy's container health check. ECS runs it
// every few seconds anyway, so it does what would otherwise take a helper
// process in every task: it tells ECS whether Envoy is ready, and Consul
// whether the service is healthy, and now and then it looks after the task's
// registration and Envoy's list of the Consul servers.
//
// ECS's answer never waits for Consul's. Once Envoy is ready the command exits
// with 0, whatever Consul does: a Consul outage must not restart tasks.
package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/token"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
)

const (
	// DefaultBudget is the time a run may take. ECS's health check timeout is
	// 5 s by default; a run that ECS has to kill counts as a failure of Envoy.
	DefaultBudget = 4 * time.Second

	// LeastBudget is the shortest time in which a run can do its work.
	LeastBudget = time.Second

	// DefaultRefresh is how often a task looks after its registration and
	// its list of servers: three reads of Consul.
	DefaultRefresh = time.Minute

	// LeastRefresh is for small meshes. With N tasks whose Consul is gone, SSM
	// is read N times in four refreshes.
	LeastRefresh = time.Second
)

const metadataTimeout = 500 * time.Millisecond

// Task is what a run has to know of its task. The init container leaves it on
// the shared volume, since Envoy's container has no configuration of ours.
type Task struct {
	Registration registration.Registration
	Checks       []config.Check // as the first in Registration.Service.Checks
	Containers   []string       // whose health is told to Consul, as the others there
	Envoy        Envoy
	Servers      []netip.Addr     // as they were when the task registered
	Source       discovery.Source // of the servers that followed
	HTTPPort     int
	GRPCPort     int
	TLS          *consul.TLS `json:",omitempty"` // of the HTTP interface

	// Agent is set in the topology client-agent: the one server is the task's
	// own agent then, which runs the checks.
	Agent *Agent `json:",omitempty"`

	// Token is set where there are ACLs. The token itself is in Envoy's file.
	Token *Token `json:",omitempty"`

	// Private tells that the checks are not here but in a file that only
	// Envoy's user may read: their requests carry headers or a body.
	Private bool `json:",omitempty"`
}

// Token says how the task keeps its ACL token fresh.
type Token struct {
	Source  token.Source `json:",omitzero"` // none, where somebody gave the init container a token
	RenewAt time.Time    `json:",omitzero"` // zero: when Consul no longer knows it
}

// Run is one run of the command.
type Run struct {
	Volume  volume.Volume
	Budget  time.Duration // LeastBudget or longer
	Refresh time.Duration // LeastRefresh or longer; 0 is DefaultRefresh

	// UntilPassing has the run fail, too, until Consul was told once that
	// the service passes. It is for the application's own health check: ECS
	// takes a new task for healthy, and stops an old one, only then.
	UntilPassing bool

	Getenv func(string) string
	Log    *slog.Logger
	Now    func() time.Time // nil is time.Now
}

// Do probes Envoy and, unless another run is at it, brings Consul up to date.
// It returns an error while Envoy is not ready and, with UntilPassing, before
// the service passed for the first time. It returns within the budget,
// whatever hangs; the process has to exit then, since what hangs may go on
// behind it.
func (r Run) Do(ctx context.Context) error {
	r.Refresh = cmp.Or(r.Refresh, DefaultRefresh)
	if r.Now == nil {
		r.Now = time.Now
	}
	ctx, cancel := context.WithTimeout(ctx, r.Budget)
	defer cancel()
	own := r.ownContainer(ctx)
	probed := make(chan error, 1)
	named := make(chan *slog.Logger, 1)
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		r.run(ctx, named, probed)
	}()
	select {
	case <-synced:
	case <-ctx.Done():
		select {
		case r.Log = <-named:
		default: // what hangs is the volume
		}
		r.Log.Warn("the time for this run is over", "budget", r.Budget)
	}
	select {
	case err := <-probed:
		if err == nil && r.UntilPassing {
			return r.passed(ctx, own)
		}
		return err
	default:
		return fmt.Errorf("probe Envoy: no answer within %s", r.Budget)
	}
}

// run hands over the log that names the task, as soon as it is known, and what
// the probe of Envoy found.
func (r Run) run(ctx context.Context, named chan<- *slog.Logger, probed chan<- error) {
	task, err := r.task()
	if err != nil {
		probed <- err
		return
	}
	// The field is that of the functions' logs.
	r.Log = r.Log.With("taskId", strings.TrimPrefix(task.Registration.Node(), mesh.NodePrefix))
	named <- r.Log
	if r.UntilPassing && !r.maySync(task) {
		// Envoy's health check sees to Consul, and remembers what it told.
		probed <- task.Envoy.Ready(ctx)
		return
	}
	// Before anything is looked at: what one run saw must not overwrite what
	// another saw later.
	unlock, err := r.Volume.TryLock()
	if err == nil {
		defer unlock()
	}
	ready := task.Envoy.Ready(ctx)
	probed <- ready
	if errors.Is(err, volume.ErrLocked) {
		r.Log.Debug("another run is at work")
		return
	}
	switch {
	case err != nil:
	case task.Agent != nil:
		err = r.leaveToAgent(ctx, task)
	default:
		err = r.sync(ctx, task, ready)
	}
	if err != nil {
		r.Log.Error("health not synced", "error", err)
	}
}

func (r Run) task() (Task, error) { return ReadTask(r.Volume) }

// ReadTask reads what the init container left on the volume. Where there is
// nothing, the error is fs.ErrNotExist.
func ReadTask(shared volume.Volume) (Task, error) {
	var task Task
	err := volume.ReadJSON(shared.Task(), &task)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the task is not registered: %w; let the container ecsmesh-init run before Envoy's", err)
	}
	if err == nil && !task.whole() {
		err = fmt.Errorf("read %s: it is not what the container ecsmesh-init wrote; replace the task", shared.Task())
	}
	return task, err
}

// maySync tells whether this container's user may do what Envoy's may.
func (r Run) maySync(task Task) bool {
	return r.Volume.Writable() &&
		(task.Token == nil || volume.Readable(r.Volume.LiveToken())) &&
		(!task.Private || volume.Readable(r.Volume.Requests()))
}

// whole tells whether the parts are there, and fit each other.
func (t Task) whole() bool {
	service, sidecar := t.Registration.Service, t.Registration.Sidecar
	return sidecar.Service != nil && (service.Service != nil || len(service.Checks) == 0) &&
		len(service.Checks) == len(t.Checks)+len(t.Containers) &&
		!slices.Contains(service.Checks, nil) && !slices.Contains(sidecar.Checks, nil)
}

// sync looks at the service and at Envoy, and brings Consul up to date.
func (r Run) sync(ctx context.Context, task Task, envoyReady error) error {
	if err := r.readRequests(&task); err != nil {
		return err
	}
	metadata := r.metadata(ctx)
	told := r.told()
	now := verdict(task.Registration, r.look(ctx, task, told.statuses, metadata), envoyReady)
	return r.newSync(task, metadata).bring(ctx, told, now)
}

// readRequests completes the checks by what only Envoy's user may read of them.
func (r Run) readRequests(task *Task) error {
	if !task.Private {
		return nil
	}
	names := len(task.Checks)
	if err := volume.ReadJSON(r.Volume.Requests(), &task.Checks); err != nil {
		return fmt.Errorf("read the service's checks: %w; they belong to Envoy's user, which proxy.uid names", err)
	}
	if len(task.Checks) != names {
		return fmt.Errorf("read %s: it is not what the container ecsmesh-init wrote; replace the task", r.Volume.Requests())
	}
	return nil
}

// look runs the service's checks and reads its containers' health, in the order
// of the registration's checks. What can't be known stays empty.
func (r Run) look(ctx context.Context, task Task, told statuses, metadata func() (taskmeta.Task, error)) []status {
	found := r.probe(ctx, task.Checks)
	if len(task.Containers) == 0 {
		return found
	}
	meta, err := metadata()
	if err == nil {
		return append(found, containersHealth(task.Containers, meta)...)
	}
	// Not known is not unhealthy: what Consul was told last goes on.
	r.Log.Warn("health of the containers not known", "error", err)
	for _, check := range task.Registration.Service.Checks[len(task.Checks):] {
		found = append(found, told[check.CheckID])
	}
	return found
}

// probe leaves enough of the budget for Consul, however slow the checks are.
func (r Run) probe(ctx context.Context, checks []config.Check) []status {
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-r.consulShare()))
		defer cancel()
	}
	return probeAll(ctx, checks)
}

// metadata reads what ECS says of the task when it is first needed, and
// remembers it for the run.
func (r Run) metadata(ctx context.Context) func() (taskmeta.Task, error) {
	var (
		task taskmeta.Task
		err  error
		read bool
	)
	return func() (taskmeta.Task, error) {
		if !read {
			task, err = r.readMetadata(ctx)
			read = true
		}
		return task, err
	}
}

func (r Run) readMetadata(ctx context.Context) (taskmeta.Task, error) {
	endpoint, err := taskmeta.FromEnvironment(r.Getenv)
	if err != nil {
		return taskmeta.Task{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	return endpoint.Task(ctx)
}

// memory is what Consul was told last. It is certain only where Consul has
// confirmed it, and nothing was told since.
type memory struct {
	statuses
	certain bool
}

// told remembers what earlier runs told Consul.
func (r Run) told() memory {
	if !r.Volume.Writable() {
		// Nothing of what is told from here on can be remembered.
		r.Log.Warn("asking Consul at every run what it was told: the shared volume can't be written to", "volume", string(r.Volume))
		return memory{}
	}
	told := statuses{}
	err := volume.ReadJSON(r.Volume.Checks(), &told)
	switch {
	case err == nil:
		return memory{told, true}
	case !errors.Is(err, fs.ErrNotExist):
		r.Log.Warn("asking Consul what it was told", "error", err)
	}
	return memory{}
}

// ownContainer finds out, beside all else, in which container this runs, where
// that matters: for UntilPassing, before the service passed.
func (r Run) ownContainer(ctx context.Context) <-chan string {
	own := make(chan string, 1)
	if _, err := os.Stat(r.Volume.Passed()); err == nil || !r.UntilPassing {
		close(own)
		return own
	}
	go func() {
		defer close(own)
		endpoint, err := taskmeta.FromEnvironment(r.Getenv)
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
		defer cancel()
		if name, err := endpoint.ContainerName(ctx); err == nil {
			own <- name
		}
	}()
	return own
}

// passed returns nil once Consul was told that the service passes.
func (r Run) passed(ctx context.Context, own <-chan string) error {
	if _, err := os.Stat(r.Volume.Passed()); err == nil {
		return nil
	}
	waiting := errors.New("wait for the service: Consul was not told yet that it passes")
	task, err := r.task()
	if err != nil {
		return err
	}
	// Where the service waits for this very container to be healthy, neither
	// may wait for the other: all but the container has to pass.
	if len(task.Containers) == 0 {
		return waiting
	}
	var name string
	select {
	case name = <-own: // "" if it is not known
	case <-ctx.Done():
	}
	told := statuses{}
	if !slices.Contains(task.Containers, name) || volume.ReadJSON(r.Volume.Checks(), &told) != nil {
		return waiting
	}
	service := task.Registration.Service
	for _, check := range service.Checks {
		found := told[check.CheckID].Status
		if check.CheckID != mesh.CheckID(service.Service.ID, name) && found != api.HealthPassing && found != api.HealthWarning {
			return waiting
		}
	}
	return nil
}
