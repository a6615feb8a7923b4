package check

import (
	"fmt"
	"slices"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
)

// status is what a check found. Where nobody knows, it is empty.
type status struct {
	Status string // passing, warning or critical
	Output string
}

// statuses are the task's checks by ID.
type statuses map[string]status

func statusesOf(checks api.HealthChecks) statuses {
	all := statuses{}
	for _, check := range checks {
		all[check.CheckID] = status{check.Status, check.Output}
	}
	return all
}

// containersHealth is what ECS says of containers, with the meaning that
// consul-ecs gives it: only a container that ECS calls healthy passes.
func containersHealth(names []string, task taskmeta.Task) []status {
	found := make([]status, len(names))
	for i, name := range names {
		at := slices.IndexFunc(task.Containers, func(c taskmeta.Container) bool { return c.Name == name })
		switch {
		case at < 0:
			found[i] = status{api.HealthCritical, fmt.Sprintf("container %s: the task has no such container, or it has not started", name)}
		case task.Containers[at].Health == nil:
			found[i] = status{api.HealthCritical, fmt.Sprintf("container %s: it has no health check in the task definition", name)}
		case task.Containers[at].Health.Status == taskmeta.Healthy:
			found[i] = status{api.HealthPassing, fmt.Sprintf("container %s: HEALTHY", name)}
		default:
			found[i] = status{api.HealthCritical, shorten(fmt.Sprintf("container %s: %s", name, task.Containers[at].Health.Status))}
		}
	}
	return found
}

// verdict decides what every check of the task is. Mesh traffic follows the
// sidecar's checks and not the service's, so the sidecar's is critical as long
// as any of the service's is, and not known while none is and one is not known.
// Of a gateway, only Envoy counts.
func verdict(r registration.Registration, service []status, envoyReady error) statuses {
	now := statuses{}
	sidecar := status{api.HealthPassing, "Envoy is ready and the service is healthy"}
	if r.Service.Service == nil {
		sidecar.Output = "Envoy is ready"
	}
	for i, check := range r.Service.Checks {
		found := service[i]
		if found.Status != "" {
			now[check.CheckID] = found
		}
		switch {
		case sidecar.Status == api.HealthCritical:
		case found.Status == api.HealthCritical:
			sidecar = status{api.HealthCritical, shorten(fmt.Sprintf("the service's check %q is critical: %s", check.Name, found.Output))}
		case found.Status == "":
			sidecar = status{}
		}
	}
	if envoyReady != nil {
		sidecar = status{api.HealthCritical, shorten(envoyReady.Error())}
	}
	for _, check := range r.Sidecar.Checks {
		if sidecar.Status != "" {
			now[check.CheckID] = sidecar
		}
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

// changed are the task's checks that are known and differ from what was told.
func (s statuses) changed(r registration.Registration, told statuses) api.HealthChecks {
	var changed api.HealthChecks
	for _, check := range r.Checks() {
		now, known := s[check.CheckID]
		if known && now != told[check.CheckID] {
			copied := *check
			copied.Status, copied.Output = now.Status, now.Output
			changed = append(changed, &copied)
		}
	}
	return changed
}

// in is the registration with its checks as they are.
func (s statuses) in(r registration.Registration) registration.Registration {
	set := func(checks api.HealthChecks) api.HealthChecks {
		var all api.HealthChecks
		for _, check := range checks {
			copied := *check
			if now, known := s[check.CheckID]; known {
				copied.Status, copied.Output = now.Status, now.Output
			}
			all = append(all, &copied)
		}
		return all
	}
	r.Service.Checks, r.Sidecar.Checks = set(r.Service.Checks), set(r.Sidecar.Checks)
	return r
}
