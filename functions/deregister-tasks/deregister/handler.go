// Package deregister takes tasks out of the mesh as ECS's events say: those
// that are stopping are drained, those that stopped are deleted.
package deregister

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/taskevent"

	"github.com/aws/aws-lambda-go/events"
)

// nodes are the tasks' nodes in Consul's catalog; see catalog.Catalog.Apply.
type nodes interface {
	Apply(context.Context, []catalog.Change) []catalog.Result
}

// Handler decides what task events mean for the catalog.
type Handler struct {
	nodes   nodes
	metrics *metrics.Writer
	log     *slog.Logger
	now     func() time.Time
}

// New returns a handler that changes these nodes.
func New(nodes nodes, metrics *metrics.Writer, log *slog.Logger) *Handler {
	return &Handler{nodes: nodes, metrics: metrics, log: log, now: time.Now}
}

// message is a task event on its way: from SQS, or alone and without an ID.
type message struct {
	id   string
	body []byte
}

// Handle serves one invocation. A batch from SQS is answered with exactly the
// messages that are to come again, or to end in the dead-letter queue; a task
// event of its own with an error, if it could not be handled.
func (h *Handler) Handle(ctx context.Context, payload json.RawMessage) (any, error) {
	records, isBatch, err := batch(payload)
	if err != nil {
		h.log.ErrorContext(ctx, "read invocation", "error", err)
		return nil, err
	}
	if !isBatch {
		return nil, h.process(ctx, []message{{body: payload}})[0]
	}
	messages := make([]message, len(records))
	for i, record := range records {
		messages[i] = message{id: record.MessageID, body: []byte(record.Body)}
	}
	// An absent list would mean to Lambda that the function failed.
	failures := []events.SQSBatchItemFailure{}
	for i, err := range h.process(ctx, messages) {
		if err != nil {
			failures = append(failures, events.SQSBatchItemFailure{ItemIdentifier: messages[i].id})
		}
	}
	return events.SQSEventResponse{BatchItemFailures: failures}, nil
}

// record is what is used of a message as SQS delivers it.
type record struct {
	MessageID   string `json:"messageId"`
	Body        string `json:"body"`
	EventSource string `json:"eventSource"`
}

// batch tells a batch of SQS from an event of its own.
func batch(payload json.RawMessage) (records []record, isBatch bool, err error) {
	var envelope struct {
		Records *[]record
	}
	err = json.Unmarshal(payload, &envelope)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType) && strings.HasPrefix(wrongType.Field, "Records"):
		return nil, true, errors.New("decode batch: Records is not a list of SQS messages")
	case envelope.Records == nil:
		// What can't be read is no batch; taskevent.Decode then says what is wrong.
		return nil, false, nil
	}
	for _, record := range *envelope.Records {
		if record.EventSource != "aws:sqs" {
			return nil, true, fmt.Errorf("decode batch: eventSource is %q, want aws:sqs", record.EventSource)
		}
	}
	return *envelope.Records, true, nil
}

// process handles the messages and returns an error, or nil, for each.
func (h *Handler) process(ctx context.Context, messages []message) []error {
	work, cancel := invocation.WorkContext(ctx)
	defer cancel()

	errs := make([]error, len(messages))
	stops := newStops()
	for i, msg := range messages {
		event, err := taskevent.Decode(msg.body)
		switch {
		case errors.Is(err, taskevent.ErrOtherEvent):
			h.about(msg, event).InfoContext(ctx, "nothing to do: not an event of an ECS task")
		case err != nil:
			// Never the message itself: nobody knows what it holds.
			h.about(msg, event).ErrorContext(ctx, "message can't be read", "error", err)
			errs[i] = err
		case event.Meaning() == taskevent.Nothing:
			h.about(msg, event).InfoContext(ctx, "nothing to do: the task goes on", "taskArn", event.TaskARN)
		default:
			stops.add(event, i)
		}
	}
	if len(stops.list) == 0 {
		return errs
	}

	events, tasks := stops.ids()
	results := h.nodes.Apply(invocation.About(work, events, tasks), stops.changes())
	h.report(ctx, stops, results)
	for i, stop := range stops.list {
		for _, m := range stop.messages {
			errs[m] = results[i].Err
		}
	}
	return errs
}

