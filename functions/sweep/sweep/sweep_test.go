package sweep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/metrics"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"
)

const jobs = "arn:aws:ecs:eu-west-1:123456789012:cluster/jobs"

// arnOf is the ARN of a cluster's nth task.
func arnOf(cluster string, n int) string {
	return strings.Replace(cluster, ":cluster/", ":task/", 1) + fmt.Sprintf("/%032x", n)
}

func nodeOf(arn string) string { return mesh.NodeName(id(arn)) }

// fixture is a sweep whose world the test holds.
type fixture struct {
	*Sweep
	publisher *fakePublisher
	nodes     *fakeNodes
	ecs       *fakeECS
	log       bytes.Buffer
	metrics   bytes.Buffer
}

// newFixture has two empty clusters and no node, and a clock that stands.
func newFixture() *fixture {
	f := &fixture{publisher: &fakePublisher{}, nodes: &fakeNodes{reasons: map[string]string{}}, ecs: newFakeECS(apps, jobs)}
	f.Sweep = &Sweep{
		Publisher: f.publisher,
		Nodes:     f.nodes,
		Tasks:     NewECS(f.ecs),
		Region:    "eu-west-1",
		Brake:     Brake{MaxTasks: 10, MaxPercent: 30},
		Metrics:   metrics.NewWriter(&f.metrics, "sweep"),
		Log:       slog.New(slog.NewJSONHandler(&f.log, nil)),
		Pause:     time.Nanosecond,
		Now:       func() time.Time { return time.Date(2025, time.November, 4, 15, 0, 0, 0, time.UTC) },
	}
	return f
}

// register enters a task, an hour ago, and returns its node's name.
func (f *fixture) register(arn string) string {
	f.nodes.nodes = append(f.nodes.nodes, catalog.Node{Name: nodeOf(arn), TaskARN: arn, RegisteredAt: f.Now().Add(-time.Hour)})
	return nodeOf(arn)
}

// drain drains a node as somebody else would.
func (f *fixture) drain(node string) {
	f.nodes.apply(catalog.Change{Node: node, Action: catalog.Drain, Reason: "by mistake"})
}

// handle invokes the function as Lambda would.
func (f *fixture) handle(t *testing.T, payload string) error {
	t.Helper()
	f.log.Reset()
	f.metrics.Reset()
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{
		InvokedFunctionArn: "arn:aws:lambda:eu-west-1:123456789012:function:ecsmesh-SweepFunction",
	})
	return f.Handle(ctx, json.RawMessage(payload))
}

// run is an invocation by the schedule, in which nothing fails.
func (f *fixture) run(t *testing.T) {
	t.Helper()
	if err := f.handle(t, `{}`); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) expectNodes(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), f.nodes.names()); diff != "" {
		t.Errorf("nodes, drained ones in parentheses (-want +got):\n%s", diff)
	}
}

