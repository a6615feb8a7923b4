package sweep

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/metrics"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
)

// errKilled is what remote calls answer to a function that is no more.
var errKilled = errors.New("killed")

// proxy stands before a real Consul: it counts what goes through, and can cut
// off the one who asks.
type proxy struct {
	*httputil.ReverseProxy
	addr netip.AddrPort

	mu       sync.Mutex
	requests []string // methods and paths
	// before and after are called around each request; an error is no answer.
	before, after func() error
}

func startProxy(t *testing.T, server *consultest.Server) *proxy {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: net.JoinHostPort(server.Addr.String(), strconv.Itoa(consultest.HTTPPort))}
	p := &proxy{ReverseProxy: httputil.NewSingleHostReverseProxy(target)}
	p.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	p.addr = netip.MustParseAddrPort(front.Listener.Addr().String())
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests = append(p.requests, r.Method+" "+r.URL.Path)
	before, after := p.before, p.after
	p.mu.Unlock()
	if before != nil && before() != nil {
		panic(http.ErrAbortHandler) // closes the connection
	}
	answer := httptest.NewRecorder()
	// What has reached Consul is carried out, whoever has gone meanwhile.
	p.ReverseProxy.ServeHTTP(answer, r.WithContext(context.WithoutCancel(r.Context())))
	if after != nil && after() != nil {
		panic(http.ErrAbortHandler)
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the caller may be gone
}

// take returns the requests since it was called last.
func (p *proxy) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests := p.requests
	p.requests = nil
	return requests
}

// realMesh is a sweep of a mesh in a real Consul.
type realMesh struct {
	*Sweep
	server *consultest.Server
	client *api.Client
	proxy  *proxy
	ecs    *fakeECS
}

