package lab_test

import (
	"testing"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// TestClientAgents runs tasks that have a Consul client agent of their own, by
// the example: they call each other and tasks without one, until ECS stops them.
func TestClientAgents(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{Servers: 1})
	back, front := l.CreateClientAgent("backend", ""), l.CreateClientAgent("frontend", "backend")
	callee, caller := launch(t, back), launch(t, front)
	must(t, l.WaitPassing(t.Context(), "backend", callee))
	must(t, l.WaitPassing(t.Context(), "frontend", caller))
	must(t, l.WaitEndpoints(t.Context(), caller, "backend", callee))

	must(t, back.Stop(callee.TaskARN))
	must(t, l.WaitDeregistered(t.Context(), callee))
	_, err := l.WaitTask(t.Context(), callee, ecs.Task.Stopped)
	must(t, err)
}
