package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/tools"
	"ecsmesh/shared/mesh"
)

// clientTask is a task with a Consul client of its own, a real one.
type clientTask struct {
	*meshTask
	agent     *api.Client
	stopAgent func(os.Signal)
}

// startClientTask runs a task of the topology client-agent until the test ends:
// all that its containers run, in their order.
func startClientTask(t *testing.T, server *consultest.Server, fields string) *clientTask {
	t.Helper()
	task := &clientTask{meshTask: newTask(t)}
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

// TestAConsulClientDrainsATaskThatStops has it do so by itself: it would take
// the drain of the functions, of which it knows nothing, for a mistake.
func TestAConsulClientDrainsATaskThatStops(t *testing.T) {
	server := consultest.Start(t)
	task := startClientTask(t, server, fmt.Sprintf(clientService, "api", "", ""))
	serveAt(t, task.address, 8080, "api")
	task.awaitStatus(t, server, "api-sidecar-proxy", api.HealthPassing)
	task.stopping.Store(true)
	for range 2 {
		if code, log := task.check(t); code != 0 {
			t.Fatalf("exit %d:\n%s", code, log)
		}
	}
	task.awaitStatus(t, server, "api", api.HealthCritical)
	task.awaitStatus(t, server, "api-sidecar-proxy", api.HealthCritical)
	checks, _, err := server.Client.Health().Node("ecs-"+task.id, nil)
	if err != nil {
		t.Fatal(err)
	}
	if drained := slices.ContainsFunc(checks, func(c *api.HealthCheck) bool {
		return c.CheckID == mesh.LifecycleCheckID && c.Notes == mesh.LifecycleCheckNotes
	}); !drained {
		t.Errorf("the servers have the checks %s", asText(checks))
	}
	// What an agent has itself, it never takes away from the servers.
	if has, err := task.agent.Agent().Checks(); err != nil || has["ecsmesh-lifecycle"] == nil {
		t.Errorf("the Consul client has the checks %s, %v", asText(has), err)
	}
}

// TestAConsulClientThatForgot starts anew without what it kept.
func TestAConsulClientThatForgot(t *testing.T) {
	server := consultest.Start(t)
	task := startClientTask(t, server, `"service": {"name": "api", "port": 8081}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"}`)
	serveAt(t, task.address, 8081, "api")
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

// TestContainersHealthIsToldToTheConsulClient has ECS's word decide, which check
// hands on.
func TestContainersHealthIsToldToTheConsulClient(t *testing.T) {
	server := consultest.Start(t)
	for container, want := range map[string]string{"app": api.HealthPassing, "absent": api.HealthCritical} {
		t.Run(container, func(t *testing.T) {
			task := startClientTask(t, server, fmt.Sprintf(clientService, "sync", "", "")+fmt.Sprintf(`, "healthSyncContainers": [%q]`, container))
			task.awaitStatus(t, server, "sync", api.HealthCritical)
			await(t, container+" to be "+want, func() error {
				task.check(t)
				checks, err := task.agent.Agent().Checks()
				if err != nil {
					return err
				}
				found, proxy := checks["sync-"+task.id+"-"+container], checks["sync-"+task.id+"-sidecar-proxy-service"]
				if found == nil || found.Status != want || !strings.Contains(found.Output, "container "+container) || proxy.Status != want {
					return fmt.Errorf("the Consul client has %s", asText(checks))
				}
				return nil
			})
			task.awaitStatus(t, server, "sync-sidecar-proxy", want)
		})
	}
}

func TestTheConsulClientsConfigurationIsItsUsersAlone(t *testing.T) {
	server := consultest.Start(t)
	const key = "AAAAAAAAAAAAAAAAAAAAAA=="
	own := os.Geteuid() // who is not root gives no file away
	for name, test := range map[string]struct {
		more string
		want int
	}{"by default": {"", cmp.Or(own, 100)}, "of its own": {fmt.Sprintf(`, "uid": %d`, own), own}} {
		t.Run(name, func(t *testing.T) {
			task := newTask(t)
			task.env = append(task.env, "CONSUL_GOSSIP_KEY="+key)
			task.configure(server, clientFields(`"consulClient": {"address": "OWN"`+test.more+`}, "service": {"port": 8080}`))
			code, log := task.run(t, binary, "discover-servers")
			if code != 0 || strings.Contains(log, key) {
				t.Fatalf("exit %d:\n%s", code, log)
			}
			for file, mode := range map[string]os.FileMode{"consul-client.json": 0o600, "consul-data": 0o700} {
				info, err := os.Stat(filepath.Join(task.volume, file))
				if err != nil {
					t.Fatal(err)
				}
				if owner := int(info.Sys().(*syscall.Stat_t).Uid); info.Mode().Perm() != mode || owner != test.want {
					t.Errorf("%s is %v of user %d", file, info.Mode(), owner)
				}
			}
			content, err := os.ReadFile(filepath.Join(task.volume, "consul-client.json"))
			if err != nil || !strings.Contains(string(content), key) || !strings.Contains(string(content), server.Addr.String()+":8301") {
				t.Errorf("it holds %s, %v", content, err)
			}
		})
	}
}

func TestWhatTheConsulClientIsMissing(t *testing.T) {
	server := consultest.Start(t)
	for name, test := range map[string]struct {
		command []string
		fields  string
		want    string
	}{
		"the agent": {[]string{"register", "-timeout", "3s"}, clientFields(fmt.Sprintf(clientService, "api", "", "")),
			"register with the task's Consul client at OWN:8500: no Consul server answered in time (gave up after 3s): OWN:8500: dial tcp OWN:8500: connect: connection refused; see the log of the container consul-client"},
		"the topology": {[]string{"discover-servers"}, fmt.Sprintf(clientService, "api", "", ""),
			`topology is "direct"; a Consul client that joins the servers is there with "client-agent" only`},
	} {
		t.Run(name, func(t *testing.T) {
			task := newTask(t)
			task.configure(server, test.fields)
			code, log := task.run(t, binary, test.command...)
			if want := strings.ReplaceAll(test.want, "OWN", task.address); code != 1 || !strings.Contains(log, want) {
				t.Errorf("exit %d, want %q in:\n%s", code, want, log)
			}
		})
	}
}

// TestAGatewayWithAConsulClient is as healthy as its Envoy.
func TestAGatewayWithAConsulClient(t *testing.T) {
	server := consultest.Start(t)
	task := startClientTask(t, server, `"gateway": {"kind": "mesh-gateway"}, "proxy": {"adminBindAddress": "OWN"}`)
	task.awaitStatus(t, server, "gateway", api.HealthPassing)
	checks, err := task.agent.Agent().Checks()
	if err != nil || len(checks) != 2 || checks["gateway-"+task.id+"-listener"] == nil || checks["gateway-"+task.id+"-envoy"] == nil {
		t.Errorf("the Consul client has %s, %v", asText(checks), err)
	}
}
