package lab_test

import (
	gocmp "cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// second is how long a second of a task definition lasts in these tests.
const second = 300 * time.Millisecond

// TestMain runs one test more at a time than there are processors, unless told
// otherwise: labs wait more than they compute.
func TestMain(m *testing.M) {
	if os.Getenv(serveVariable) != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if !told {
		if err := flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func start(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	opts.Second = gocmp.Or(opts.Second, second)
	l, err := lab.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil { // names every process that is left
			t.Error(err)
		}
	})
	return l
}

// startWithServers starts a lab whose Consul servers are up and published.
func startWithServers(t *testing.T, opts lab.Options) (*lab.Lab, []ecs.Task) {
	t.Helper()
	l := start(t, opts)
	servers, err := l.StartServers(t.Context())
	must(t, err)
	must(t, l.WaitPublished(t.Context(), servers...))
	return l, servers
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func launch(t *testing.T, service *ecs.Service, change ...func(*ecs.TaskDefinition)) ecs.Task {
	t.Helper()
	task, err := service.Launch(t.Context(), change...)
	must(t, err)
	return task
}

// startMesh starts one web task and n api tasks, which are changed before, and
// waits until requests can flow.
func startMesh(t *testing.T, l *lab.Lab, n int, change ...func(*ecs.TaskDefinition)) (web ecs.Task, apis []ecs.Task) {
	t.Helper()
	web = launch(t, l.Web)
	for range n {
		apis = append(apis, launch(t, l.API, change...))
	}
	must(t, l.WaitPassing(t.Context(), "api", apis...))
	must(t, l.WaitPassing(t.Context(), "web", web))
	must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
	return web, apis
}

func noFailures(t *testing.T, requests []lab.Request) {
	t.Helper()
	if len(requests) == 0 {
		t.Fatal("there were no requests")
	}
	if failed := lab.Failures(requests); len(failed) > 0 {
		t.Errorf("%d of %d requests failed, the first with: %v", len(failed), len(requests), failed[0].Err)
	}
}

func TestTasksJoinServeAndLeave(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 2)

	// What is in the catalog has the names that others rely on.
	consul, err := l.Consul()
	must(t, err)
	task := apis[0]
	node, _, err := consul.Catalog().Node(mesh.NodeName(task.ID()), nil)
	must(t, err)
	if node.Node.Address != task.Address().String() || node.Node.Meta[mesh.MetaTaskARN] != task.TaskARN || node.Node.Meta[mesh.MetaSyntheticNode] != "true" {
		t.Errorf("node %+v does not stand for the task %s", node.Node, task.TaskARN)
	}
	id := mesh.ServiceID("api", task.ID())
	if node.Services[id] == nil || node.Services[mesh.ProxyID(id)] == nil || len(node.Services) != 2 {
		t.Errorf("services of the node: %+v", node.Services)
	}

	// Requests reach both, and only through the Envoys' mutual TLS.
	load := lab.StartLoad(t.Context(), web, 50)
	must(t, lab.Await(t.Context(), "answers of both tasks", func(context.Context) error {
		for _, api := range apis {
			if len(lab.AnsweredBy(load.Requests(), api)) == 0 {
				return errors.New("none of " + api.Address().String())
			}
		}
		return nil
	}))
	noFailures(t, load.Stop())
	stats, err := lab.EnvoyStats(t.Context(), web, `^cluster\.api\..*ssl\.handshake$`)
	must(t, err)
	if len(stats) == 0 {
		t.Error("no TLS handshakes with api's Envoys")
	}

	// Everything leaves, and takes everything along.
	must(t, l.Web.Stop(web.TaskARN))
	for _, api := range apis {
		must(t, l.API.Stop(api.TaskARN))
	}
	must(t, l.WaitEmpty(t.Context()))
	services, err := l.Services(t.Context())
	must(t, err)
	if diff := cmp.Diff([]string{"consul"}, services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

// TestRollingReplacementFailsNoRequest also wants each stopped task to be drained
// long before its application ends. How fast that is, the benchmarks say: here a
// busy machine has several seconds for what takes some 0.3.
func TestRollingReplacementFailsNoRequest(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{})
	const drainedBefore = time.Second
	patient := func(def *ecs.TaskDefinition) {
		app := application(def)
		app.Environment = append(app.Environment, ecs.KeyValue{Name: "GRACE", Value: "8s"})
		app.StopTimeout = 120
	}
	web, apis := startMesh(t, l, 2, patient)
	for _, protocol := range []string{"tcp", "http"} { // tcp is Consul's default
		if protocol == "http" {
			must(t, l.UseHTTP(t.Context(), "web", "api"))
		}
		load := lab.StartLoad(t.Context(), web, 100)
		var drained []string
		for i := range apis {
			fresh, err := l.API.Replace(t.Context(), apis[i].TaskARN, patient)
			must(t, err)
			old, err := l.WaitTask(t.Context(), apis[i], ecs.Task.Stopped)
			must(t, err)
			must(t, l.WaitDeregistered(t.Context(), old))
			if answered := lab.AnsweredBy(load.Requests(), old); len(answered) > 0 {
				last, ended := answered[len(answered)-1].End(), old.Container("api").FinishedAt
				drained = append(drained, fmt.Sprintf("%s after the stop, %s before the application's end", last.Sub(old.StoppingAt.Time), ended.Sub(last)))
				if protocol == "http" && ended.Sub(last) < drainedBefore {
					t.Errorf("a task was asked until %s before its application ended", ended.Sub(last))
				}
			}
			apis[i] = fresh
		}
		requests := load.Stop()
		t.Logf("%s: %d requests, last answers: %s", protocol, len(requests), strings.Join(drained, "; "))
		noFailures(t, requests)
	}
}

func TestSingleTaskIsReplacedWithoutAFailedRequest(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 1)
	load := lab.StartLoad(t.Context(), web, 100)
	fresh, err := l.API.Replace(t.Context(), apis[0].TaskARN)
	must(t, err)
	must(t, l.WaitPassing(t.Context(), "api", fresh))
	noFailures(t, load.Stop())
}

func TestBadInputStopsTheTaskWithOneClearError(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{})
	for name, c := range map[string]struct {
		change func(*ecs.TaskDefinition)
		want   []string
	}{
		"unknown field": {configured(t, func(doc map[string]any) { doc["servise"] = map[string]any{} }), []string{"servise"}},
		"two faults": {configured(t, func(doc map[string]any) {
			doc["service"].(map[string]any)["port"] = 70000
			doc["topology"] = "star"
		}), []string{"service.port", "topology"}},
		"bad JSON":  {func(def *ecs.TaskDefinition) { edit(t, def, func(s string) string { return s[:len(s)/2] }) }, []string{"ECSMESH_CONFIG"}},
		"no config": {func(def *ecs.TaskDefinition) { def.Containers[0].Environment = nil }, []string{"ECSMESH_CONFIG"}},
		"no such server": {func(def *ecs.TaskDefinition) {
			configured(t, func(doc map[string]any) { doc["consulServers"].(map[string]any)["hosts"] = "no-such-host.invalid" })(def)
			def.Containers[0].StartTimeout = 10 // it tries on until ECS stops it
		}, []string{"no-such-host.invalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stopped, err := l.WaitTask(t.Context(), launch(t, l.API, c.change), ecs.Task.Stopped)
			must(t, err)
			if stopped.StopCode != ecs.StopCodeTaskFailedToStart {
				t.Errorf("the task is %s", stopped.Summary())
			}
			log, err := os.ReadFile(l.Log(stopped, "ecsmesh-init"))
			must(t, err)
			lines := strings.Split(strings.TrimSpace(string(log)), "\n")
			for _, word := range c.want {
				if last := lines[len(lines)-1]; !strings.Contains(last, word) {
					t.Errorf("the last line of the log has no word of %q: %s", word, last)
				}
			}
		})
	}
	t.Cleanup(func() {
		if err := l.WaitEmpty(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// edit changes the configuration of a definition's init container.
func edit(t *testing.T, def *ecs.TaskDefinition, change func(string) string) {
	t.Helper()
	for i, v := range def.Containers[0].Environment {
		if v.Name == "ECSMESH_CONFIG" {
			def.Containers[0].Environment[i].Value = change(v.Value)
			return
		}
	}
	t.Fatal("the definition has no ECSMESH_CONFIG")
}

func TestAwaitSaysWhatStoodInTheWay(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := lab.Await(ctx, "the moon", func(context.Context) error { return errors.New("clouds") })
	if err == nil || !strings.Contains(err.Error(), "the moon") || !strings.Contains(err.Error(), "clouds") {
		t.Errorf("error: %v", err)
	}
}

func TestLabsHaveAddressesOfTheirOwn(t *testing.T) {
	t.Parallel()
	blocks := map[netip.Prefix]bool{}
	for range 2 {
		l := start(t, lab.Options{})
		address, err := l.ECS.NewAddress()
		must(t, err)
		block := netip.PrefixFrom(address, 16).Masked()
		if blocks[block] {
			t.Errorf("two labs have the block %s", block)
		}
		blocks[block] = true
	}
}
