package consultest

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
)

func TestClusterElectsAnotherLeader(t *testing.T) {
	c := StartCluster(t, 3)
	first := c.Leader(t)
	first.Stop()
	second := c.Leader(t)
	if second == first {
		t.Fatalf("%s still leads after its end", first.Addr)
	}
	// The others may have struck the first one off by now, and two of three can
	// only choose when there are three: so it takes part again before.
	c.Restart(t)
	second = c.Leader(t)
	second.Freeze()
	if third := c.Leader(t); third == second {
		t.Errorf("%s leads while it is frozen", second.Addr)
	}
	second.Unfreeze()
}

func TestClusterKeepsItsCatalog(t *testing.T) {
	c := StartCluster(t, 3)
	register(t, c.Leader(t))
	for _, s := range c.Servers {
		s.Stop()
	}
	c.Restart(t)
	for _, s := range c.Servers {
		if !registered(t, s) {
			t.Errorf("%s has forgotten the node", s.Addr)
		}
	}
}

func TestAllServersOfAClusterAreReplaced(t *testing.T) {
	c := StartCluster(t, 1)
	old := c.Servers[0]
	register(t, old)
	added := c.Join(t, 2)
	old.Stop()
	if leader := c.Leader(t); !slices.Contains(added, leader) || !registered(t, leader) {
		t.Errorf("%s leads, and has the node: %v", leader.Addr, registered(t, leader))
	}
	if diff := cmp.Diff([]netip.Addr{added[0].Addr, added[1].Addr}, c.Addrs(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("the servers that run (-want +got):\n%s", diff)
	}
}

func TestRestartEmptiesASingleServer(t *testing.T) {
	s := Start(t)
	register(t, s)
	s.Restart(t)
	if registered(t, s) {
		t.Error("it still has the node")
	}
}

func register(t *testing.T, s *Server) {
	t.Helper()
	if _, err := s.Client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-1", Address: "10.0.0.1"}, nil); err != nil {
		t.Fatalf("register a node: %v", err)
	}
}

func registered(t *testing.T, s *Server) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	node, _, err := s.Client.Catalog().Node("ecs-1", (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		t.Fatalf("read a node: %v", err)
	}
	return node != nil
}
