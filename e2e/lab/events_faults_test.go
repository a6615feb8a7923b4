package lab_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/lab"
	"ecsmesh/functions/sweep/sweep"
	"ecsmesh/shared/mesh"
)

// TestEventsInTrouble has every event come twice, the second time late, when
// others have come in between.
func TestEventsInTrouble(t *testing.T) {
	t.Parallel()
	post := courier{twice: 2 * time.Second}
	l, servers := startWithServers(t, lab.Options{Servers: 1, Events: post.events, Retry: retry, Parameters: tries("20")})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 3)
	live, stopping, dead := apis[0], apis[1], apis[2]
	var fresh ecs.Task

	drain := func(t *testing.T) {
		task := launch(t, l.API, wrapped(l, "1h"))
		awaitHealth(t, l, task, api.HealthPassing)
		must(t, l.ECS.StopTask(task.TaskARN, "makes room for another"))
		awaitDrain(t, l, task)
		check, err := lifecycle(t.Context(), l, task)
		must(t, err)
		if check.Status != api.HealthCritical || !strings.HasPrefix(check.Output, "UserInitiated: makes room for another (since ") {
			t.Errorf("the check is %s, %q", check.Status, check.Output)
		}
		must(t, l.ECS.Signal(task.TaskARN, "api", syscall.SIGTERM)) // the second passes at once
		must(t, l.WaitDeregistered(t.Context(), task))
		_, err = l.WaitTask(t.Context(), task, ecs.Task.Stopped)
		must(t, err)
	}

	// again is what SQS and EventBridge may do after all work is done.
	again := func(t *testing.T) {
		for range 2 {
			post.resend()
		}
		last := newTaskARN()
		registerByHand(t, l, last, time.Now(), "10.1.2.3")
		sendStops(t, l, []string{last})
		awaitMeshNodes(t, l, append(slices.Clone(apis), web)...)
		awaitQueuesEmpty(t, l)
		awaitMeshNodes(t, l, append(slices.Clone(apis), web)...)
		must(t, l.WaitPassing(t.Context(), "api", apis...))
		must(t, l.WaitPublished(t.Context(), servers...))
	}

	const poison = `{"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {"taskArn": 7}}`
	poisoned := func(t *testing.T) {
		arn := newTaskARN()
		registerByHand(t, l, arn, time.Now(), "10.1.2.3")
		send(t, l, poison, stopOf(t, arn))
		awaitMeshNodes(t, l, append(slices.Clone(apis), web)...)
	}

	// SSM and ECS refuse all that tasks and functions ask of them.
	throttled := func(t *testing.T) {
		throttle(t, l, 0)
		holdFault(t)
		fresh = launch(t, l.API)
		post.resend() // so that publish-servers has something to do
		must(t, l.API.Stop(stopping.TaskARN))
		awaitLog(t, l, fresh, throttling, "ecsmesh-init")
		_, err := l.WaitTask(t.Context(), stopping, ecs.Task.Stopped)
		must(t, err)
		for _, task := range []ecs.Task{web, live} {
			if now, _ := l.ECS.Task(task.TaskARN); !now.Ready() {
				t.Errorf("a task is %s", now.Summary())
			}
		}
		clearFaults(t, l)
		must(t, l.WaitDeregistered(t.Context(), stopping))
		must(t, l.WaitPassing(t.Context(), "api", live, dead, fresh))
		awaitMeshNodes(t, l, web, live, dead, fresh)
		must(t, l.WaitPublished(t.Context(), servers...))
	}

	// The sweep tries on while it is throttled; what ECS refuses for good stops
	// it before it deletes anything.
	sweep := func(t *testing.T) {
		post.lose(dead)
		must(t, l.API.Stop(dead.TaskARN))
		_, err := l.WaitTask(t.Context(), dead, ecs.Task.Stopped)
		must(t, err)
		l.ECS.Fail(ecs.Fault{Action: "DescribeTasks", Status: http.StatusBadRequest, Code: "AccessDeniedException", Message: "not allowed"})
		if err := l.Sweep(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "nothing is deleted in this run") {
			t.Errorf("the sweep says %v, want that nothing is deleted", err)
		}
		clearFaults(t, l)
		awaitMeshNodes(t, l, web, live, dead, fresh)
		throttle(t, l, 2)
		must(t, l.Sweep(t.Context(), ""))
		awaitMeshNodes(t, l, web, live, fresh)
		must(t, l.WaitEndpoints(t.Context(), web, "api", live, fresh))
	}

	// Tasks that run don't need the parameter, and one that starts waits for it.
	deleted := func(t *testing.T, publish func()) {
		load := lab.StartLoad(t.Context(), web, 50)
		_, err := ssm.NewFromConfig(l.Emulator.Config()).DeleteParameter(t.Context(), &ssm.DeleteParameterInput{Name: aws.String(lab.ServersParameter)})
		must(t, err)
		waiting := launch(t, l.API)
		awaitLog(t, l, waiting, "no servers published yet", "ecsmesh-init")
		publish()
		must(t, l.WaitPublished(t.Context(), servers...))
		awaitHealth(t, l, waiting, api.HealthPassing)
		noFailures(t, load.Stop())
	}

	inTurn(t,
		step{"a drain says why", drain},
		step{"all come again, the last one first", again},
		step{"a poison message holds up no other", poisoned},
		step{"SSM and ECS throttle tasks and functions", throttled},
		step{"ECS refuses and throttles the sweep", sweep},
		step{"the parameter is deleted, and published with an event", func(t *testing.T) { deleted(t, post.resend) }},
		step{"the parameter is deleted, and published with the sweep", func(t *testing.T) {
			deleted(t, func() { must(t, l.Sweep(t.Context(), "")) })
		}},
		step{"the poison, and nothing else, is set aside", func(t *testing.T) { awaitSetAside(t, l, poison) }},
	)
}

