package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
)

// TestAServiceThatOnlyCallsOthers has no port, as with outbound_only of
// consul-ecs's module.
func TestAServiceThatOnlyCallsOthers(t *testing.T) {
	server := consultest.Start(t)
	startService(t, server, "api", "")
	web := startTask(t, server, `"service": {"name": "web", "port": 0},
		"proxy": {"adminBindAddress": "OWN", "upstreams": [{"destinationName": "api", "localBindAddress": "OWN", "localBindPort": 9001}]}`)
	web.awaitHealthy(t, server)
	awaitAnswer(t, "http://"+web.address+":9001/", "api")
}

// TestADocumentOfConsulECS puts a task into the mesh by the document that it had
// with consul-ecs. Only what each of several tasks on one host needs for itself
// is replaced.
func TestADocumentOfConsulECS(t *testing.T) {
	server := consultest.Start(t)
	startService(t, server, "cart", "")
	content, err := os.ReadFile(filepath.Join("..", "..", "config", "testdata", "consul-ecs", "mesh-task.json"))
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(content, &document); err != nil {
		t.Fatal(err)
	}
	task := newTask(t)
	proxy := document["proxy"].(map[string]any)
	document["bootstrapDir"] = task.volume
	document["consulServers"].(map[string]any)["hosts"] = server.Addr
	proxy["adminBindAddress"], proxy["localServiceAddress"] = task.address, task.address
	for _, upstream := range proxy["upstreams"].([]any) {
		upstream.(map[string]any)["localBindAddress"] = task.address
	}
	if content, err = json.Marshal(document); err != nil {
		t.Fatal(err)
	}
	task.env = append(task.env, "CONSUL_ECS_CONFIG_JSON="+string(content))
	task.register(t)
	task.startEnvoy(t)
	serveAt(t, task.address, 8080, "shop")
	task.awaitHealthy(t, server)
	awaitAnswer(t, "http://"+task.address+":9091/", "cart")
	instances, _, err := server.Client.Health().Service("shop", "v1", true, nil)
	if err != nil || len(instances) != 1 || instances[0].Service.Meta["dataplane-version"] != "1.8.0" || instances[0].Service.Meta["source"] != "ecsmesh" {
		t.Errorf("the passing instances are %+v, %v", instances, err)
	}
}

// becomeConsulECSs moves a task's registration to where consul-ecs has it: all
// tasks of a cluster are on one node, and whose they are is in their meta.
func (m *meshTask) becomeConsulECSs(t *testing.T, server *consultest.Server) {
	t.Helper()
	const node = "arn:aws:ecs:eu-west-1:123456789012:cluster/prod"
	catalog := server.Client.Catalog()
	parts, _, err := catalog.NodeServiceList("ecs-"+m.id, nil)
	if err != nil || len(parts.Services) != 2 {
		t.Fatalf("the task registered %+v, %v", parts, err)
	}
	if _, err := catalog.Deregister(&api.CatalogDeregistration{Node: "ecs-" + m.id}, nil); err != nil {
		t.Fatal(err)
	}
	for _, part := range parts.Services {
		part.Meta["source"] = "consul-ecs"
		check := &api.HealthCheck{Node: node, CheckID: part.ID + "-consul-dataplane", Name: "Consul dataplane readiness", Type: "consul-ecs-readiness", ServiceID: part.ID, Status: api.HealthPassing}
		if _, err := catalog.Register(&api.CatalogRegistration{
			Node: node, Address: "127.0.0.2", NodeMeta: map[string]string{"synthetic-node": "true"}, Service: part, Checks: api.HealthChecks{check},
		}, nil); err != nil {
			t.Fatal(err)
		}
	}
	bootstrap := filepath.Join(m.volume, "envoy-bootstrap.json")
	content, err := os.ReadFile(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.ReplaceAll(string(content), "ecs-"+m.id, node)
	if err := os.WriteFile(bootstrap, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBesideConsulECS has two tasks of one service, of which one is consul-ecs's.
// Both take traffic; and the way back is to stop the other.
func TestBesideConsulECS(t *testing.T) {
	server := consultest.Start(t)
	const service = `"service": {"name": "api", "port": 8080}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"}`
	old := newTask(t)
	old.configure(server, service)
	old.register(t)
	old.becomeConsulECSs(t, server)
	old.startEnvoy(t)
	serveAt(t, old.address, 8080, "consul-ecs")

	moved := startTask(t, server, service)
	serveAt(t, moved.address, 8080, "ecsmesh")
	moved.awaitHealthy(t, server)
	web := startService(t, server, "web", `"destinationName": "api"`)

	// One after the other answers, and so does the one when the other is gone.
	url := "http://" + web.address + ":9001/"
	awaitAnswer(t, url, "consul-ecs")
	awaitAnswer(t, url, "ecsmesh")
	if _, err := server.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-" + moved.id}, nil); err != nil {
		t.Fatal(err)
	}
	await(t, "only the task of consul-ecs to answer", func() error {
		answers := make([]string, 10)
		for i := range answers {
			answer, err := get(url)
			if err != nil {
				return err
			}
			answers[i] = answer
		}
		if slices.Contains(answers, "ecsmesh") {
			return fmt.Errorf("the answers are %q", answers)
		}
		return nil
	})
}
