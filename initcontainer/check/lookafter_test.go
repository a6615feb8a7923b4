package check

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/mesh"
)

// look runs the command until it is time to look after the task, and once more.
func (b *bench) look(t *testing.T) {
	t.Helper()
	b.again(t)
	b.clock = b.clock.Add(2 * DefaultRefresh)
	b.again(t)
}

func (b *bench) again(t *testing.T) {
	t.Helper()
	if err := b.run.Do(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, b.log)
	}
}

// vanish takes the task out of the catalog.
func (b *bench) vanish(t *testing.T) {
	t.Helper()
	if _, err := b.client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-a1"}, nil); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) registered(t *testing.T) bool {
	t.Helper()
	node, _, err := b.client.Catalog().Node("ecs-a1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return node != nil
}

func (b *bench) envoysServers(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(b.run.Volume.Servers())
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestAVanishedRegistrationComesBackAsItWas(t *testing.T) {
	b := newBench(t)
	b.look(t)
	b.vanish(t)
	b.again(t)
	if b.registered(t) {
		t.Fatal("registered again before it was time")
	}
	b.clock = b.clock.Add(2 * DefaultRefresh)
	b.again(t)
	// The very write that brings it back has it take traffic again.
	b.expect(t, "passing", "passing", "passing")
	found, err := b.task.Registration.Read(t.Context(), only{b.client})
	if err != nil || b.task.Registration.Damage(found) != "" {
		t.Errorf("not as registered: %q, %v", b.task.Registration.Damage(found), err)
	}
}

// only is a cluster of one server.
type only struct{ client *api.Client }

func (o only) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	return attempt(ctx, o.client)
}

// TestNoTaskComesBackOfWhichItIsNotSure has a reason for each not to.
func TestNoTaskComesBackOfWhichItIsNotSure(t *testing.T) {
	for what, prevent := range map[string]func(*bench){
		"the task is stopping":   func(b *bench) { b.desired.Store("STOPPED") },
		"the metadata is silent": func(b *bench) { b.meta.Store(http.StatusInternalServerError) },
		"the metadata is gone":   func(b *bench) { b.run.Getenv = func(string) string { return "" } },
		"another task has its address": func(b *bench) {
			successor := api.CatalogRegistration{Node: "ecs-b2", Address: "10.0.1.5", NodeMeta: map[string]string{
				mesh.MetaSyntheticNode: "true", mesh.MetaRegisteredAt: time.Now().Add(time.Minute).UTC().Format(time.RFC3339),
			}}
			if _, err := b.client.Catalog().Register(&successor, nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.look(t)
			b.vanish(t)
			prevent(b)
			b.look(t)
			if b.registered(t) {
				t.Errorf("it is registered again\n%s", b.log)
			}
		})
	}
}

// TestATaskThatStopsWhileItRegistersIsTakenBack has ECS stop the task between
// the look at its metadata and the write.
func TestATaskThatStopsWhileItRegistersIsTakenBack(t *testing.T) {
	b := newBench(t)
	b.look(t)
	b.vanish(t)
	b.clock = b.clock.Add(2 * DefaultRefresh)
	behind := b.proxy(t, func(r *http.Request) {
		if r.URL.Path == "/v1/catalog/register" {
			b.desired.Store("STOPPED")
		}
	})
	b.pointAt(t, behind)
	b.again(t)
	if b.registered(t) {
		t.Errorf("it is registered, though it is stopping\n%s", b.log)
	}
}

func TestARegistrationThatKeepsVanishingIsRestoredEverMoreRarely(t *testing.T) {
	b := newBench(t)
	b.look(t)
	begin := b.clock
	var restored []time.Duration
	for b.clock.Sub(begin) < 3*time.Hour {
		b.vanish(t)
		b.clock = b.clock.Add(30 * time.Second)
		b.again(t)
		if b.registered(t) {
			restored = append(restored, b.clock.Sub(begin))
		}
	}
	// 1, 2, 4, … minutes apart.
	if n := len(restored); n < 5 || n > 9 {
		t.Errorf("restored %d times in 3 hours: %v", n, restored)
	}
	for i := 2; i < len(restored); i++ {
		if last, next := restored[i-1]-restored[i-2], restored[i]-restored[i-1]; next < last {
			t.Errorf("the pauses shrink: %v", restored)
		}
	}
	// Once it is left in peace for long, the next loss is made good at once.
	for range 2 {
		b.clock = b.clock.Add(24 * time.Hour)
		b.again(t)
	}
	b.vanish(t)
	b.look(t)
	if !b.registered(t) {
		t.Errorf("it is not restored\n%s", b.log)
	}
}

// TestATaskThatCannotRegisterComesBackAsSoonAsItCan has Consul refuse writes for
// an hour, and answer reads.
func TestATaskThatCannotRegisterComesBackAsSoonAsItCan(t *testing.T) {
	b := newBench(t)
	b.look(t)
	b.vanish(t)
	var refused atomic.Int32
	b.pointAt(t, b.refusing(t, func(r *http.Request) bool {
		if r.Method == http.MethodPut {
			refused.Add(1)
			return true
		}
		return false
	}))
	b.run.Budget = LeastBudget
	for range 8 {
		b.clock = b.clock.Add(8 * time.Minute)
		b.again(t)
	}
	b.run.Budget = DefaultBudget
	// Each request is tried again for as long as its run lasts.
	if n := refused.Load(); n == 0 || b.registered(t) {
		t.Errorf("%d writes were refused, and it is registered: %t", n, b.registered(t))
	}
	b.task.Servers, b.task.HTTPPort = []netip.Addr{b.consul.Addr}, consultest.HTTPPort
	b.save(t)
	b.look(t)
	b.expect(t, "passing", "passing", "passing")
}

// refusing stands before Consul and refuses some requests.
func (b *bench) refusing(t *testing.T, refuse func(*http.Request) bool) *httptest.Server {
	t.Helper()
	behind := b.behind(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse(r) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

// TestATaskThatStopsIsTakenBackLater has ECS stop it after it registered again,
// and Consul not take that back at first.
func TestATaskThatStopsIsTakenBackLater(t *testing.T) {
	b := newBench(t)
	b.look(t)
	b.vanish(t)
	b.look(t)
	if !b.registered(t) {
		t.Fatal("it is not registered again")
	}
	b.desired.Store("STOPPED")
	b.pointAt(t, b.refusing(t, func(*http.Request) bool { return true }))
	b.again(t)
	b.task.Servers, b.task.HTTPPort = []netip.Addr{b.consul.Addr}, consultest.HTTPPort
	b.save(t)
	b.clock = b.clock.Add(5 * time.Second)
	b.again(t)
	if b.registered(t) {
		t.Errorf("it is registered, though it is stopping\n%s", b.log)
	}
}

// TestAStoppingTaskThatNeverVanishedStays is deregister-tasks' business alone.
func TestAStoppingTaskThatNeverVanishedStays(t *testing.T) {
	b := newBench(t)
	b.look(t)
	b.desired.Store("STOPPED")
	b.look(t)
	b.expect(t, "passing", "passing", "passing")
}

// TestASlowConsulStillHasAllOfIt has every request take a third of a second.
func TestASlowConsulStillHasAllOfIt(t *testing.T) {
	b := newBench(t)
	b.look(t)
	b.vanish(t)
	b.pointAt(t, b.proxy(t, func(r *http.Request) {
		select {
		case <-time.After(330 * time.Millisecond):
		case <-r.Context().Done():
		}
	}))
	b.look(t)
	b.expect(t, "passing", "passing", "passing")
	found, err := b.task.Registration.Read(t.Context(), only{b.client})
	if err != nil || b.task.Registration.Damage(found) != "" {
		t.Errorf("damage %q, %v\n%s", b.task.Registration.Damage(found), err, b.log)
	}
}

// TestATaskThatIsGoneTellsNobody has its health change all the time while it may
// not register again.
func TestATaskThatIsGoneTellsNobody(t *testing.T) {
	for what, prevent := range map[string]func(*bench){
		"not known whether it is stopping": func(b *bench) { b.meta.Store(http.StatusInternalServerError) },
		"restored a moment ago": func(b *bench) {
			u := upkeep{LookAt: b.clock, Restored: restoration{b.clock, time.Hour}}
			if err := b.run.Volume.WriteJSON(b.run.Volume.Upkeep(), u); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.look(t)
			b.vanish(t)
			prevent(b)
			var requests atomic.Int32
			b.pointAt(t, b.proxy(t, func(*http.Request) { requests.Add(1) }))
			for i := range 36 { // three minutes
				b.app.Store(200 + 300*int32(i%2))
				b.clock = b.clock.Add(5 * time.Second)
				b.again(t)
			}
			// Three looks, and a write to find out.
			if n := requests.Load(); n > 3*3+3 || b.registered(t) {
				t.Errorf("%d requests; registered: %t\n%s", n, b.registered(t), b.log)
			}
		})
	}
}

// TestALossIsNotBelievedForEver has the run that found the registration gone be
// the last one that could note anything; then the registration is back.
func TestALossIsNotBelievedForEver(t *testing.T) {
	b := newBench(t)
	b.look(t)
	v := b.run.Volume
	if err := v.WriteJSON(v.Upkeep(), upkeep{LookAt: b.clock, Lost: true}); err != nil {
		t.Fatal(err)
	}
	dir, name := slicePath(v.Upkeep())
	if err := os.MkdirAll(dir+"/."+name+".new/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	b.app.Store(500)
	b.again(t)
	b.expect(t, "critical", "passing", "critical")
	b.app.Store(200)
	b.again(t)
	b.expect(t, "passing", "passing", "passing")
}

func TestADrainOutlastsARestoration(t *testing.T) {
	b := newBench(t)
	b.look(t)
	drain := api.CatalogRegistration{Node: "ecs-a1", SkipNodeUpdate: true, Check: &api.AgentCheck{Node: "ecs-a1", CheckID: mesh.LifecycleCheckID, Name: "x", Status: "critical"}}
	if _, err := b.client.Catalog().Register(&drain, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-a1", ServiceID: "api-a1-sidecar-proxy"}, nil); err != nil {
		t.Fatal(err)
	}
	b.look(t)
	if diff := cmp.Diff(map[string]string{"health": "passing", "port": "passing", "sidecar-proxy-envoy": "passing", mesh.LifecycleCheckID: "critical"}, b.checks(t)); diff != "" {
		t.Errorf("%s\n%s", diff, b.log)
	}
}

// TestWhatOthersWroteIsPutRight covers a frozen server that applies an old
// write when it thaws, too.
func TestWhatOthersWroteIsPutRight(t *testing.T) {
	b := newBench(t)
	b.look(t)
	for _, check := range b.task.Registration.Checks() {
		forged := *check
		forged.Status, forged.Output = "critical", "from long ago"
		if _, err := b.client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-a1", SkipNodeUpdate: true, Checks: api.HealthChecks{&forged}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.expect(t, "critical", "critical", "critical")
	b.look(t)
	b.expect(t, "passing", "passing", "passing")
}

func TestALookWritesNothingWhereAllIsWell(t *testing.T) {
	b := newBench(t)
	b.look(t)
	before := b.index(t)
	var requests []string
	b.pointAt(t, b.proxy(t, func(r *http.Request) { requests = append(requests, r.Method+" "+r.URL.Path) }))
	b.look(t)
	if after := b.index(t); after != before {
		t.Errorf("Consul was written to: index %d, then %d", before, after)
	}
	want := []string{"GET /v1/catalog/node-services/ecs-a1", "GET /v1/health/node/ecs-a1", "GET /v1/health/service/consul"}
	if diff := cmp.Diff(want, requests); diff != "" {
		t.Error(diff)
	}
	b.asked.Store(0)
	requests = nil
	for range 3 {
		b.again(t)
	}
	if len(requests) > 0 || b.asked.Load() > 0 {
		t.Errorf("between two looks: %v, and the metadata %d times", requests, b.asked.Load())
	}
}

func TestEnvoyFollowsTheServers(t *testing.T) {
	b := newBench(t)
	gone := netip.MustParseAddr("127.200.0.1")
	b.task.Servers = []netip.Addr{gone, b.consul.Addr}
	b.save(t)
	b.look(t)
	want, err := envoy.Endpoints([]netip.Addr{b.consul.Addr}, consultest.GRPCPort)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.envoysServers(t)); diff != "" {
		t.Error(diff)
	}
	// From now on the task itself reaches Consul there, too.
	b.task.Servers = []netip.Addr{gone}
	b.save(t)
	b.app.Store(500)
	b.again(t)
	b.expect(t, "critical", "passing", "critical")
}

func TestServersThatCannotBeReachedAreNotTakenOver(t *testing.T) {
	b := newBench(t)
	// As through a load balancer: Consul's own address has no such port.
	b.task.GRPCPort = 1
	b.task.Servers = []netip.Addr{netip.MustParseAddr("127.200.0.1"), b.consul.Addr}
	b.save(t)
	b.look(t)
	if _, err := os.Stat(b.run.Volume.LiveServers()); err == nil {
		t.Errorf("Envoy was given %s", b.envoysServers(t))
	}
	if !strings.Contains(b.log.String(), "can be reached") {
		t.Errorf("the log doesn't say so:\n%s", b.log)
	}
}

func TestAllServersMayBeReplacedAtOnce(t *testing.T) {
	b := newBench(t)
	b.look(t)
	b.consul.Stop()
	fresh := consultest.Start(t)
	b.client = fresh.Client
	b.task.Source = discovery.Source{Hosts: []string{fresh.Addr.String()}}
	b.save(t)
	b.look(t) // nobody answers
	b.clock = b.clock.Add(firstAsk * DefaultRefresh)
	b.again(t)
	if !strings.Contains(b.envoysServers(t), fresh.Addr.String()) {
		t.Errorf("Envoy has %s\n%s", b.envoysServers(t), b.log)
	}
	// The new cluster is empty: the task registers.
	b.expect(t, "passing", "passing", "passing")
}

// TestThePublishedListIsReadRarely has Consul gone and SSM throttle.
func TestThePublishedListIsReadRarely(t *testing.T) {
	b := newBench(t)
	b.run.Budget = LeastBudget
	var (
		mu    sync.Mutex // a request may be under way when its run is over
		now   = b.clock
		reads []time.Time
	)
	ssm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		reads = append(reads, now)
		mu.Unlock()
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type": "ThrottlingException"}`))
	}))
	defer ssm.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": ssm.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1",
	} {
		t.Setenv(name, value)
	}
	b.task.Source = discovery.Source{Parameter: "/p", Region: "eu-west-1"}
	b.save(t)
	b.look(t)
	b.consul.Stop()
	for range 30 {
		b.clock = b.clock.Add(time.Minute)
		mu.Lock()
		now = b.clock
		mu.Unlock()
		b.again(t)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := len(reads); n < 2 || n > 10 {
		t.Errorf("%d reads in half an hour: %v", n, reads)
	}
	for i := 1; i < len(reads); i++ {
		if gap := reads[i].Sub(reads[i-1]); gap < DefaultRefresh {
			t.Errorf("two reads within %s", gap)
		}
	}
}

