package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/e2e/tools"
	"ecsmesh/shared/mesh"
)

// impatient has the queue try again after seconds, where AWS would be given
// minutes.
func impatient(receives string) map[string]string {
	return map[string]string{"TaskEventsVisibilityTimeoutSeconds": "2", "TaskEventsMaxReceives": receives}
}

// TestAPoisonMessageHoldsUpNoOther has it in one batch with a task's stop.
func TestAPoisonMessageHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{Parameters: impatient("2")})
	queues := sqs.NewFromConfig(l.Emulator.Config())
	task := launch(t, l.API)
	must(t, l.WaitRegistered(t.Context(), task))

	stopped, err := json.Marshal(map[string]any{
		"id": "1", "source": "aws.ecs", "detail-type": "ECS Task State Change",
		"detail": map[string]any{"taskArn": task.TaskARN, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"},
	})
	must(t, err)
	const poison = `{"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {"taskArn": 7}}`
	_, err = queues.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{
		QueueUrl: aws.String(l.Outputs["TaskEventsQueueUrl"]),
		Entries: []types.SendMessageBatchRequestEntry{
			{Id: aws.String("poison"), MessageBody: aws.String(poison)},
			{Id: aws.String("stop"), MessageBody: aws.String(string(stopped))},
		},
	})
	must(t, err)
	must(t, l.WaitDeregistered(t.Context(), task))
	must(t, lab.Await(t.Context(), "the poison in the dead-letter queue, alone", func(ctx context.Context) error {
		out, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: aws.String(l.Outputs["TaskEventsDeadLetterQueueUrl"]), MaxNumberOfMessages: 10})
		if err != nil {
			return err
		}
		if len(out.Messages) != 1 || aws.ToString(out.Messages[0].Body) != poison {
			return fmt.Errorf("it holds %d messages", len(out.Messages))
		}
		return nil
	}))
}

// TestAConsulOutageStopsNothing freezes all servers while requests flow and
// a task stops: the traffic goes on, ECS sees healthy tasks, and the stop is
// made good when Consul is back.
func TestAConsulOutageStopsNothing(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{Parameters: impatient("100")})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 2)

	load := lab.StartLoad(t.Context(), web, 50)
	signalServers(t, l, servers, syscall.SIGSTOP)
	must(t, lab.Await(t.Context(), "health checks during the outage", func(context.Context) error {
		// A second's worth of load is several runs of every health check.
		if n := len(load.Requests()); n < 150 {
			return fmt.Errorf("%d requests so far", n)
		}
		return nil
	}))
	for _, task := range append([]ecs.Task{web}, apis...) {
		now, _ := l.ECS.Task(task.TaskARN)
		if !now.Ready() {
			t.Errorf("during the outage, a task is %s", now.Summary())
		}
	}
	noFailures(t, load.Stop())

	must(t, l.API.Stop(apis[0].TaskARN))
	_, err := l.WaitTask(t.Context(), apis[0], ecs.Task.Stopped)
	must(t, err)
	signalServers(t, l, servers, syscall.SIGCONT)
	must(t, l.WaitLeader(t.Context()))
	must(t, l.WaitDeregistered(t.Context(), apis[0]))
	must(t, l.WaitPassing(t.Context(), "api", apis[1]))
}

func signalServers(t *testing.T, l *lab.Lab, servers []ecs.Task, signal syscall.Signal) {
	t.Helper()
	for _, server := range servers {
		must(t, l.ECS.Signal(server.TaskARN, "consul-server", signal))
	}
}

// TestTheListOutlivesTheServers stops every Consul server.
func TestTheListOutlivesTheServers(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{})
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

// TestATaskThatEndsByItselfLeaves has the application exit.
func TestATaskThatEndsByItselfLeaves(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{})
	task := launch(t, l.API)
	must(t, l.WaitPassing(t.Context(), "api", task))
	must(t, l.ECS.Signal(task.TaskARN, "api", syscall.SIGKILL))
	must(t, l.WaitDeregistered(t.Context(), task))
	stopped, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	if stopped.StopCode != ecs.StopCodeEssentialContainerExited {
		t.Errorf("the task is %s", stopped.Summary())
	}
}

// TestDrainSaysWhy keeps the last event of a stop back, so that the drained
// node stays to be looked at.
func TestDrainSaysWhy(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var kept []func()
	l, _ := startWithServers(t, lab.Options{Events: func(_ context.Context, event ecs.Event, deliver func(ecs.Event)) {
		if event.Task.Stopped() {
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, func() { deliver(event) })
			return
		}
		deliver(event)
	}})
	task := launch(t, l.API)
	must(t, l.WaitPassing(t.Context(), "api", task))
	must(t, l.ECS.StopTask(task.TaskARN, "makes room for another"))
	stopped, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
	must(t, err)
	must(t, lab.Await(t.Context(), "the drain", func(ctx context.Context) error {
		check, err := lifecycle(ctx, l, task)
		if err != nil {
			return err
		}
		if want := string(stopped.StopCode) + ": " + stopped.StoppedReason; check.Status != api.HealthCritical || check.Output != want {
			return fmt.Errorf("the check is %s, %q", check.Status, check.Output)
		}
		return nil
	}))
	mu.Lock()
	defer mu.Unlock()
	for _, deliver := range kept {
		deliver()
	}
	must(t, l.WaitEmpty(t.Context()))
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

// TestAnUnhealthyApplicationGetsNoTraffic freezes the application of one of
// two tasks, and lets it go on.
func TestAnUnhealthyApplicationGetsNoTraffic(t *testing.T) {
	t.Parallel()
	// The checks of a frozen application take their time, which is real.
	l, _ := startWithServers(t, lab.Options{Second: time.Second})
	web, apis := startMesh(t, l, 2)
	must(t, l.ECS.Signal(apis[0].TaskARN, "api", syscall.SIGSTOP))
	must(t, l.WaitEndpoints(t.Context(), web, "api", apis[1]))
	must(t, l.WaitPassing(t.Context(), "api", apis[1]))
	must(t, l.ECS.Signal(apis[0].TaskARN, "api", syscall.SIGCONT))
	must(t, l.WaitPassing(t.Context(), "api", apis...))
	must(t, l.WaitEndpoints(t.Context(), web, "api", apis...))
}

// TestTheDemoTellsItsStory runs it as users do.
func TestTheDemoTellsItsStory(t *testing.T) {
	root, err := tools.Root()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "run", "./e2e/demo")
	command.Dir = root
	output, err := command.CombinedOutput()
	out := string(output)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"T0", "T1", "T2", "T3", "T4", "0 failed", "the catalog is empty", "cleaned up"} {
		if !strings.Contains(out, want) {
			t.Errorf("the story has no %q:\n%s", want, out)
		}
	}
	if picture, err := os.ReadFile(filepath.Join(root, "dist", "demo-timeline.svg")); err != nil || !strings.Contains(string(picture), "</svg>") {
		t.Errorf("the picture: %v", err)
	}
}
