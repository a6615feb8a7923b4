package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
)

const taskARN = "arn:aws:ecs:eu-west-1:123456789012:task/prod/a1"

// bench is a registered task whose Envoy and application are stand-ins.
type bench struct {
	run     Run
	task    Task
	client  *api.Client
	consul  *consultest.Server
	log     *record
	envoy   atomic.Int32 // what its /ready answers
	app     atomic.Int32 // what the application's health answers
	desired atomic.Value // DesiredStatus of the metadata
	members atomic.Value // Containers of the metadata
	meta    atomic.Int32 // what the metadata endpoint answers
	asked   atomic.Int32 // how often
	clock   time.Time
}

// record is a log that may be read while a run that was left behind writes it.
type record struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *record) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(line)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchAt(t, consultest.Start(t))
}

func newBenchAt(t *testing.T, consul *consultest.Server) *bench {
	t.Helper()
	b := &bench{consul: consul, log: &record{}}
	b.client = b.consul.Client
	b.envoy.Store(200)
	b.app.Store(200)
	b.desired.Store("RUNNING")
	b.members.Store("[]")
	b.meta.Store(200)
	b.clock = time.Now()
	status := func(of *atomic.Int32) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(of.Load())) }))
	}
	envoy, app := status(&b.envoy), status(&b.app)
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		b.asked.Add(1)
		w.WriteHeader(int(b.meta.Load()))
		fmt.Fprintf(w, `{"Name": "app", "TaskARN": %q, "DesiredStatus": %q, "Containers": %s}`, taskARN, b.desired.Load(), b.members.Load())
	}))
	for _, server := range []*httptest.Server{envoy, app, metadata} {
		t.Cleanup(server.Close)
	}

	cfg, err := config.Read(func(name string) string {
		if name != config.Variable {
			return ""
		}
		return fmt.Sprintf(`{"consulServers": {"defaults": {"tls": false}}, "service": {"name": "api", "port": 80, "checks": [
			{"name": "health", "http": %q, "timeout": "1s"}, {"name": "port", "tcp": %q}]}}`, app.URL, app.Listener.Addr())
	})
	if err != nil {
		t.Fatal(err)
	}
	meta, err := taskmeta.Parse([]byte(`{"TaskARN": "` + taskARN + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := registration.New(cfg, meta, netip.MustParseAddr("10.0.1.5"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(t.Context(), b.client); err != nil {
		t.Fatal(err)
	}
	b.task = Task{
		Registration: r,
		Checks:       cfg.Service.Checks,
		Envoy:        Envoy{Admin: envoy.Listener.Addr().String(), PublicListener: envoy.Listener.Addr().String()},
		Servers:      []netip.Addr{b.consul.Addr},
		Source:       discovery.Source{Hosts: []string{b.consul.Addr.String()}},
		HTTPPort:     consultest.HTTPPort,
		GRPCPort:     consultest.GRPCPort,
	}
	b.run = Run{
		Volume: volume.Volume(t.TempDir()),
		Budget: DefaultBudget,
		Getenv: func(string) string { return metadata.URL },
		Log:    slog.New(slog.NewTextHandler(b.log, nil)),
		Now:    func() time.Time { return b.clock },
	}
	t.Cleanup(func() {
		b.awaitLeftovers(t)
		for line := range strings.Lines(b.log.String()) {
			if !strings.Contains(line, " taskId=a1") {
				t.Errorf("the line doesn't name the task: %s", line)
			}
		}
	})
	if err := b.run.Volume.Prepare(); err != nil {
		t.Fatal(err)
	}
	b.save(t)
	return b
}

// awaitLeftovers waits for what hung when a run returned, and goes on behind it: in
// a process of its own it would end with that. It has the lock, and writes.
func (b *bench) awaitLeftovers(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		unlock, err := b.run.Volume.TryLock()
		switch {
		case err == nil:
			unlock()
			return
		case !errors.Is(err, volume.ErrLocked):
			return // a test took the volume away
		case time.Now().After(end):
			t.Error("a run that has returned still works on the volume")
			return
		}
	}
}

func (b *bench) save(t *testing.T) {
	t.Helper()
	if err := b.run.Volume.WriteJSON(b.run.Volume.Task(), b.task); err != nil {
		t.Fatal(err)
	}
}

// checks are the task's checks in Consul, status by name.
func (b *bench) checks(t *testing.T) map[string]string {
	t.Helper()
	found, _, err := b.client.Health().Node("ecs-a1", nil)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]string{}
	for _, check := range found {
		byName[strings.TrimPrefix(check.CheckID, "api-a1-")] = check.Status
	}
	return byName
}

// writes is the index of the last change of the task's checks.
func (b *bench) index(t *testing.T) uint64 {
	t.Helper()
	found, _, err := b.client.Health().Node("ecs-a1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	for _, check := range found {
		last = max(last, check.ModifyIndex)
	}
	return last
}

func (b *bench) expect(t *testing.T, health, port, sidecar string) {
	t.Helper()
	want := map[string]string{"health": health, "port": port, "sidecar-proxy-envoy": sidecar}
	if diff := cmp.Diff(want, b.checks(t)); diff != "" {
		t.Errorf("%s\nlog:\n%s", diff, b.log)
	}
}

func TestConsulFollowsTheTask(t *testing.T) {
	b := newBench(t)
	b.expect(t, "critical", "critical", "critical")
	steps := []struct {
		what                  string
		envoy, app            int32
		ready                 bool
		health, port, sidecar string
	}{
		{"Envoy is not ready", 503, 200, false, "passing", "passing", "critical"},
		{"all is well", 200, 200, true, "passing", "passing", "passing"},
		{"a warning keeps traffic", 200, 429, true, "warning", "passing", "passing"},
		{"one check fails: the sidecar is out too", 200, 500, true, "critical", "passing", "critical"},
		{"and back", 200, 200, true, "passing", "passing", "passing"},
	}
	for _, step := range steps {
		b.envoy.Store(step.envoy)
		b.app.Store(step.app)
		if err := b.run.Do(t.Context()); (err == nil) != step.ready {
			t.Errorf("%s: exit with %v", step.what, err)
		}
		t.Log(step.what)
		b.expect(t, step.health, step.port, step.sidecar)
	}
	before := b.index(t)
	if err := b.run.Do(t.Context()); err != nil {
		t.Error(err)
	}
	if after := b.index(t); after != before {
		t.Errorf("nothing changed, but Consul was written to: index %d, then %d", before, after)
	}
}

// TestNothingIsSentWhenNothingChanged counts requests, where the index only
// counts changes.
func TestNothingIsSentWhenNothingChanged(t *testing.T) {
	b := newBench(t)
	if err := b.run.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int32
	counter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer counter.Close()
	b.pointAt(t, counter)
	if err := b.run.Do(t.Context()); err != nil || requests.Load() != 0 {
		t.Errorf("%v, and %d requests", err, requests.Load())
	}
	b.app.Store(500)
	if err := b.run.Do(t.Context()); err != nil || requests.Load() == 0 {
		t.Errorf("%v, and %d requests after a change", err, requests.Load())
	}
}

func (b *bench) pointAt(t *testing.T, server *httptest.Server) {
	t.Helper()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	b.task.Servers, b.task.HTTPPort = []netip.Addr{at.Addr()}, int(at.Port())
	b.save(t)
}

// proxy stands before Consul and sees every request.
func (b *bench) proxy(t *testing.T, see func(*http.Request)) *httptest.Server {
	t.Helper()
	behind := b.behind(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		see(r)
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

func (b *bench) behind(t *testing.T) http.Handler {
	t.Helper()
	at, err := url.Parse("http://" + net.JoinHostPort(b.consul.Addr.String(), "8500"))
	if err != nil {
		t.Fatal(err)
	}
	return httputil.NewSingleHostReverseProxy(at)
}

func TestAConsulOutageIsNotEnvoysFault(t *testing.T) {
	b := newBench(t)
	b.consul.Freeze()
	if err := b.run.Do(t.Context()); err != nil {
		t.Errorf("exit with %v", err)
	}
	b.consul.Unfreeze()
	if err := b.run.Do(t.Context()); err != nil {
		t.Errorf("exit with %v", err)
	}
	b.expect(t, "passing", "passing", "passing")
	b.consul.Stop()
	b.app.Store(500)
	if err := b.run.Do(t.Context()); err != nil {
		t.Errorf("exit with %v", err)
	}
	if !strings.Contains(b.log.String(), "health not synced") {
		t.Errorf("the log does not say so:\n%s", b.log)
	}
}

func TestAnotherServerIsTriedWithinOneRun(t *testing.T) {
	b := newBench(t)
	other := consultest.Start(t)
	other.Freeze()
	b.task.Servers = []netip.Addr{other.Addr, b.consul.Addr}
	b.save(t)
	for range 4 { // each begins with a server of its own choice
		b.app.Store(503 - b.app.Load() + 200)
		if err := b.run.Do(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := "passing"
		if b.app.Load() != 200 {
			want = "critical"
		}
		b.expect(t, want, "passing", want)
	}
}

// TestAWriteWhoseAnswerWasLostIsMadeAgain has the service fail and recover
// while Consul takes a write without confirming it.
func TestAWriteWhoseAnswerWasLostIsMadeAgain(t *testing.T) {
	b := newBench(t)
	run := func() {
		t.Helper()
		if err := b.run.Do(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run()
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.behind(t).ServeHTTP(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer late.Close()
	b.pointAt(t, late)
	b.app.Store(500)
	run()
	b.expect(t, "critical", "passing", "critical")

	b.app.Store(200)
	b.task.Servers, b.task.HTTPPort = []netip.Addr{b.consul.Addr}, consultest.HTTPPort
	b.save(t)
	run()
	b.expect(t, "passing", "passing", "passing")
}

// TestUntilPassing is the application's own health check.
func TestUntilPassing(t *testing.T) {
	b := newBench(t)
	b.run.UntilPassing = true
	b.app.Store(500)
	if err := b.run.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "Consul was not told yet that it passes") {
		t.Errorf("the service fails: exit with %v", err)
	}
	b.app.Store(200)
	b.consul.Freeze()
	if err := b.run.Do(t.Context()); err == nil {
		t.Error("Consul does not answer, and the run exits with 0")
	}
	b.consul.Unfreeze()
	if err := b.run.Do(t.Context()); err != nil {
		t.Errorf("Consul was told: exit with %v", err)
	}
	b.app.Store(500)
	b.consul.Freeze()
	if err := b.run.Do(t.Context()); err != nil {
		t.Errorf("later troubles are Consul's to know: exit with %v", err)
	}
	b.consul.Unfreeze()
	b.envoy.Store(503)
	if err := b.run.Do(t.Context()); err == nil {
		t.Error("Envoy is not ready, and the run exits with 0")
	}
}

func TestAShortBudgetStillProbes(t *testing.T) {
	b := newBench(t)
	b.run.Budget = LeastBudget
	if err := b.run.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, "passing", "passing", "passing")
}

func TestAStoppingTaskIsLeftAlone(t *testing.T) {
	b := newBench(t)
	b.desired.Store("STOPPED")
	if err := b.run.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, "critical", "critical", "critical")
}

func TestADeregisteredTaskDoesNotComeBack(t *testing.T) {
	b := newBench(t)
	if _, err := b.client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-a1"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.run.Do(t.Context()); err != nil {
		t.Errorf("exit with %v", err)
	}
	if node, _, err := b.client.Catalog().Node("ecs-a1", nil); err != nil || node != nil {
		t.Errorf("the node is back: %+v, %v", node, err)
	}
	if !strings.Contains(b.log.String(), "still in the catalog") {
		t.Errorf("the log does not say why:\n%s", b.log)
	}
}

func TestASecondRunOnlyProbesEnvoy(t *testing.T) {
	b := newBench(t)
	unlock, err := b.run.Volume.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.run.Do(t.Context()); err != nil {
		t.Error(err)
	}
	b.expect(t, "critical", "critical", "critical")
	b.envoy.Store(503)
	if err := b.run.Do(t.Context()); err == nil {
		t.Error("Envoy is not ready, and the run exits with 0")
	}
	unlock()
	b.envoy.Store(200)
	if err := b.run.Do(t.Context()); err != nil {
		t.Error(err)
	}
	b.expect(t, "passing", "passing", "passing")
}

func TestLostStateTellsConsulAgain(t *testing.T) {
	b := newBench(t)
	if err := b.run.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.run.Volume.Checks(), []byte(`{"api-a1-he`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.app.Store(500)
	if err := b.run.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.expect(t, "critical", "passing", "critical")
	var known statuses
	if err := volume.ReadJSON(b.run.Volume.Checks(), &known); err != nil || len(known) != 3 {
		t.Errorf("the state was not mended: %v, %v", known, err)
	}
}

func TestNotRegisteredYet(t *testing.T) {
	run := Run{Volume: volume.Volume(t.TempDir()), Budget: time.Second, Log: slog.New(slog.DiscardHandler)}
	err := run.Do(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the task is not registered") {
		t.Errorf("got %v", err)
	}
}

func TestARunEndsInTime(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b := newBench(t)
	b.consul.Freeze()
	b.task.Checks[0].HTTP = "http://" + silent.Addr().String()
	b.task.Checks[0].Timeout = time.Hour
	b.save(t)
	b.run.Budget = 2 * time.Second
	within := func(what string, wantReady bool) {
		t.Helper()
		start := time.Now()
		if err := b.run.Do(t.Context()); (err == nil) != wantReady {
			t.Errorf("%s: exit with %v", what, err)
		}
		// ECS kills after 5 s what has 4 s by default.
		if took := time.Since(start); took > b.run.Budget+time.Second {
			t.Errorf("%s: took %s of %s", what, took, b.run.Budget)
		}
	}
	within("the application and Consul hang", true)
	b.task.Envoy.Admin = silent.Addr().String()
	b.save(t)
	within("Envoy hangs too", false)
}

func TestVerdict(t *testing.T) {
	r := registration.Registration{
		Service: api.CatalogRegistration{Checks: api.HealthChecks{{CheckID: "a", Name: "first"}, {CheckID: "b", Name: "second"}}},
		Sidecar: api.CatalogRegistration{Checks: api.HealthChecks{{CheckID: "envoy"}}},
	}
	bad := status{"critical", "down"}
	got := verdict(r, []status{{"warning", "slow"}, bad}, nil)
	want := statuses{"a": {"warning", "slow"}, "b": bad, "envoy": {"critical", `the service's check "second" is critical: down`}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = verdict(r, []status{bad, bad}, errors.New("Envoy is not up"))
	if got["envoy"] != (status{"critical", "Envoy is not up"}) {
		t.Errorf("Envoy's own trouble comes first: %v", got["envoy"])
	}
}

func TestTheTaskSurvivesItsFile(t *testing.T) {
	b := newBench(t)
	content, err := json.Marshal(b.task)
	if err != nil {
		t.Fatal(err)
	}
	var back Task
	if err := json.Unmarshal(content, &back); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(back)
	if err != nil || !bytes.Equal(content, again) {
		t.Errorf("changed on the way: %v\n%s\n%s", err, content, again)
	}
}
