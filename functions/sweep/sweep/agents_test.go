package sweep

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
)

// Tasks with Consul agents are repaired as the others: the agent of a dead one
// is forgotten, one that lives is let be, and a drain by mistake taken back.
func TestTasksWithAgentsOnConsul(t *testing.T) {
	r := newRealMesh(t)
	nodes := r.Nodes.(*catalog.Catalog)
	nodes.ForceLeave = true
	agents := map[string]*consultest.Server{}
	dead, lives, drained := arnOf(apps, 1), arnOf(apps, 2), arnOf(apps, 3)
	for _, arn := range []string{dead, lives, drained} {
		agents[arn] = consultest.StartAgent(t, r.server, nodeOf(arn), map[string]string{
			mesh.MetaTaskARN: arn, mesh.MetaClusterARN: apps,
			mesh.MetaRegisteredAt: time.Now().Add(-time.Hour).UTC().Format(time.RFC3339),
		})
	}
	r.ecs.set(dead, "STOPPED", "STOPPED")
	r.ecs.set(lives, "RUNNING", "RUNNING")
	r.ecs.set(drained, "RUNNING", "RUNNING")
	r.drain(t, drained)
	agents[dead].Stop()
	server := "server-" + r.server.Addr.String()
	r.awaitMembers(t, map[string]int{nodeOf(dead): failed, nodeOf(lives): alive, nodeOf(drained): alive, server: alive})
	r.proxy.take()

	for range 2 {
		if err := r.Handle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]bool{nodeOf(lives): false, nodeOf(drained): false}, r.drained(t)); diff != "" {
			t.Errorf("nodes, and whether they are drained (-want +got):\n%s", diff)
		}
		r.awaitMembers(t, map[string]int{nodeOf(lives): alive, nodeOf(drained): alive, server: alive})
	}
	// One that was told to leave by mistake would come back by itself.
	told := slices.DeleteFunc(r.proxy.take(), func(request string) bool { return !strings.Contains(request, "/v1/agent/force-leave/") })
	if diff := cmp.Diff([]string{"PUT /v1/agent/force-leave/" + nodeOf(dead)}, told); diff != "" {
		t.Errorf("agents told to leave (-want +got):\n%s", diff)
	}
}

// States of an agent, by serf's numbers.
const (
	alive  = 1
	failed = 4
)

// awaitMembers waits for the agents' states: on a busy machine they take one for
// failed now and then, for a moment.
func (r *realMesh) awaitMembers(t *testing.T, want map[string]int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		diff := cmp.Diff(want, r.members(t))
		if diff == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("agents (-want +got):\n%s", diff)
		}
	}
}

// members are Consul's agents and their states.
func (r *realMesh) members(t *testing.T) map[string]int {
	t.Helper()
	members, err := r.client.Agent().Members(false)
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]int{}
	for _, member := range members {
		states[member.Name] = member.Status
	}
	return states
}
