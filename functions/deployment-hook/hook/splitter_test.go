package hook

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/dryrun"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// The revisions of the tests: blue was there before green.
const (
	blue, green = "revision-11", "revision-22"
)

func split(blueWeight, greenWeight float64) Split {
	return Split{
		Subsets: map[string]Subset{blue: {"api", "1"}, green: {"api", "2"}},
		Weights: map[string]float64{blue: blueWeight, green: greenWeight},
	}
}

// setting is a Consul whose service api speaks http.
func setting(t *testing.T) (*consultest.Server, *Splitter) {
	t.Helper()
	server := consultest.Start(t)
	put(t, server.Client, &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "api", Protocol: "http"})
	servers, err := consul.NewServers([]netip.Addr{server.Addr}, consul.Options{Port: consultest.HTTPPort})
	if err != nil {
		t.Fatal(err)
	}
	return server, NewSplitter(servers)
}

// introduce has a splitter made.
func introduce(t *testing.T, splitter *Splitter) {
	t.Helper()
	expect(t, splitter, split(100, 0), "from the service's first splitter the Envoys learn of the revisions")
}

// expect splits api's traffic, and wants a wait, or none for "".
func expect(t *testing.T, splitter *Splitter, split Split, want string) {
	t.Helper()
	wait, err := splitter.Split(t.Context(), "api", split)
	if err != nil || (wait == "") != (want == "") || !strings.Contains(wait, want) {
		t.Fatalf("got the wait %q and %v, want %q", wait, err, want)
	}
}

func put(t *testing.T, client *api.Client, entry api.ConfigEntry) {
	t.Helper()
	if _, _, err := client.ConfigEntries().Set(entry, nil); err != nil {
		t.Fatal(err)
	}
}

func splitterOf(t *testing.T, client *api.Client) *api.ServiceSplitterConfigEntry {
	t.Helper()
	entry, _, err := client.ConfigEntries().Get(api.ServiceSplitter, "api", nil)
	if err != nil {
		t.Fatal(err)
	}
	return entry.(*api.ServiceSplitterConfigEntry)
}

func resolverOf(t *testing.T, client *api.Client) *api.ServiceResolverConfigEntry {
	t.Helper()
	entry, _, err := client.ConfigEntries().Get(api.ServiceResolver, "api", nil)
	if err != nil {
		t.Fatal(err)
	}
	return entry.(*api.ServiceResolverConfigEntry)
}

func TestSplitOnConsul(t *testing.T) {
	server, splitter := setting(t)
	// What the user has in the resolver stays.
	put(t, server.Client, &api.ServiceResolverConfigEntry{
		Kind: api.ServiceResolver, Name: "api", ConnectTimeout: 7e9,
		Subsets: map[string]api.ServiceResolverSubset{"mine": {Filter: `Service.Meta.version == "1"`}, "revision-7": {Filter: `Service.Meta.version == "0"`}},
	})
	introduce(t, splitter)
	introduced := []api.ServiceSplit{{Weight: 100}, {ServiceSubset: blue}, {ServiceSubset: green}}
	if diff := cmp.Diff(introduced, splitterOf(t, server.Client).Splits); diff != "" {
		t.Errorf("introduced (-want +got):\n%s", diff)
	}
	for _, step := range []struct {
		split Split
		want  []api.ServiceSplit
	}{
		{split(100, 0), []api.ServiceSplit{{}, {Weight: 100, ServiceSubset: blue}, {ServiceSubset: green}}},
		{split(90, 10), []api.ServiceSplit{{}, {Weight: 90, ServiceSubset: blue}, {Weight: 10, ServiceSubset: green}}},
		{split(0, 100), []api.ServiceSplit{{}, {ServiceSubset: blue}, {Weight: 100, ServiceSubset: green}}},
		{split(100, 0), []api.ServiceSplit{{}, {Weight: 100, ServiceSubset: blue}, {ServiceSubset: green}}},
	} {
		expect(t, splitter, step.split, "")
		got := splitterOf(t, server.Client)
		if diff := cmp.Diff(step.want, got.Splits); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		resolver := resolverOf(t, server.Client).ModifyIndex
		expect(t, splitter, step.split, "")
		if again := splitterOf(t, server.Client); again.ModifyIndex != got.ModifyIndex || resolverOf(t, server.Client).ModifyIndex != resolver {
			t.Error("the same was written twice")
		}
	}
	resolver := resolverOf(t, server.Client)
	if resolver.ConnectTimeout != 7e9 {
		t.Errorf("the user's connect timeout has become %s", resolver.ConnectTimeout)
	}
	want := map[string]api.ServiceResolverSubset{
		"mine":    {Filter: `Service.Meta.version == "1"`},
		anySubset: {},
		blue:      {Filter: `Node.Meta["ecsmesh-family"] == "api" and Node.Meta["ecsmesh-revision"] == "1"`},
		green:     {Filter: `Node.Meta["ecsmesh-family"] == "api" and Node.Meta["ecsmesh-revision"] == "2"`},
	}
	if diff := cmp.Diff(want, resolver.Subsets); diff != "" {
		t.Errorf("subsets (-want +got):\n%s", diff)
	}

	// The next deployment forgets what went before it, once the splitter has.
	next := Split{Subsets: map[string]Subset{blue: {"api", "1"}, "revision-33": {"api", "3"}}, Weights: map[string]float64{blue: 100, "revision-33": 0}}
	for range 2 {
		if _, err := splitter.Split(t.Context(), "api", next); err != nil {
			t.Fatal(err)
		}
	}
	if resolver := resolverOf(t, server.Client); len(resolver.Subsets) != 4 || resolver.Subsets[green].Filter != "" || len(resolver.Failover) != 2 {
		t.Errorf("after another deployment, the resolver has %v and %v", resolver.Subsets, resolver.Failover)
	}
}

