package catalog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

func undrain(node string, index uint64) Change {
	return Change{Node: node, Action: Undrain, Index: index}
}

// drained has the catalog drain a node and returns its DrainIndex.
func drained(t *testing.T, catalog *Catalog, node, reason string) uint64 {
	t.Helper()
	expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{{Node: node, Action: Drain, Reason: reason}}))
	return drainIndex(t, catalog, node)
}

func drainIndex(t *testing.T, catalog *Catalog, node string) uint64 {
	t.Helper()
	drains, err := catalog.drains(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return drains[node]
}

func TestUndrainOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	node := register(t, server.Client, "1a")
	index := drained(t, catalog, node, "by mistake")
	if takesTraffic(t, server.Client) {
		t.Fatal("the drained task takes traffic")
	}

	requests.calls = 0
	expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{undrain(node, index)}))
	if !takesTraffic(t, server.Client) {
		t.Error("the task takes no traffic")
	}
	if requests.calls != 1 {
		t.Errorf("it took %d requests, want 1", requests.calls)
	}
	t.Run("again", func(t *testing.T) {
		expectResults(t, []Result{{Stale: true}}, catalog.Apply(t.Context(), []Change{undrain(node, index)}))
	})
}

// Whoever touched the drain since it was read knows more.
func TestUndrainLeavesWhatHasChangedOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	var (
		again, gone, dead = register(t, server.Client, "1a"), register(t, server.Client, "2b"), register(t, server.Client, "3c")
		plain             = register(t, server.Client, "4d")
		changes           []Change
	)
	for _, node := range []string{again, gone, dead} {
		changes = append(changes, undrain(node, drained(t, catalog, node, "by mistake")))
	}
	changes = append(changes, undrain(plain, 7))

	// The first is stopping after all, the second was undrained, the third's
	// node was deleted; the fourth was never drained.
	newer := drained(t, catalog, again, "UserInitiated: Task stopped by user")
	expectResults(t, []Result{{}, {}}, catalog.Apply(t.Context(), []Change{changes[1], remove(dead)}))

	requests.calls = 0
	expectResults(t, []Result{{Stale: true}, {Stale: true}, {Stale: true}, {Stale: true}}, catalog.Apply(t.Context(), changes))
	if requests.calls != 2 {
		t.Errorf("it took %d requests, want the transaction and a list of drains", requests.calls)
	}
	if got := drainIndex(t, catalog, again); got != newer {
		t.Errorf("the newer drain has the index %d, want it untouched: %d", got, newer)
	}
	if diff := cmp.Diff([]string{again, gone, plain}, nodesOf(t, server.Client)); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

// All three actions share transactions, and a stale one costs no other.
func TestMixedChangesOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	var (
		changes []Change
		want    []Result
	)
	for n := range maxOperations {
		node := register(t, server.Client, fmt.Sprintf("%032x", n))
		switch n % 4 {
		case 0:
			changes, want = append(changes, drain(node)), append(want, Result{})
		case 1:
			changes, want = append(changes, remove(node)), append(want, Result{})
		case 2:
			changes, want = append(changes, undrain(node, drained(t, catalog, node, "by mistake"))), append(want, Result{})
		case 3:
			changes, want = append(changes, undrain(node, 1)), append(want, Result{Stale: true})
		}
	}
	requests.calls = 0
	expectResults(t, want, catalog.Apply(within(t, 20*time.Second), changes))
	if requests.calls != 3 {
		t.Errorf("it took %d requests, want the first try, the second, and a list of drains", requests.calls)
	}
	nodes, err := catalog.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stopping := 0
	for _, node := range nodes {
		if node.Drained() {
			stopping++
		}
	}
	if len(nodes) != maxOperations*3/4 || stopping != maxOperations/4 {
		t.Errorf("%d nodes are left, %d of them drained; want %d and %d", len(nodes), stopping, maxOperations*3/4, maxOperations/4)
	}
}

func TestRefusedUndrain(t *testing.T) {
	const applied = `{"Results":null,"Errors":null}`
	drains := fmt.Sprintf(`[{"Node":"ecs-a","CheckID":%q,"Status":"critical","ModifyIndex":7}]`, mesh.LifecycleCheckID)
	for name, test := range map[string]struct {
		consul standIn
		want   string // "" for Stale
	}{
		"though the drain is the same": {standIn{nodes: answer{200, drains}}, "undrain node ecs-a: Consul refused: disk on fire"},
		"and no drain is there":        {standIn{nodes: answer{200, `[]`}}, ""},
		"and the list is refused":      {standIn{nodes: answer{403, "Permission denied"}}, "unknown whether the drain is still the same: list drained nodes"},
		"and the list has gaps":        {standIn{nodes: answer{200, `[]`}, hidden: true}, "part of it is hidden by Consul's ACLs"},
	} {
		t.Run(name, func(t *testing.T) {
			test.consul.transactions = []answer{refusals("disk on fire", 0), {200, applied}}
			results := test.consul.start(t).Apply(within(t, 5*time.Second), []Change{undrain("ecs-a", 7), remove("ecs-b")})
			switch err := results[0].Err; {
			case test.want == "" && (err != nil || !results[0].Stale):
				t.Errorf("got %+v, want it stale", results[0])
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if results[1] != (Result{}) {
				t.Errorf("the other change: got %+v, want it done", results[1])
			}
		})
	}
}

// A change without an action must not become one by mistake.
func TestNoActionIsRefusedOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
	node := register(t, server.Client, "1a")
	results := catalog.Apply(t.Context(), []Change{{Node: node}})
	if results[0].Err == nil {
		t.Errorf("got %+v, want an error", results[0])
	}
	if !takesTraffic(t, server.Client) || len(checksOf(t, server.Client, node)) != 2 {
		t.Error("the node was changed")
	}
}

// The node of a task that is deregistered by another function at the same time.
func TestDeregisteredMeanwhileOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
	toDrain, toDelete, toUndrain := register(t, server.Client, "1a"), register(t, server.Client, "2b"), register(t, server.Client, "3c")
	index := drained(t, catalog, toUndrain, "by mistake")
	for _, node := range []string{toDrain, toDelete, toUndrain} {
		if _, err := server.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil); err != nil {
			t.Fatal(err)
		}
	}
	got := catalog.Apply(t.Context(), []Change{drain(toDrain), remove(toDelete), undrain(toUndrain, index)})
	expectResults(t, []Result{{Missing: true}, {}, {Stale: true}}, got)
	if nodes := nodesOf(t, server.Client); len(nodes) != 0 {
		t.Errorf("a late change brought back %v", nodes)
	}
}
