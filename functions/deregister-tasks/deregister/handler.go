// Package deregister takes tasks out of the mesh as ECS's events say: those
// that are stopping are drained, those that stopped are deleted.
package deregister

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
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
		log := h.log
		if msg.id != "" {
			log = log.With("messageId", msg.id)
		}
		event, err := taskevent.Decode(msg.body)
		switch {
		case errors.Is(err, taskevent.ErrOtherEvent):
			log.InfoContext(ctx, "nothing to do: not an event of an ECS task")
		case err != nil:
			// Never the message itself: nobody knows what it holds.
			log.ErrorContext(ctx, "message can't be read", "error", err)
			errs[i] = err
		case event.Meaning() == taskevent.Nothing:
			log.InfoContext(ctx, "nothing to do: the task goes on", "taskArn", event.TaskARN, "eventId", event.ID)
		default:
			stops.add(event, i)
		}
	}
	if len(stops.list) == 0 {
		return errs
	}

	results := h.nodes.Apply(work, stops.changes())
	h.report(ctx, stops, results)
	for i, stop := range stops.list {
		for _, m := range stop.messages {
			errs[m] = results[i].Err
		}
	}
	return errs
}

// report logs and counts what became of each task.
func (h *Handler) report(ctx context.Context, stops *stops, results []catalog.Result) {
	var (
		counts    = map[taskevent.Meaning]int{}
		latencies []time.Duration
		now       = h.now()
	)
	for i, stop := range stops.list {
		event := stop.event
		log := h.log.With("taskArn", event.TaskARN, "group", event.Group, "action", event.Meaning().String(),
			"eventId", event.ID, "reason", event.StopReason())
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
		counts[event.Meaning()]++
		if at := event.HappenedAt(); !at.IsZero() {
			latencies = append(latencies, max(0, now.Sub(at))) // clocks differ
		}
	}
	err := h.metrics.Write(
		metrics.Count("TasksDrained", counts[taskevent.Drain]),
		metrics.Count("TasksDeregistered", counts[taskevent.Delete]),
		metrics.Milliseconds("EventToConsulMilliseconds", latencies...),
	)
	if err != nil { // no reason to handle the messages again
		h.log.WarnContext(ctx, "metrics lost", "error", err)
	}
}
