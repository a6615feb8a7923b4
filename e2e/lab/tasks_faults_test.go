package lab_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// TestTasksInTrouble has a task for each trouble, all of them in one lab.
func TestTasksInTrouble(t *testing.T) {
	t.Parallel()
	var post courier
	l, _ := startWithServers(t, lab.Options{Servers: 1, Events: post.events})
	t.Run("of its own", func(t *testing.T) { // and ends when all of them have
		for name, trouble := range map[string]func(*testing.T, *lab.Lab){
			"the application is killed":               func(t *testing.T, l *lab.Lab) { kill(t, l, "api") },
			"Envoy is killed":                         func(t *testing.T, l *lab.Lab) { kill(t, l, "envoy") },
			"health checks are killed":                killHealthChecks,
			"a container is unhealthy":                haveAContainerUnhealthy,
			"the wrapper delays SIGTERM":              stopBehindTheWrapper,
			"the wrapper passes the exit code on":     exitBehindTheWrapper,
			"a dead task's node has its address":      func(t *testing.T, l *lab.Lab) { reuseAnAddress(t, l, &post) },
			"init finds no metadata endpoint":         startWithoutMetadata,
			"health checks find no metadata endpoint": runWithoutMetadata,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				trouble(t, l)
			})
		}
	})
	t.Run("the metadata endpoint is slow, then throttles", func(t *testing.T) { loseMetadata(t, l) })
}

// kill ends one of the task's containers, which takes the task along.
func kill(t *testing.T, l *lab.Lab, container string) {
	task := launch(t, l.API)
	awaitHealth(t, l, task, api.HealthPassing)
	must(t, l.ECS.Signal(task.TaskARN, container, syscall.SIGKILL))
	must(t, l.WaitDeregistered(t.Context(), task))
	stopped, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	if stopped.StopCode != ecs.StopCodeEssentialContainerExited {
		t.Errorf("the task is %s", stopped.Summary())
	}
}

// killHealthChecks kills many runs of a task's health check, each at a moment
// of its own, while there is always something for them to do.
func killHealthChecks(t *testing.T, l *lab.Lab) {
	health := newGate(t)
	task := launch(t, l.API, health.decides(t))
	awaitHealth(t, l, task, api.HealthPassing)
	environment := environmentOf(t, filepath.Join(l.ECS.TaskDir(task), "volumes"), "envoy-bootstrap.json")
	for range 60 {
		if rand.IntN(8) == 0 {
			deregister(t, l, task)
		}
		health.status.Store(200 + 300*rand.Int32N(2))
		run := exec.Command(filepath.Join(volumeOf(l, task), "bin", "ecsmesh-init"), "check", "-refresh", "1s")
		run.Env = environment
		must(t, run.Start())
		time.Sleep(rand.N(25 * time.Millisecond)) // a run takes about as long
		must(t, run.Process.Kill())
		_ = run.Wait() // killed, or done before
	}
	for _, status := range []int32{500, 200} {
		health.status.Store(status)
		awaitHealth(t, l, task, map[int32]string{500: api.HealthCritical, 200: api.HealthPassing}[status])
	}
}

// environmentOf is that of the process that has both texts in its command line.
func environmentOf(t *testing.T, texts ...string) []string {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, process := range processes {
		// Processes come and go, and others' can't be read: neither is ours.
		command, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		if slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(string(command), text) }) {
			continue
		}
		environment, err := os.ReadFile(filepath.Join(process, "environ"))
		must(t, err)
		return strings.Split(strings.TrimRight(string(environment), "\x00"), "\x00")
	}
	t.Fatalf("no process has %v in its command line", texts)
	return nil
}

// volumeOf is the folder that stands for the task's shared volume.
func volumeOf(l *lab.Lab, task ecs.Task) string {
	return filepath.Join(l.ECS.TaskDir(task), "volumes", "ecsmesh")
}

func deregister(t *testing.T, l *lab.Lab, task ecs.Task) {
	t.Helper()
	consul, err := l.Consul()
	must(t, err)
	_, err = consul.Catalog().Deregister(&api.CatalogDeregistration{Node: mesh.NodeName(task.ID())}, nil)
	must(t, err)
}