// about returns the log for a message, whose event is the zero one where it
// can't be read.
func (h *Handler) about(msg message, event taskevent.Event) *slog.Logger {
	log := h.log
	if msg.id != "" {
		log = log.With("messageId", msg.id)
	}
	eventID, taskID := event.ID, event.Task.ID
	if taskID == "" {
		eventID, taskID = taskevent.Identify(msg.body)
	}
	for _, id := range []struct{ field, value string }{{invocation.EventID, eventID}, {invocation.TaskID, taskID}} {
		if id.value != "" {
			log = log.With(id.field, id.value)
		}
	}
	return log
}

// report logs and counts what became of each task.
func (h *Handler) report(ctx context.Context, stops *stops, results []catalog.Result) {
	now := h.now()
	var done []outcome
	for i, stop := range stops.list {
		event := stop.event
		outcome := outcome{event: event, latency: unknownLatency}
		log := h.log.With("taskArn", event.TaskARN, invocation.TaskID, event.Task.ID, "group", event.Group,
			"action", event.Meaning().String(), invocation.EventID, event.ID, "reason", event.StopReason())
		if at := event.HappenedAt(); !at.IsZero() {
			outcome.latency = max(0, now.Sub(at)) // clocks differ
			log = log.With("millisecondsSinceEvent", outcome.latency.Milliseconds())
		}
		if len(stop.eventIDs) > 1 { // the others said less, or the same
			all := invocation.List(invocation.EventIDs, stop.eventIDs)
			log = log.With(all.Key, all.Value)
		}
		switch {
		case results[i].Err != nil:
			log.ErrorContext(ctx, "task left as it is", "error", results[i].Err)
			continue
		case results[i].Planned: // which the plan has logged
			continue
		case results[i].Missing:
			log.InfoContext(ctx, "nothing to do: the task is not registered")
			continue
		case event.Meaning() == taskevent.Drain:
			log.InfoContext(ctx, "task drained")
		default:
			log.InfoContext(ctx, "task deregistered")
		}
		done = append(done, outcome)
	}
	h.count(ctx, done)
}

// outcome is what was done about an event.
type outcome struct {
	event   taskevent.Event
	latency time.Duration // from the event on
}

// unknownLatency is that of an event that doesn't say when it happened.
const unknownLatency = -1

// count writes the metrics, in lines each of which names all of its events and
// tasks; and one where nothing was done.
func (h *Handler) count(ctx context.Context, done []outcome) {
	lines := slices.Collect(slices.Chunk(done, invocation.MaxListed))
	if len(lines) == 0 {
		lines = [][]outcome{nil}
	}
	for _, line := range lines {
		var (
			counts    = map[taskevent.Meaning]int{}
			latencies []time.Duration
			about     stops
		)
		for _, outcome := range line {
			counts[outcome.event.Meaning()]++
			if outcome.latency != unknownLatency {
				latencies = append(latencies, outcome.latency)
			}
			about.list = append(about.list, &stop{event: outcome.event, eventIDs: []string{outcome.event.ID}})
		}
		events, tasks := about.ids()
		err := h.metrics.Write(invocation.About(ctx, events, tasks),
			metrics.Count("TasksDrained", counts[taskevent.Drain]),
			metrics.Count("TasksDeregistered", counts[taskevent.Delete]),
			metrics.Milliseconds("EventToConsulMilliseconds", latencies...),
		)
		if err != nil { // no reason to handle the messages again
			h.log.WarnContext(ctx, "metrics lost", events.Key, events.Value, tasks.Key, tasks.Value, "error", err)
		}
	}
}
