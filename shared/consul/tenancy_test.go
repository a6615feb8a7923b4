package consul

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// TestTheEnvironmentChangesNothing sets what Consul's client reads by itself,
// and expects requests to carry what Options says, or what they say themselves.
func TestTheEnvironmentChangesNothing(t *testing.T) {
	t.Setenv("CONSUL_HTTP_ADDR", "127.255.255.254:1")
	t.Setenv("CONSUL_HTTP_SSL", "true")
	t.Setenv("CONSUL_HTTP_TOKEN", "secret")
	t.Setenv("CONSUL_NAMESPACE", "theirs")
	t.Setenv("CONSUL_PARTITION", "theirs")
	nodes := func(q *api.QueryOptions) func(context.Context, *api.Client) error {
		return func(ctx context.Context, client *api.Client) error {
			_, _, err := client.Catalog().Nodes(q.WithContext(ctx))
			return err
		}
	}
	login := func(ctx context.Context, client *api.Client) error {
		_, err := client.Raw().Write(loginPath, nil, &[]any{}, (&api.WriteOptions{}).WithContext(ctx))
		return err
	}
	team := Tenancy{Namespace: "team", Partition: "east"}
	for name, test := range map[string]struct {
		tenancy Tenancy
		request func(context.Context, *api.Client) error
		want    string
	}{
		"no tenancy":          {Tenancy{}, nodes(&api.QueryOptions{Filter: "x"}), "filter=x|"},
		"the default one":     {Tenancy{Default, Default}, nodes(&api.QueryOptions{}), "|"},
		"another":             {team, nodes(&api.QueryOptions{}), "ns=team&partition=east|"},
		"a namespace":         {Tenancy{Namespace: "team"}, nodes(&api.QueryOptions{}), "ns=team|"},
		"a request's default": {team, nodes(&api.QueryOptions{Namespace: Default, Partition: Default}), "|"},
		"a request's own":     {team, nodes(&api.QueryOptions{Namespace: "a", Partition: "b"}), "ns=a&partition=b|"},
		"a login":             {team, login, "partition=east|"},
	} {
		t.Run(name, func(t *testing.T) {
			var got atomic.Value
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got.Store(r.URL.RawQuery + "|" + r.Header.Get("X-Consul-Token"))
				fmt.Fprint(w, "[]")
			}))
			defer server.Close()
			at := server.Listener.Addr().(*net.TCPAddr).AddrPort()
			s := servers(t, []netip.Addr{at.Addr()}, Options{Port: int(at.Port()), Tenancy: test.tenancy})
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if err := s.Do(ctx, test.request); err != nil || got.Load() != test.want {
				t.Errorf("%v: the request had %v, want %s", err, got.Load(), test.want)
			}
		})
	}
}
