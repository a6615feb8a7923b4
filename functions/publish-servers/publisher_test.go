package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecsmesh/shared/metrics"
	"ecsmesh/shared/serverlist"

	"github.com/google/go-cmp/cmp"
)

// fakeTasks is the truth in ECS.
type fakeTasks struct {
	tasks []task
	err   error
	reads int
}

var _ serverTasks = (*fakeTasks)(nil)

func (f *fakeTasks) Running(context.Context) ([]task, error) {
	f.reads++
	return f.tasks, f.err
}

func (f *fakeTasks) run(addrs ...string) {
	f.tasks = nil
	for _, addr := range addrs {
		f.tasks = append(f.tasks, task{ARN: "arn:" + addr, LastStatus: "RUNNING", DesiredStatus: "RUNNING", IPv4: []string{addr}})
	}
}

// fakeParameter is the parameter in SSM; value nil is one that doesn't exist.
type fakeParameter struct {
	value       *string
	writes      []string
	readErr     error
	writeErr    error
	beforeWrite func() // the world goes on between a read and a write
}

var _ parameter = (*fakeParameter)(nil)

func (f *fakeParameter) Value(context.Context) (string, error) {
	switch {
	case f.readErr != nil:
		return "", f.readErr
	case f.value == nil:
		return "", fmt.Errorf("read: %w", serverlist.ErrNotPublished)
	}
	return *f.value, nil
}

func (f *fakeParameter) Write(_ context.Context, addrs []netip.Addr) error {
	if f.beforeWrite != nil {
		f.beforeWrite()
	}
	if f.writeErr != nil {
		return f.writeErr
	}
	value := serverlist.Format(addrs)
	f.value = &value
	f.writes = append(f.writes, value)
	return nil
}

// fixture is a publisher whose world the test holds.
type fixture struct {
	*publisher
	tasks     *fakeTasks
	parameter *fakeParameter
	log       bytes.Buffer
	metrics   bytes.Buffer
}

func newFixture(published string, running ...string) *fixture {
	f := &fixture{tasks: &fakeTasks{}, parameter: &fakeParameter{}}
	f.tasks.run(running...)
	if published != "" {
		f.parameter.value = &published
	}
	f.publisher = &publisher{
		tasks:     f.tasks,
		parameter: f.parameter,
		metrics:   metrics.NewWriter(&f.metrics, "publish-servers"),
		log:       slog.New(slog.NewTextHandler(&f.log, nil)),
	}
	return f
}

// expect checks what was written to the parameter and which metrics.
func (f *fixture) expect(t *testing.T, writes []string, wantMetrics ...string) {
	t.Helper()
	if diff := cmp.Diff(writes, f.parameter.writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	var got []string
	for line := range strings.Lines(f.metrics.String()) {
		var emitted map[string]any
		if err := json.Unmarshal([]byte(line), &emitted); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		for _, name := range []string{"ServersPublished", "NoUsableServer"} {
			if value, ok := emitted[name]; ok {
				got = append(got, fmt.Sprint(name, "=", value))
			}
		}
	}
	if diff := cmp.Diff(wantMetrics, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestPublishWritesWhatChanged(t *testing.T) {
	for name, test := range map[string]struct {
		published string
		running   []string
		writes    []string
		metrics   []string
	}{
		"the first servers": {"", []string{"10.0.3.10", "10.0.1.10", "10.0.2.10"}, []string{"10.0.1.10,10.0.2.10,10.0.3.10"}, []string{"ServersPublished=3"}},
		"one more":          {"10.0.1.10", []string{"10.0.2.10", "10.0.1.10"}, []string{"10.0.1.10,10.0.2.10"}, []string{"ServersPublished=2"}},
		"one less":          {"10.0.1.10,10.0.2.10", []string{"10.0.2.10"}, []string{"10.0.2.10"}, []string{"ServersPublished=1"}},
		"one replaced":      {"10.0.1.10", []string{"10.0.9.10"}, []string{"10.0.9.10"}, []string{"ServersPublished=1"}},
		"nothing":           {"10.0.1.10,10.0.2.10", []string{"10.0.2.10", "10.0.1.10"}, nil, nil},
		"only the order":    {"10.0.2.10, 10.0.1.10", []string{"10.0.1.10", "10.0.2.10"}, nil, nil},
		"IPv6":              {"2001:0db8::000a", []string{"2001:db8::a"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(test.published, test.running...)
			if err := f.Handle(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			f.expect(t, test.writes, test.metrics...)
		})
	}
}

func TestPublishTakesTheTriggerForAHint(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "events", "s[ec]*.json")) // server tasks and the schedule
	if err != nil || len(files) != 3 {
		t.Fatalf("found the samples %v (%v)", files, err)
	}
	for _, file := range files {
		event, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f := newFixture("10.0.1.10", "10.0.1.10", "10.0.2.10")
		for range 2 { // delivered twice
			if err := f.Handle(t.Context(), event); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
		f.expect(t, []string{"10.0.1.10,10.0.2.10"}, "ServersPublished=2")
		var trigger struct{ ID string }
		if err := json.Unmarshal(event, &trigger); err != nil || trigger.ID == "" {
			t.Fatalf("%s: no ID (%v)", file, err)
		}
		if !strings.Contains(f.log.String(), "trigger="+trigger.ID) {
			t.Errorf("%s: the log doesn't name its ID: %s", file, f.log.String())
		}
	}
}

func TestPublishKeepsTheLastListWhenNoServerIsUsable(t *testing.T) {
	for name, running := range map[string][]task{
		"no tasks":          nil,
		"none of the tasks": {{ARN: "arn:a", LastStatus: "PENDING", DesiredStatus: "RUNNING", IPv4: []string{"10.0.1.10"}}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture("10.0.1.10,10.0.2.10")
			f.tasks.tasks = running
			if err := f.Handle(t.Context(), nil); err != nil {
				t.Fatalf("%v: trying again can't help", err)
			}
			f.expect(t, nil, "NoUsableServer=1")
			if !strings.Contains(f.log.String(), "level=ERROR") {
				t.Errorf("no error in the log: %s", f.log.String())
			}
		})
	}
}

func TestPublishNeverWritesAPart(t *testing.T) {
	throttled := errors.New("ThrottlingException")
	for name, spoil := range map[string]func(*fixture){
		"ECS can't be read": func(f *fixture) { f.tasks.err = throttled },
		"SSM can't be read": func(f *fixture) { f.parameter.readErr = throttled },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture("10.0.1.10", "10.0.1.10", "10.0.2.10")
			spoil(f)
			if err := f.Handle(t.Context(), nil); !errors.Is(err, throttled) {
				t.Errorf("got %v, want the cause, so that Lambda tries again", err)
			}
			f.expect(t, nil)
		})
	}
}

