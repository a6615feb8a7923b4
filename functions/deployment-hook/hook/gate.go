package hook

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

// maxObstacles is how many of them a reason names: it is a line in a log.
const maxObstacles = 3

// found is a task, and what Consul has of it.
type found struct {
	task       Task
	registered catalog.Registered
}

// gate waits for the new revision's tasks to pass in Consul.
func (h *Hook) gate(ctx context.Context, e event) verdict {
	deployment, err := h.Deployments.Deployment(ctx, e.Deployment)
	if err != nil {
		return failure(inECS, err)
	}
	revisions, err := h.Deployments.Revisions(ctx, e.Execution.Target)
	if err != nil {
		return failure(inECS, err)
	}
	tasks, err := h.Deployments.Tasks(ctx, e.cluster, e.service(), revisions[e.Execution.Target])
	if err != nil {
		return failure(inECS, err)
	}
	var nodes []string
	for _, task := range tasks {
		if task.InMesh && task.Running {
			nodes = append(nodes, mesh.NodeName(task.ID))
		}
	}
	registered, err := h.Nodes.Registered(ctx, nodes...)
	if err != nil {
		return failure(inConsul, err)
	}
	all := make([]found, len(tasks))
	for i, task := range tasks {
		all[i] = found{task, registered[mesh.NodeName(task.ID)]}
	}
	return judge(deployment, all)
}

// judge decides on a deployment by its tasks.
func judge(deployment Deployment, tasks []found) verdict {
	if deployment.Over() {
		return verdictf(Failed, "the deployment is %s, so there is nothing to wait for", deployment.Status)
	}
	if deployment.Wanted == 0 && len(tasks) == 0 {
		return verdictf(Succeeded, "the new revision is to have no tasks")
	}
	var obstacles []string
	if len(tasks) < deployment.Wanted {
		obstacles = append(obstacles, fmt.Sprintf("ECS has %d of %d tasks", len(tasks), deployment.Wanted))
	}
	inMesh := 0
	for _, f := range tasks {
		if f.task.InMesh {
			inMesh++
		}
		obstacles = append(obstacles, f.obstacles()...)
	}
	switch {
	case len(obstacles) == 0 && inMesh == 0:
		return verdictf(Succeeded, "none of the new revision's %d tasks is in the mesh: they have no container %s", len(tasks), mesh.InitContainer)
	case len(obstacles) == 0:
		return verdictf(Succeeded, "%d tasks pass in Consul", inMesh)
	case len(obstacles) > maxObstacles:
		obstacles = append(obstacles[:maxObstacles], fmt.Sprintf("and %d more", len(obstacles)-maxObstacles))
	}
	return verdict{status: InProgress, reason: strings.Join(obstacles, "; ")}
}

// obstacles are what a task doesn't pass for.
func (f found) obstacles() []string {
	switch {
	case !f.task.Running:
		return []string{fmt.Sprintf("task %s is %s", f.task.ID, f.task.Status)}
	case !f.task.InMesh:
		return nil
	case len(f.registered.Services) == 0:
		return []string{fmt.Sprintf("task %s is not registered in Consul", f.task.ID)}
	}
	var obstacles []string
	envoy := false
	for _, service := range f.registered.Services {
		envoy = envoy || service.Envoy
		// Each is registered with a check. Without, nothing is known of it; as where
		// the node went between the two reads, when the task stopped.
		if !slices.ContainsFunc(f.registered.Checks, func(c catalog.Check) bool { return c.ServiceID == service.ID }) {
			obstacles = append(obstacles, fmt.Sprintf("task %s: the service %s has no check in Consul", f.task.ID, service.ID))
		}
	}
	if !envoy {
		obstacles = append(obstacles, fmt.Sprintf("task %s has no Envoy registered in Consul", f.task.ID))
	}
	for _, check := range f.registered.Checks {
		if check.Status != api.HealthPassing {
			obstacles = append(obstacles, fmt.Sprintf("task %s: the check %s is %s: %s", f.task.ID, check.ID, check.Status, oneLine(check.Output)))
		}
	}
	return obstacles
}

// maxOutput is how much of a check's output a reason has, in bytes.
const maxOutput = 200

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxOutput {
		return strings.ToValidUTF8(text[:maxOutput], "") + "…"
	}
	return text
}
