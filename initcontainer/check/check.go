// Package check is the command of Envoy's container health check. ECS runs it
// every few seconds anyway, so it does what would otherwise take a helper
// process in every task: it tells ECS whether Envoy is ready, and Consul
// whether the service is healthy.
//
// ECS's answer never waits for Consul's. Once Envoy is ready the command exits
// with 0, whatever Consul does: a Consul outage must not restart tasks.
package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

// DefaultBudget is the time a run may take. ECS's health check timeout is 5 s
// by default; a run that ECS has to kill counts as a failure of Envoy.
const DefaultBudget = 4 * time.Second

// LeastBudget is the shortest time in which a run can do its work.
const LeastBudget = time.Second

const (
	// longestShare is the part of the budget that is kept for telling Consul,
	// and the most that it may take, where the budget is that long.
	longestShare = 1500 * time.Millisecond

	// consulAttempt lets a run reach another server after one that hangs.
	consulAttempt = 600 * time.Millisecond

	metadataTimeout = 500 * time.Millisecond
)

// Task is what a run has to know of its task. The init container leaves it on
// the shared volume, since Envoy's container has no configuration of ours.
type Task struct {
	Registration registration.Registration
	Checks       []config.Check // as in Registration.Service.Checks
	Envoy        Envoy
	Servers      []netip.Addr
	HTTPPort     int
}

// statuses are the checks as Consul knows them, by ID.
type statuses map[string]status

type status struct {
	Status string // passing, warning or critical
	Output string
}

// Run is one run of the command.
type Run struct {
	Volume volume.Volume
	Budget time.Duration // LeastBudget or longer

	// UntilPassing has the run fail, too, until Consul was told once that
	// the service passes. It is for the application's own health check: ECS
	// takes a new task for healthy, and stops an old one, only then.
	UntilPassing bool

	Getenv func(string) string
	Log    *slog.Logger
}

// Do probes Envoy and, unless another run is at it, brings Consul up to date.
// It returns an error while Envoy is not ready and, with UntilPassing, before
// the service passed for the first time. It returns within the budget, whatever hangs; the process has to exit then, since what
// hangs may go on behind it.
func (r Run) Do(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.Budget)
	defer cancel()
	probed := make(chan error, 1)
	synced := make(chan struct{})
	go func() {
		defer close(synced)
		r.run(ctx, probed)
	}()
	select {
	case <-synced:
	case <-ctx.Done():
		r.Log.Warn("the time for this run is over", "budget", r.Budget)
	}
	select {
	case err := <-probed:
		if err == nil && r.UntilPassing {
			return r.passed()
		}
		return err
	default:
		return fmt.Errorf("probe Envoy: no answer within %s", r.Budget)
	}
}

func (r Run) passed() error {
	if _, err := os.Stat(r.Volume.Passed()); err != nil {
		return fmt.Errorf("wait for the service: Consul was not told yet that it passes: %w", err)
	}
	return nil
}

func (r Run) run(ctx context.Context, probed chan<- error) {
	var task Task
	if err := volume.ReadJSON(r.Volume.Task(), &task); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("the task is not registered: %w; let the container ecsmesh-init run before Envoy's", err)
		}
		probed <- err
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
	if err != nil {
		r.Log.Error("health not synced", "error", err)
		return
	}
	if err := r.sync(ctx, task, ready); err != nil {
		r.Log.Error("health not synced", "error", err)
	}
}