func TestSplittersOfOthersStayOnConsul(t *testing.T) {
	server, splitter := setting(t)
	// Consul takes no splitter over services of several protocols.
	put(t, server.Client, &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "other", Protocol: "http"})
	for name, test := range map[string]struct {
		entry api.ServiceSplitterConfigEntry
		want  string
	}{
		"another's": {api.ServiceSplitterConfigEntry{Splits: []api.ServiceSplit{{Weight: 100}}}, "its meta has no managed-by=ecsmesh-deployment-hook"},
		"changed by another": {
			api.ServiceSplitterConfigEntry{Meta: map[string]string{ownerMeta: owner}, Splits: []api.ServiceSplit{{Weight: 50}, {Weight: 50, Service: "other"}}},
			"50% of the requests go to ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.entry.Kind, test.entry.Name = api.ServiceSplitter, "api"
			put(t, server.Client, &test.entry)
			before := splitterOf(t, server.Client)
			_, err := splitter.Split(t.Context(), "api", split(100, 0))
			if !errors.Is(err, errForeign) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want errForeign that says %q", err, test.want)
			}
			if after := splitterOf(t, server.Client); after.ModifyIndex != before.ModifyIndex {
				t.Error("it was written")
			}
		})
	}
}

// TestNewTasksWaitUntilTheEnvoysFollowOnConsul has the traffic held before there are
// new tasks, for a service's first such deployment and its second.
func TestNewTasksWaitUntilTheEnvoysFollowOnConsul(t *testing.T) {
	server, splitter := setting(t)
	start := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	hold := split(100, 0)
	hold.Hold = true
	for _, step := range []struct {
		after time.Duration // since the first call
		want  string
	}{
		{0, "until 03:14:35Z its callers' Envoys drain connections from before"},
		{15 * time.Second, "until 03:14:35Z"},
		{drainTime - time.Second, "until 03:14:35Z"},
		{drainTime, ""},
	} {
		splitter.now = func() time.Time { return start.Add(step.after) }
		expect(t, splitter, hold, step.want)
	}
	if diff := cmp.Diff(splits(hold.Weights), splitterOf(t, server.Client).Splits); diff != "" {
		t.Errorf("the splits (-want +got):\n%s", diff)
	}

	expect(t, splitter, split(0, 100), "")
	next := Split{Subsets: map[string]Subset{green: {"api", "2"}, "revision-33": {"api", "3"}}, Weights: map[string]float64{green: 100, "revision-33": 0}, Hold: true}
	expect(t, splitter, next, "the Envoys learn of it before there are new tasks")
	expect(t, splitter, next, "")
}

// between has something happen after the splitter was read.
type between struct {
	servers
	calls, at int
	do        func()
}

func (b *between) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	if b.calls++; b.calls == b.at {
		b.do()
	}
	return b.servers.Do(ctx, attempt)
}

func TestAConcurrentEditIsNotOverwrittenOnConsul(t *testing.T) {
	server, splitter := setting(t)
	introduce(t, splitter)
	theirs := []api.ServiceSplit{{Weight: 60, ServiceSubset: blue}, {Weight: 40, ServiceSubset: green}}
	// Two reads come before the write: the resolver is as it should be.
	racing := NewSplitter(&between{servers: splitter.servers, at: 3, do: func() {
		put(t, server.Client, &api.ServiceSplitterConfigEntry{Kind: api.ServiceSplitter, Name: "api", Splits: theirs})
	}})
	_, err := racing.Split(t.Context(), "api", split(0, 100))
	if !errors.Is(err, errChanged) || !strings.Contains(err.Error(), "write service-splitter api") {
		t.Errorf("got %v, want errChanged", err)
	}
	if diff := cmp.Diff(theirs, splitterOf(t, server.Client).Splits); diff != "" {
		t.Errorf("the other's splitter (-want +got):\n%s", diff)
	}
}

