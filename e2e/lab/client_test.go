package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// clientMesh is a mesh in which backend's and frontend's tasks have Consul
// clients, and web's and api's none.
type clientMesh struct {
	*lab.Lab
	servers []ecs.Task
	backend *ecs.Service
	callees []ecs.Task // of backend
	caller  ecs.Task   // of frontend, which calls backend
}

// awaitEnd waits until a task has stopped, and neither Consul's catalog nor its
// agents know of it.
func (m *clientMesh) awaitEnd(t *testing.T, task ecs.Task) {
	t.Helper()
	_, err := m.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	must(t, m.WaitDeregistered(t.Context(), task))
	must(t, lab.Await(t.Context(), "the agents to forget "+task.ID(), func(context.Context) error {
		consul, err := m.Consul()
		if err != nil {
			return err
		}
		members, err := consul.Agent().Members(false)
		for _, member := range members {
			if err == nil && member.Name == mesh.NodeName(task.ID()) {
				err = fmt.Errorf("its status is %d", member.Status)
			}
		}
		return err
	}))
}

func (m *clientMesh) awaitTraffic(t *testing.T) {
	t.Helper()
	must(t, m.WaitPassing(t.Context(), "backend", m.callees...))
	must(t, m.WaitEndpoints(t.Context(), m.caller, "backend", m.callees...))
	load := lab.StartLoad(t.Context(), m.caller, 20)
	seen := map[netip.Addr]bool{}
	must(t, lab.Await(t.Context(), "answers of all", func(context.Context) error {
		for _, request := range load.Requests() {
			if request.Err != nil {
				return request.Err
			}
			seen[request.API] = true
		}
		if len(seen) < len(m.callees) {
			return fmt.Errorf("only %v answered", seen)
		}
		return nil
	}))
	noFailures(t, load.Stop())
}

// TestClientAgents has tasks with Consul clients of their own, by the example,
// go through what befalls a mesh.
func TestClientAgents(t *testing.T) {
	t.Parallel()
	m := startClientMesh(t, lab.Options{Parameters: map[string]string{"ClientAgents": "ENABLED"}})
	inTurn(t,
		step{"they call each other", m.awaitTraffic},
		step{"a task stops", m.stop},
		step{"an application is ill", m.ill},
		step{"a Consul client is killed", m.killed},
		step{"all servers are replaced, one by one", m.serversReplaced},
		step{"all servers are replaced at once", m.serversReplacedAtOnce},
	)
}

func startClientMesh(t *testing.T, options lab.Options) *clientMesh {
	t.Helper()
	l, servers := startWithServers(t, options)
	must(t, l.UseHTTP(t.Context(), "backend", "frontend"))
	m := &clientMesh{Lab: l, servers: servers, backend: l.CreateClientAgent("backend", "")}
	m.caller = launch(t, l.CreateClientAgent("frontend", "backend"))
	for range 2 {
		m.callees = append(m.callees, launch(t, m.backend))
	}
	must(t, l.WaitPassing(t.Context(), "frontend", m.caller))
	return m
}

// stop has ECS stop a task: it is drained at once, and gone in the end.
func (m *clientMesh) stop(t *testing.T) {
	task := m.callees[0]
	load := lab.StartLoad(t.Context(), m.caller, 20)
	must(t, m.backend.Stop(task.TaskARN))
	m.callees = m.callees[1:]
	must(t, m.WaitEndpoints(t.Context(), m.caller, "backend", m.callees...))
	m.awaitEnd(t, task)
	noFailures(t, load.Stop())
}

// ill has a frozen application be critical in Consul, and take no traffic.
func (m *clientMesh) ill(t *testing.T) {
	m.callees = append(m.callees, launch(t, m.backend))
	m.awaitTraffic(t)
	ill := m.callees[0]
	must(t, m.ECS.Signal(ill.TaskARN, "backend", syscall.SIGSTOP))
	must(t, m.WaitPassing(t.Context(), "backend", m.callees[1:]...))
	must(t, m.WaitEndpoints(t.Context(), m.caller, "backend", m.callees[1:]...))
	must(t, m.ECS.Signal(ill.TaskARN, "backend", syscall.SIGCONT))
	m.awaitTraffic(t)
}

// killed has ECS stop a task whose Consul client is gone.
func (m *clientMesh) killed(t *testing.T) {
	task := m.callees[0]
	must(t, m.ECS.Signal(task.TaskARN, mesh.ClientAgentContainer, syscall.SIGKILL))
	m.callees = append(m.callees[1:], launch(t, m.backend))
	_, err := m.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	must(t, m.WaitDeregistered(t.Context(), task))
	m.awaitTraffic(t)
}

