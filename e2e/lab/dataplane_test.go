package lab_test

import (
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// TestTasksOfDataplane runs tasks whose Envoy knows nothing but what is in
// consul-dataplane's configuration, by the example and where nobody is trusted:
// one calls the other, until ECS stops it.
func TestTasksOfDataplane(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{Servers: 1, Secure: true})
	must(t, l.Allow(t.Context(), "frontend", "backend", api.IntentionActionAllow))
	back, front := l.CreateDataplane("backend", ""), l.CreateDataplane("frontend", "backend")
	callee, caller := launch(t, back), launch(t, front)
	must(t, l.WaitPassing(t.Context(), "backend", callee))
	must(t, l.WaitPassing(t.Context(), "frontend", caller))
	must(t, l.WaitEndpoints(t.Context(), caller, "backend", callee))
	awaitHealth(t, l, caller, api.HealthPassing)

	must(t, back.Stop(callee.TaskARN))
	must(t, l.WaitDeregistered(t.Context(), callee))
	_, err := l.WaitTask(t.Context(), callee, ecs.Task.Stopped)
	must(t, err)
}