// An attempt whose answer was lost has been carried out, and so has the same call
// made twice at a time.
func TestACallLikeThisOneIsNoConcurrentEditOnConsul(t *testing.T) {
	_, splitter := setting(t)
	introduce(t, splitter)
	for at := range 5 {
		weight := float64(10 * (at + 1))
		racing := NewSplitter(&between{servers: splitter.servers, at: at + 1, do: func() {
			if _, err := splitter.Split(t.Context(), "api", split(100-weight, weight)); err != nil {
				t.Error(err)
			}
		}})
		if _, err := racing.Split(t.Context(), "api", split(100-weight, weight)); err != nil {
			t.Errorf("with the other before call %d: %v", at+1, err)
		}
	}
}

func TestADryRunWritesNothingOnConsul(t *testing.T) {
	server, splitter := setting(t)
	splitter.Plan = dryrun.New(slog.New(slog.DiscardHandler))
	introduce(t, splitter)
	plan := splitter.Plan.Take()
	if len(plan.Would) != 2 || plan.Would[0].What != "Consul's service-resolver api" || plan.Would[1].What != "Consul's service-splitter api" || len(plan.Requests) != 2 {
		t.Errorf("got %+v, want the resolver and the splitter", plan)
	}
	for _, kind := range []string{api.ServiceSplitter, api.ServiceResolver} {
		if entries, _, err := server.Client.ConfigEntries().List(kind, nil); err != nil || len(entries) > 0 {
			t.Errorf("Consul has %d of %s, %v", len(entries), kind, err)
		}
	}
}

// TestAFailoverOfTheUsersStaysInForceOnConsul has a service with one to another
// service or datacenter, which is Consul's for the service's every subset.
func TestAFailoverOfTheUsersStaysInForceOnConsul(t *testing.T) {
	for name, test := range map[string]struct {
		theirs api.ServiceResolverFailover
		want   []string
	}{
		"to a service":   {api.ServiceResolverFailover{Service: "spare"}, []string{"any-revision.api.default.default.dc1", "spare.default.default.dc1"}},
		"to datacenters": {api.ServiceResolverFailover{Datacenters: []string{"dc2", "dc3"}}, []string{"any-revision.api.default.default.dc1", "any-revision.api.default.default.dc2", "any-revision.api.default.default.dc3"}},
		"to targets": {
			api.ServiceResolverFailover{Targets: []api.ServiceResolverFailoverTarget{{Service: "spare"}, {Datacenter: "dc2"}, {Service: "spare", Peer: "partner"}}},
			[]string{"any-revision.api.default.default.dc1", "spare.default.default.dc1", "any-revision.api.default.default.dc2", "spare.default.default.external.partner"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, splitter := setting(t)
			put(t, server.Client, &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "spare", Protocol: "http"})
			put(t, server.Client, &api.ServiceResolverConfigEntry{Kind: api.ServiceResolver, Name: "api", Failover: map[string]api.ServiceResolverFailover{"*": test.theirs}})
			introduce(t, splitter)
			expect(t, splitter, split(100, 0), "")
			chain, _, err := server.Client.DiscoveryChain().Get("api", nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			node := chain.Chain.Nodes["resolver:"+blue+".api.default.default.dc1"]
			if node == nil || node.Resolver.Failover == nil {
				t.Fatalf("got the nodes %v", chain.Chain.Nodes)
			}
			if diff := cmp.Diff(test.want, node.Resolver.Failover.Targets); diff != "" {
				t.Errorf("the targets of %s (-want +got):\n%s", blue, diff)
			}
			before := resolverOf(t, server.Client).ModifyIndex
			expect(t, splitter, split(100, 0), "")
			if resolverOf(t, server.Client).ModifyIndex != before {
				t.Error("the same was written twice")
			}
		})
	}
}

func TestProtocolOnConsul(t *testing.T) {
	_, splitter := setting(t)
	for service, want := range map[string]string{"api": "http", "web": "tcp"} {
		if got, err := splitter.Protocol(t.Context(), service); err != nil || got != want {
			t.Errorf("%s speaks %q, %v; want %s", service, got, err, want)
		}
	}
}
