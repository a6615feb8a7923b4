package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// TestServersInTrouble has requests flow, and tasks start and stop, while first
// all of Consul's servers freeze, and then two of them are lost in turn.
func TestServersInTrouble(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{Retry: retry, Parameters: tries("100")})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 2)
	for _, task := range append(slices.Clone(apis), web) {
		_, err := l.WaitTask(t.Context(), task, ecs.Task.Ready)
		must(t, err)
	}

	outage := func(t *testing.T) {
		load := lab.StartLoad(t.Context(), web, 50)
		signalServers(t, l, servers, syscall.SIGSTOP)
		holdFault(t)
		must(t, lab.Await(t.Context(), "health checks during the outage", func(context.Context) error {
			// Three seconds of load are several runs of every health check.
			if n := len(load.Requests()); n < 150 {
				return fmt.Errorf("%d requests so far", n)
			}
			return nil
		}))
		for _, task := range append(slices.Clone(apis), web) {
			if now, _ := l.ECS.Task(task.TaskARN); !now.Ready() {
				t.Errorf("during the outage, a task is %s", now.Summary())
			}
		}
		noFailures(t, load.Stop())

		// What happens now is made good when Consul is back.
		must(t, l.API.Stop(apis[0].TaskARN))
		_, err := l.WaitTask(t.Context(), apis[0], ecs.Task.Stopped)
		must(t, err)
		fresh := launch(t, l.API)
		awaitLog(t, l, fresh, "Consul did not answer as it should; trying again", "ecsmesh-init")
		signalServers(t, l, servers, syscall.SIGCONT)
		must(t, l.WaitLeader(t.Context()))
		must(t, l.WaitDeregistered(t.Context(), apis[0]))
		apis = []ecs.Task{apis[1], fresh}
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
	}

	// loseLeader has dozens of tasks stop, and another one start, around the
	// moment at which the leader is lost.
	loseLeader := func(t *testing.T, signal syscall.Signal) {
		load := lab.StartLoad(t.Context(), web, 50)
		var stopped []string
		for range 48 {
			arn := newTaskARN()
			registerByHand(t, l, arn, time.Now(), "10.1.2.3")
			stopped = append(stopped, arn)
		}
		awaitVoters(t, l, len(servers))
		leader, err := l.Leader()
		must(t, err)
		sendStops(t, l, stopped[:24])
		must(t, l.ECS.Signal(leader.TaskARN, "consul-server", signal))
		sendStops(t, l, stopped[24:])
		apis = append(apis, launch(t, l.API))
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		awaitMeshNodes(t, l, append(slices.Clone(apis), web)...)
		if signal == syscall.SIGSTOP { // what it still wanted to do must not do any harm
			must(t, l.ECS.Signal(leader.TaskARN, "consul-server", syscall.SIGCONT))
		}
		must(t, l.WaitLeader(t.Context()))
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
		awaitMeshNodes(t, l, append(slices.Clone(apis), web)...)
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		must(t, l.WaitPassing(t.Context(), "web", web))
		noFailures(t, load.Stop())
	}

	inTurn(t,
		step{"all of them are frozen for a while", outage},
		step{"the leader is frozen in the middle of a batch", func(t *testing.T) { loseLeader(t, syscall.SIGSTOP) }},
		step{"the leader is killed in the middle of a batch", func(t *testing.T) { loseLeader(t, syscall.SIGKILL) }},
	)
}

// awaitVoters waits until so many servers take part in the choice of a leader: a
// new one, or one that comes back, is watched for a while first.
func awaitVoters(t *testing.T, l *lab.Lab, want int) {
	t.Helper()
	must(t, lab.Await(t.Context(), fmt.Sprintf("%d voting servers", want), func(ctx context.Context) error {
		consul, err := l.Consul()
		if err != nil {
			return err
		}
		peers, err := consul.Operator().RaftGetConfiguration((&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		voters := slices.DeleteFunc(peers.Servers, func(peer *api.RaftServer) bool { return !peer.Voter })
		if len(voters) != want {
			return fmt.Errorf("there are %d", len(voters))
		}
		return nil
	}))
}

// TestServersAreReplaced has requests flow while all of Consul's servers make
// way for others at other addresses.
func TestServersAreReplaced(t *testing.T) {
	t.Parallel()
	var post courier
	l, servers := startWithServers(t, lab.Options{Events: post.events})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 2)
	load := lab.StartLoad(t.Context(), web, 50)

	// What Envoy gets from Consul goes on: certificates, new tasks, and tasks
	// that go.
	oneByOne := func(t *testing.T) {
		all := append(slices.Clone(apis), web)
		signed := certificates(t, all)
		for i, old := range servers {
			fresh, err := l.ReplaceServer(t.Context(), old)
			must(t, err)
			servers[i] = fresh
			must(t, l.WaitPublished(t.Context(), servers...))
			must(t, l.WaitLeader(t.Context()))
		}
		awaitVoters(t, l, len(servers))
		for _, task := range all {
			must(t, l.WaitConsulServers(t.Context(), task, servers...))
			awaitNewCertificate(t, task, signed[task.TaskARN])
		}
		apis = append(apis, launch(t, l.API))
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
		must(t, l.API.Stop(apis[0].TaskARN))
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis[1:]...))
		must(t, l.WaitDeregistered(t.Context(), apis[0]))
		apis = apis[1:]
		noFailures(t, load.Requests())
	}

	// The new servers know nothing: neither the tasks nor with which
	// certificates they trust each other.
	allAtOnce := func(t *testing.T) {
		post.hold(lab.ConsulCluster)
		signalServers(t, l, servers, syscall.SIGKILL)
		for _, server := range servers {
			_, err := l.WaitTask(t.Context(), server, ecs.Task.Stopped)
			must(t, err)
		}
		var err error
		servers, err = l.StartServers(t.Context())
		must(t, err)
		noFailures(t, load.Requests()) // as long as nobody knows of the new ones
		post.release()
		must(t, l.WaitPublished(t.Context(), servers...))
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		must(t, l.WaitPassing(t.Context(), "web", web))
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
		for _, task := range append(slices.Clone(apis), web) {
			must(t, l.WaitConsulServers(t.Context(), task, servers...))
		}
		awaitRecovery(t, load)
	}

	forNone := func(t *testing.T) {
		before, err := l.ServerList(t.Context())
		must(t, err)
		for _, server := range servers {
			must(t, l.ECS.StopTask(server.TaskARN, "all of them"))
		}
		for _, server := range servers {
			_, err := l.WaitTask(t.Context(), server, ecs.Task.Stopped)
			must(t, err)
		}
		after, err := l.ServerList(t.Context())
		must(t, err)
		if len(after) == 0 || len(after) > len(before) {
			t.Errorf("the list was %v and is %v", before, after)
		}
	}

	inTurn(t,
		step{"one by one", oneByOne},
		step{"all at once by empty ones", allAtOnce},
		step{"by none, which the list outlives", forNone},
	)
	load.Stop()
}