func TestPublishReportsAFailedWrite(t *testing.T) {
	refused := errors.New("AccessDeniedException")
	f := newFixture("", "10.0.1.10")
	f.parameter.writeErr = refused
	if err := f.Handle(t.Context(), nil); !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	f.expect(t, nil)
}

func TestPublishReplacesAnUnreadableList(t *testing.T) {
	for _, value := range []string{"consul.example.com", "10.0.1.10,", "10.0.1.10 10.0.2.10", "-"} {
		f := newFixture(value, "10.0.1.10")
		if err := f.Handle(t.Context(), nil); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		f.expect(t, []string{"10.0.1.10"}, "ServersPublished=1")
		if !strings.Contains(f.log.String(), "level=WARN") {
			t.Errorf("%q: no warning in the log: %s", value, f.log.String())
		}
	}
}

func TestPublishReadsAgainAfterItsWrite(t *testing.T) {
	f := newFixture("10.0.1.10", "10.0.1.10", "10.0.2.10")
	f.parameter.beforeWrite = func() {
		f.tasks.run("10.0.2.10", "10.0.3.10") // what is about to be written is history
		f.parameter.beforeWrite = nil
	}
	if err := f.Handle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	f.expect(t, []string{"10.0.1.10,10.0.2.10", "10.0.2.10,10.0.3.10"}, "ServersPublished=2", "ServersPublished=2")
}

// A slow writer that overwrites a newer list with an older one must notice.
func TestTwoWritersEndWithTheTruth(t *testing.T) {
	slow := newFixture("10.0.1.10", "10.0.1.10", "10.0.2.10")
	fast := newFixture("")
	fast.publisher.tasks, fast.publisher.parameter = slow.tasks, slow.parameter

	slow.parameter.beforeWrite = func() {
		slow.parameter.beforeWrite = nil
		slow.tasks.run("10.0.7.10", "10.0.8.10")
		if err := fast.Handle(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if *slow.parameter.value != "10.0.7.10,10.0.8.10" {
			t.Errorf("the fast writer left %s", *slow.parameter.value)
		}
	}
	if err := slow.Handle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"10.0.7.10,10.0.8.10", // fast
		"10.0.1.10,10.0.2.10", // slow, with what it read before
		"10.0.7.10,10.0.8.10", // slow, after its second look
	}
	if diff := cmp.Diff(want, slow.parameter.writes); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestPublishGivesUpOnServersThatNeverRest(t *testing.T) {
	f := newFixture("", "10.0.0.1")
	f.parameter.beforeWrite = func() { f.tasks.run(fmt.Sprintf("10.0.0.%d", len(f.parameter.writes)+2)) }
	if err := f.Handle(t.Context(), nil); err == nil {
		t.Error("no error")
	}
	if len(f.parameter.writes) != maxRounds {
		t.Errorf("wrote %d times, want %d", len(f.parameter.writes), maxRounds)
	}
}