// expectMetrics compares the metrics that aren't 0: a name, or for SweepSkipped
// also its reason.
func (f *fixture) expectMetrics(t *testing.T, want map[string]int) {
	t.Helper()
	got := map[string]int{}
	for line := range strings.Lines(f.metrics.String()) {
		var values map[string]any
		if err := json.Unmarshal([]byte(line), &values); err != nil {
			t.Fatal(err)
		}
		for name, value := range values {
			if n, ok := value.(float64); ok && n != 0 {
				if reason, ok := values["Reason"].(string); ok {
					name += " " + reason
				}
				got[name] = int(n)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// logged returns the log's lines of one message, with the attributes named.
func (f *fixture) logged(t *testing.T, message string, keys ...string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(f.log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		if line["msg"] == message {
			maps.DeleteFunc(line, func(key string, _ any) bool { return !slices.Contains(keys, key) })
			lines = append(lines, line)
		}
	}
	return lines
}

// everything has one task in each state that the sweep can meet.
func everything(t *testing.T) (f *fixture, left []string) {
	t.Helper()
	f = newFixture()
	up, starting := arnOf(apps, 1), arnOf(apps, 2)
	stopping, drained := arnOf(apps, 3), arnOf(apps, 4)
	stopped, gone := arnOf(apps, 5), arnOf(jobs, 6)
	mistaken, young, undated := arnOf(apps, 7), arnOf(apps, 8), arnOf(apps, 9)
	f.ecs.set(up, "RUNNING", "RUNNING")
	f.ecs.set(starting, "PENDING", "RUNNING")
	f.ecs.set(stopping, "DEACTIVATING", "STOPPED")
	f.ecs.set(drained, "STOPPING", "STOPPED")
	f.ecs.set(stopped, "STOPPED", "STOPPED")
	f.ecs.set(mistaken, "RUNNING", "RUNNING")
	for _, arn := range []string{up, starting, stopping, drained, stopped, gone, mistaken, young, undated} {
		f.register(arn)
	}
	f.nodes.nodes[7].RegisteredAt = f.Now().Add(-time.Minute)
	f.nodes.nodes[8].RegisteredAt = time.Time{}
	f.drain(nodeOf(drained))
	f.drain(nodeOf(mistaken))
	return f, []string{nodeOf(up), nodeOf(starting), "(" + nodeOf(stopping) + ")", "(" + nodeOf(drained) + ")", nodeOf(mistaken), nodeOf(young), nodeOf(undated)}
}

func TestSweep(t *testing.T) {
	f, left := everything(t)
	f.run(t)
	f.expectNodes(t, left...)
	f.expectMetrics(t, map[string]int{
		"OrphansFound": 2, "TasksDrained": 1, "TasksDeregistered": 2, "TasksUndrained": 1,
		"SweepSkipped": 2, "SweepSkipped RegisteredRecently": 1, "SweepSkipped RegistrationUndated": 1,
	})
	if f.publisher.calls != 1 {
		t.Errorf("the servers were published %d times, want once", f.publisher.calls)
	}
	if got := f.nodes.reasons[nodeOf(arnOf(apps, 3))]; got != "UserInitiated: Task stopped by user" {
		t.Errorf("the drained node says %q, want what its event would make it say", got)
	}

	for message, want := range map[string][]map[string]any{
		"task drained":   {{"taskArn": arnOf(apps, 3), "action": "drain", "reason": "UserInitiated: Task stopped by user"}},
		"task undrained": {{"taskArn": arnOf(apps, 7), "action": "undrain", "reason": "ECS says it is RUNNING and wanted RUNNING"}},
		"nodes left as they are": {
			{"reason": "RegisteredRecently"},
			{"reason": "RegistrationUndated"},
		},
		"task deregistered": {
			{"taskArn": arnOf(apps, 5), "action": "delete", "reason": "ECS says it is STOPPED and wanted STOPPED"},
			{"taskArn": arnOf(jobs, 6), "action": "delete", "reason": "ECS does not know it"},
		},
		"swept": {{
			"nodes": 9.0, "orphans": 2.0, "drained": 1.0, "deregistered": 2.0, "undrained": 1.0, "skipped": 2.0, "brakeApplied": false,
		}},
	} {
		got := f.logged(t, message, "taskArn", "action", "reason", "orphans", "drained", "deregistered", "undrained", "skipped", "brakeApplied")
		if message == "swept" {
			got = f.logged(t, message, slices.Collect(maps.Keys(want[0]))...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lines %q (-want +got):\n%s", message, diff)
		}
	}

	t.Run("again", func(t *testing.T) {
		f.nodes.applied = nil
		f.run(t)
		f.expectNodes(t, left...)
		if f.nodes.applied != nil {
			t.Errorf("the second run changed %v", f.nodes.applied)
		}
		f.expectMetrics(t, map[string]int{"SweepSkipped": 2, "SweepSkipped RegisteredRecently": 1, "SweepSkipped RegistrationUndated": 1})
	})
}

func TestSweepOfAnEmptyMesh(t *testing.T) {
	f := newFixture()
	f.run(t)
	if len(f.ecs.calls) != 0 || f.nodes.applied != nil {
		t.Errorf("asked ECS %v and changed %v", f.ecs.calls, f.nodes.applied)
	}
	f.expectMetrics(t, map[string]int{})
}

// Whatever ECS can't be asked about is left alone, and keeps nothing else from
// being asked.
func TestTasksThatECSIsNotAskedAbout(t *testing.T) {
	f := newFixture()
	for _, node := range []catalog.Node{
		{TaskARN: "arn:aws:ecs:us-east-1:123456789012:task/apps/" + taskID},
		{TaskARN: "arn:aws:ecs:eu-west-1:210987654321:task/apps/" + taskID},
		{TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/" + taskID},
		{TaskARN: "hello"},
		{Name: "ecs-0", TaskARN: taskARN},
	} {
		if node.Name == "" {
			node.Name = nodeOf(taskARN)
		}
		f.nodes.nodes = append(f.nodes.nodes, node)
	}
	before := f.nodes.names()
	f.register(arnOf(apps, 1)) // ECS doesn't know it
	f.run(t)
	f.expectNodes(t, before...)
	f.expectMetrics(t, map[string]int{
		"OrphansFound": 1, "TasksDeregistered": 1, "SweepSkipped": 5,
		"SweepSkipped OtherRegion": 1, "SweepSkipped OtherAccount": 1, "SweepSkipped UnreadableMeta": 3,
	})
}

func TestOldTaskARN(t *testing.T) {
	f := newFixture()
	arn := "arn:aws:ecs:eu-west-1:123456789012:task/" + uuid
	f.register(arn)
	f.nodes.nodes[0].ClusterARN = apps
	f.ecs.set(arn, "RUNNING", "STOPPED")
	f.run(t)
	f.expectNodes(t, "("+nodeOf(arn)+")")
	if diff := cmp.Diff([]describeCall{{apps, 1}}, f.ecs.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestTasksWithoutAClearAnswer(t *testing.T) {
	f := newFixture()
	denied, silent := f.register(arnOf(apps, 1)), f.register(arnOf(apps, 2))
	f.ecs.failures[arnOf(apps, 1)] = "ACCESS_DENIED"
	f.ecs.silent[arnOf(apps, 2)] = true
	f.run(t)
	f.expectNodes(t, denied, silent)
	f.expectMetrics(t, map[string]int{"SweepSkipped": 2, "SweepSkipped EcsUnclear": 2})
	examples := f.logged(t, "nodes left as they are", "examples")[0]["examples"]
	if diff := cmp.Diff(map[string]any{denied: "ECS answered about it: ACCESS_DENIED", silent: "ECS did not answer about it"}, examples); diff != "" {
		t.Errorf("examples (-want +got):\n%s", diff)
	}
}

func TestTheLogNamesAFewExamples(t *testing.T) {
	f := newFixture()
	for n := range 50 {
		f.register(arnOf(apps, n))
		f.ecs.silent[arnOf(apps, n)] = true
	}
	f.run(t)
	lines := f.logged(t, "nodes left as they are", "nodes", "examples", "taskIds")
	if len(lines) == 1 && len(lines[0]["taskIds"].([]any)) != 50 {
		t.Errorf("not every task is named: %v", lines[0]["taskIds"])
	}
	if len(lines) != 1 || lines[0]["nodes"] != 50.0 || len(lines[0]["examples"].(map[string]any)) != maxExamples {
		t.Errorf("got %v, want one line that counts 50 and names %d", lines, maxExamples)
	}
}

// What DescribeTasks shows once may be out of date; see defaultPause.
func TestTheSecondLookDisagrees(t *testing.T) {
	arn := arnOf(apps, 1)
	node := nodeOf(arn)
	for name, test := range map[string]struct {
		first, second func(*fixture)
		want          []string
		metrics       map[string]int
	}{
		"missing, then it runs": {
			func(*fixture) {},
			func(f *fixture) { f.ecs.set(arn, "RUNNING", "RUNNING") },
			[]string{node}, map[string]int{},
		},
		"missing, then it stops": {
			func(*fixture) {},
			func(f *fixture) { f.ecs.set(arn, "RUNNING", "STOPPED") },
			[]string{"(" + node + ")"}, map[string]int{"TasksDrained": 1},
		},
		"missing, then it has stopped": {
			func(*fixture) {},
			func(f *fixture) { f.ecs.set(arn, "STOPPED", "STOPPED") },
			nil, map[string]int{"OrphansFound": 1, "TasksDeregistered": 1},
		},
		"missing, then no answer": {
			func(*fixture) {},
			func(f *fixture) { f.ecs.silent[arn] = true },
			[]string{node}, map[string]int{"SweepSkipped": 1, "SweepSkipped EcsUnclear": 1},
		},
		"missing, then its cluster too": {
			func(*fixture) {},
			func(f *fixture) { delete(f.ecs.clusters, apps) },
			[]string{node}, map[string]int{"SweepSkipped": 1, "SweepSkipped ClusterNotFound": 1},
		},
		"it runs on, then it stops": {
			func(f *fixture) { f.ecs.set(arn, "RUNNING", "RUNNING"); f.drain(node) },
			func(f *fixture) { f.ecs.set(arn, "RUNNING", "STOPPED") },
			[]string{"(" + node + ")"}, map[string]int{},
		},
		"it runs on, then it has stopped": {
			func(f *fixture) { f.ecs.set(arn, "RUNNING", "RUNNING"); f.drain(node) },
			func(f *fixture) { f.ecs.set(arn, "STOPPED", "STOPPED") },
			nil, map[string]int{"OrphansFound": 1, "TasksDeregistered": 1},
		},
		"it runs on, then it is missing": {
			func(f *fixture) { f.ecs.set(arn, "RUNNING", "RUNNING"); f.drain(node) },
			func(f *fixture) { f.ecs.forget(arn) },
			[]string{"(" + node + ")"}, map[string]int{"SweepSkipped": 1, "SweepSkipped NotConfirmed": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			f.register(arn)
			test.first(f)
			f.ecs.before = func(call int) error {
				if call == 2 {
					test.second(f)
				}
				return nil
			}
			f.run(t)
			f.expectNodes(t, test.want...)
			f.expectMetrics(t, test.metrics)
			if len(f.ecs.calls) != 2 {
				t.Errorf("ECS was asked %d times, want twice", len(f.ecs.calls))
			}
		})
	}
}

func TestTheSecondLookIsTakenAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture()
		f.Pause = 0 // the default
		f.register(arnOf(apps, 1))
		var at []time.Time
		f.ecs.before = func(int) error { at = append(at, time.Now()); return nil }
		f.run(t)
		f.expectNodes(t)
		if len(at) != 2 || at[1].Sub(at[0]) != 5*time.Second {
			t.Errorf("asked ECS at %v, want 5 s between", at)
		}
	})
}

// A drain that is set while the sweep looks belongs to a stop that it has not
// seen.
func TestUndrainsOnlyTheDrainThatWasThereBefore(t *testing.T) {
	f := newFixture()
	arn := arnOf(apps, 1)
	node := f.register(arn)
	f.ecs.set(arn, "RUNNING", "RUNNING")
	f.drain(node)
	f.nodes.before = func() { f.drain(node) }
	f.run(t)
	f.expectNodes(t, "("+node+")")
	f.expectMetrics(t, map[string]int{"SweepSkipped": 1, "SweepSkipped DrainChanged": 1})
}

func TestDeregisteredMeanwhile(t *testing.T) {
	f := newFixture()
	stopping, stopped := f.register(arnOf(apps, 1)), f.register(arnOf(apps, 2))
	f.ecs.set(arnOf(apps, 1), "RUNNING", "STOPPED")
	f.ecs.set(arnOf(apps, 2), "STOPPED", "STOPPED")
	f.nodes.before = func() {
		f.nodes.apply(catalog.Change{Node: stopping, Action: catalog.Delete})
		f.nodes.apply(catalog.Change{Node: stopped, Action: catalog.Delete})
	}
	f.run(t)
	f.expectNodes(t)
	if lines := f.logged(t, "task drained"); len(lines) != 0 {
		t.Errorf("the log claims %v", lines)
	}
}

// An error of ECS deletes nothing at all; what other calls showed of stops is
// still good.
func TestAnErrorOfECSDeletesNothing(t *testing.T) {
	throttled := errors.New("ThrottlingException")
	for name, fails := range map[string]func(call int, cluster string) bool{
		"in the first look at one cluster": func(call int, cluster string) bool { return call <= 2 && cluster == apps },
		"in the first look at another":     func(call int, cluster string) bool { return call <= 2 && cluster == jobs },
		"in the second look":               func(call int, _ string) bool { return call == 3 },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			stopped, stopping, gone := arnOf(apps, 1), arnOf(jobs, 2), arnOf(apps, 3)
			f.ecs.set(stopped, "STOPPED", "STOPPED")
			f.ecs.set(stopping, "RUNNING", "STOPPED")
			for _, arn := range []string{stopped, stopping, gone} {
				f.register(arn)
			}
			f.register(arnOf(jobs, 4)) // ECS doesn't know it
			f.ecs.before = func(call int) error {
				if fails(call, f.ecs.calls[call-1].Cluster) {
					return throttled
				}
				return nil
			}
			err := f.handle(t, `{}`)
			if !errors.Is(err, throttled) || !strings.Contains(err.Error(), "ask ECS: 1 of 2 calls failed, so nothing is deleted in this run") {
				t.Errorf("got %v, want ECS's error", err)
			}
			drained := nodeOf(stopping)
			if !fails(1, jobs) {
				drained = "(" + drained + ")"
			}
			f.expectNodes(t, nodeOf(stopped), drained, nodeOf(gone), nodeOf(arnOf(jobs, 4)))
			if lines := f.logged(t, "sweep", "level"); len(lines) != 1 || lines[0]["level"] != "ERROR" {
				t.Errorf("the error was logged as %v, want once", lines)
			}

			f.ecs.before = nil
			f.run(t)
			f.expectNodes(t, "("+nodeOf(stopping)+")")
		})
	}
}

// TestAnIDThatECSRefusesHoldsUpNoOther has one node name a task whose ID is as
// none of ECS's are.
func TestAnIDThatECSRefusesHoldsUpNoOther(t *testing.T) {
	f := newFixture()
	odd := f.register("arn:aws:ecs:eu-west-1:123456789012:task/apps/1a")
	odder := f.register("arn:aws:ecs:eu-west-1:123456789012:task/apps/" + strings.Repeat("z", 31)) // of another length for the fake
	f.register(arnOf(apps, 1))                                                                     // ECS doesn't know it
	f.run(t)
	f.expectNodes(t, odd, odder)
	f.expectMetrics(t, map[string]int{"OrphansFound": 1, "TasksDeregistered": 1, "SweepSkipped": 2, "SweepSkipped UnreadableMeta": 2})

	// What ECS refuses of ordinary IDs is no node's fault.
	f.register(arnOf(apps, 2))
	f.ecs.before = func(int) error { return &types.InvalidParameterException{Message: aws.String("?")} }
	if err := f.handle(t, `{}`); err == nil {
		t.Error("ECS refuses everything, and the sweep is content")
	}
	f.expectNodes(t, odd, odder, nodeOf(arnOf(apps, 2)))
}

func TestAClusterThatIsGoneConcernsOnlyItsOwnTasks(t *testing.T) {
	f := newFixture()
	delete(f.ecs.clusters, apps)
	left := f.register(arnOf(apps, 1))
	f.register(arnOf(jobs, 2))
	f.run(t)
	f.expectNodes(t, left)
	f.expectMetrics(t, map[string]int{"OrphansFound": 1, "TasksDeregistered": 1, "SweepSkipped": 1, "SweepSkipped ClusterNotFound": 1})
}

// crowd has some tasks that run and some that stopped, and one that stops.
func crowd(runningTasks, stopped int) *fixture {
	f := newFixture()
	f.register(arnOf(apps, 0))
	f.ecs.set(arnOf(apps, 0), "RUNNING", "STOPPED")
	for n := range runningTasks {
		f.register(arnOf(apps, 1000+n))
		f.ecs.set(arnOf(apps, 1000+n), "RUNNING", "RUNNING")
	}
	for n := range stopped {
		f.register(arnOf(apps, 2000+n))
		f.ecs.set(arnOf(apps, 2000+n), "STOPPED", "STOPPED")
	}
	return f
}

func TestBrake(t *testing.T) {
	f := crowd(68, 31) // of 100, where 30 may go
	err := f.handle(t, `{}`)
	if err == nil {
		t.Fatal("no error")
	}
	for _, words := range []string{
		"delete 31 of the mesh's 100 nodes: refused, since one run may delete 30", "restored from an older snapshot",
		`{"maxDeletes": 31}`, "SweepMaxDeletedTasks", "SweepMaxDeletedPercent",
	} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%q does not say %q", err, words)
		}
	}
	if names := f.nodes.names(); len(names) != 100 || names[0] != "("+nodeOf(arnOf(apps, 0))+")" {
		t.Errorf("%d nodes are left, the first is %s; want all 100, and the one that stops drained", len(names), names[0])
	}
	f.expectMetrics(t, map[string]int{
		"OrphansFound": 31, "TasksDrained": 1, "SweepBrakeApplied": 1, "SweepSkipped": 31, "SweepSkipped BrakeApplied": 31,
	})

	t.Run("with too low an override", func(t *testing.T) {
		if err := f.handle(t, `{"maxDeletes": 30}`); err == nil || !strings.Contains(err.Error(), `{"maxDeletes": 31}`) {
			t.Errorf("got %v, want the brake's error", err)
		}
	})
	t.Run("overridden", func(t *testing.T) {
		if err := f.handle(t, `{"maxDeletes": 31}`); err != nil {
			t.Fatal(err)
		}
		if len(f.nodes.nodes) != 69 {
			t.Errorf("%d nodes are left, want 69", len(f.nodes.nodes))
		}
		f.expectMetrics(t, map[string]int{"OrphansFound": 31, "TasksDeregistered": 31})
	})
}

func TestTheOverrideLastsOneRun(t *testing.T) {
	f := crowd(0, 50)
	if err := f.handle(t, `{"maxDeletes": 50}`); err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		f.register(arnOf(apps, 2000+n))
	}
	if err := f.handle(t, `{}`); err == nil {
		t.Error("the next run deleted as many without a word")
	}
}

