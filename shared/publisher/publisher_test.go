package publisher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"ecsmesh/shared/metrics"
	"ecsmesh/shared/serverlist"

	"github.com/google/go-cmp/cmp"
)

// fakeSource knows the servers.
type fakeSource struct {
	servers []netip.Addr
	err     error
}

var _ source = (*fakeSource)(nil)

func (f *fakeSource) Servers(context.Context) ([]netip.Addr, error) { return f.servers, f.err }

func (f *fakeSource) String() string { return "the test" }

func (f *fakeSource) run(addrs ...string) { f.servers = parse(addrs...) }

func parse(addrs ...string) []netip.Addr {
	var parsed []netip.Addr
	for _, addr := range addrs {
		parsed = append(parsed, netip.MustParseAddr(addr))
	}
	return parsed
}

// fakeParameter is the parameter in SSM; value nil is one that doesn't exist.
type fakeParameter struct {
	value       *string
	writes      []string
	readErr     error
	writeErr    error
	beforeWrite func() // the world goes on between a read and a write
}

var _ list = (*fakeParameter)(nil)

func (f *fakeParameter) Value(context.Context) (string, error) {
	switch {
	case f.readErr != nil:
		return "", f.readErr
	case f.value == nil:
		return "", fmt.Errorf("read: %w", serverlist.ErrNotPublished)
	}
	return *f.value, nil
}

func (f *fakeParameter) Name() string { return "/servers" }

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
	*Publisher
	source    *fakeSource
	parameter *fakeParameter
	log       bytes.Buffer
	metrics   bytes.Buffer
}

func newFixture(published string, running ...string) *fixture {
	f := &fixture{source: &fakeSource{}, parameter: &fakeParameter{}}
	f.source.run(running...)
	if published != "" {
		f.parameter.value = &published
	}
	f.Publisher = &Publisher{
		source:    f.source,
		parameter: f.parameter,
		metrics:   metrics.NewWriter(&f.metrics, "function"),
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
			if err := f.Publish(t.Context()); err != nil {
				t.Fatal(err)
			}
			f.expect(t, test.writes, test.metrics...)
		})
	}
}

func TestPublishIsSafeToRepeat(t *testing.T) {
	f := newFixture("10.0.1.10", "10.0.1.10", "10.0.2.10")
	for range 2 {
		if err := f.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.expect(t, []string{"10.0.1.10,10.0.2.10"}, "ServersPublished=2")
}

func TestPublishKeepsTheLastListWhenNoServerIsUsable(t *testing.T) {
	f := newFixture("10.0.1.10,10.0.2.10")
	if err := f.Publish(t.Context()); err != nil {
		t.Fatalf("%v: trying again can't help", err)
	}
	f.expect(t, nil, "NoUsableServer=1")
	if !strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("no error in the log: %s", f.log.String())
	}
}

func TestPublishNeverWritesAPart(t *testing.T) {
	throttled := errors.New("ThrottlingException")
	for name, spoil := range map[string]func(*fixture){
		"the source can't be read": func(f *fixture) { f.source.err = throttled },
		"SSM can't be read":        func(f *fixture) { f.parameter.readErr = throttled },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture("10.0.1.10", "10.0.1.10", "10.0.2.10")
			spoil(f)
			if err := f.Publish(t.Context()); !errors.Is(err, throttled) {
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
	if err := f.Publish(t.Context()); !errors.Is(err, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	f.expect(t, nil)
}

func TestPublishReplacesAnUnreadableList(t *testing.T) {
	for _, value := range []string{"consul.example.com", "10.0.1.10,", "10.0.1.10 10.0.2.10", "-"} {
		f := newFixture(value, "10.0.1.10")
		if err := f.Publish(t.Context()); err != nil {
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
		f.source.run("10.0.2.10", "10.0.3.10") // what is about to be written is history
		f.parameter.beforeWrite = nil
	}
	if err := f.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, []string{"10.0.1.10,10.0.2.10", "10.0.2.10,10.0.3.10"}, "ServersPublished=2", "ServersPublished=2")
}

// A slow writer that overwrites a newer list with an older one must notice.
func TestTwoWritersEndWithTheTruth(t *testing.T) {
	slow := newFixture("10.0.1.10", "10.0.1.10", "10.0.2.10")
	fast := newFixture("")
	fast.Publisher.source, fast.Publisher.parameter = slow.source, slow.parameter

	slow.parameter.beforeWrite = func() {
		slow.parameter.beforeWrite = nil
		slow.source.run("10.0.7.10", "10.0.8.10")
		if err := fast.Publish(t.Context()); err != nil {
			t.Error(err)
		}
		if *slow.parameter.value != "10.0.7.10,10.0.8.10" {
			t.Errorf("the fast writer left %s", *slow.parameter.value)
		}
	}
	if err := slow.Publish(t.Context()); err != nil {
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
	f.parameter.beforeWrite = func() { f.source.run(fmt.Sprintf("10.0.0.%d", len(f.parameter.writes)+2)) }
	if err := f.Publish(t.Context()); err == nil {
		t.Error("no error")
	}
	if len(f.parameter.writes) != maxRounds {
		t.Errorf("wrote %d times, want %d", len(f.parameter.writes), maxRounds)
	}
}