// sync tells Consul what changed since it was last told.
func (r Run) sync(ctx context.Context, task Task, envoyReady error) error {
	known := r.known(task)
	service := r.probe(ctx, task.Checks)

	now := verdict(task.Registration, service, envoyReady)
	var changed api.HealthChecks
	for _, check := range task.Registration.Checks() {
		if now[check.CheckID] != known[check.CheckID] {
			check.Status, check.Output = now[check.CheckID].Status, now[check.CheckID].Output
			changed = append(changed, check)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if stopping, err := r.stopping(ctx); err != nil {
		// The drain is another check, which this write doesn't touch: it is
		// safe even if the task is stopping.
		r.Log.Warn("not known whether the task is stopping", "error", err)
	} else if stopping {
		r.Log.Info("the task is stopping; Consul is left as it is")
		return nil
	}
	// A write whose answer is lost may have been carried out. So nothing counts
	// as known to Consul from here on, until it has confirmed.
	if err := r.Volume.Remove(r.Volume.Checks()); err != nil {
		return err
	}
	// A Consul outage is not waited for: the next run is a few seconds away.
	ctx, cancel := context.WithTimeout(ctx, r.consulShare())
	defer cancel()
	if err := write(ctx, task, changed); err != nil {
		return err
	}
	for _, check := range changed {
		r.Log.Info("told Consul", "check", check.CheckID, "status", check.Status, "output", check.Output)
	}
	if now.passing(task.Registration) {
		if err := r.Volume.Write(r.Volume.Passed(), nil); err != nil {
			return err
		}
	}
	return r.Volume.WriteJSON(r.Volume.Checks(), now)
}

// consulShare is the part of the budget for telling Consul.
func (r Run) consulShare() time.Duration { return min(longestShare, r.Budget/3) }

// probe leaves enough of the budget for Consul, however slow the checks are.
func (r Run) probe(ctx context.Context, checks []config.Check) []status {
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-r.consulShare()))
		defer cancel()
	}
	return probeAll(ctx, checks)
}

// known is what Consul was told last: by an earlier run or, where that is not
// certain, what the registration said, which no run of a check ever finds.
func (r Run) known(task Task) statuses {
	known := statuses{}
	err := volume.ReadJSON(r.Volume.Checks(), &known)
	if err == nil {
		return known
	}
	if !errors.Is(err, fs.ErrNotExist) {
		// Told twice is harmless; not told is not.
		r.Log.Warn("telling Consul everything again", "error", err)
		return statuses{}
	}
	for _, check := range task.Registration.Checks() {
		known[check.CheckID] = status{check.Status, check.Output}
	}
	return known
}

func (r Run) stopping(ctx context.Context) (bool, error) {
	endpoint, err := taskmeta.FromEnvironment(r.Getenv)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTimeout)
	defer cancel()
	task, err := endpoint.Task(ctx)
	return task.Stopping(), err
}

// verdict decides what every check of the task is. Mesh traffic follows the
// sidecar's checks and not the service's, so the sidecar's is critical as long
// as any of the service's is.
func verdict(r registration.Registration, service []status, envoyReady error) statuses {
	now := statuses{}
	sidecar := status{api.HealthPassing, "Envoy is ready and the service is healthy"}
	for i, check := range r.Service.Checks {
		now[check.CheckID] = service[i]
		if service[i].Status == api.HealthCritical && sidecar.Status == api.HealthPassing {
			sidecar = status{api.HealthCritical, fmt.Sprintf("the service's check %q is critical: %s", check.Name, service[i].Output)}
		}
	}
	if envoyReady != nil {
		sidecar = status{api.HealthCritical, envoyReady.Error()}
	}
	for _, check := range r.Sidecar.Checks {
		now[check.CheckID] = sidecar
	}
	return now
}

// passing tells whether the task takes traffic.
func (s statuses) passing(r registration.Registration) bool {
	for _, check := range r.Sidecar.Checks {
		if s[check.CheckID].Status != api.HealthPassing {
			return false
		}
	}
	return true
}

// write sets checks in one transaction: all of them or, where the task's node
// or service is gone from the catalog, none. /v1/catalog/register would bring
// a node back that was deregistered because its task stopped.
func write(ctx context.Context, task Task, checks api.HealthChecks) error {
	servers, err := consul.NewServers(task.Servers, consul.Options{Port: task.HTTPPort, AttemptTimeout: consulAttempt})
	if err != nil {
		return err
	}
	var ops api.TxnOps
	for _, check := range checks {
		ops = append(ops, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: *check}})
	}
	return servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		var answer api.TxnResponse
		_, err := client.Raw().Write("/v1/txn", ops, &answer, (&api.WriteOptions{}).WithContext(ctx))
		var status api.StatusError
		if errors.As(err, &status) && status.Code == http.StatusConflict {
			return fmt.Errorf("set the checks of node %s: %w; is it still in the catalog? If not, replace the task", task.Registration.Service.Node, err)
		}
		if err != nil {
			return fmt.Errorf("set the checks of node %s: %w", task.Registration.Service.Node, err)
		}
		return nil
	})
}