func TestContainersHealthGoesToConsul(t *testing.T) {
	b := newBench(t)
	b.withContainers(t, "app", "cache")
	health := func(app, cache string) string {
		return `[{"Name": "app", "Health": {"status": "` + app + `"}}, {"Name": "cache", "Health": {"status": "` + cache + `"}}, {"Name": "other"}]`
	}
	for _, step := range []struct {
		members, app, cache, sidecar string
	}{
		{`[]`, "critical", "critical", "critical"},
		{`[{"Name": "app"}, {"Name": "cache"}]`, "critical", "critical", "critical"}, // no health checks
		{health("UNKNOWN", "HEALTHY"), "critical", "passing", "critical"},
		{health("HEALTHY", "HEALTHY"), "passing", "passing", "passing"},
		{health("HEALTHY", "UNHEALTHY"), "passing", "critical", "critical"},
		{health("HEALTHY", "HEALTHY"), "passing", "passing", "passing"},
	} {
		b.members.Store(step.members)
		b.again(t)
		want := map[string]string{"app": step.app, "cache": step.cache, "sidecar-proxy-envoy": step.sidecar}
		if diff := cmp.Diff(want, b.checks(t)); diff != "" {
			t.Errorf("%s: %s\n%s", step.members, diff, b.log)
		}
	}
	// What ECS doesn't say is not taken for bad news.
	b.meta.Store(http.StatusTooManyRequests)
	b.members.Store(`[]`)
	b.again(t)
	if diff := cmp.Diff(map[string]string{"app": "passing", "cache": "passing", "sidecar-proxy-envoy": "passing"}, b.checks(t)); diff != "" {
		t.Errorf("the metadata is throttled: %s", diff)
	}
	if err := b.run.Volume.Write(b.run.Volume.Checks(), []byte("{")); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	if diff := cmp.Diff(map[string]string{"app": "passing", "cache": "passing", "sidecar-proxy-envoy": "passing"}, b.checks(t)); diff != "" {
		t.Errorf("and what Consul was told is forgotten: %s", diff)
	}
}