const throttling = "ThrottlingException"

// throttle has SSM and ECS refuse so many calls of each kind; 0 is all.
func throttle(t *testing.T, l *lab.Lab, calls int) {
	t.Helper()
	t.Cleanup(func() { clearFaults(t, l) })
	for _, action := range []string{"GetParameter", "PutParameter"} {
		must(t, l.Emulator.Fail(t.Context(), emulator.Fault{Action: action, Code: throttling, Times: cmp.Or(calls, -1)}))
	}
	for _, action := range []string{"ListTasks", "DescribeTasks"} {
		l.ECS.Fail(ecs.Fault{Action: action, Status: http.StatusBadRequest, Code: throttling, Message: "Rate exceeded", Times: calls})
	}
}

func clearFaults(t *testing.T, l *lab.Lab) {
	t.Helper()
	if err := l.Emulator.ClearFaults(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	l.ECS.ClearFaults()
}

// awaitQueuesEmpty waits until all events are handled, and none was set aside.
func awaitQueuesEmpty(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, queue := range []string{"TaskEventsQueueUrl", "TaskEventsDeadLetterQueueUrl", "UndeliveredEventsQueueUrl"} {
		must(t, lab.Await(t.Context(), "no message in "+queue, func(ctx context.Context) error {
			out, err := sqs.NewFromConfig(l.Emulator.Config()).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
				QueueUrl: aws.String(l.Outputs[queue]), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
			})
			if err != nil {
				return err
			}
			for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"} {
				if n := out.Attributes[name]; n != "0" {
					return fmt.Errorf("%s is %q", name, n)
				}
			}
			return nil
		}))
	}
}

// awaitSetAside waits until the dead-letter queue has one message, this one.
func awaitSetAside(t *testing.T, l *lab.Lab, want string) {
	t.Helper()
	must(t, lab.Await(t.Context(), "one message in the dead-letter queue", func(ctx context.Context) error {
		out, err := sqs.NewFromConfig(l.Emulator.Config()).ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(l.Outputs["TaskEventsDeadLetterQueueUrl"]), MaxNumberOfMessages: 10,
		})
		if err != nil {
			return err
		}
		if len(out.Messages) != 1 || aws.ToString(out.Messages[0].Body) != want {
			return fmt.Errorf("it has %d messages", len(out.Messages))
		}
		return nil
	}))
}

