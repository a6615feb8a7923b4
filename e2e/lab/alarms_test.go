package lab_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/cloudwatch"
	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// TestEachAlarmHasItsFault drives every alarm of the stack into ALARM by a fault
// that real functions meet, and back by the cure that its description names. No
// other alarm goes on by it than is said here. What takes minutes in CloudWatch
// passes on a clock of the test's own.
func TestEachAlarmHasItsFault(t *testing.T) {
	t.Parallel()
	parameters := tries("15")
	parameters["SweepMaxDeletedTasks"], parameters["SweepMaxDeletedPercent"] = "2", "0"
	parameters["PublishServersScheduleState"], parameters["SweepScheduleState"] = "DISABLED", "ENABLED"
	parameters["SweepScheduleExpression"] = "rate(1 day)" // the test sweeps by itself
	l := start(t, lab.Options{Servers: 1, Retry: retry, Parameters: parameters})
	p := &pager{lab: l, monitoring: l.Monitor(), now: time.Now().Truncate(time.Hour), rang: map[string]bool{}}
	all, err := cloudwatch.Alarms(t.Context(), l.Emulator.Config())
	must(t, err)

	steps := []step{
		{"NoUsableServer, SweepErrors, SweepStopped", p.noServers},
		{"PublishServersErrors", p.publishServersErrors},
		{"EventsWaiting, SweepErrors", p.consulGone},
		{"SlowEvents", p.slowEvents},
		{"DeregisterTasksErrors", p.deregisterTasksErrors},
		{"DeregisterTasksThrottles", p.throttles},
		{"DeadLetters", p.deadLetters},
		{"UndeliveredEvents", p.undelivered},
		{"Drift", p.drift},
		{"BrakeApplied", p.brake},
		{"LiveTaskDrained", p.liveTaskDrained},
		{"EcsUnanswered", p.ecsUnanswered},
	}
	inTurn(t, steps...)
	for name := range all {
		if name = strings.TrimPrefix(name, lab.Stack+"-"); !p.rang[name] && !t.Failed() {
			t.Errorf("no fault turned alarm %s on", name)
		}
	}
}

// pager is who would be woken.
type pager struct {
	lab        *lab.Lab
	monitoring *lab.Monitoring
	now        time.Time // CloudWatch's
	sent       time.Time // of the oldest message that waits
	rang       map[string]bool
}

// pass takes in what happened, and lets the time pass.
func (p *pager) pass(t *testing.T, by time.Duration) {
	t.Helper()
	must(t, p.monitoring.TakeIn(t.Context(), p.now))
	must(t, p.monitoring.LookAtQueues(t.Context(), p.now, p.sent))
	p.now = p.now.Add(by)
}

// expect says which alarms are on.
func (p *pager) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	got, err := p.monitoring.Alarmed(t.Context(), p.now)
	must(t, err)
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("%s: on are %q, want %q", when, got, want)
	}
	for _, name := range got {
		p.rang[name] = true
	}
}

// sweep is a run that ends well, and the five minutes until the next.
func (p *pager) sweep(t *testing.T) {
	t.Helper()
	must(t, p.lab.Sweep(t.Context(), ""))
	p.pass(t, 5*time.Minute)
}

// quiet is an hour in which all is well.
func (p *pager) quiet(t *testing.T) {
	t.Helper()
	for range 12 {
		p.sweep(t)
	}
	p.expect(t, "an hour after the cure")
}

// invoke invokes a function, as its trigger does, and notes what Lambda would.
func (p *pager) invoke(t *testing.T, function, event string) error {
	t.Helper()
	out, err := lambda.NewFromConfig(p.lab.Emulator.Config(), func(o *lambda.Options) { o.RetryMaxAttempts = 1 }).Invoke(t.Context(),
		&lambda.InvokeInput{FunctionName: aws.String(p.lab.Outputs[function]), Payload: []byte(event)})
	var throttled *lambdatypes.TooManyRequestsException
	switch {
	case errors.As(err, &throttled):
		p.monitoring.Invoked("Throttles", function, p.now)
		return err
	case err != nil:
		t.Fatal(err)
	case out.FunctionError != nil:
		p.monitoring.Invoked("Errors", function, p.now)
		return fmt.Errorf("%s: %s", *out.FunctionError, out.Payload)
	}
	return nil
}

// There is no server yet, as after a first deployment.
func (p *pager) noServers(t *testing.T) {
	for range 2 { // which publishes, too, and is all that has a schedule here
		if err := p.invoke(t, "SweepFunction", scheduled); err == nil {
			t.Error("the sweep does its work without Consul")
		}
		p.pass(t, 5*time.Minute)
	}
	p.expect(t, "no server runs", "NoUsableServer", "SweepErrors", "SweepStopped")
	p.startServers(t)
	p.sweep(t) // while they start, events find none that is usable yet
	must(t, p.invoke(t, "PublishServersFunction", scheduled))
	p.sweep(t)
	p.expect(t, "servers run")
}

func (p *pager) startServers(t *testing.T) {
	t.Helper()
	servers, err := p.lab.StartServers(t.Context())
	must(t, err)
	must(t, p.lab.WaitPublished(t.Context(), servers...))
}

