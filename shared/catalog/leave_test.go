package catalog

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

// startAgent runs the agent of a task, and returns what has it end.
func startAgent(t *testing.T, server *consultest.Server, taskID string) (node string, agent *consultest.Server) {
	t.Helper()
	node = mesh.NodeName(taskID)
	return node, consultest.StartAgent(t, server, node, map[string]string{
		mesh.MetaTaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/apps/" + taskID, mesh.MetaRegisteredAt: time.Now().UTC().Format(time.RFC3339),
	})
}

// memberStatus is serf's: 1 is alive, 3 left, 4 failed; 0 is unknown.
func memberStatus(t *testing.T, client *api.Client, node string) int {
	t.Helper()
	members, err := client.Agent().Members(false)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range members {
		if member.Name == node {
			return member.Status
		}
	}
	return 0
}

func awaitMember(t *testing.T, client *api.Client, node string, statuses ...int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !slices.Contains(statuses, memberStatus(t, client, node)); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("member %s has the status %d, want one of %v", node, memberStatus(t, client, node), statuses)
		}
	}
}

func TestAgentsOfDeadTasksOnConsul(t *testing.T) {
	server := consultest.Start(t)
	live, _ := startAgent(t, server, "0a")
	for name, test := range map[string]struct {
		end     func(t *testing.T, node string, agent *consultest.Server)
		members []int // serf's statuses that it may have then
	}{
		"killed": {func(t *testing.T, node string, agent *consultest.Server) {
			agent.Stop()
			awaitMember(t, server.Client, node, 4)
		}, []int{0}},
		"killed, which Consul has not noticed": {func(_ *testing.T, _ string, agent *consultest.Server) { agent.Freeze() }, []int{0, 2, 3}},
		"left":                                 {func(_ *testing.T, _ string, agent *consultest.Server) { agent.Leave() }, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			node, agent := startAgent(t, server, fmt.Sprintf("%x", name))
			catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
			catalog.ForceLeave = true
			test.end(t, node, agent)
			for range 2 { // delivered twice
				began := time.Now()
				expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{{Node: node, Action: Delete, Agent: true}}))
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("it took %s", took)
				}
				if nodes := nodesOf(t, server.Client); !slices.Equal(nodes, []string{live}) {
					t.Errorf("the nodes are %v", nodes)
				}
			}
			awaitMember(t, server.Client, node, test.members...)
			time.Sleep(2 * time.Second) // for the leader to bring it back
			if nodes := nodesOf(t, server.Client); !slices.Equal(nodes, []string{live}) {
				t.Errorf("later the nodes are %v", nodes)
			}
		})
	}
	t.Run("that never were", func(t *testing.T) {
		catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
		catalog.ForceLeave = true
		expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{{Node: "ecs-none", Action: Delete, Agent: true}}))
	})
	t.Run("of other topologies cost nothing", func(t *testing.T) {
		catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
		catalog.ForceLeave = true
		expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{{Node: "ecs-none", Action: Delete}}))
		if requests.calls != 1 {
			t.Errorf("it took %d requests, want 1", requests.calls)
		}
	})
	awaitMember(t, server.Client, live, 1) // a busy one is taken for failed for a moment
}

// Whatever keeps agents from leaving, drains don't wait for it, and the nodes are
// deleted in time.
func TestNothingWaitsForAgentsOnConsul(t *testing.T) {
	server := consultest.Start(t)
	stops, gone := register(t, server.Client, "1a"), register(t, server.Client, "2b")
	var asked atomic.Int32
	way := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: net.JoinHostPort(server.Addr.String(), strconv.Itoa(consultest.HTTPPort))})
	}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/agent/members" {
			way.ServeHTTP(w, r)
			return
		}
		if asked.Add(1) == 1 && checksOf(t, server.Client, stops).AggregatedStatus() != api.HealthCritical {
			t.Error("the drain waits for the agents")
		}
		http.Error(w, "not now", http.StatusInternalServerError)
	}))
	t.Cleanup(front.Close)
	at := netip.MustParseAddrPort(front.Listener.Addr().String())
	catalog, _ := newCatalog(t, at.Addr(), int(at.Port()))
	catalog.ForceLeave = true

	results := catalog.Apply(within(t, 8*time.Second), []Change{{Node: gone, Action: Delete, Agent: true}, drain(stops)})
	if results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "force agent "+gone+" to leave") || results[1].Err != nil {
		t.Errorf("the results are %+v", results)
	}
	if nodes := nodesOf(t, server.Client); !slices.Equal(nodes, []string{stops}) {
		t.Errorf("the nodes are %v", nodes)
	}
}

// Nodes of agents are the mesh's as those without, and can be drained.
func TestNodesOfAgentsOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
	node, _ := startAgent(t, server, "1a")
	register(t, server.Client, "2b")
	expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{drain(node)}))
	nodes, err := catalog.Nodes(t.Context())
	if err != nil || len(nodes) != 2 || nodes[0].Name != node || !nodes[0].Agent || !nodes[0].Drained() || nodes[0].RegisteredAt.IsZero() || nodes[1].Agent {
		t.Fatalf("the nodes are %+v, %v", nodes, err)
	}
	expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{{Node: node, Action: Undrain, Index: nodes[0].DrainIndex}}))
	if status := checksOf(t, server.Client, node).AggregatedStatus(); status != api.HealthPassing {
		t.Errorf("the node is %s", status)
	}
}