// withContainers has the service's health follow containers alone.
func (b *bench) withContainers(t *testing.T, names ...string) {
	t.Helper()
	b.vanish(t)
	b.task.Checks, b.task.Containers = nil, names
	service := &b.task.Registration.Service
	service.Checks = nil
	for _, name := range names {
		service.Checks = append(service.Checks, &api.HealthCheck{
			Node: "ecs-a1", CheckID: mesh.CheckID("api-a1", name), Name: "Container " + name, Status: "critical",
			ServiceID: "api-a1", ServiceName: "api",
		})
	}
	if _, err := b.task.Registration.Write(t.Context(), b.client); err != nil {
		t.Fatal(err)
	}
	b.save(t)
}

// TestAContainerDoesNotWaitForItself has the application's own health check
// wait for a service whose health is that container's.
func TestAContainerDoesNotWaitForItself(t *testing.T) {
	b := newBench(t)
	b.withContainers(t, "app", "cache")
	b.run.UntilPassing = true
	b.members.Store(`[{"Name": "app", "Health": {"status": "UNKNOWN"}}, {"Name": "cache", "Health": {"status": "UNKNOWN"}}]`)
	if err := b.run.Do(t.Context()); err == nil {
		t.Error("it does not wait for the other container")
	}
	b.members.Store(`[{"Name": "app", "Health": {"status": "UNKNOWN"}}, {"Name": "cache", "Health": {"status": "HEALTHY"}}]`)
	if err := b.run.Do(t.Context()); err != nil {
		t.Error(err)
	}
	// Also while another run is at work, which ends this one early.
	unlock, err := b.run.Volume.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for range 20 {
		if err := b.run.Do(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestManyTasksSpreadTheirReadsOfTheList has Consul vanish for 5,000 tasks at
// the same moment, for two hours.
func TestManyTasksSpreadTheirReadsOfTheList(t *testing.T) {
	const tasks, refresh, limit = 5000, DefaultRefresh, 40 // reads a second: SSM's default for an account
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	perSecond := map[int]int{}
	for range tasks {
		u := newUpkeep(begin, refresh)
		now := u.LookAt // finds nobody
		u = u.silent(now, refresh)
		var last time.Time
		for now.Sub(begin) < 2*time.Hour {
			now = u.AskAt
			if !u.askDue(now) || !last.IsZero() && now.Sub(last) < refresh {
				t.Fatalf("asks at %s, and before at %s", now, last)
			}
			perSecond[int(now.Sub(begin).Seconds())]++
			u, last = u.asked(now).unchanged(now, refresh), now
		}
	}
	most := 0
	for i := range int(2 * time.Hour / time.Second) {
		// Over ten seconds, which even out what chance does.
		sum := 0
		for j := range 10 {
			sum += perSecond[i+j]
		}
		most = max(most, sum/10)
	}
	if most >= limit*3/4 || most == 0 {
		t.Errorf("%d reads a second, of %d that all of an account has", most, limit)
	}
}

// TestAClockThatGoesBackHoldsNothingUp has what was planned lie far ahead.
func TestAClockThatGoesBackHoldsNothingUp(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	far := now.Add(1000 * time.Hour)
	u := upkeep{LookAt: far, LookedAt: far, AskAt: far, AskPause: time.Minute, TriedAt: far, WatchUntil: far, Restored: restoration{far, 1000 * time.Hour}}.mend(now, time.Minute)
	if !u.lookDue(now) || !u.askDue(now) || u.restoreAt(time.Minute, true).Sub(now) > longestRestoring || !u.watchOver(now.Add(watched)) {
		t.Errorf("after mending: %+v", u)
	}
	same := newUpkeep(now, time.Minute).silent(now, time.Minute).tried(now, true).restored(now, time.Minute, true)
	if diff := cmp.Diff(same, same.mend(now, time.Minute), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("nothing was wrong: %s", diff)
	}
}

// TestARunThatWasKilledLeavesNothingToFearFor has each of its files cut off,
// or half-written beside.
func TestARunThatWasKilledLeavesNothingToFearFor(t *testing.T) {
	b := newBench(t)
	b.look(t)
	v := b.run.Volume
	for _, path := range []string{v.Checks(), v.Upkeep(), v.LiveServers(), v.Passed()} {
		for _, content := range []string{"", "{", `{"LookAt": 7}`, "null", "[]"} {
			if path != v.LiveServers() && path != v.Passed() {
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			dir, name := slicePath(path)
			if err := os.WriteFile(dir+"/."+name+".new", []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			b.app.Store(500)
			b.again(t)
			b.expect(t, "critical", "passing", "critical")
			b.app.Store(200)
			b.again(t)
			b.expect(t, "passing", "passing", "passing")
			b.clock = b.clock.Add(3 * time.Hour)
			b.again(t) // finds it whole, long after it was restored
			b.vanish(t)
			b.look(t)
			b.expect(t, "passing", "passing", "passing")
		}
	}
	if left := list(t, v); slices.ContainsFunc(left, func(name string) bool { return strings.HasSuffix(name, ".new") && name != ".consul-servers.json.new" }) {
		t.Errorf("left behind: %v", left)
	}
}

func slicePath(path string) (dir, name string) {
	at := strings.LastIndexByte(path, '/')
	return path[:at], path[at+1:]
}

func list(t *testing.T, v volume.Volume) (names []string) {
	t.Helper()
	for _, dir := range []string{string(v), v.Live(), strings.TrimSuffix(v.Task(), "/task.json")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
	}
	return names
}
