package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/functiontest"
	"ecsmesh/functions/sweep/sweep"
	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// The tasks of TestInALockedDownConsul, in the emulator's account and Region.
const (
	arns   = "arn:aws:ecs:" + emulator.Region + ":" + emulator.AccountID + ":"
	gone   = "f9811b73ac5d1a8db842634fc0f871e0"
	stops  = "c4719afa76fa448b5eca99e673688584"
	stays  = "13029f9e83d15b3d437c2a7568fc1ca7"
	unseen = "10.0.0.1" // where there is no server
)

// startECS describes these tasks.
func startECS(t *testing.T) string {
	t.Helper()
	describe := func(id, last, desired string) string {
		return `{"taskArn":"` + arns + "task/apps/" + id + `","lastStatus":"` + last + `","desiredStatus":"` + desired + `"}`
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ListTasks") {
			_, _ = w.Write([]byte(`{"taskArns":["` + arns + `task/apps/` + stays + `"]}`))
			return
		}
		_, _ = w.Write([]byte(`{"failures":[],"tasks":[` + strings.Join([]string{
			describe(gone, "STOPPED", "STOPPED"), describe(stops, "RUNNING", "STOPPED"), describe(stays, "RUNNING", "RUNNING"),
		}, ",") + `]}`))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// register enters tasks an hour ago; the one that stays is drained by mistake.
func register(t *testing.T, client *api.Client) {
	t.Helper()
	for _, id := range []string{gone, stops, stays} {
		registration := &api.CatalogRegistration{Node: "ecs-" + id, Address: "10.0.12.87", NodeMeta: map[string]string{
			mesh.MetaSyntheticNode: "true",
			mesh.MetaTaskARN:       arns + "task/apps/" + id,
			mesh.MetaClusterARN:    arns + "cluster/apps",
			mesh.MetaRegisteredAt:  time.Now().Add(-time.Hour).Format(time.RFC3339),
		}, Service: &api.AgentService{ID: "api-" + id, Service: "api"}, Checks: api.HealthChecks{
			{Node: "ecs-" + id, CheckID: "tcp", Name: "tcp", ServiceID: "api-" + id, Status: api.HealthCritical},
		}}
		if id == stays {
			registration.Checks = append(registration.Checks, &api.HealthCheck{
				Node: "ecs-" + id, CheckID: mesh.LifecycleCheckID, Name: mesh.LifecycleCheckName, Status: api.HealthCritical,
			})
		}
		if _, err := client.Catalog().Register(registration, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// drained has the tasks' nodes, and whether they are drained.
func drained(t *testing.T, client *api.Client) map[string]bool {
	t.Helper()
	nodes, _, err := client.Catalog().Nodes(&api.QueryOptions{Filter: `Node matches "^ecs-"`})
	if err != nil {
		t.Fatal(err)
	}
	drained := map[string]bool{}
	for _, node := range nodes {
		checks, _, err := client.Health().Node(node.Node, &api.QueryOptions{Filter: `CheckID == "` + mesh.LifecycleCheckID + `"`})
		if err != nil {
			t.Fatal(err)
		}
		drained[strings.TrimPrefix(node.Node, "ecs-")] = len(checks) > 0
	}
	return drained
}

// sweepWith runs the function with seeds, so that it asks Consul for both of its
// tasks.
func sweepWith(t *testing.T, rules string) (*functiontest.World, error) {
	t.Helper()
	w := functiontest.Start(t, rules, startECS(t))
	w.Variables["CONSUL_SEED_ADDRESSES"] = w.Consul.Addr.String()
	w.Publish(t, functiontest.ServersParameter, unseen)
	register(t, w.Consul.Client)
	_, err := functiontest.Handler(t, w, wire)(t.Context(), nil)
	return w, err
}

// TestInALockedDownConsul has the rights that setup-acl gives this function.
func TestInALockedDownConsul(t *testing.T) {
	w, err := sweepWith(t, `node_prefix "" { policy = "read" } service_prefix "" { policy = "read" } node_prefix "ecs-" { policy = "write" }`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{stops: true, stays: false}, drained(t, w.Consul.Client)); diff != "" {
		t.Errorf("nodes and drains (-want +got):\n%s\n%s", diff, w.Log)
	}
	if tokens := w.Tokens(t); len(tokens) != 1 {
		t.Errorf("it holds %d tokens, want 1 for seeds and servers", len(tokens))
	}
}

// TestReport needs no rights to write, and changes nothing, the list of servers
// included, which is wrong.
func TestReport(t *testing.T) {
	w := functiontest.Start(t, `node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }`, startECS(t))
	w.Variables["CONSUL_SEED_ADDRESSES"] = w.Consul.Addr.String()
	w.Publish(t, functiontest.ServersParameter, unseen+","+w.Consul.Addr.String())
	register(t, w.Consul.Client)
	answer, err := functiontest.Handler(t, w, wire)(t.Context(), json.RawMessage(`{"report": true}`))
	if err != nil {
		t.Fatal(err)
	}
	report := answer.(sweep.Report)
	kinds := map[string]sweep.Kind{}
	for _, d := range report.Differences {
		if d.Difference != sweep.AddressTwice { // which all three have
			kinds[strings.TrimPrefix(d.Node, "ecs-")] = d.Difference
		}
	}
	if diff := cmp.Diff(map[string]sweep.Kind{gone: sweep.DeadRegistered, stops: sweep.StoppingUndrained, stays: sweep.RunningDrained}, kinds); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	servers := "it has " + unseen + ", " + w.Consul.Addr.String() + ", and they are " + w.Consul.Addr.String() + "; 1 of 2 answer, not " + unseen + "."
	if !strings.Contains(report.Summary, servers) || len(report.Unanswered) > 0 {
		t.Errorf("the summary is %q, want %q; unanswered: %q", report.Summary, servers, report.Unanswered)
	}
	if diff := cmp.Diff(map[string]bool{gone: false, stops: false, stays: true}, drained(t, w.Consul.Client)); diff != "" {
		t.Errorf("nodes and drains (-want +got):\n%s", diff)
	}
	again, err := functiontest.Handler(t, w, wire)(t.Context(), json.RawMessage(`{"report": true}`))
	if err != nil || !strings.Contains(again.(sweep.Report).Summary, servers) {
		t.Errorf("the second report differs: %+v, %v", again, err)
	}
}

// TestWithoutRightsToWrite must say so.
func TestWithoutRightsToWrite(t *testing.T) {
	w, err := sweepWith(t, `node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }`)
	if err == nil || !strings.Contains(err.Error(), "3 of 3 changes were not made") || !strings.Contains(err.Error(), "Permission denied") {
		t.Errorf("got %v, want an error that says why nothing was done", err)
	}
	if diff := cmp.Diff(map[string]bool{gone: false, stops: false, stays: true}, drained(t, w.Consul.Client)); diff != "" {
		t.Errorf("nodes and drains (-want +got):\n%s", diff)
	}
}

// TestWhatConsulECSHasStays has a dead task of consul-ecs, whose controller sees to
// it: it is on a node of that one's, which has all tasks of a cluster.
func TestWhatConsulECSHasStays(t *testing.T) {
	w := functiontest.Start(t, `node_prefix "" { policy = "read" } service_prefix "" { policy = "read" } node_prefix "ecs-" { policy = "write" }`, startECS(t))
	w.Variables["CONSUL_SEED_ADDRESSES"] = w.Consul.Addr.String()
	w.Publish(t, functiontest.ServersParameter, unseen)
	theirs := &api.CatalogRegistration{Node: arns + "cluster/apps", Address: "127.0.0.2", NodeMeta: map[string]string{mesh.MetaSyntheticNode: "true"}, Service: &api.AgentService{
		ID: "api-" + gone, Service: "api", Address: "10.0.12.87", Meta: map[string]string{"task-id": gone, "task-arn": arns + "task/apps/" + gone, "source": "consul-ecs"},
	}}
	if _, err := w.Consul.Client.Catalog().Register(theirs, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := functiontest.Handler(t, w, wire)(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	left, _, err := w.Consul.Client.Catalog().Service("api", "", nil)
	if err != nil || len(left) != 1 || left[0].Node != theirs.Node {
		t.Errorf("of consul-ecs's tasks %+v are left, %v", left, err)
	}
}
