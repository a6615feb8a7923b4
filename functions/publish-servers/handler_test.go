package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecsmesh/shared/invocation"
)

// fakeServers counts what is published of them.
type fakeServers struct {
	published int
	bounded   bool // the last time
	err       error
}

var _ servers = (*fakeServers)(nil)

func (f *fakeServers) Publish(ctx context.Context) error {
	f.published++
	_, f.bounded = ctx.Deadline()
	return f.err
}

func TestEveryTriggerPublishes(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "events", "server-*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("found the samples %v (%v)", files, err)
	}
	triggers := map[string]json.RawMessage{"unknown": nil}
	for _, file := range append(files, filepath.Join("..", "..", "events", "schedule.json")) {
		event, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var trigger struct{ ID string }
		if err := json.Unmarshal(event, &trigger); err != nil || trigger.ID == "" {
			t.Fatalf("%s: no ID (%v)", file, err)
		}
		triggers[trigger.ID] = event
	}
	for id, event := range triggers {
		t.Run(id, func(t *testing.T) {
			var log bytes.Buffer
			fake := &fakeServers{}
			h := &handler{servers: fake, log: invocation.NewLogger(&log, slog.LevelInfo)}
			for range 2 { // delivered twice
				if err := h.Handle(t.Context(), event); err != nil {
					t.Fatal(err)
				}
			}
			if fake.published != 2 || !fake.bounded {
				t.Errorf("published %d times, in bounded time %v; want twice, bounded", fake.published, fake.bounded)
			}
			if !strings.Contains(log.String(), `"eventId":"`+id+`"`) {
				t.Errorf("the log doesn't name the event: %s", log.String())
			}
		})
	}
}

func TestFailureIsReportedAndLogged(t *testing.T) {
	throttled := errors.New("ThrottlingException")
	var log bytes.Buffer
	h := &handler{servers: &fakeServers{err: throttled}, log: invocation.NewLogger(&log, slog.LevelError)}
	if err := h.Handle(t.Context(), json.RawMessage(`{"id": "8c1f0ad2"}`)); !errors.Is(err, throttled) {
		t.Errorf("got %v, want the cause, so that Lambda tries again", err)
	}
	for _, words := range []string{"ThrottlingException", `"eventId":"8c1f0ad2"`} {
		if strings.Count(log.String(), words) != 1 {
			t.Errorf("the log doesn't say %q once: %s", words, log.String())
		}
	}
}