// TestTheSweepMakesGoodWhatEventsMissed has one sweep find everything that it
// is there for, and much that it must leave alone.
func TestTheSweepMakesGoodWhatEventsMissed(t *testing.T) {
	t.Parallel()
	var post courier
	l, _ := startWithServers(t, lab.Options{Servers: 1, Events: post.events})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 2)
	dead, drained := apis[0], apis[1]
	late, early := launch(t, l.API, wrapped(l, "1h")), launch(t, l.API, wrapped(l, "1h"))
	must(t, l.WaitPassing(t.Context(), "api", dead, drained, late, early))

	// A task stops, no event of that arrives, and another one gets its address.
	post.lose(dead)
	must(t, l.API.Stop(dead.TaskARN))
	_, err := l.WaitTask(t.Context(), dead, ecs.Task.Stopped)
	must(t, err)
	successor := launchAt(t, l, dead.Address(), ecs.LaunchTypeFargate)
	awaitHealth(t, l, successor, api.HealthPassing)
	awaitLog(t, l, successor, "another node has this task's address", "ecsmesh-init")
	// Somebody drains a task that lives.
	drainByHand(t, l, drained)
	// Two tasks take long to stop, and of only one of them an event arrives.
	post.lose(late)
	must(t, l.API.Stop(late.TaskARN))
	must(t, l.API.Stop(early.TaskARN))
	awaitDrain(t, l, early)
	// ECS doesn't know a task any more, or not yet, or clocks differ.
	now := time.Now()
	forgotten := registerByHand(t, l, newTaskARN(), now.Add(-6*time.Minute), "10.1.2.3")
	young := registerByHand(t, l, newTaskARN(), now, "10.1.2.4")
	future := registerByHand(t, l, newTaskARN(), now.Add(time.Hour), "10.1.2.5")

	stillDrained := watchDrain(t, l, early)
	expectDifferences(t, l, map[string][]sweep.Kind{
		mesh.NodeName(dead.ID()): {sweep.DeadRegistered, sweep.AddressTwice}, mesh.NodeName(successor.ID()): {sweep.AddressTwice},
		mesh.NodeName(drained.ID()): {sweep.RunningDrained}, mesh.NodeName(late.ID()): {sweep.StoppingUndrained},
		forgotten: {sweep.DeadRegistered}, future: {sweep.Unclear},
	})
	must(t, l.Sweep(t.Context(), ""))
	expectDifferences(t, l, map[string][]sweep.Kind{future: {sweep.Unclear}})

	for name, want := range map[string]bool{
		mesh.NodeName(dead.ID()): false, mesh.NodeName(successor.ID()): true, mesh.NodeName(web.ID()): true, mesh.NodeName(drained.ID()): true,
		mesh.NodeName(late.ID()): true, mesh.NodeName(early.ID()): true, forgotten: false, young: true, future: true,
	} {
		nodes, err := l.MeshNodes(t.Context())
		must(t, err)
		if got := slices.Contains(nodes, name); got != want {
			t.Errorf("%s is registered: %t, want %t", name, got, want)
		}
	}
	if check, err := lifecycle(t.Context(), l, drained); err == nil {
		t.Errorf("the task that lives is still drained: %+v", check)
	}
	if _, err := lifecycle(t.Context(), l, late); err != nil {
		t.Errorf("the task whose stop was missed: %v", err)
	}
	must(t, l.WaitEndpoints(t.Context(), web, "api", drained, successor))
	load := lab.StartLoad(t.Context(), web, 50)
	must(t, lab.Await(t.Context(), "answers of the task at the dead one's address", func(context.Context) error {
		if len(lab.AnsweredBy(load.Requests(), successor)) == 0 {
			return errors.New("none")
		}
		return nil
	}))

	// The two end, one of them again without a word.
	for _, task := range []ecs.Task{late, early} {
		must(t, l.ECS.Signal(task.TaskARN, "api", syscall.SIGTERM)) // the second passes at once
		_, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
		must(t, err)
	}
	must(t, l.WaitDeregistered(t.Context(), early))
	stillDrained()
	must(t, l.Sweep(t.Context(), ""))
	must(t, l.WaitDeregistered(t.Context(), late))
	must(t, l.WaitPassing(t.Context(), "api", drained, successor))
	noFailures(t, load.Stop())
}

func drainByHand(t *testing.T, l *lab.Lab, task ecs.Task) {
	t.Helper()
	consul, err := l.Consul()
	must(t, err)
	name := mesh.NodeName(task.ID())
	_, err = consul.Catalog().Register(&api.CatalogRegistration{Node: name, SkipNodeUpdate: true, Check: &api.AgentCheck{
		Node: name, CheckID: mesh.LifecycleCheckID, Name: mesh.LifecycleCheckName, Status: api.HealthCritical, Output: "by hand",
	}}, nil)
	must(t, err)
}

func awaitDrain(t *testing.T, l *lab.Lab, task ecs.Task) {
	t.Helper()
	must(t, lab.Await(t.Context(), "the drain of the task at "+task.Address().String(), func(ctx context.Context) error {
		_, err := lifecycle(ctx, l, task)
		return err
	}))
}

// watchDrain looks at a drained task until its result is called, which fails the
// test if there was a moment at which the task was registered and not drained.
func watchDrain(t *testing.T, l *lab.Lab, task ecs.Task) (result func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var fault error
		for fault == nil {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-tick.C:
				fault = drainedOrGone(ctx, l, task)
			}
		}
		ended <- fault
	}()
	return func() {
		t.Helper()
		stop()
		if fault := <-ended; fault != nil && !errors.Is(fault, context.Canceled) {
			t.Error(fault)
		}
	}
}

func drainedOrGone(ctx context.Context, l *lab.Lab, task ecs.Task) error {
	consul, err := l.Consul()
	if err != nil {
		return err
	}
	checks, _, err := consul.Health().Node(mesh.NodeName(task.ID()), (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return err
	}
	drain := func(check *api.HealthCheck) bool { return check.CheckID == mesh.LifecycleCheckID }
	if len(checks) > 0 && !slices.ContainsFunc(checks, drain) {
		return fmt.Errorf("the task at %s was drained, and is not any more", task.Address())
	}
	return nil
}