func TestBrakeLetsAFewGo(t *testing.T) {
	f := crowd(5, 10)
	f.run(t)
	if len(f.nodes.nodes) != 6 {
		t.Errorf("%d nodes are left, want 6", len(f.nodes.nodes))
	}
}

func TestBadPayloadDoesNothing(t *testing.T) {
	f, _ := everything(t)
	if err := f.handle(t, `{"maxDeletes": "all"}`); err == nil || !strings.Contains(err.Error(), "maxDeletes") {
		t.Errorf("got %v, want an error that names the field", err)
	}
	if f.publisher.calls != 0 || len(f.ecs.calls) != 0 || f.nodes.applied != nil {
		t.Error("something was done")
	}
}

func TestNodesThatCannotBeRead(t *testing.T) {
	f, _ := everything(t)
	before := f.nodes.names()
	f.nodes.hidden = errors.New("some are hidden by Consul's ACLs")
	err := f.handle(t, `{}`)
	if !errors.Is(err, f.nodes.hidden) || !strings.HasPrefix(err.Error(), "read the mesh's nodes: ") {
		t.Errorf("got %v, want the catalog's error", err)
	}
	f.expectNodes(t, before...)
	if f.metrics.Len() != 0 {
		t.Errorf("it claims to have counted: %s", f.metrics.String())
	}
}