func newRealMesh(t *testing.T) *realMesh {
	t.Helper()
	server := consultest.Start(t)
	proxy := startProxy(t, server)
	// The requests are counted: on a busy machine none is to be tried again.
	servers, err := consul.NewServers([]netip.Addr{proxy.addr.Addr()}, consul.Options{Port: int(proxy.addr.Port()), AttemptTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	r := &realMesh{server: server, client: server.Client, proxy: proxy, ecs: newFakeECS(apps, jobs)}
	r.Sweep = &Sweep{
		Publisher: &fakePublisher{},
		Nodes:     catalog.New(servers),
		Tasks:     NewECS(r.ecs),
		Region:    "eu-west-1",
		Brake:     Brake{MaxTasks: 10, MaxPercent: 100},
		Metrics:   metrics.NewWriter(io.Discard, "sweep"),
		Log:       slog.New(slog.DiscardHandler),
		Pause:     time.Nanosecond,
	}
	return r
}

// register enters a task, an hour ago.
func (r *realMesh) register(t *testing.T, arn string) {
	t.Helper()
	parsed, err := mesh.ParseTaskARN(arn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Catalog().Register(&api.CatalogRegistration{
		Node: nodeOf(arn), Address: "10.0.12.87",
		NodeMeta: map[string]string{
			mesh.MetaSyntheticNode: "true",
			mesh.MetaTaskARN:       arn,
			mesh.MetaClusterARN:    parsed.ClusterARN(),
			mesh.MetaRegisteredAt:  time.Now().Add(-time.Hour).UTC().Format(time.RFC3339),
		},
		Service: &api.AgentService{ID: mesh.ServiceID("api", parsed.ID), Service: "api", Port: 9090},
	}, nil); err != nil {
		t.Fatal(err)
	}
}

func (r *realMesh) drain(t *testing.T, arn string) {
	t.Helper()
	for _, result := range r.Nodes.Apply(t.Context(), []catalog.Change{{Node: nodeOf(arn), Action: catalog.Drain, Reason: "by mistake"}}) {
		if result != (catalog.Result{}) {
			t.Fatalf("drain %s: %+v", arn, result)
		}
	}
}

// drained maps the registered tasks' nodes to whether they are drained.
func (r *realMesh) drained(t *testing.T) map[string]bool {
	t.Helper()
	nodes, err := r.Nodes.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	drained := map[string]bool{}
	for _, node := range nodes {
		drained[node.Name] = node.Drained()
	}
	return drained
}

// The cost that the documentation states: two reads of Consul, a call of ECS for
// each 100 tasks of a cluster and for each 100 of those that need a second look,
// one write for 128 changes.
func TestCostOnConsul(t *testing.T) {
	r := newRealMesh(t)
	want := map[string]bool{}
	registered := func(cluster string, n int) string {
		arn := arnOf(cluster, n)
		r.register(t, arn)
		return arn
	}
	for n := range 210 { // in apps, 30 run, 20 stop, 160 have stopped
		arn := registered(apps, n)
		switch {
		case n < 30:
			r.ecs.set(arn, "RUNNING", "RUNNING")
			want[nodeOf(arn)] = false
		case n < 50:
			r.ecs.set(arn, "DEACTIVATING", "STOPPED")
			want[nodeOf(arn)] = true
		default:
			r.ecs.set(arn, "STOPPED", "STOPPED")
		}
	}
	for n := range 40 { // in jobs, 2 are unknown, 1 is drained by mistake, the others run
		arn := registered(jobs, 1000+n)
		if n >= 2 {
			r.ecs.set(arn, "RUNNING", "RUNNING")
			want[nodeOf(arn)] = false
		}
		if n == 2 {
			r.drain(t, arn)
		}
	}
	r.proxy.take()

	if err := r.Handle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{
		"GET /v1/catalog/nodes", "GET /v1/health/state/critical", "PUT /v1/txn", "PUT /v1/txn", // 183 changes
	}, r.proxy.take()); diff != "" {
		t.Errorf("requests to Consul (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]describeCall{{apps, 100}, {apps, 100}, {apps, 10}, {jobs, 40}, {jobs, 3}}, r.ecs.calls, anyOrder); diff != "" {
		t.Errorf("calls of DescribeTasks (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, r.drained(t)); diff != "" {
		t.Errorf("nodes, and whether they are drained (-want +got):\n%s", diff)
	}
	instances, _, err := r.client.Catalog().Service("api", "", nil)
	if err != nil || len(instances) != len(want) {
		t.Errorf("%d instances of the service are left (%v), want %d", len(instances), err, len(want))
	}

	t.Run("again", func(t *testing.T) {
		before := indexes(t, r.client)
		r.proxy.take()
		r.ecs.calls = nil
		if err := r.Handle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"GET /v1/catalog/nodes", "GET /v1/health/state/critical"}, r.proxy.take()); diff != "" {
			t.Errorf("requests to Consul (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]describeCall{{apps, 50}, {jobs, 38}}, r.ecs.calls, anyOrder); diff != "" {
			t.Errorf("calls of DescribeTasks (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(before, indexes(t, r.client)); diff != "" {
			t.Errorf("the second run changed something (-before +after):\n%s", diff)
		}
	})
}

// anyOrder is for calls that are made at once.
var anyOrder = cmpopts.SortSlices(func(a, b describeCall) int {
	if a.Cluster != b.Cluster {
		return strings.Compare(a.Cluster, b.Cluster)
	}
	return a.Tasks - b.Tasks
})

// indexes are the lifecycle checks' and the tasks' nodes' modify indexes. Consul
// registers its own node anew when it likes.
func indexes(t *testing.T, client *api.Client) map[string]uint64 {
	t.Helper()
	tasks := &api.QueryOptions{Filter: `Node matches "^ecs-"`}
	found, _, err := client.Catalog().Nodes(tasks)
	if err != nil {
		t.Fatal(err)
	}
	checks, _, err := client.Health().State(api.HealthAny, tasks)
	if err != nil {
		t.Fatal(err)
	}
	indexes := map[string]uint64{}
	for _, node := range found {
		indexes[node.Node] = node.ModifyIndex
	}
	for _, check := range checks {
		indexes[check.Node+" "+check.CheckID] = check.ModifyIndex
	}
	return indexes
}

// A drain that is set between the sweep's looks and its write is not undone.
func TestUndrainThatComesTooLateOnConsul(t *testing.T) {
	r := newRealMesh(t)
	stopping, mistaken := arnOf(apps, 1), arnOf(apps, 2)
	for _, arn := range []string{stopping, mistaken} {
		r.register(t, arn)
		r.drain(t, arn)
		r.ecs.set(arn, "RUNNING", "RUNNING")
	}
	r.ecs.before = func(call int) error {
		if call != 2 {
			return nil
		}
		// The task is stopped now, and its event arrives before ECS's answers
		// show it.
		for _, result := range r.Nodes.Apply(t.Context(), []catalog.Change{{Node: nodeOf(stopping), Action: catalog.Drain, Reason: "UserInitiated: Task stopped by user"}}) {
			return result.Err
		}
		return nil
	}
	if err := r.Handle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{nodeOf(stopping): true, nodeOf(mistaken): false}, r.drained(t)); diff != "" {
		t.Errorf("nodes, and whether they are drained (-want +got):\n%s", diff)
	}
}

// killer ends the function at one remote call of all that it makes: before the
// call goes out, or when its answer is on its way.
type killer struct {
	mu     sync.Mutex
	at     int // the call at which it strikes; 0 is never
	calls  int
	strike context.CancelFunc
}

// step counts a call, and returns an error from the fatal one on.
func (k *killer) step() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calls++
	if k.at == 0 || k.calls < k.at {
		return nil
	}
	k.strike()
	return errKilled
}

// A sweep may end at any remote call, with or without that call's effect. A
// task that runs is never harmed by that, and the next run ends where an
// undisturbed one does.
func TestKilledAtEveryCallOnConsul(t *testing.T) {
	r := newRealMesh(t)
	var (
		up, starting, mistaken = arnOf(apps, 1), arnOf(apps, 2), arnOf(jobs, 3)
		stopping, stopped      = arnOf(apps, 4), arnOf(jobs, 5)
		gone                   = arnOf(jobs, 6)
		registered             = []string{up, starting, mistaken, stopping, stopped, gone}
		want                   = map[string]bool{nodeOf(up): false, nodeOf(starting): false, nodeOf(mistaken): false, nodeOf(stopping): true}
	)
	r.ecs.set(up, "RUNNING", "RUNNING")
	r.ecs.set(starting, "PENDING", "RUNNING")
	r.ecs.set(mistaken, "RUNNING", "RUNNING")
	r.ecs.set(stopping, "RUNNING", "STOPPED")
	r.ecs.set(stopped, "STOPPED", "STOPPED")
	for n := range 130 { // so that there are two writes
		arn := arnOf(jobs, 100+n)
		r.ecs.set(arn, "STOPPED", "STOPPED")
		registered = append(registered, arn)
	}

	kills := 0
	for _, effect := range []bool{false, true} {
		for at := 1; ; at++ {
			for _, arn := range registered {
				r.register(t, arn)
			}
			undrain := &api.CatalogDeregistration{Node: nodeOf(stopping), CheckID: mesh.LifecycleCheckID}
			if _, err := r.client.Catalog().Deregister(undrain, nil); err != nil {
				t.Fatal(err)
			}
			r.drain(t, mistaken)

			ctx, cancel := context.WithCancel(t.Context())
			k := &killer{at: at, strike: cancel}
			r.arm(k, effect)
			err := r.Handle(ctx, nil)
			cancel()
			r.arm(&killer{}, false)
			if k.calls < at {
				if err != nil {
					t.Fatalf("nobody killed it, and it failed: %v", err)
				}
				break
			}
			kills++
			if err == nil {
				t.Errorf("killed at call %d (effect: %v): no error", at, effect)
			}
			after := r.drained(t)
			for _, arn := range []string{up, starting} {
				if drained, ok := after[nodeOf(arn)]; !ok || drained {
					t.Errorf("killed at call %d (effect: %v): the live task %s is registered: %v, drained: %v", at, effect, arn, ok, drained)
				}
			}
			for _, arn := range []string{mistaken, stopping} {
				if _, ok := after[nodeOf(arn)]; !ok {
					t.Errorf("killed at call %d (effect: %v): the live task %s is gone", at, effect, arn)
				}
			}

			if err := r.Handle(t.Context(), nil); err != nil {
				t.Fatalf("the run after being killed at call %d (effect: %v): %v", at, effect, err)
			}
			if diff := cmp.Diff(want, r.drained(t)); diff != "" {
				t.Fatalf("the run after being killed at call %d (effect: %v), nodes and whether they are drained (-want +got):\n%s", at, effect, diff)
			}
		}
	}
	// Two reads, two looks at two clusters, two writes; jobs has over 100 tasks.
	if want := 2 * (2 + 3 + 1 + 2); kills != want {
		t.Errorf("it was killed at %d calls, want %d", kills, want)
	}
}

// arm lets the killer watch every remote call.
func (r *realMesh) arm(k *killer, effect bool) {
	r.proxy.mu.Lock()
	defer r.proxy.mu.Unlock()
	r.proxy.before, r.proxy.after = k.step, nil
	if effect {
		r.proxy.before, r.proxy.after = nil, k.step
	}
	r.ecs.before = func(int) error { return k.step() }
}
