package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// retry has the queue try again after seconds, where AWS is given minutes.
const retry = 2 * time.Second

// tries is how often the queue hands out an event before it sets it aside.
func tries(most string) map[string]string {
	return map[string]string{"TaskEventsMaxReceives": most}
}

// courier stands between ECS and EventBridge. It delivers each event at once,
// unless it is told otherwise.
type courier struct {
	twice time.Duration // if not 0, after how long each is delivered once more

	mu      sync.Mutex
	loses   map[string]bool // ARNs of tasks whose events never arrive
	holds   string          // name of a cluster whose events wait
	waiting []func()
	sent    []func()
}

func (c *courier) events(ctx context.Context, event ecs.Event, deliver func(ecs.Event)) {
	c.mu.Lock()
	send := func() { deliver(event) }
	if c.twice > 0 && !c.loses[event.Task.TaskARN] {
		time.AfterFunc(c.twice, func() {
			if ctx.Err() == nil {
				deliver(event)
			}
		})
	}
	switch {
	case c.loses[event.Task.TaskARN]:
		send = func() {}
	case c.holds != "" && strings.HasSuffix(event.Task.ClusterARN, "/"+c.holds):
		c.waiting = append(c.waiting, send)
		send = func() {}
	default:
		c.sent = append(c.sent, send)
	}
	c.mu.Unlock()
	send()
}

// lose has no further event of the task arrive.
func (c *courier) lose(task ecs.Task) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loses == nil {
		c.loses = map[string]bool{}
	}
	c.loses[task.TaskARN] = true
}

// hold keeps the events of a cluster's tasks back.
func (c *courier) hold(cluster string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds = cluster
}

// release delivers what was kept back, in its order.
func (c *courier) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holds = ""
	for _, send := range c.waiting {
		send()
	}
	c.sent = append(c.sent, c.waiting...)
	c.waiting = nil
}

// resend delivers all events that have been delivered once more, the last one
// first.
func (c *courier) resend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, send := range slices.Backward(c.sent) {
		send()
	}
}

// step is a part of a test that needs what the steps before it left.
type step struct {
	name string
	run  func(*testing.T)
}

// inTurn runs the steps until one fails.
func inTurn(t *testing.T, steps ...step) {
	t.Helper()
	for _, s := range steps {
		if !t.Run(s.name, s.run) {
			return
		}
	}
}

// holdFault lets a fault last for FAULT_SECONDS. By default it lasts until the
// test has seen what it does.
func holdFault(t *testing.T) {
	t.Helper()
	value := os.Getenv("FAULT_SECONDS")
	if value == "" {
		return
	}
	seconds, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("FAULT_SECONDS is %q, want a whole number", value)
	}
	time.Sleep(time.Duration(seconds) * time.Second)
}

// newTaskARN is the ARN of a task that ECS does not know.
func newTaskARN() string {
	return fmt.Sprintf("arn:aws:ecs:us-east-1:000000000000:task/%s/%016x%016x", lab.MeshCluster, rand.Uint64(), rand.Uint64())
}

// registerByHand puts a task into the catalog, as one that registered then.
func registerByHand(t *testing.T, l *lab.Lab, taskARN string, at time.Time, address string) (node string) {
	t.Helper()
	consul, err := l.Consul()
	must(t, err)
	id := taskARN[strings.LastIndexByte(taskARN, '/')+1:]
	node = mesh.NodeName(id)
	_, err = consul.Catalog().Register(&api.CatalogRegistration{
		Node:    node,
		Address: address,
		NodeMeta: map[string]string{
			mesh.MetaSyntheticNode: "true",
			mesh.MetaTaskARN:       taskARN,
			mesh.MetaRegisteredAt:  at.UTC().Format(time.RFC3339),
		},
		Service: &api.AgentService{ID: mesh.ServiceID("worker", id), Service: "worker"},
	}, nil)
	must(t, err)
	return node
}

// stopOf is ECS's event of a stopped task, as far as it is read.
func stopOf(t *testing.T, taskARN string) string {
	t.Helper()
	event, err := json.Marshal(map[string]any{
		"id": "1", "source": "aws.ecs", "detail-type": "ECS Task State Change",
		"detail": map[string]any{"taskArn": taskARN, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"},
	})
	must(t, err)
	return string(event)
}

// sendStops puts the events of stopped tasks into the queue.
func sendStops(t *testing.T, l *lab.Lab, taskARNs []string) {
	t.Helper()
	var events []string
	for _, arn := range taskARNs {
		events = append(events, stopOf(t, arn))
	}
	send(t, l, events...)
}

// send puts messages into the queue of task events.
func send(t *testing.T, l *lab.Lab, bodies ...string) {
	t.Helper()
	const most = 10 // messages that SQS takes at once
	for chunk := range slices.Chunk(bodies, most) {
		var entries []types.SendMessageBatchRequestEntry
		for i, body := range chunk {
			entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), MessageBody: aws.String(body)})
		}
		out, err := sqs.NewFromConfig(l.Emulator.Config()).SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{
			QueueUrl: aws.String(l.Outputs["TaskEventsQueueUrl"]), Entries: entries,
		})
		must(t, err)
		if len(out.Failed) > 0 {
			t.Fatalf("send events: %d of %d failed", len(out.Failed), len(entries))
		}
	}
}