// certificates are those that the tasks' Envoys have, by the tasks' ARNs.
func certificates(t *testing.T, tasks []ecs.Task) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, task := range tasks {
		serials, err := lab.Certificates(t.Context(), task)
		must(t, err)
		all[task.TaskARN] = serials
	}
	return all
}

// awaitNewCertificate waits until a task's Envoy has a certificate that it had
// not before. The old ones stay for the connections that were made with them.
func awaitNewCertificate(t *testing.T, task ecs.Task, before []string) {
	t.Helper()
	must(t, lab.Await(t.Context(), "a new certificate in Envoy at "+task.Address().String(), func(ctx context.Context) error {
		now, err := lab.Certificates(ctx, task)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(now, func(serial string) bool { return !slices.Contains(before, serial) }) {
			return nil
		}
		return fmt.Errorf("it has %v, as before", now)
	}))
}

// TestConsulComesBack has a Consul that keeps its data on a disk.
func TestConsulComesBack(t *testing.T) {
	t.Parallel()
	l := start(t, lab.Options{Servers: 1})
	server := launchConsul(t, l)
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 2)
	load := lab.StartLoad(t.Context(), web, 50)

	elsewhere := func(t *testing.T) {
		signalServers(t, l, []ecs.Task{server}, syscall.SIGKILL)
		_, err := l.WaitTask(t.Context(), server, ecs.Task.Stopped)
		must(t, err)
		server = launchConsul(t, l)
		for _, task := range append(slices.Clone(apis), web) {
			must(t, l.WaitConsulServers(t.Context(), task, server))
		}
		apis = append(apis, launch(t, l.API))
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
		noFailures(t, load.Requests())
	}

	// After the snapshot a task stops and another one starts. What is missing
	// then comes back by itself, what is too much goes with the sweep.
	asItWas := func(t *testing.T) {
		snapshot := takeSnapshot(t, l)
		must(t, l.API.Stop(apis[0].TaskARN))
		must(t, l.WaitDeregistered(t.Context(), apis[0]))
		apis = append(apis, launch(t, l.API))
		must(t, l.WaitPassing(t.Context(), "api", apis[1:]...))
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis[1:]...))
		noFailures(t, load.Requests())
		restoreSnapshot(t, l, snapshot)
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		must(t, l.Sweep(t.Context(), ""))
		awaitMeshNodes(t, l, append(slices.Clone(apis[1:]), web)...)
		must(t, l.WaitEndpoints(t.Context(), web, "api", apis[1:]...))
		awaitRecovery(t, load)
	}

	inTurn(t,
		step{"at another address, after it was killed", elsewhere},
		step{"from an older snapshot", asItWas},
	)
	load.Stop()
}

// launchConsul starts the lab's only Consul server, on the data that the one
// before it left, and waits until it is published.
func launchConsul(t *testing.T, l *lab.Lab) ecs.Task {
	t.Helper()
	server := launch(t, l.Servers, func(def *ecs.TaskDefinition) {
		for _, texts := range [][]string{def.Containers[0].Command, def.Containers[0].HealthCheck.Command} {
			for i := range texts {
				texts[i] = strings.ReplaceAll(texts[i], "/consul/data", filepath.Join(l.Dir, "consul"))
			}
		}
		for i, v := range def.Containers[0].Environment {
			def.Containers[0].Environment[i].Value = strings.ReplaceAll(v.Value, "/consul/data", filepath.Join(l.Dir, "consul"))
		}
	})
	must(t, l.WaitLeader(t.Context()))
	must(t, l.WaitPublished(t.Context(), server))
	return server
}

// takeSnapshot saves all that Consul has.
func takeSnapshot(t *testing.T, l *lab.Lab) []byte {
	t.Helper()
	consul, err := l.Consul()
	must(t, err)
	stream, _, err := consul.Snapshot().Save(nil)
	must(t, err)
	defer stream.Close()
	snapshot, err := io.ReadAll(stream)
	must(t, err)
	return snapshot
}

func restoreSnapshot(t *testing.T, l *lab.Lab, snapshot []byte) {
	t.Helper()
	consul, err := l.Consul()
	must(t, err)
	must(t, consul.Snapshot().Restore(nil, bytes.NewReader(snapshot)))
	must(t, l.WaitLeader(t.Context()))
}

func signalServers(t *testing.T, l *lab.Lab, servers []ecs.Task, signal syscall.Signal) {
	t.Helper()
	for _, server := range servers {
		must(t, l.ECS.Signal(server.TaskARN, "consul-server", signal))
	}
}
