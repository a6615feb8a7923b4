package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/functiontest"
	"ecsmesh/shared/mesh"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// The task of the samples that stop one.
const node = "ecs-f9811b73ac5d1a8db842634fc0f871e0"

// batch is what SQS delivers: samples, by their files.
func batch(t *testing.T, names ...string) json.RawMessage {
	t.Helper()
	var batch events.SQSEvent
	for _, name := range names {
		event, err := os.ReadFile(filepath.Join("..", "..", "events", name))
		if err != nil {
			t.Fatal(err)
		}
		batch.Records = append(batch.Records, events.SQSMessage{MessageId: name, EventSource: "aws:sqs", Body: string(event)})
	}
	payload, err := json.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func register(t *testing.T, client *api.Client, nodes ...string) {
	t.Helper()
	for _, node := range nodes {
		if _, err := client.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: "10.0.12.87", Service: &api.AgentService{ID: "api-" + node, Service: "api"},
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func ecsNodes(t *testing.T, client *api.Client) []string {
	t.Helper()
	found, _, err := client.Catalog().Nodes(&api.QueryOptions{Filter: `Node matches "^ecs-"`})
	if err != nil {
		t.Fatal(err)
	}
	nodes := []string{}
	for _, node := range found {
		nodes = append(nodes, node.Node)
	}
	return nodes
}

// TestInALockedDownConsul has the rights that setup-acl gives this function.
func TestInALockedDownConsul(t *testing.T) {
	w := functiontest.Start(t, `node_prefix "ecs-" { policy = "write" }`, "")
	handle := functiontest.Handler(t, w, wire)
	register(t, w.Consul.Client, node, "ecs-other")

	expect := func(payload json.RawMessage) {
		t.Helper()
		answer, err := handle(t.Context(), payload)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{}}, answer); diff != "" {
			t.Errorf("answer (-want +got):\n%s\n%s", diff, w.Log)
		}
	}
	expect(batch(t, "mesh-task-stopping.json", "mesh-task-spot-stopping.json")) // the other is not registered
	drained, _, err := w.Consul.Client.Health().Node(node, nil)
	if err != nil || drained.AggregatedStatus() != api.HealthCritical {
		t.Errorf("the task is %s (%v), want it drained", drained.AggregatedStatus(), err)
	}
	expect(batch(t, "mesh-task-stopped.json"))
	if diff := cmp.Diff([]string{"ecs-other"}, ecsNodes(t, w.Consul.Client)); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if tokens := w.Tokens(t); len(tokens) != 1 {
		t.Errorf("it holds %d tokens after two invocations, want 1", len(tokens))
	}
}

// TestAgentsInALockedDownConsul forgets that of a dead task, with the right to do
// so, and says so without it. The task's node goes in any case.
func TestAgentsInALockedDownConsul(t *testing.T) {
	const rules = `node_prefix "ecs-" { policy = "write" }`
	for name, test := range map[string]struct {
		rules   string
		members int
		fails   []events.SQSBatchItemFailure
		says    string
	}{
		"with the right":    {rules + ` operator = "write"`, 1, []events.SQSBatchItemFailure{}, "task deregistered"},
		"without the right": {rules, 2, []events.SQSBatchItemFailure{{ItemIdentifier: "mesh-task-stopped.json"}}, "force agent " + node + " to leave"},
	} {
		t.Run(name, func(t *testing.T) {
			w := functiontest.Start(t, test.rules, "")
			w.Variables["FORCE_LEAVE"] = "true"
			agent := consultest.StartAgent(t, w.Consul, node, map[string]string{mesh.MetaTaskARN: "arn"})
			agent.Leave()
			payload := bytes.ReplaceAll(batch(t, "mesh-task-stopped.json"), []byte(`\"name\": \"envoy\"`), []byte(`\"name\": \"consul-client\"`))
			answer, err := functiontest.Handler(t, w, wire)(t.Context(), payload)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(events.SQSEventResponse{BatchItemFailures: test.fails}, answer); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if !strings.Contains(w.Log.String(), test.says) {
				t.Errorf("the log doesn't say %q: %s", test.says, w.Log)
			}
			members, err := w.Consul.Client.Agent().Members(false)
			if err != nil || len(members) != test.members {
				t.Errorf("the agents are %v, %v; want %d", members, err, test.members)
			}
			if nodes := ecsNodes(t, w.Consul.Client); len(nodes) != 0 {
				t.Errorf("the nodes are %v", nodes)
			}
		})
	}
}

// TestWithoutRights must have the messages come again: a task that Consul hides
// is not gone.
func TestWithoutRights(t *testing.T) {
	w := functiontest.Start(t, `node_prefix "ecs-" { policy = "read" }`, "")
	register(t, w.Consul.Client, node)
	anonymous := maps.Clone(w.Variables)
	delete(anonymous, "CONSUL_LOGIN_METHOD")
	delete(anonymous, "CONSUL_LOGIN_SERVER_ID")
	for name, variables := range map[string]map[string]string{"to write": w.Variables, "for want of a login": anonymous} {
		for _, sample := range []string{"mesh-task-stopping.json", "mesh-task-stopped.json"} {
			t.Run(name+", "+sample, func(t *testing.T) {
				w.Variables, w.Log = variables, &bytes.Buffer{}
				answer, err := functiontest.Handler(t, w, wire)(t.Context(), batch(t, sample))
				if err != nil {
					t.Fatal(err)
				}
				want := events.SQSEventResponse{BatchItemFailures: []events.SQSBatchItemFailure{{ItemIdentifier: sample}}}
				if diff := cmp.Diff(want, answer); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
				if !strings.Contains(w.Log.String(), "Permission denied") {
					t.Errorf("the log doesn't say why: %s", w.Log)
				}
				if diff := cmp.Diff([]string{node}, ecsNodes(t, w.Consul.Client)); diff != "" {
					t.Errorf("nodes (-want +got):\n%s", diff)
				}
			})
		}
	}
}
