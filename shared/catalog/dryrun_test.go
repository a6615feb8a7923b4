package catalog

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// In a dry run Consul is asked, and stays as it is: so says its own index.
func TestDryRunChangesNothingInConsul(t *testing.T) {
	server := consultest.Start(t)
	register(t, server.Client, "1")
	catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
	catalog.Plan = dryrun.New(slog.New(slog.DiscardHandler))
	catalog.ForceLeave = true
	before := indexes(t, server.Client)
	results := catalog.Apply(within(t, 10*time.Second), []Change{
		{Node: mesh.NodeName("1"), Action: Drain, Reason: "it stops", Task: "arn:1"},
		{Node: mesh.NodeName("2"), Action: Drain},
		{Node: mesh.NodeName("3"), Action: Delete, Agent: true},
	})
	if diff := cmp.Diff([]Result{{Planned: true}, {Planned: true, Missing: true}, {Planned: true}}, results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, indexes(t, server.Client)); diff != "" {
		t.Errorf("Consul's indexes (-before +after):\n%s", diff)
	}
	plan := catalog.Plan.Take()
	const gone = "Consul has no such node, so nothing would change"
	want := []dryrun.Step{
		{Action: "drain", What: "Consul's node ecs-1", Why: "it stops", Task: "arn:1"},
		{Action: "drain", What: "Consul's node ecs-2", Note: gone},
		{Action: "delete", What: "Consul's node ecs-3", Note: gone},
	}
	if diff := cmp.Diff(want, plan.Would); diff != "" || len(plan.CouldNotRead) > 0 {
		t.Errorf("the plan (-want +got):\n%s%s", diff, plan.CouldNotRead)
	}
	if len(plan.Requests) != 1 || plan.Requests[0].Request != "PUT /v1/txn" {
		t.Fatalf("the requests are %+v, want one transaction", plan.Requests)
	}
	var operations []json.RawMessage
	if err := json.Unmarshal(plan.Requests[0].Body, &operations); err != nil || len(operations) != len(results) {
		t.Errorf("the transaction is %s (%v)", plan.Requests[0].Body, err)
	}
}

// indexes are Consul's of the last changes of nodes and checks, but for those of
// its own node, which it registers anew when it likes.
func indexes(t *testing.T, client *api.Client) map[string]uint64 {
	t.Helper()
	tasks := &api.QueryOptions{Filter: `Node matches "^ecs-"`}
	nodes, _, err := client.Catalog().Nodes(tasks)
	if err != nil {
		t.Fatal(err)
	}
	checks, _, err := client.Health().State(api.HealthAny, tasks)
	if err != nil {
		t.Fatal(err)
	}
	indexes := map[string]uint64{}
	for _, node := range nodes {
		indexes[node.Node] = node.ModifyIndex
	}
	for _, check := range checks {
		indexes[check.Node+" "+check.CheckID] = check.ModifyIndex
	}
	return indexes
}

func TestDryRunWithoutConsul(t *testing.T) {
	catalog := New(&counting{cutOff: errors.New("nobody there")})
	catalog.Plan = dryrun.New(slog.New(slog.DiscardHandler))
	results := catalog.Apply(t.Context(), []Change{{Node: "ecs-1", Action: Delete}})
	plan := catalog.Plan.Take()
	if !results[0].Planned || results[0].Err != nil || len(plan.Would) != 1 || len(plan.Requests) != 1 {
		t.Errorf("the result is %+v, the plan %+v", results[0], plan)
	}
	if len(plan.CouldNotRead) != 1 || !strings.HasSuffix(plan.CouldNotRead[0], "nobody there") {
		t.Errorf("it could not read %q", plan.CouldNotRead)
	}
}
