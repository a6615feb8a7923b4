package consul

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
)

func TestCurrent(t *testing.T) {
	server := consultest.Start(t)
	for i, addr := range []string{"2001:db8::a", "10.0.0.9", "10.0.0.10", "10.0.0.9", "db.example.com", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"} {
		registration := &api.CatalogRegistration{
			Node: fmt.Sprintf("server-%d", i), Address: addr,
			Service: &api.AgentService{ID: "consul", Service: "consul", Port: 8300},
		}
		registration.Check = &api.AgentCheck{Node: registration.Node, CheckID: "serfHealth", Name: "Serf Health Status", Status: api.HealthPassing}
		switch addr {
		case "10.0.0.11":
			registration.Check.Status = api.HealthCritical
		case "10.0.0.12": // no member of Consul's
			registration.Check = nil
		case "10.0.0.13": // a task's service of that name
			registration.NodeMeta = map[string]string{"synthetic-node": "true"}
		case "10.0.0.14":
			registration.Service.ID = "consul-a1"
		}
		if _, err := server.Client.Catalog().Register(registration, nil); err != nil {
			t.Fatal(err)
		}
	}
	got, err := servers(t, []netip.Addr{server.Addr}, Options{Port: consultest.HTTPPort}).Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.10"), server.Addr, netip.MustParseAddr("2001:db8::a")}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCurrentServersShrinkWhenOneDies(t *testing.T) {
	cluster := consultest.StartCluster(t, 3)
	dead := cluster.Leader(t)
	dead.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	servers := servers(t, cluster.Addrs(), Options{Port: consultest.HTTPPort})
	for {
		got, err := servers.Current(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(got, slices.SortedFunc(slices.Values(cluster.Addrs()), netip.Addr.Compare), cmpopts.EquateComparable(netip.Addr{})) {
			return
		}
		if len(got) != 3 {
			t.Fatalf("%s are named while %s run", got, cluster.Addrs())
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s are still named while %s run", got, cluster.Addrs())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestACutOffLeaderNamesNone has a leader left that knows the others from before.
func TestACutOffLeaderNamesNone(t *testing.T) {
	cluster := consultest.StartCluster(t, 3)
	leader := cluster.Leader(t)
	for _, s := range cluster.Servers {
		if s != leader {
			s.Stop()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if got, err := servers(t, []netip.Addr{leader.Addr}, Options{Port: consultest.HTTPPort}).Current(ctx); err == nil {
		t.Errorf("a leader without followers named %s", got)
	}
}

func TestCurrentServersAreNeverAPartOrNone(t *testing.T) {
	const one = `[{"Node": {"Node": "a", "Address": "10.0.0.1"}, "Service": {"ID": "consul", "Service": "consul"}, "Checks": [{"CheckID": "serfHealth"}]}]`
	for name, test := range map[string]struct {
		answer, filtered string
		want             string
	}{
		"some kept back":  {one, "true", "needs node:read"},
		"none":            {`[]`, "", "none of the 0"},
		"none is usable":  {strings.ReplaceAll(one, "10.0.0.1", "db.example.com"), "", "none of the 1"},
		"without address": {strings.ReplaceAll(one, "10.0.0.1", ""), "", "none of the 1"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.String()
				w.Header().Set("X-Consul-LastContact", "0") // without it the client reads no other
				if test.filtered != "" {
					w.Header().Set("X-Consul-Results-Filtered-By-ACLs", test.filtered)
				}
				fmt.Fprint(w, test.answer)
			}))
			defer server.Close()
			at := netip.MustParseAddrPort(server.Listener.Addr().String())
			if got, err := servers(t, []netip.Addr{at.Addr()}, Options{Port: int(at.Port())}).Current(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v; want an error with %q", got, err, test.want)
			}
			if asked != "/v1/health/service/consul?consistent=&passing=1" {
				t.Errorf("asked for %s", asked)
			}
		})
	}
}

func TestAnyReachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	at := netip.MustParseAddrPort(listener.Addr().String())
	gone := netip.MustParseAddr("127.200.0.1") // nobody listens there
	if !AnyReachable(t.Context(), []netip.Addr{gone, at.Addr()}, int(at.Port())) {
		t.Error("one of two can be reached, and it isn't found")
	}
	if AnyReachable(t.Context(), []netip.Addr{at.Addr()}, int(at.Port()), 1) {
		t.Error("one of two ports is taken for both")
	}
	if AnyReachable(t.Context(), []netip.Addr{gone}, int(at.Port())) || AnyReachable(t.Context(), nil, int(at.Port())) {
		t.Error("what nobody listens at is found")
	}
}
