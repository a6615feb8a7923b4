package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/tools"
)

// clientTask is a task with a Consul client of its own, a real one.
type clientTask struct {
	*meshTask
	agent     *api.Client
	stopAgent func(os.Signal)
}

// startClientTask runs a task of the topology client-agent until the test ends:
// all that its containers run, in their order.
func startClientTask(t *testing.T, server *consultest.Server, fields string, env ...string) *clientTask {
	t.Helper()
	task := &clientTask{meshTask: newTask(t)}
	task.env = append(task.env, env...)
	task.configure(server, clientFields(fields))
	if code, log := task.run(t, binary, "discover-servers"); code != 0 {
		t.Fatalf("exit %d:\n%s", code, log)
	}
	task.startAgent(t)
	task.register(t)
	task.startEnvoy(t)
	return task
}

func clientFields(fields string) string {
	if !strings.Contains(fields, `"consulClient"`) {
		fields = `"consulClient": {"address": "OWN", "checkInterval": "500ms"}, ` + fields
	}
	return `"topology": "client-agent", ` + fields
}

func (c *clientTask) startAgent(t *testing.T) {
	t.Helper()
	program, err := tools.Consul()
	if err != nil {
		t.Fatal(err)
	}
	c.stopAgent = c.start(t, program, "agent", "-config-file", filepath.Join(c.volume, "consul-client.json"))
	c.agent, err = api.NewClient(&api.Config{Address: net.JoinHostPort(c.address, "8500")})
	if err != nil {
		t.Fatal(err)
	}
}

const clientService = `"service": {"name": %q, "port": 8080%s}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"%s}`

// awaitStatus waits until Consul's servers call a task's instance of a service,
// or of its sidecar's, what they should.
func (c *clientTask) awaitStatus(t *testing.T, server *consultest.Server, service, want string) {
	t.Helper()
	await(t, service+" to be "+want, func() error {
		entries, _, err := server.Client.Health().Service(service, "", false, nil)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if entry.Node.Node == "ecs-"+c.id && entry.Checks.AggregatedStatus() == want {
				return nil
			}
		}
		return fmt.Errorf("Consul has %d instances: %s", len(entries), asText(entries))
	})
}

func asText(value any) string {
	content, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return string(content)
}

// TestTwoTasksWithConsulClients has one reach the other through their Envoys,
// and the other's health decide.
func TestTwoTasksWithConsulClients(t *testing.T) {
	server := consultest.Start(t)
	back := startClientTask(t, server, fmt.Sprintf(clientService, "api", `, "checks": [{"name": "health", "http": "http://OWN:8080/", "header": {"X-Key": ["k"]}}]`, ""))
	back.awaitStatus(t, server, "api", api.HealthCritical)
	back.awaitStatus(t, server, "api-sidecar-proxy", api.HealthCritical)
	if code, log := back.check(t); code != 0 {
		await(t, "Envoy to be ready", func() error {
			if code, log = back.check(t); code != 0 {
				return fmt.Errorf("exit %d:\n%s", code, log)
			}
			return nil
		})
	}
	// A direct task and one with a Consul client are the same to the mesh.
	direct := startService(t, server, "web", `"destinationName": "api"`)
	front := startClientTask(t, server, fmt.Sprintf(clientService, "shop", "", `, "upstreams": [{"destinationName": "api", "localBindAddress": "OWN", "localBindPort": 9001}]`))
	serveAt(t, front.address, 8080, "shop")

	application := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "api") })}
	listener, err := net.Listen("tcp", back.address+":8080")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = application.Serve(listener) }()
	t.Cleanup(func() { _ = application.Close() })
	back.awaitStatus(t, server, "api", api.HealthPassing)
	back.awaitStatus(t, server, "api-sidecar-proxy", api.HealthPassing)
	for _, caller := range []*meshTask{direct, front.meshTask} {
		awaitAnswer(t, "http://"+caller.address+":9001/", "api")
	}
	if code, log := back.run(t, filepath.Join(back.volume, "bin/ecsmesh-init"), "check", "-until-passing"); code != 0 {
		t.Errorf("the application's check: exit %d:\n%s", code, log)
	}

	// Once more, as after a kill: nothing changes.
	if code, log := back.run(t, binary, "register"); code != 0 {
		t.Fatalf("exit %d:\n%s", code, log)
	}
	awaitAnswer(t, "http://"+front.address+":9001/", "api")

	_ = application.Close()
	back.awaitStatus(t, server, "api", api.HealthCritical)
	back.awaitStatus(t, server, "api-sidecar-proxy", api.HealthCritical)

	back.stopAgent(syscall.SIGTERM)
	await(t, "the node to leave", func() error {
		node, _, err := server.Client.Catalog().Node("ecs-"+back.id, nil)
		if err == nil && node != nil {
			err = fmt.Errorf("it is there: %+v", node.Node)
		}
		return err
	})
}

// TestAConsulClientThatForgot starts anew without what it kept.
func TestAConsulClientThatForgot(t *testing.T) {
	server := consultest.Start(t)
	task := startClientTask(t, server, fmt.Sprintf(clientService, "api", "", ""))
	serveAt(t, task.address, 8080, "api")
	task.awaitStatus(t, server, "api-sidecar-proxy", api.HealthPassing)
	task.stopAgent(os.Kill)
	if err := os.RemoveAll(filepath.Join(task.volume, "consul-data")); err != nil {
		t.Fatal(err)
	}
	if code, log := task.check(t); code != 0 {
		t.Errorf("Envoy's check without the agent: exit %d:\n%s", code, log)
	}
	task.startAgent(t)
	await(t, "the task to be registered again", func() error {
		code, log := task.run(t, filepath.Join(task.volume, "bin/ecsmesh-init"), "check", "-refresh", "1s")
		services, err := task.agent.Agent().Services()
		if err == nil && (code != 0 || len(services) != 2) {
			err = fmt.Errorf("exit %d, services %v:\n%s", code, services, log)
		}
		return err
	})
	task.awaitStatus(t, server, "api-sidecar-proxy", api.HealthPassing)
}
