package deregister

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
)

// The tasks of the samples, by the names of their nodes.
const (
	apiNode    = "ecs-f9811b73ac5d1a8db842634fc0f871e0"
	webNode    = "ecs-c4719afa76fa448b5eca99e673688584"
	workerNode = "ecs-13029f9e83d15b3d437c2a7568fc1ca7"
)

const (
	apiReason    = "ServiceSchedulerInitiated: Scaling activity initiated by (deployment ecs-svc/1105815016245936099) (since 2025-11-04T15:03:27Z)"
	webReason    = "EssentialContainerExited: Essential container in task exited (since 2025-11-04T15:03:41Z)"
	workerReason = "SpotInterruption: Your Spot Task was interrupted. (since 2025-11-04T15:03:44Z)"
)

// up stands for a node that isn't drained.
const up = ""

// fakeCatalog holds the nodes and why they are drained.
type fakeCatalog struct {
	nodes  map[string]string
	refuse map[string]error // by node
	calls  int
}

var _ nodes = (*fakeCatalog)(nil)

func (f *fakeCatalog) Apply(ctx context.Context, changes []catalog.Change) []catalog.Result {
	f.calls++
	results := make([]catalog.Result, len(changes))
	for i, c := range changes {
		_, exists := f.nodes[c.Node]
		switch {
		case f.refuse[c.Node] != nil:
			results[i].Err = f.refuse[c.Node]
		case ctx.Err() != nil:
			results[i].Err = ctx.Err()
		case c.Action == catalog.Delete:
			delete(f.nodes, c.Node)
		case c.Action == catalog.Drain && exists:
			f.nodes[c.Node] = c.Reason
		case c.Action == catalog.Drain:
			results[i].Missing = true
		default:
			results[i].Err = fmt.Errorf("asked for %v", c.Action)
		}
	}
	return results
}

// fixture is a handler whose world the test holds.
type fixture struct {
	*Handler
	catalog *fakeCatalog
	log     bytes.Buffer
	metrics bytes.Buffer
}

// newFixture has the samples' tasks registered, half a second after the last
// of their events.
func newFixture() *fixture {
	f := &fixture{catalog: &fakeCatalog{nodes: map[string]string{apiNode: up, webNode: up, workerNode: up}}}
	f.Handler = New(f.catalog, metrics.NewWriter(&f.metrics, "deregister-tasks"), slog.New(slog.NewJSONHandler(&f.log, nil)))
	f.now = func() time.Time { return time.Date(2025, time.November, 4, 15, 3, 56, 701e6, time.UTC) }
	return f
}

func sample(t *testing.T, name string) json.RawMessage {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "events", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// records are those of the sample batch.
func records(t *testing.T) []events.SQSMessage {
	t.Helper()
	var event events.SQSEvent
	if err := json.Unmarshal(sample(t, "sqs-batch.json"), &event); err != nil {
		t.Fatal(err)
	}
	return event.Records
}

// handleBatch returns the IDs of the messages that are reported back to SQS.
func (f *fixture) handleBatch(t *testing.T, records []events.SQSMessage) []string {
	t.Helper()
	payload, err := json.Marshal(events.SQSEvent{Records: records})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := f.Handle(t.Context(), payload)
	if err != nil {
		t.Fatalf("an error brings back the whole batch: %v", err)
	}
	var ids []string
	for _, failure := range answer.(events.SQSEventResponse).BatchItemFailures {
		ids = append(ids, failure.ItemIdentifier)
	}
	return ids
}

func ids(records []events.SQSMessage, bodies func(string) bool) []string {
	var ids []string
	for _, record := range records {
		if bodies(record.Body) {
			ids = append(ids, record.MessageId)
		}
	}
	return ids
}

func isPoison(body string) bool { return !json.Valid([]byte(body)) }

// logged returns the log's lines, as maps of what the test names.
func (f *fixture) logged(t *testing.T, keys ...string) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(f.log.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(line, func(key string, _ any) bool { return !slices.Contains(keys, key) })
		lines = append(lines, line)
	}
	return lines
}