func (m *clientMesh) serversReplaced(t *testing.T) {
	load := lab.StartLoad(t.Context(), m.caller, 20)
	for i, old := range m.servers {
		fresh, err := m.ReplaceServer(t.Context(), old)
		must(t, err)
		m.servers[i] = fresh
		must(t, m.WaitPublished(t.Context(), m.servers...))
		must(t, m.WaitLeader(t.Context()))
	}
	awaitVoters(t, m.Lab, len(m.servers))
	noFailures(t, load.Stop())
	// What is new comes by the new servers.
	m.callees = append(m.callees, launch(t, m.backend))
	m.awaitTraffic(t)
}

// serversReplacedAtOnce leaves nobody whom the agents know, and servers that know
// nothing.
func (m *clientMesh) serversReplacedAtOnce(t *testing.T) {
	signalServers(t, m.Lab, m.servers, syscall.SIGKILL)
	for _, server := range m.servers {
		_, err := m.WaitTask(t.Context(), server, ecs.Task.Stopped)
		must(t, err)
	}
	var err error
	m.servers, err = m.StartServers(t.Context())
	must(t, err)
	must(t, m.WaitPublished(t.Context(), m.servers...))
	must(t, m.WaitPassing(t.Context(), "frontend", m.caller))
	m.awaitTraffic(t)
}

// TestClientAgentsAndOthers has a task without a Consul client call one that has
// one, and the other way round.
func TestClientAgentsAndOthers(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{Servers: 1})
	must(t, l.UseHTTP(t.Context(), "web", "api", "frontend"))
	with, callsWithout := l.CreateClientAgent("api", ""), l.CreateClientAgent("frontend", "api")
	web, own, direct, caller := launch(t, l.Web), launch(t, with), launch(t, l.API), launch(t, callsWithout)
	must(t, l.WaitPassing(t.Context(), "api", own, direct))
	for _, from := range []ecs.Task{web, caller} {
		must(t, l.WaitEndpoints(t.Context(), from, "api", own, direct))
		load := lab.StartLoad(t.Context(), from, 20)
		seen := map[netip.Addr]bool{}
		must(t, lab.Await(t.Context(), "answers of both", func(context.Context) error {
			for _, request := range load.Requests() {
				seen[request.API] = true
			}
			if !seen[own.Address()] || !seen[direct.Address()] {
				return fmt.Errorf("the answers are of %v", seen)
			}
			return nil
		}))
		load.Stop()
	}
	consul, err := l.Consul()
	must(t, err)
	checks, _, err := consul.Health().Node(mesh.NodeName(own.ID()), nil)
	must(t, err)
	if status := checks.AggregatedStatus(); status != api.HealthPassing {
		t.Errorf("the node of the task with a Consul client is %s", status)
	}
}

// TestSecureClientAgents has Consul clients where nobody is trusted: with
// certificates of their own, encrypted gossip, and tokens that end.
func TestSecureClientAgents(t *testing.T) {
	t.Parallel()
	m := startClientMesh(t, lab.Options{
		Servers: 1, Secure: true, Second: 2 * second,
		Parameters: map[string]string{"ClientAgents": "ENABLED", "TaskTokenTtlMinutes": "1"},
	})
	must(t, m.Allow(t.Context(), "frontend", "backend", api.IntentionActionAllow))
	inTurn(t,
		step{"they call each other", m.awaitTraffic},
		step{"a task stops", m.stop},
		step{"tasks outlive their first tokens", m.outliveTokens},
		step{"an application is ill", m.ill},
		step{"no secret is where others can read it", func(t *testing.T) {
			(&secure{Lab: m.Lab, web: m.caller, apis: m.callees}).secretsStaySecret(t)
		}},
	)
}

// outliveTokens waits until the tokens with which the agents began have ended.
func (m *clientMesh) outliveTokens(t *testing.T) {
	for _, task := range append(slices.Clone(m.callees), m.caller) {
		first, err := m.Token(task)
		must(t, err)
		held, err := m.ConsulAs(first)
		must(t, err)
		for end := time.Now().Add(2 * tokenTTL); ; time.Sleep(100 * time.Millisecond) {
			if _, _, err := held.ACL().TokenReadSelf(nil); err != nil {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the first token is still good")
			}
		}
		if now, err := m.Token(task); err != nil || now == first {
			t.Fatalf("there is no new token: %v", err)
		}
	}
}
