package catalog

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

const (
	taskARN    = "arn:aws:ecs:eu-west-1:123456789012:task/apps/f9811b73ac5d1a8db842634fc0f871e0"
	clusterARN = "arn:aws:ecs:eu-west-1:123456789012:cluster/apps"
)

func registerNode(t *testing.T, client *api.Client, node string, meta map[string]string) {
	t.Helper()
	if _, err := client.Catalog().Register(&api.CatalogRegistration{Node: node, Address: "10.0.12.87", NodeMeta: meta}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestNodesOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	meta := func(registeredAt string) map[string]string {
		return map[string]string{
			mesh.MetaSyntheticNode: "true", mesh.MetaTaskARN: taskARN, mesh.MetaClusterARN: clusterARN, mesh.MetaRegisteredAt: registeredAt,
		}
	}
	registerNode(t, server.Client, "ecs-a", meta("2025-11-04T15:03:27Z"))
	placed := meta("yesterday")
	placed[mesh.MetaVPCID], placed[mesh.MetaFamily], placed[mesh.MetaRevision] = "vpc-1", "api", "7"
	registerNode(t, server.Client, "ecs-b", placed)
	registerNode(t, server.Client, "ecs-c", map[string]string{mesh.MetaSyntheticNode: "true"})
	// None of these is a task's: a node with an agent, one of another kind
	// without, one whose name only looks alike.
	registerNode(t, server.Client, "ecs-d", meta("")) // made one of the mesh, then not
	registerNode(t, server.Client, "ecs-d", map[string]string{"env": "prod"})
	registerNode(t, server.Client, "rds-e", meta(""))
	registerNode(t, server.Client, "not-ecs-f", meta(""))

	index := drained(t, catalog, "ecs-b", "UserInitiated")
	drained(t, catalog, "rds-e", "not ours")
	for _, check := range []*api.HealthCheck{
		{Node: "ecs-a", CheckID: "disk", Name: "disk", Status: api.HealthCritical},
		{Node: "ecs-c", CheckID: mesh.LifecycleCheckID, Name: "drains nothing", Status: api.HealthPassing},
	} {
		if _, err := server.Client.Catalog().Register(&api.CatalogRegistration{Node: check.Node, Address: "10.0.12.87", SkipNodeUpdate: true, Check: &api.AgentCheck{
			Node: check.Node, CheckID: check.CheckID, Name: check.Name, Status: check.Status,
		}}, nil); err != nil {
			t.Fatal(err)
		}
	}

	requests.calls = 0
	got, err := catalog.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Node{
		{Name: "ecs-a", TaskARN: taskARN, ClusterARN: clusterARN, RegisteredAt: time.Date(2025, time.November, 4, 15, 3, 27, 0, time.UTC), Address: "10.0.12.87"},
		{Name: "ecs-b", TaskARN: taskARN, ClusterARN: clusterARN, Address: "10.0.12.87", VPCID: "vpc-1", Revision: "api:7", DrainIndex: index},
		{Name: "ecs-c", Address: "10.0.12.87"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if requests.calls != 2 {
		t.Errorf("it took %d reads, want 2", requests.calls)
	}

	t.Run("that cannot all be read", func(t *testing.T) {
		cutOff := errors.New("no Consul server answered")
		for answers, what := range []string{"list nodes", "list drained nodes"} {
			requests.calls, requests.answers, requests.cutOff = 0, answers, cutOff
			got, err := catalog.Nodes(t.Context())
			if got != nil || !errors.Is(err, cutOff) || !strings.HasPrefix(err.Error(), what) {
				t.Errorf("got %v, %v; want an error that begins with %q", got, err, what)
			}
		}
	})
}

func TestNodesOfAnEmptyMeshOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
	if got, err := catalog.Nodes(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v; want none", got, err)
	}
}

// A part of the nodes would pass for the whole.
func TestNodesHiddenByACLs(t *testing.T) {
	consul := standIn{nodes: answer{200, `[]`}, hidden: true}
	got, err := consul.start(t).Nodes(within(t, 5*time.Second))
	if got != nil || err == nil || !strings.Contains(err.Error(), "list nodes: part of it is hidden by Consul's ACLs") {
		t.Errorf("got %v, %v; want an error that says so", got, err)
	}
}

func TestNodesRefused(t *testing.T) {
	consul := standIn{nodes: answer{403, "Permission denied"}}
	if got, err := consul.start(t).Nodes(within(t, 5*time.Second)); got != nil || err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("got %v, %v; want Consul's refusal", got, err)
	}
}
