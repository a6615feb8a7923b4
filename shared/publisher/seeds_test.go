package publisher

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/serverlist"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fakeDNS has the names that it holds; of those without addresses it never
// says anything.
type fakeDNS map[string][]netip.Addr

var _ resolver = (fakeDNS)(nil)

func (f fakeDNS) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	addrs, ok := f[host]
	switch {
	case network != "ip" || !ok:
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	case len(addrs) == 0:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return addrs, nil
}

// fakeAccess reaches Consul servers without TLS and token.
type fakeAccess struct{ port int }

var _ access = fakeAccess{}

func (f fakeAccess) Port() int { return f.port }

func (f fakeAccess) Use(_ context.Context, addrs []netip.Addr, use func(*consul.Servers) error) error {
	servers, err := consul.NewServers(addrs, consul.Options{Port: f.port})
	if err != nil {
		return err
	}
	return use(servers)
}

// newSeededFixture is a publisher from seeds.
func newSeededFixture(dns fakeDNS, seeds ...string) (*fixture, *seedServers) {
	f := newFixture("")
	source := newSeedServers(seeds, fakeAccess{consultest.HTTPPort}, f.Publisher.log)
	source.resolver = dns
	f.Publisher.source = source
	return f, source
}

// awaitPublished publishes until the list is that of the given servers.
func awaitPublished(t *testing.T, f *fixture, servers []netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	want := serverlist.Format(servers)
	for {
		if err := f.Publish(ctx); err != nil {
			t.Fatal(err)
		}
		if *f.parameter.value == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the list is %s while %s run", *f.parameter.value, want)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestSeedsFollowACluster takes a real one through what befalls it in time.
func TestSeedsFollowACluster(t *testing.T) {
	cluster := consultest.StartCluster(t, 3)
	first, second := cluster.Servers[0], cluster.Servers[1]
	f, _ := newSeededFixture(fakeDNS{"consul.example.com": {second.Addr}}, first.Addr.String(), "gone.example.com", "consul.example.com")

	awaitPublished(t, f, cluster.Addrs()) // one seed knows them all
	if !strings.Contains(f.log.String(), "gone.example.com") {
		t.Errorf("the log doesn't name the seed that can't be resolved: %s", f.log.String())
	}
	f.expect(t, []string{serverlist.Format(cluster.Addrs())}, "ServersPublished=3")

	first.Stop()
	awaitPublished(t, f, cluster.Addrs()) // the other seed answers

	added := cluster.Join(t, 1)
	awaitPublished(t, f, cluster.Addrs()) // the replaced one stays a seed

	// One of three is left, and without a leader it knows nothing for sure.
	added[0].Stop()
	cluster.Servers[2].Stop()
	published := *f.parameter.value
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := f.Publish(ctx); err == nil {
		t.Error("a server without a leader was believed")
	}
	if *f.parameter.value != published {
		t.Errorf("the list became %s", *f.parameter.value)
	}
}

func TestSeedsThatAreAllDead(t *testing.T) {
	f, source := newSeededFixture(nil, "127.255.1.1", "127.255.1.2")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := f.Publish(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline to pass", err)
	}
	for _, seed := range source.seeds {
		if err != nil && !strings.Contains(err.Error(), seed) {
			t.Errorf("%q doesn't name %s", err, seed)
		}
	}
	f.expect(t, nil)
}

func TestSeedsThatMove(t *testing.T) {
	server, other := consultest.Start(t), consultest.Start(t)
	dns := fakeDNS{"consul.example.com": {server.Addr}}
	f, _ := newSeededFixture(dns, "consul.example.com")
	awaitPublished(t, f, []netip.Addr{server.Addr})
	dns["consul.example.com"] = []netip.Addr{other.Addr}
	awaitPublished(t, f, []netip.Addr{other.Addr})
}

// TestSeedsAreResolved runs on a clock of its own, and so takes no time.
func TestSeedsAreResolved(t *testing.T) {
	dns := fakeDNS{
		"one.example.com":  {netip.MustParseAddr("::ffff:10.0.1.10"), netip.MustParseAddr("2001:db8::a")},
		"slow.example.com": nil,
	}
	for name, test := range map[string]struct {
		seeds []string
		want  []netip.Addr // or
		fault string
		took  time.Duration
	}{
		"addresses":              {[]string{"10.0.2.10", "2001:db8::b", "10.0.1.10", "10.0.2.10"}, parse("10.0.1.10", "10.0.2.10", "2001:db8::b"), "", 0},
		"a name":                 {[]string{"one.example.com"}, parse("10.0.1.10", "2001:db8::a"), "", 0},
		"one that is an address": {[]string{"one.example.com", "10.0.1.10"}, parse("10.0.1.10", "2001:db8::a"), "", 0},
		"one that is unknown":    {[]string{"gone.example.com", "one.example.com"}, parse("10.0.1.10", "2001:db8::a"), "", 0},
		"one that hangs":         {[]string{"slow.example.com", "10.0.1.10"}, parse("10.0.1.10"), "", resolveTime},
		"none":                   {[]string{"gone.example.com", "lost.example.com"}, nil, "lookup gone.example.com: no such host\nlookup lost.example.com: no such host", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				s := newSeedServers(test.seeds, fakeAccess{}, slog.New(slog.NewTextHandler(&log, nil)))
				s.resolver = dns
				start := time.Now()
				got, err := s.resolve(t.Context())
				if test.fault == "" && err != nil || test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)) {
					t.Errorf("got error %v, want %q", err, test.fault)
				}
				if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if took := time.Since(start); took != test.took {
					t.Errorf("took %s, want %s", took, test.took)
				}
			})
		})
	}
}