// scheduled is what the schedules send.
const scheduled = `{"source": "ecsmesh.schedule", "id": "1", "time": "2026-01-02T03:04:05Z"}`

func (p *pager) publishServersErrors(t *testing.T) {
	p.lab.ECS.Fail(ecs.Fault{Action: "ListTasks", Status: http.StatusBadRequest, Code: "AccessDeniedException", Message: "not allowed", Times: -1})
	t.Cleanup(p.lab.ECS.ClearFaults)
	for range 3 {
		if err := p.invoke(t, "PublishServersFunction", scheduled); err == nil {
			t.Error("publish-servers does its work without ECS")
		}
		p.pass(t, 5*time.Minute)
	}
	p.expect(t, "ECS refuses", "PublishServersErrors")
	p.lab.ECS.ClearFaults()
	must(t, p.invoke(t, "PublishServersFunction", scheduled))
	p.pass(t, 5*time.Minute)
	p.quiet(t)
}

// The servers are gone, and the list still names them.
func (p *pager) consulGone(t *testing.T) {
	for _, arn := range p.lab.Servers.Tasks() {
		must(t, p.lab.Servers.Stop(arn))
		_, err := p.lab.ECS.Wait(t.Context(), arn, ecs.Task.Stopped)
		must(t, err)
	}
	p.sent = p.now
	sendStops(t, p.lab, []string{newTaskARN()})
	sweeps := make(chan error)
	for range 2 { // at once, since each waits long for Consul
		go func() { sweeps <- p.lab.Sweep(t.Context(), "") }()
	}
	for range 2 {
		if err := <-sweeps; err == nil {
			t.Error("the sweep does its work without Consul")
		}
		p.monitoring.Invoked("Errors", "SweepFunction", p.now)
		p.pass(t, 5*time.Minute)
	}
	p.pass(t, time.Minute)
	p.expect(t, "Consul is gone", "EventsWaiting", "SweepErrors")
	p.startServers(t)
	awaitQueuesEmpty(t, p.lab)
	p.quiet(t)
}

// Events reach the function a minute after they happened.
func (p *pager) slowEvents(t *testing.T) {
	for range 3 {
		arn := newTaskARN()
		registerByHand(t, p.lab, arn, time.Now(), "10.1.2.3")
		send(t, p.lab, strings.Replace(stopOf(t, arn), `{"detail":{`,
			fmt.Sprintf(`{"detail":{"updatedAt":%q,`, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339Nano)), 1))
		awaitMeshNodes(t, p.lab)
		awaitQueuesEmpty(t, p.lab)
		p.pass(t, time.Minute)
	}
	p.expect(t, "events are a minute late", "SlowEvents")
	for range 3 {
		arn := newTaskARN()
		registerByHand(t, p.lab, arn, time.Now(), "10.1.2.3")
		send(t, p.lab, strings.Replace(stopOf(t, arn), `{"detail":{`,
			fmt.Sprintf(`{"detail":{"updatedAt":%q,`, time.Now().UTC().Format(time.RFC3339Nano)), 1))
		awaitMeshNodes(t, p.lab)
		awaitQueuesEmpty(t, p.lab)
		p.pass(t, time.Minute)
	}
	p.expect(t, "events come at once")
	p.quiet(t)
}

// Somebody changed the function's environment by hand.
func (p *pager) deregisterTasksErrors(t *testing.T) {
	client := lambda.NewFromConfig(p.lab.Emulator.Config())
	name := aws.String(p.lab.Outputs["DeregisterTasksFunction"])
	before, err := client.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: name})
	must(t, err)
	set := func(port string) {
		t.Helper()
		variables := maps.Clone(before.Environment.Variables)
		variables["CONSUL_HTTP_PORT"] = port
		_, err := client.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{
			FunctionName: name, Environment: &lambdatypes.Environment{Variables: variables},
		})
		must(t, err)
	}
	set("eight")
	for range 3 {
		if err := p.invoke(t, "DeregisterTasksFunction", `{"Records": []}`); err == nil {
			t.Error("deregister-tasks works with port eight")
		}
		p.pass(t, time.Minute)
	}
	p.expect(t, "the port is no number", "DeregisterTasksErrors")
	set(before.Environment.Variables["CONSUL_HTTP_PORT"])
	must(t, p.invoke(t, "DeregisterTasksFunction", `{"Records": []}`))
	p.quiet(t)
}

// The account has no concurrency left.
func (p *pager) throttles(t *testing.T) {
	client := lambda.NewFromConfig(p.lab.Emulator.Config())
	name := aws.String(p.lab.Outputs["DeregisterTasksFunction"])
	_, err := client.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: name, ReservedConcurrentExecutions: aws.Int32(0)})
	must(t, err)
	for range 3 {
		if err := p.invoke(t, "DeregisterTasksFunction", `{"Records": []}`); err == nil {
			t.Error("a function without concurrency runs")
		}
		p.pass(t, time.Minute)
	}
	p.expect(t, "Lambda has no room", "DeregisterTasksThrottles")
	_, err = client.DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: name})
	must(t, err)
	must(t, p.invoke(t, "DeregisterTasksFunction", `{"Records": []}`))
	p.quiet(t)
}

