package deregister

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ecsmesh/shared/mesh"
	"ecsmesh/shared/taskevent"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"
)

// FuzzHandle invokes the function with anything.
func FuzzHandle(f *testing.F) {
	samples, err := filepath.Glob(filepath.Join("..", "..", "..", "events", "*.json"))
	if err != nil || len(samples) == 0 {
		f.Fatalf("there are no samples: %v", err)
	}
	for _, path := range samples {
		f.Add([]byte(body(f, filepath.Base(path))))
	}
	for _, payload := range []string{
		`{"Records": []}`, `{"Records": null}`, `{"Records": {}}`, `{"Records": [null]}`, `{"records": [{"eventSource": "aws:sqs"}]}`,
		`{"Records": [{"messageId": "a", "eventSource": "aws:sqs", "body": ""}, {"messageId": "a", "eventSource": "aws:sqs"}]}`,
		`{"Records": [{"messageId": "a", "eventSource": "aws:kinesis", "body": "{}"}]}`,
		`{"Records": [{"messageId": "a", "eventSource": "aws:sqs", "body": "{\"Records\": []}"}]}`,
		`[]`, `null`, ``, `{`,
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		world := newFixture()
		answer, err := world.Handle(t.Context(), payload)
		records, isBatch, _ := batch(payload)
		switch response, answered := answer.(events.SQSEventResponse); {
		case !isBatch && answered:
			t.Error("what is no batch is answered as one")
		case isBatch && err == nil:
			expectFailures(t, records, response)
		}
		var stopped []string
		if isBatch && err == nil {
			for _, record := range records {
				stopped = append(stopped, stopOf(record.Body)...)
			}
		} else {
			stopped = stopOf(string(payload))
		}
		world.expectUntouchedBut(t, stopped)
	})
}

// body is a sample as it comes in a message.
func body(f *testing.F, name string) string {
	f.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "events", name))
	if err != nil {
		f.Fatal(err)
	}
	return string(data)
}

// expectFailures expects exactly the messages back that can't be read.
func expectFailures(t *testing.T, records []record, response events.SQSEventResponse) {
	t.Helper()
	want := []string{}
	for _, record := range records {
		if unreadable(record.Body) {
			want = append(want, record.MessageID)
		}
	}
	got := []string{}
	for _, failure := range response.BatchItemFailures {
		got = append(got, failure.ItemIdentifier)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	// Lambda takes null for a function that failed.
	if data, err := json.Marshal(response); err != nil || slices.Equal(data, []byte(`{"batchItemFailures":null}`)) {
		t.Errorf("the answer is %s, %v", data, err)
	}
}

func unreadable(body string) bool {
	_, err := taskevent.Decode([]byte(body))
	return err != nil && !errors.Is(err, taskevent.ErrOtherEvent)
}

// stopOf is the node of which a body says that its task stops, if it does.
func stopOf(body string) []string {
	event, err := taskevent.Decode([]byte(body))
	if err != nil || event.Meaning() == taskevent.Nothing {
		return nil
	}
	return []string{mesh.NodeName(event.Task.ID)}
}

// expectUntouchedBut expects all other tasks to be as they were.
func (f *fixture) expectUntouchedBut(t *testing.T, stopped []string) {
	t.Helper()
	for _, node := range []string{apiNode, webNode, workerNode} {
		drained, exists := f.catalog.nodes[node]
		if !slices.Contains(stopped, node) && (!exists || drained != up) {
			t.Errorf("%s was taken out of the mesh, and nothing says that its task stops", node)
		}
	}
}

// FuzzPoison puts any message between two good ones, which it may not harm.
func FuzzPoison(f *testing.F) {
	for _, name := range []string{"mesh-task-stopped.json", "server-task-running.json", "schedule.json", "sqs-batch.json"} {
		f.Add(body(f, name))
	}
	for _, poison := range []string{"", "ECS task 5f0c stopped", `{"source": "aws.ecs"}`, "null", "\xff", `{"Records": null}`} {
		f.Add(poison)
	}
	first, last := body(f, "mesh-task-spot-stopping.json"), body(f, "mesh-task-stopping.json")
	f.Fuzz(func(t *testing.T, poison string) {
		world := newFixture()
		records := []events.SQSMessage{
			{MessageId: "first", EventSource: "aws:sqs", Body: first},
			{MessageId: "poison", EventSource: "aws:sqs", Body: poison},
			{MessageId: "last", EventSource: "aws:sqs", Body: last},
		}
		var want []string
		if unreadable(poison) {
			want = []string{"poison"}
		}
		if diff := cmp.Diff(want, world.handleBatch(t, records)); diff != "" {
			t.Errorf("failures (-want +got):\n%s", diff)
		}
		good := append(stopOf(first), stopOf(last)...)
		for _, node := range good {
			if reason, exists := world.catalog.nodes[node]; exists && reason == up {
				t.Errorf("%s was not drained", node)
			}
		}
		world.expectUntouchedBut(t, append(good, stopOf(poison)...))
	})
}
