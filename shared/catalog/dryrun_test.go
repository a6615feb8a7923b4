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
	before := index(t, server.Client)
	results := catalog.Apply(within(t, 10*time.Second), []Change{
		{Node: mesh.NodeName("1"), Action: Drain, Reason: "it stops", Task: "arn:1"},
		{Node: mesh.NodeName("2"), Action: Drain},
		{Node: mesh.NodeName("3"), Action: Delete, Agent: true},
	})
	if diff := cmp.Diff([]Result{{Planned: true}, {Planned: true, Missing: true}, {Planned: true}}, results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if after := index(t, server.Client); after != before {
		t.Errorf("Consul's index went from %d to %d", before, after)
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

// index is Consul's, of the last change of nodes and checks.
func index(t *testing.T, client *api.Client) uint64 {
	t.Helper()
	_, nodes, err := client.Catalog().Nodes(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, checks, err := client.Health().State(api.HealthAny, nil)
	if err != nil {
		t.Fatal(err)
	}
	return max(nodes.LastIndex, checks.LastIndex)
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
