package invocation

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"
)

func TestLinesCarryTheRequestID(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, slog.LevelInfo).With("taskArn", "arn:task")
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "0b1c"})

	log.DebugContext(ctx, "not logged at this level")
	log.InfoContext(ctx, "drained task", "eventId", "7")

	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if _, err := time.Parse(time.RFC3339Nano, got["timestamp"].(string)); err != nil {
		t.Errorf("timestamp: %v", err)
	}
	delete(got, "timestamp")
	want := map[string]any{"level": "INFO", "message": "drained task", "taskArn": "arn:task", "eventId": "7", "requestId": "0b1c"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGroupsKeepTheRequestID(t *testing.T) {
	var out bytes.Buffer
	ctx := lambdacontext.NewContext(t.Context(), &lambdacontext.LambdaContext{AwsRequestID: "0b1c"})
	NewLogger(&out, slog.LevelInfo).WithGroup("batch").InfoContext(ctx, "done", "messages", 3)
	if !bytes.Contains(out.Bytes(), []byte(`"batch":{"messages":3,"requestId":"0b1c"}`)) {
		t.Errorf("got %s", out.String())
	}
}

func TestLinesSayWhatTheyAreAbout(t *testing.T) {
	for event, want := range map[string]string{
		`{"id":"8c1f","detail":{}}`: `"message":"swept","nodes":3,"eventId":"8c1f","taskIds":["1a","2b"]}`,
		`{}`:                        `"message":"swept","nodes":3,"eventId":"unknown","taskIds":["1a","2b"]}`,
		`?`:                         `"message":"swept","nodes":3,"eventId":"unknown","taskIds":["1a","2b"]}`,
	} {
		var out bytes.Buffer
		outer := AboutEvent(t.Context(), json.RawMessage(event))
		ctx := About(outer, List(TaskIDs, []string{"1a", "2b", "", "1a"}))
		About(outer, slog.String(TaskID, "of another")) // changes no other context
		NewLogger(&out, slog.LevelInfo).InfoContext(ctx, "swept", "nodes", 3)
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("%s: got %s, want %s", event, out.String(), want)
		}
	}
}

func TestListsAreBounded(t *testing.T) {
	ids := make([]string, 3*MaxListed)
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	if got := List(TaskIDs, ids).Value.Any().([]string); len(got) != MaxListed || got[MaxListed-1] != strconv.Itoa(MaxListed-1) {
		t.Errorf("%d are listed, to %s", len(got), got[len(got)-1])
	}
}

func TestLinesOutsideAnInvocation(t *testing.T) {
	var out bytes.Buffer
	NewLogger(&out, slog.LevelWarn).ErrorContext(t.Context(), "cold start")
	if bytes.Contains(out.Bytes(), []byte("requestId")) || !bytes.Contains(out.Bytes(), []byte(`"message":"cold start"`)) {
		t.Errorf("got %s", out.String())
	}
}

func TestWorkContextLeavesTimeForTheAnswer(t *testing.T) {
	usual := WorkContext
	long := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return WorkContextUpTo(ctx, 110*time.Second)
	}
	for _, test := range []struct {
		name          string
		context       func(context.Context) (context.Context, context.CancelFunc)
		timeout, want time.Duration
	}{
		{"no timeout", usual, 0, maxWorkTime},
		{"the usual", usual, 20 * time.Second, 17 * time.Second},
		{"a long one", usual, 15 * time.Minute, maxWorkTime},
		{"a short one", usual, 4 * time.Second, 3 * time.Second},
		{"long work without a timeout", long, 0, 110 * time.Second},
		{"long work with less time", long, 100 * time.Second, 97 * time.Second},
		{"long work with more time", long, 2 * time.Minute, 110 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.timeout)
					defer cancel()
				}
				start := time.Now()
				work, cancel := test.context(ctx)
				defer cancel()
				<-work.Done()
				if got := time.Since(start); got != test.want {
					t.Errorf("work may take %s, want %s", got, test.want)
				}
			})
		})
	}
}
