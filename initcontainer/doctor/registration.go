package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
)

// firstLook is until when Envoy's health check has run for the first time, at the
// latest, where Envoy is up; idle by how much it may be late.
const (
	firstLook = 5 * time.Minute
	idle      = 5 * time.Minute
)

func (e *examination) registration() {
	e.state()
	e.healthCheck()
	found := e.Registration
	if !found.Asked {
		if e.State.Task != nil {
			e.unknown("Consul was not asked: no server answered")
		}
		return
	}
	var denied api.StatusError
	switch {
	case found.Err == nil:
		e.catalog()
	case errors.As(found.Err, &denied) && denied.Code == http.StatusForbidden, errors.Is(found.Err, consul.ErrHidden):
		e.unknown("Consul doesn't let the token see it: %s", found.Err)
	default:
		e.unknown("%s", found.Err)
	}
	e.neighbours()
}

// state is about what the init container left.
func (e *examination) state() {
	found := e.State
	switch {
	case found.Missing:
		fact := fmt.Sprintf("there is no %s", e.Volume.Path.Task())
		for _, container := range e.Metadata.Task.Containers {
			if container.Name == initContainerName && container.ExitCode != nil {
				fact += fmt.Sprintf("; the container %s ended with exit code %d", container.Name, *container.ExitCode)
			}
		}
		e.wrong(StateMissing, fact, initContainer+"; what it needs, and what of that is missing now, is said by: ecsmesh-init doctor, as the command of that container")
	case errors.Is(found.Err, fs.ErrPermission):
		e.unknown("this user may not read what the init container left: run this as root")
	case found.Err != nil:
		e.wrong(StateUnusable, found.Err.Error(), "replace the task; if that doesn't help, have all containers mount the same volume, at the same path as bootstrapDir, and the images be of one version")
	case e.ofAnother():
		e.wrong(StateUnusable, fmt.Sprintf("it registered the node %s, and this is the task %s", found.Task.Registration.Sidecar.Node, e.Metadata.Task.ARN.ID),
			"give each task a volume of its own: one of the task definition without a path on the host, without docker's scope shared, and no file system that tasks have in common")
	}
}

// ofAnother tells whether another task wrote what the init container left.
func (e *examination) ofAnother() bool {
	r := e.registered()
	return r != nil && r.Sidecar.Node != "" && e.Metadata.Known() && r.Sidecar.Node != mesh.NodeName(e.Metadata.Task.ARN.ID)
}

// initContainerName is what ecsmesh's rules of events look for, too.
const initContainerName = "ecsmesh-init"

// healthCheck is about whether somebody looks after the task.
func (e *examination) healthCheck() {
	if e.State.Task == nil || e.Envoy == nil || e.Envoy.Err != nil || e.State.MemoryErr != nil {
		return // it runs in Envoy's container
	}
	const do = "have the container health check of Envoy's container be CMD <bootstrapDir>/bin/ecsmesh-init check, as in examples/mesh-tasks.yaml, and see its user may write to the volume"
	due, began := e.State.Memory.LookAt, mesh.RegisteredAt(e.State.Task.Registration.Sidecar.NodeMeta)
	switch {
	case !due.IsZero() && e.Now.Sub(due) > idle:
		e.wrong(HealthCheckIdle, "it was to look after the task "+e.ago(due), do)
	case due.IsZero() && !began.IsZero() && e.Now.Sub(began) > firstLook && e.State.Memory.ToldAt.IsZero() && e.State.Task.Agent == nil:
		e.wrong(HealthCheckIdle, "it has not run since the task registered "+e.ago(began), do)
	}
}

// catalog is about what Consul has of the task.
func (e *examination) catalog() {
	found := e.Registration
	if e.State.Task == nil {
		if found.Found.Node != nil {
			e.ok("Consul has a node of this task, by an earlier run of the init container")
		}
		return
	}
	const again = "check registers it again within a few minutes, if ECS wants the task to run. If it goes again, see who deregisters it: the sweep's log names the tasks that it removes"
	switch {
	case e.Metadata.Known() && e.Metadata.Task.Stopping() && found.Gone:
		e.ok("it is out of the catalog, as a stopping task should be")
		return
	case found.Gone:
		e.wrong(TaskUnregistered, found.Damage, again)
		return
	case found.Damage != "":
		e.wrong(RegistrationDamaged, found.Damage, "check mends it within a few minutes; if it doesn't last, see who else writes to this node")
	default:
		e.ok("Consul has the node %s with %d services, as registered", found.Found.Node.Node, len(found.Found.Services))
	}
	if at := slices.IndexFunc(found.Found.Checks, func(check *api.HealthCheck) bool { return check.CheckID == mesh.LifecycleCheckID }); at >= 0 {
		e.wrong(Drained, fmt.Sprintf("its node has the check %s: %s", mesh.LifecycleCheckID, found.Found.Checks[at].Output),
			"nothing, if ECS is stopping it. The sweep takes the drain of a running task back within five minutes; see whether it runs, and what it logs of this task")
	}
	for _, check := range found.Found.Checks {
		if check.CheckID != mesh.LifecycleCheckID && check.Status == api.HealthCritical && !e.own(check) {
			e.wrong(Drained, fmt.Sprintf("Consul has the check %q of it (%s), which is not ecsmesh's, as critical: %s", check.Name, check.CheckID, check.Output),
				"have it removed or passing by whoever writes it: a person with consul maint, consul-esm, or another program. Until then the task gets no requests, whatever its own checks say")
		}
	}
	e.told()
}

// own tells whether a check is one that the task registered.
func (e *examination) own(check *api.HealthCheck) bool {
	return slices.ContainsFunc(e.State.Task.Registration.Checks(), func(own *api.HealthCheck) bool { return own.CheckID == check.CheckID })
}

// told compares what Consul was told with what is so.
func (e *examination) told() {
	differ := ""
	for _, check := range e.Registration.Found.Checks {
		switch {
		case !e.own(check) || check.Status == api.HealthPassing:
		case e.healthy():
			differ = fmt.Sprintf("the check %q is %s in Consul (%s), and passes here", check.Name, check.Status, check.Output)
		default:
			e.ok("Consul has the check %q as %s: %s", check.Name, check.Status, check.Output)
		}
	}
	if differ != "" {
		e.wrong(ConsulUntold, differ, "wait for the next run of Envoy's container health check; if that doesn't help, see its log, and whether the token may write the task's checks")
	}
}

// healthy tells whether nothing within the task keeps its checks from passing.
func (e *examination) healthy() bool {
	if e.Envoy == nil || e.Envoy.Err != nil || e.Envoy.ListenerErr != nil || !e.Envoy.Live() {
		return false
	}
	if e.State.Memory.ToldAt.IsZero() && e.Application.Err != nil {
		return false
	}
	for _, result := range e.Application.Results {
		if result.Status != api.HealthPassing {
			return false
		}
	}
	return true
}

func (e *examination) neighbours() {
	for _, other := range e.Registration.Neighbours {
		if other.Distant {
			e.ok("the node %s has the same address, in another VPC", other.Node)
			continue
		}
		fact := fmt.Sprintf("the node %s has it, too", other.Node)
		if !other.Since.IsZero() {
			fact += ", since " + e.ago(other.Since)
		}
		e.wrong(AddressTaken, fact, fmt.Sprintf("see whether its task still runs (%s): the sweep removes a dead one within five minutes. ECS gives an address to one task at a time, so if that one lives, this one has lost its address: replace it", other.TaskARN))
	}
	if err := e.Registration.NeighboursErr; err != nil && e.Registration.Err == nil {
		e.unknown("%s", err)
	}
}