func TestChangesThatConsulRefuses(t *testing.T) {
	f, _ := everything(t)
	denied := errors.New("Permission denied")
	stopped := nodeOf(arnOf(apps, 5))
	f.nodes.refuse = map[string]error{stopped: denied}
	err := f.handle(t, `{}`)
	if !errors.Is(err, denied) || !strings.HasPrefix(err.Error(), "change the catalog: 1 of 4 changes were not made; first: ") {
		t.Errorf("got %v, want Consul's refusal", err)
	}
	if !slices.Contains(f.nodes.names(), stopped) {
		t.Errorf("%s is gone", stopped)
	}
	f.expectMetrics(t, map[string]int{
		"OrphansFound": 2, "TasksDrained": 1, "TasksDeregistered": 1, "TasksUndrained": 1, "SweepSkipped": 3,
		"SweepSkipped ConsulError": 1, "SweepSkipped RegisteredRecently": 1, "SweepSkipped RegistrationUndated": 1,
	})
}

func TestServersThatCannotBePublished(t *testing.T) {
	f, left := everything(t)
	f.publisher.err = errors.New("ThrottlingException")
	err := f.handle(t, `{}`)
	if !errors.Is(err, f.publisher.err) || !strings.HasPrefix(err.Error(), "publish servers: ") {
		t.Errorf("got %v, want the publisher's error", err)
	}
	f.expectNodes(t, left...)
}

func TestAHangingPublisherLeavesTimeForTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, left := everything(t)
		f.publisher.hangs = true
		start := time.Now()
		if err := f.handle(t, `{}`); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the publisher's error", err)
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("it took %s", took)
		}
		f.expectNodes(t, left...)
	})
}

func TestTimeThatRunsOutDeletesNothing(t *testing.T) {
	f, _ := everything(t)
	f.Pause = time.Hour
	stopped := nodeOf(arnOf(apps, 5))
	synctest.Test(t, func(t *testing.T) {
		if err := f.handle(t, `{}`); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want an error", err)
		}
	})
	if !slices.Contains(f.nodes.names(), stopped) || len(f.nodes.nodes) != 9 {
		t.Errorf("left %v, want all", f.nodes.names())
	}
}

// Outside Lambda, and where its context is unreadable, the account is unknown.
func TestHome(t *testing.T) {
	for arn, want := range map[string]home{
		"arn:aws:lambda:eu-west-1:123456789012:function:sweep":          {"eu-west-1", "aws", "123456789012"},
		"arn:aws-cn:lambda:cn-north-1:123456789012:function:sweep:live": {"eu-west-1", "aws-cn", "123456789012"},
		"":                               {region: "eu-west-1"},
		"sweep":                          {region: "eu-west-1"},
		"arn:aws:lambda:eu-west-1":       {region: "eu-west-1"},
		"arn:aws:ecs:a:b:function:sweep": {region: "eu-west-1"},
	} {
		ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{InvokedFunctionArn: arn})
		if got := newFixture().home(ctx); got != want {
			t.Errorf("%q: got %+v, want %+v", arn, got, want)
		}
	}
	if got, want := newFixture().home(t.Context()), (home{region: "eu-west-1"}); got != want {
		t.Errorf("outside Lambda: got %+v, want %+v", got, want)
	}
}

type brokenPipe struct{ io.Writer }

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestLostMetricsFailNoRun(t *testing.T) {
	f, left := everything(t)
	f.Metrics = metrics.NewWriter(brokenPipe{}, "sweep")
	f.run(t)
	f.expectNodes(t, left...)
}