func (f *fixture) expectNodes(t *testing.T, want map[string]string) {
	t.Helper()
	if diff := cmp.Diff(want, f.catalog.nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

// expectMetrics checks the one line of metrics, in which one task was
// deregistered.
func (f *fixture) expectMetrics(t *testing.T, drained int, milliseconds ...float64) {
	t.Helper()
	type values struct {
		TasksDrained, TasksDeregistered int
		EventToConsulMilliseconds       []float64
	}
	var got values
	if err := json.Unmarshal(f.metrics.Bytes(), &got); err != nil {
		t.Fatalf("metrics: %v in %q", err, f.metrics.String())
	}
	if diff := cmp.Diff(values{drained, 1, milliseconds}, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestBatch(t *testing.T) {
	f := newFixture()
	batch := records(t)
	poison := ids(batch, isPoison)
	if len(batch) != 6 || len(poison) != 1 {
		t.Fatalf("the sample has %d messages, %d of them poison; want 6 and 1", len(batch), len(poison))
	}

	if diff := cmp.Diff(poison, f.handleBatch(t, batch)); diff != "" {
		t.Errorf("reported messages (-want +got):\n%s", diff)
	}
	f.expectNodes(t, map[string]string{webNode: webReason, workerNode: workerReason})
	f.expectMetrics(t, 2, 500, 15614, 11771)
	want := []map[string]any{
		{"level": "ERROR", "msg": "message can't be read", "messageId": poison[0], "error": "decode event: not JSON (at byte 1)"},
		{"level": "INFO", "msg": "task deregistered", "action": "delete", "eventId": "44b04e22-750e-4760-9687-a9083e492c3f", "reason": apiReason},
		{"level": "INFO", "msg": "task drained", "action": "drain", "eventId": "1f7ac182-6e9f-4091-8804-0c591278a467", "reason": webReason},
		{"level": "INFO", "msg": "task drained", "action": "drain", "eventId": "ae7ef449-5a9a-452d-a41a-e81480731c46", "reason": workerReason},
	}
	if diff := cmp.Diff(want, f.logged(t, "level", "msg", "messageId", "error", "action", "eventId", "reason")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestBatchInAnyOrderEndsTheSame(t *testing.T) {
	want := map[string]string{webNode: webReason, workerNode: workerReason}
	random := rand.New(rand.NewPCG(3, 6))
	f := newFixture()
	for range 200 {
		batch := records(t)
		random.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		f.catalog.nodes = map[string]string{apiNode: up, webNode: up, workerNode: up}
		f.handleBatch(t, batch)
		f.expectNodes(t, want)

		// The same again, message by message.
		random.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
		for _, record := range batch {
			f.handleBatch(t, []events.SQSMessage{record})
		}
		f.expectNodes(t, want)
	}
}

func TestBatchReportsExactlyWhatFailed(t *testing.T) {
	f := newFixture()
	f.catalog.refuse = map[string]error{webNode: errors.New("no Consul server answered")}
	batch := records(t)
	// The event of web's application and its duplicate, and the poison.
	want := ids(batch, func(body string) bool { return isPoison(body) || strings.Contains(body, "EssentialContainerExited") })
	if len(want) != 3 {
		t.Fatalf("the sample has %d such messages, want 3", len(want))
	}
	if diff := cmp.Diff(want, f.handleBatch(t, batch)); diff != "" {
		t.Errorf("reported messages (-want +got):\n%s", diff)
	}
	f.expectNodes(t, map[string]string{webNode: up, workerNode: workerReason})
	f.expectMetrics(t, 1, 500, 11771)
	if !strings.Contains(f.log.String(), `"msg":"task left as it is","taskArn":"arn:aws:ecs:eu-west-1:123456789012:task/apps/`+strings.TrimPrefix(webNode, "ecs-")) {
		t.Errorf("the log doesn't name the task:\n%s", f.log.String())
	}
}

func TestBatchCountsOnlyDrainsThatWereMade(t *testing.T) {
	f := newFixture()
	delete(f.catalog.nodes, workerNode)
	if failed := f.handleBatch(t, records(t)); len(failed) != 1 {
		t.Errorf("reported %v, want the poison alone: a task that isn't registered is drained", failed)
	}
	f.expectMetrics(t, 1, 500, 15614)
}

func TestAnswersAsLambdaWantsThem(t *testing.T) {
	for name, test := range map[string]struct{ payload, want string }{
		"empty batch":        {`{"Records":[]}`, `{"batchItemFailures":[]}`},
		"one poison":         {`{"Records":[{"messageId":"m1","eventSource":"aws:sqs","body":"?"}]}`, `{"batchItemFailures":[{"itemIdentifier":"m1"}]}`},
		"an empty body":      {`{"Records":[{"messageId":"m1","eventSource":"aws:sqs"}]}`, `{"batchItemFailures":[{"itemIdentifier":"m1"}]}`},
		"others' events":     {`{"Records":[{"messageId":"m1","eventSource":"aws:sqs","body":"{\"source\":\"aws.ecs\",\"detail-type\":\"ECS Service Action\"}"}]}`, `{"batchItemFailures":[]}`},
		"an event by itself": {string(sample(t, "mesh-task-stopping.json")), `null`},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := newFixture().Handle(t.Context(), json.RawMessage(test.payload))
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(answer)
			if err != nil || string(got) != test.want {
				t.Errorf("got %s (%v), want %s", got, err, test.want)
			}
		})
	}
}

func TestSingleEvents(t *testing.T) {
	all := func(change func(map[string]string)) map[string]string {
		nodes := map[string]string{apiNode: up, webNode: up, workerNode: up}
		change(nodes)
		return nodes
	}
	for name, want := range map[string]map[string]string{
		"mesh-task-stopping.json":         all(func(n map[string]string) { n[apiNode] = apiReason }),
		"mesh-task-stopped.json":          all(func(n map[string]string) { delete(n, apiNode) }),
		"mesh-task-essential-exited.json": all(func(n map[string]string) { n[webNode] = webReason }),
		"mesh-task-spot-stopping.json":    all(func(n map[string]string) { n[workerNode] = workerReason }),
		"server-task-running.json":        all(func(map[string]string) {}), // goes on
		"server-task-stopping.json":       all(func(map[string]string) {}), // isn't registered
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			for range 2 { // delivered twice
				if _, err := f.Handle(t.Context(), sample(t, name)); err != nil {
					t.Fatal(err)
				}
				f.expectNodes(t, want)
			}
		})
	}
}

func TestSingleEventThatFails(t *testing.T) {
	f := newFixture()
	f.catalog.refuse = map[string]error{apiNode: errors.New("no Consul server answered")}
	if _, err := f.Handle(t.Context(), sample(t, "mesh-task-stopped.json")); err == nil || err.Error() != "no Consul server answered" {
		t.Errorf("got %v, want the catalog's error", err)
	}
}

func TestNotForUs(t *testing.T) {
	for name, payload := range map[string]json.RawMessage{
		"a task that runs":    sample(t, "server-task-running.json"),
		"the service's event": json.RawMessage(`{"source":"aws.ecs","detail-type":"ECS Service Action","detail":{"eventName":"SERVICE_STEADY_STATE"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			if _, err := f.Handle(t.Context(), payload); err != nil {
				t.Error(err)
			}
			if f.catalog.calls != 0 || f.metrics.Len() != 0 {
				t.Errorf("asked Consul %d times and emitted %q, want nothing", f.catalog.calls, f.metrics.String())
			}
			if !strings.Contains(f.log.String(), "nothing to do") {
				t.Errorf("the log doesn't say so: %s", f.log.String())
			}
		})
	}
}

func TestUnreadablePayloads(t *testing.T) {
	for name, test := range map[string]struct{ payload, want string }{
		"nothing of an event": {`{}`, "source is missing"},
		"a string":            {`"hush-hush"`, "the event is of type string"},
		"records of S3":       {`{"Records":[{"eventSource":"aws:s3","s3":{"hush-hush":1}}]}`, `eventSource is "aws:s3", want aws:sqs`},
		"records that aren't": {`{"Records":"hush-hush"}`, "Records is not a list of SQS messages"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture()
			_, err := f.Handle(t.Context(), json.RawMessage(test.payload))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if lines := strings.Count(f.log.String(), "\n"); lines != 1 {
				t.Errorf("logged %d lines, want 1:\n%s", lines, f.log.String())
			}
		})
	}
}

func TestNeverLogsWhatItCannotRead(t *testing.T) {
	secret := func(body string) events.SQSMessage {
		return events.SQSMessage{MessageId: "m-" + body[:1], EventSource: "aws:sqs", Body: body}
	}
	f := newFixture()
	failed := f.handleBatch(t, []events.SQSMessage{
		secret(`hush-hush`),
		secret(`{"source":"hush-hush"}`),
		secret(`["hush-hush"]`),
		secret(`"hush-hush"`),
	})
	if len(failed) != 4 {
		t.Errorf("reported %v, want all 4", failed)
	}
	if lines := strings.Count(f.log.String(), "\n"); lines != 4 {
		t.Errorf("logged %d lines, want one a message", lines)
	}
	if strings.Contains(f.log.String(), "hush") {
		t.Errorf("the log quotes a message:\n%s", f.log.String())
	}
}

func TestClocksThatDiffer(t *testing.T) {
	f := newFixture()
	f.now = func() time.Time { return time.Date(2025, time.November, 4, 15, 3, 56, 0, time.UTC) } // 201 ms before the event
	if _, err := f.Handle(t.Context(), sample(t, "mesh-task-stopped.json")); err != nil {
		t.Fatal(err)
	}
	f.expectMetrics(t, 0, 0)
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestLostMetricsCostNoMessage(t *testing.T) {
	f := newFixture()
	f.Handler.metrics = metrics.NewWriter(brokenPipe{}, "deregister-tasks")
	if _, err := f.Handle(t.Context(), sample(t, "mesh-task-stopped.json")); err != nil {
		t.Error(err)
	}
}

// TestMetricsNameTheirEventsAndTasks has each line count no others than those
// that it names, however many there are.
func TestMetricsNameTheirEventsAndTasks(t *testing.T) {
	f := newFixture()
	var batch []events.SQSMessage
	for i := range 2*invocation.MaxListed + 7 {
		task := fmt.Sprintf("%032x", i)
		f.catalog.nodes["ecs-"+task] = up
		batch = append(batch, events.SQSMessage{MessageId: task, EventSource: "aws:sqs", Body: fmt.Sprintf(
			`{"id": "event-%d", "source": "aws.ecs", "detail-type": "ECS Task State Change", "time": "2025-11-04T15:03:27Z", "detail": {
				"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/apps/%s", "lastStatus": "RUNNING", "desiredStatus": "STOPPED"}}`, i, task)})
	}
	if failed := f.handleBatch(t, batch); len(failed) != 0 {
		t.Fatalf("reported %v", failed)
	}
	counted := 0
	for line := range strings.Lines(f.metrics.String()) {
		var metric struct {
			TasksDrained              int
			EventToConsulMilliseconds []float64
			EventIDs, TaskIDs         []string
		}
		if err := json.Unmarshal([]byte(line), &metric); err != nil {
			t.Fatal(err)
		}
		if n := metric.TasksDrained; n == 0 || n != len(metric.EventIDs) || n != len(metric.TaskIDs) || n != len(metric.EventToConsulMilliseconds) {
			t.Errorf("a line counts %d tasks, has %d latencies and names %d events and %d tasks", n,
				len(metric.EventToConsulMilliseconds), len(metric.EventIDs), len(metric.TaskIDs))
		}
		counted += metric.TasksDrained
	}
	if counted != len(batch) {
		t.Errorf("%d of %d tasks are counted", counted, len(batch))
	}
}

// TestEventsOfOneTaskAreAllNamed has the drain that a delete takes the place of
// found by its own event's ID.
func TestEventsOfOneTaskAreAllNamed(t *testing.T) {
	f := newFixture()
	var batch []events.SQSMessage
	for _, name := range []string{"mesh-task-stopped.json", "mesh-task-stopping.json"} {
		batch = append(batch, events.SQSMessage{MessageId: name, EventSource: "aws:sqs", Body: string(sample(t, name))})
	}
	f.handleBatch(t, batch)
	const stopped, stopping = "44b04e22-750e-4760-9687-a9083e492c3f", "422845ac-ef62-4a20-87c7-a7cb7aebaa63"
	want := []map[string]any{{"msg": "task deregistered", "eventId": stopped, "eventIds": []any{stopped, stopping}}}
	if diff := cmp.Diff(want, f.logged(t, "msg", "eventId", "eventIds")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// TestUnreadableMessagesAreNamed has an event that lacks a part found by what it
// has.
func TestUnreadableMessagesAreNamed(t *testing.T) {
	f := newFixture()
	f.handleBatch(t, []events.SQSMessage{{MessageId: "m1", EventSource: "aws:sqs", Body: `{"id": "422845ac-ef62-4a20-87c7-a7cb7aebaa63",
		"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/apps/1a"}}`}})
	want := []map[string]any{{"msg": "message can't be read", "messageId": "m1", "eventId": "422845ac-ef62-4a20-87c7-a7cb7aebaa63", "taskId": "1a"}}
	if diff := cmp.Diff(want, f.logged(t, "msg", "messageId", "eventId", "taskId")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