// awaitMeshNodes waits until exactly these tasks are in the catalog.
func awaitMeshNodes(t *testing.T, l *lab.Lab, tasks ...ecs.Task) {
	t.Helper()
	var want []string
	for _, task := range tasks {
		want = append(want, mesh.NodeName(task.ID()))
	}
	slices.Sort(want)
	must(t, lab.Await(t.Context(), fmt.Sprintf("exactly %d tasks in the catalog", len(want)), func(ctx context.Context) error {
		got, err := l.MeshNodes(ctx)
		if err != nil {
			return err
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("there are %d: %v", len(got), got)
		}
		return nil
	}))
}

// awaitRecovery waits until requests have been answered for a second, and says
// how many failed before.
func awaitRecovery(t *testing.T, load *lab.Load) {
	t.Helper()
	must(t, lab.Await(t.Context(), "an end of the failures", func(context.Context) error {
		requests := load.Requests()
		failed := lab.Failures(requests)
		if len(failed) == 0 {
			return nil
		}
		last := failed[len(failed)-1]
		if since := requests[len(requests)-1].Start.Sub(last.End()); since < time.Second {
			return fmt.Errorf("%d requests failed, the last %s ago: %w", len(failed), since, last.Err)
		}
		t.Logf("%d requests failed in %s", len(failed), last.End().Sub(failed[0].Start).Round(10*time.Millisecond))
		return nil
	}))
}

func lifecycle(ctx context.Context, l *lab.Lab, task ecs.Task) (*api.HealthCheck, error) {
	consul, err := l.Consul()
	if err != nil {
		return nil, err
	}
	checks, _, err := consul.Health().Node(mesh.NodeName(task.ID()), (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	for _, check := range checks {
		if check.CheckID == mesh.LifecycleCheckID {
			return check, nil
		}
	}
	return nil, errors.New("there is no lifecycle check")
}

// awaitHealth waits until all checks of a task's node together are passing,
// warning or critical.
func awaitHealth(t *testing.T, l *lab.Lab, task ecs.Task, want string) {
	t.Helper()
	must(t, lab.Await(t.Context(), "the task at "+task.Address().String()+" to be "+want, func(ctx context.Context) error {
		consul, err := l.Consul()
		if err != nil {
			return err
		}
		checks, _, err := consul.Health().Node(mesh.NodeName(task.ID()), (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		now, _ := l.ECS.Task(task.TaskARN)
		if len(checks) == 0 {
			return fmt.Errorf("it has no checks in Consul; it is %s", now.Summary())
		}
		if got := checks.AggregatedStatus(); got != want {
			return fmt.Errorf("it is %s; to ECS it is %s", got, now.Summary())
		}
		return nil
	}))
}

// awaitLog waits until one of the logs of a task's containers says something.
func awaitLog(t *testing.T, l *lab.Lab, task ecs.Task, words string, containers ...string) {
	t.Helper()
	must(t, lab.Await(t.Context(), fmt.Sprintf("%q in a log of %v", words, containers), func(context.Context) error {
		var log []byte
		for _, container := range containers {
			content, err := os.ReadFile(l.Log(task, container))
			if err != nil {
				return err
			}
			log = append(log, content...)
		}
		if !strings.Contains(string(log), words) {
			now, _ := l.ECS.Task(task.TaskARN)
			return fmt.Errorf("it ends %q; the task is %s", log[max(0, len(log)-500):], now.Summary())
		}
		return nil
	}))
}

// launchAt starts a task of api at an address of which a task before it may
// have left traces.
func launchAt(t *testing.T, l *lab.Lab, address netip.Addr, launchType string) ecs.Task {
	t.Helper()
	def, err := l.API.Define(t.Context(), address)
	must(t, err)
	task, err := l.ECS.RunTask(def, ecs.TaskOptions{Cluster: lab.MeshCluster, Group: "service:api", LaunchType: launchType, Address: address})
	must(t, err)
	return task
}

// wrapped has the application run in the wrapper that keeps SIGTERM back; a
// command runs in its place.
func wrapped(l *lab.Lab, grace string, command ...string) func(*ecs.TaskDefinition) {
	if len(command) == 0 {
		command = []string{filepath.Join(l.Dir, "app")}
	}
	return func(def *ecs.TaskDefinition) {
		app := application(def)
		binary := app.MountPoints[0].Path + "/bin/ecsmesh-init"
		app.EntryPoint = append([]string{binary, "entrypoint", "-grace", grace, "--"}, command...)
		app.StopTimeout = 120
	}
}

// application is the container that is neither ours nor Envoy.
func application(def *ecs.TaskDefinition) *ecs.ContainerDefinition {
	return &def.Containers[len(def.Containers)-1]
}
