package invocation

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Fields of log lines and of metrics by which they are found: a line says which
// event it is about, and which task. Those of what many tasks share, as a batch's
// one write to Consul, have lists.
const (
	RequestID = "requestId" // of the invocation
	EventID   = "eventId"   // of the event, or of who else asked: a schedule, CloudFormation
	TaskID    = "taskId"    // the last part of the task's ARN
	EventIDs  = "eventIds"
	TaskIDs   = "taskIds"
)

// MaxListed bounds the lists, for CloudWatch drops lines of more than 256 KB.
const MaxListed = 100

// unknown stands for the ID of an event that has none, as a test event may.
const unknown = "unknown"

type aboutKey struct{}

// About returns a context with which log lines and metrics say as well what they
// are about.
func About(ctx context.Context, what ...slog.Attr) context.Context {
	known, _ := ctx.Value(aboutKey{}).([]slog.Attr)
	return context.WithValue(ctx, aboutKey{}, append(slices.Clip(known), what...))
}

// AboutEvent is About for an event as it invokes a function.
func AboutEvent(ctx context.Context, event json.RawMessage) context.Context {
	var envelope struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(event, &envelope); err != nil || envelope.ID == "" {
		envelope.ID = unknown
	}
	return About(ctx, slog.String(EventID, envelope.ID))
}

// List is the field of what several events or tasks share: the first MaxListed
// of their IDs, each once, in their order.
func List(field string, ids []string) slog.Attr {
	listed := []string{}
	seen := map[string]bool{}
	for _, id := range ids {
		if len(listed) < MaxListed && !seen[id] && id != "" {
			listed, seen[id] = append(listed, id), true
		}
	}
	return slog.Any(field, listed)
}

// Attrs are what log lines and metrics have to say of a context: what they are
// about, and the request ID, if it is an invocation's.
func Attrs(ctx context.Context) []slog.Attr {
	about, _ := ctx.Value(aboutKey{}).([]slog.Attr)
	attrs := slices.Clone(about)
	if lambda, ok := lambdacontext.FromContext(ctx); ok {
		attrs = append(attrs, slog.String(RequestID, lambda.AwsRequestID))
	}
	return attrs
}