// haveAContainerUnhealthy has the service's health follow that of a container.
func haveAContainerUnhealthy(t *testing.T, l *lab.Lab) {
	task := launch(t, l.API, configured(t, func(doc map[string]any) {
		delete(doc["service"].(map[string]any), "checks")
		doc["healthSyncContainers"] = []string{"api"}
	}), func(def *ecs.TaskDefinition) {
		app := application(def)
		app.HealthCheck = &ecs.HealthCheck{Command: []string{"CMD-SHELL", "! test -e " + app.MountPoints[0].Path + "/sick"}, Interval: 5, Retries: 1}
	})
	awaitHealth(t, l, task, api.HealthPassing)
	sick := filepath.Join(volumeOf(l, task), "sick")
	must(t, os.WriteFile(sick, nil, 0o600))
	awaitHealth(t, l, task, api.HealthCritical)
	must(t, os.Remove(sick))
	awaitHealth(t, l, task, api.HealthPassing)
}

// stopBehindTheWrapper wants the application to serve on for the grace period.
func stopBehindTheWrapper(t *testing.T, l *lab.Lab) {
	const grace = 2 * time.Second
	task := launch(t, l.API, wrapped(l, grace.String()))
	awaitHealth(t, l, task, api.HealthPassing)
	must(t, l.API.Stop(task.TaskARN))
	stopped, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	app := stopped.Container("api")
	if served := app.FinishedAt.Sub(stopped.StoppingAt.Time); served < grace {
		t.Errorf("the application ended %s after the stop, before the %s were over", served, grace)
	}
	if app.ExitCode == nil || *app.ExitCode != 0 {
		t.Errorf("the task is %s", stopped.Summary())
	}
	awaitLog(t, l, task, "SIGTERM received; passing it on in 2s", "api")
	must(t, l.WaitDeregistered(t.Context(), task))
}

func exitBehindTheWrapper(t *testing.T, l *lab.Lab) {
	task := launch(t, l.API, wrapped(l, "1h", "/bin/sh", "-c", "exit 7"))
	stopped, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	if code := stopped.Container("api").ExitCode; code == nil || *code != 7 {
		t.Errorf("the exit code is not 7; the task is %s", stopped.Summary())
	}
	must(t, l.WaitDeregistered(t.Context(), task))
}

// reuseAnAddress is on EC2, where a task knows its VPC: there, ECS has given the
// address to this task only because no other has it any more.
func reuseAnAddress(t *testing.T, l *lab.Lab, post *courier) {
	address, err := l.ECS.NewAddress()
	must(t, err)
	dead := launchAt(t, l, address, ecs.LaunchTypeEC2)
	awaitHealth(t, l, dead, api.HealthPassing)
	post.lose(dead)
	must(t, l.ECS.StopTask(dead.TaskARN, ""))
	_, err = l.WaitTask(t.Context(), dead, ecs.Task.Stopped)
	must(t, err)
	must(t, l.WaitRegistered(t.Context(), dead))
	task := launchAt(t, l, address, ecs.LaunchTypeEC2)
	awaitHealth(t, l, task, api.HealthPassing)
	must(t, l.WaitDeregistered(t.Context(), dead))
	awaitLog(t, l, task, "removed what a dead task left at this task's address", "ecsmesh-init")
}

// withoutMetadata takes the address of the metadata endpoint away from the
// containers of those names.
func withoutMetadata(names ...string) func(*ecs.TaskDefinition) {
	return func(def *ecs.TaskDefinition) {
		for i := range def.Containers {
			if c := &def.Containers[i]; slices.Contains(names, c.Name) {
				c.Environment = append(c.Environment, ecs.KeyValue{Name: "ECS_CONTAINER_METADATA_URI_V4"})
			}
		}
	}
}

func startWithoutMetadata(t *testing.T, l *lab.Lab) {
	task := launch(t, l.API, withoutMetadata("ecsmesh-init"))
	stopped, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	if stopped.StopCode != ecs.StopCodeTaskFailedToStart {
		t.Errorf("the task is %s", stopped.Summary())
	}
	awaitLog(t, l, stopped, "ECS_CONTAINER_METADATA_URI_V4 is not set", "ecsmesh-init")
	must(t, l.WaitDeregistered(t.Context(), task))
}

