package catalog

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/shared/consul"
)

// TestAPartitionIsNamedInEveryRequest notes what is asked of a Consul
// Enterprise, which can't run here.
func TestAPartitionIsNamedInEveryRequest(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("partition"))
		var operations []map[string]map[string]json.RawMessage
		if json.NewDecoder(r.Body).Decode(&operations) == nil {
			for _, operation := range operations {
				for kind, inner := range operation {
					if inner == nil {
						continue
					}
					var of struct{ Node, Partition string }
					_ = json.Unmarshal(inner[kind], &of) // shows
					got = append(got, fmt.Sprintf("%s %s of %s in %s", inner["Verb"], kind, of.Node, of.Partition))
				}
			}
		}
		if r.URL.Path == "/v1/txn" {
			fmt.Fprint(w, "{}")
			return
		}
		fmt.Fprint(w, "[]")
	}))
	t.Cleanup(server.Close)
	at := server.Listener.Addr().(*net.TCPAddr).AddrPort()
	servers, err := consul.NewServers([]netip.Addr{at.Addr()}, consul.Options{Port: int(at.Port()), Tenancy: consul.Tenancy{Partition: "east"}})
	if err != nil {
		t.Fatal(err)
	}
	c := New(servers)
	c.Partition = "east"
	if _, err := c.Nodes(t.Context()); err != nil {
		t.Error(err)
	}
	for _, result := range c.Apply(t.Context(), []Change{{Node: "ecs-a", Action: Drain}, {Node: "ecs-b", Action: Undrain, Index: 1}, {Node: "ecs-c", Action: Delete}}) {
		if result.Err != nil {
			t.Error(result.Err)
		}
	}
	want := []string{
		"GET /v1/catalog/nodes east", "GET /v1/health/state/critical east", "PUT /v1/txn east",
		`"set" Check of ecs-a in east`, `"delete-cas" Check of ecs-b in east`, `"delete" Node of ecs-c in east`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