// What nobody can read is given up after its tries.
func (p *pager) deadLetters(t *testing.T) {
	p.sent = p.now
	send(t, p.lab, `{"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {"taskArn": 7}}`)
	p.awaitMessage(t, "TaskEventsDeadLetterQueueUrl")
	p.pass(t, time.Minute)
	p.expect(t, "an event was given up", "DeadLetters")
	p.purge(t, "TaskEventsDeadLetterQueueUrl")
	p.quiet(t)
}

// The emulator has no dead-letter queues of rules: this is EventBridge's part.
func (p *pager) undelivered(t *testing.T) {
	_, err := sqs.NewFromConfig(p.lab.Emulator.Config()).SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(p.lab.Outputs["UndeliveredEventsQueueUrl"]), MessageBody: aws.String(stopOf(t, newTaskARN())),
	})
	must(t, err)
	p.sent = p.now
	p.awaitMessage(t, "UndeliveredEventsQueueUrl")
	p.pass(t, time.Minute)
	p.expect(t, "an event was not delivered", "UndeliveredEvents")
	p.purge(t, "UndeliveredEventsQueueUrl")
	p.quiet(t)
}

func (p *pager) awaitMessage(t *testing.T, queue string) {
	t.Helper()
	must(t, lab.Await(t.Context(), "a message in "+queue, func(ctx context.Context) error {
		out, err := sqs.NewFromConfig(p.lab.Emulator.Config()).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: aws.String(p.lab.Outputs[queue]), AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
		})
		if err != nil {
			return err
		}
		if out.Attributes["ApproximateNumberOfMessages"] == "0" {
			return errors.New("there is none")
		}
		return nil
	}))
}

func (p *pager) purge(t *testing.T, queue string) {
	t.Helper()
	_, err := sqs.NewFromConfig(p.lab.Emulator.Config()).PurgeQueue(t.Context(), &sqs.PurgeQueueInput{QueueUrl: aws.String(p.lab.Outputs[queue])})
	must(t, err)
}

// No event arrives: a task dies between every two sweeps.
func (p *pager) drift(t *testing.T) {
	for range 3 {
		p.dies(t)
		p.sweep(t)
		awaitMeshNodes(t, p.lab)
	}
	p.expect(t, "no event arrives", "Drift")
	p.quiet(t)
}

// dies leaves a task in Consul that ECS knows no more, and no event tells of.
func (p *pager) dies(t *testing.T) {
	t.Helper()
	registerByHand(t, p.lab, newTaskARN(), time.Now().Add(-time.Hour), "10.1.2.3")
}

func (p *pager) brake(t *testing.T) {
	for range 3 {
		p.dies(t)
	}
	if err := p.invoke(t, "SweepFunction", "{}"); err == nil {
		t.Error("the sweep deletes more than it may")
	}
	p.pass(t, 5*time.Minute)
	p.expect(t, "three tasks died, and two may be deleted", "BrakeApplied")
	must(t, p.lab.Sweep(t.Context(), `{"maxDeletes": 3}`)) // the cure
	awaitMeshNodes(t, p.lab)
	p.pass(t, 5*time.Minute)
	p.quiet(t)
}

// Somebody drains a task that runs.
func (p *pager) liveTaskDrained(t *testing.T) {
	must(t, p.lab.UseHTTP(t.Context(), "api"))
	task := launch(t, p.lab.API)
	awaitHealth(t, p.lab, task, api.HealthPassing)
	consul, err := p.lab.Consul()
	must(t, err)
	_, err = consul.Catalog().Register(&api.CatalogRegistration{
		Node: mesh.NodeName(task.ID()), SkipNodeUpdate: true,
		Check: &api.AgentCheck{CheckID: mesh.LifecycleCheckID, Name: "by hand", Node: mesh.NodeName(task.ID()), Status: api.HealthCritical},
	}, nil)
	must(t, err)
	p.sweep(t)
	p.expect(t, "a task that runs was drained", "LiveTaskDrained")
	p.quiet(t)
	must(t, p.lab.API.Stop(task.TaskARN))
	must(t, p.lab.WaitDeregistered(t.Context(), task))
}

func (p *pager) ecsUnanswered(t *testing.T) {
	p.dies(t)
	p.lab.ECS.Fail(ecs.Fault{Action: "DescribeTasks", Status: http.StatusBadRequest, Code: "InvalidParameterException", Message: "no"})
	t.Cleanup(p.lab.ECS.ClearFaults)
	for range 3 {
		if err := p.invoke(t, "SweepFunction", "{}"); err == nil {
			t.Error("the sweep does its work without ECS")
		}
		p.pass(t, 5*time.Minute)
	}
	p.expect(t, "ECS answers with errors", "EcsUnanswered", "SweepErrors")
	p.lab.ECS.ClearFaults()
	p.sweep(t)
	awaitMeshNodes(t, p.lab)
	p.quiet(t)
}