// runWithoutMetadata has Consul hear of a task's health, but the task is not
// registered again: nobody can say that ECS wants it to run.
func runWithoutMetadata(t *testing.T, l *lab.Lab) {
	health := newGate(t)
	task := launch(t, l.API, health.decides(t), withoutMetadata("envoy", "api"))
	awaitHealth(t, l, task, api.HealthPassing)
	health.status.Store(500)
	awaitHealth(t, l, task, api.HealthCritical)
	health.status.Store(200)
	awaitHealth(t, l, task, api.HealthPassing)
	deregister(t, l, task)
	awaitLog(t, l, task, "stays so while it is not known whether the task is stopping", "envoy.health", "api.health")
	must(t, l.WaitDeregistered(t.Context(), task))
}

// loseMetadata has the metadata endpoint answer late, and then refuse, while one
// task runs and another one starts.
func loseMetadata(t *testing.T, l *lab.Lab) {
	health := newGate(t)
	task := launch(t, l.API, health.decides(t))
	awaitHealth(t, l, task, api.HealthPassing)
	t.Cleanup(l.ECS.ClearFaults)
	var fresh ecs.Task
	for _, fault := range []struct {
		ecs.Fault
		says string
	}{
		{ecs.Fault{Action: "TaskMetadata", Delay: 3 * time.Second}, "Client.Timeout exceeded"},
		{ecs.Fault{Action: "TaskMetadata", Status: http.StatusTooManyRequests}, "HTTP status 429 Too Many Requests"},
	} {
		l.ECS.ClearFaults()
		l.ECS.Fail(fault.Fault)
		if fresh.TaskARN == "" {
			fresh = launch(t, l.API, configured(t, func(doc map[string]any) { doc["logLevel"] = "DEBUG" }))
		}
		for _, status := range []int32{500, 200} {
			health.status.Store(status)
			awaitHealth(t, l, task, map[int32]string{500: api.HealthCritical, 200: api.HealthPassing}[status])
		}
		awaitLog(t, l, fresh, fault.says, "ecsmesh-init")
	}
	deregister(t, l, task)
	awaitLog(t, l, task, "stays so while it is not known whether the task is stopping", "envoy.health", "api.health")
	must(t, l.WaitDeregistered(t.Context(), task))
	l.ECS.ClearFaults()
	awaitHealth(t, l, task, api.HealthPassing)
	awaitHealth(t, l, fresh, api.HealthPassing)
}

// configured changes the configuration of a task.
func configured(t *testing.T, change func(doc map[string]any)) func(*ecs.TaskDefinition) {
	return func(def *ecs.TaskDefinition) {
		edit(t, def, func(value string) string {
			var doc map[string]any
			must(t, json.Unmarshal([]byte(value), &doc))
			change(doc)
			out, err := json.Marshal(doc)
			must(t, err)
			return string(out)
		})
	}
}

// gate answers a service's health check as a test wants it.
type gate struct {
	url    string
	status atomic.Int32 // HTTP
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{}
	g.status.Store(200)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(g.status.Load())) }))
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

// decides has a task's service be as healthy as the gate says.
func (g *gate) decides(t *testing.T) func(*ecs.TaskDefinition) {
	return configured(t, func(doc map[string]any) {
		doc["service"].(map[string]any)["checks"] = []any{map[string]any{"name": "gate", "http": g.url}}
	})
}

// TestAnUnhealthyApplicationGetsNoTraffic freezes the application of one of
// two tasks, and lets it go on.
func TestAnUnhealthyApplicationGetsNoTraffic(t *testing.T) {
	t.Parallel()
	// The checks of a frozen application take their time, which is real.
	l, _ := startWithServers(t, lab.Options{Servers: 1, Second: time.Second})
	web, apis := startMesh(t, l, 2)
	must(t, l.ECS.Signal(apis[0].TaskARN, "api", syscall.SIGSTOP))
	must(t, l.WaitEndpoints(t.Context(), web, "api", apis[1]))
	must(t, l.WaitPassing(t.Context(), "api", apis[1]))
	must(t, l.ECS.Signal(apis[0].TaskARN, "api", syscall.SIGCONT))
	must(t, l.WaitPassing(t.Context(), "api", apis...))
	must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
}
