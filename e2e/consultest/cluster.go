package consultest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// askTimeout bounds a question to one server of several, which may be frozen.
const askTimeout = time.Second

// Cluster is several Consul servers that elect a leader among them. Unlike a
// single server they keep their data on disk, and so over a restart.
type Cluster struct {
	// Servers are all that were ever in the cluster, stopped ones too.
	Servers []*Server

	security *Security // nil: none
}

// StartCluster runs n servers and waits until they are one cluster, in which
// each knows that all are well.
func StartCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	return startCluster(t, n, nil)
}

func startCluster(t testing.TB, n int, security *Security) *Cluster {
	t.Helper()
	c := &Cluster{security: security}
	for range n {
		c.add(t, "-bootstrap-expect", strconv.Itoa(n))
	}
	c.awaitReady(t)
	return c
}

// Join adds n servers and waits until they have a vote, which takes Consul up
// to 10 seconds.
func (c *Cluster) Join(t testing.TB, n int) []*Server {
	t.Helper()
	before := len(c.Servers)
	for range n {
		c.add(t)
	}
	c.awaitReady(t)
	return c.Servers[before:]
}

// Restart runs all stopped servers again and waits until the cluster is whole.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	for _, s := range c.Servers {
		if !s.running() {
			s.run(t)
		}
	}
	c.awaitReady(t)
}

// awaitReady waits until each server that runs serves the catalog and knows
// that all of them are well.
func (c *Cluster) awaitReady(t testing.TB) {
	t.Helper()
	for _, s := range c.running() {
		await(t, s, s.ready)
		await(t, s, func(ctx context.Context) error { return c.complete(ctx, s) })
	}
}

// add runs a server that looks for those before it.
func (c *Cluster) add(t testing.TB, args ...string) {
	t.Helper()
	args = append(args, "-server", "-data-dir", t.TempDir(),
		"-retry-interval", "1s",
		"-hcl", "connect { enabled = true }",
		// On loopback everything is near: elections can be short, and so can
		// the times after which a dead server is noticed and a new one trusted.
		"-hcl", "performance { raft_multiplier = 1 }",
		"-hcl", `gossip_lan { gossip_interval = "100ms", probe_interval = "500ms", probe_timeout = "300ms", suspicion_mult = 3 }`,
		"-hcl", `autopilot { server_stabilization_time = "1s" }`)
	for _, other := range c.Servers {
		args = append(args, "-retry-join", other.Addr.String())
	}
	s := newServer(t, freeAddr(t), c.security, args...)
	s.run(t)
	c.Servers = append(c.Servers, s)
}

// complete holds once a server knows that all that run are well and have a vote.
func (c *Cluster) complete(ctx context.Context, s *Server) error {
	opts := (&api.QueryOptions{}).WithContext(ctx)
	entries, _, err := s.Client.Health().Service("consul", "", true, opts)
	if err != nil {
		return err
	}
	peers, err := s.Client.Operator().RaftGetConfiguration(opts)
	if err != nil {
		return err
	}
	passing, voting := map[string]bool{}, map[string]bool{}
	for _, entry := range entries {
		passing[entry.Node.Address] = true
	}
	for _, peer := range peers.Servers {
		host, _, err := net.SplitHostPort(peer.Address)
		if err != nil {
			return err
		}
		voting[host] = peer.Voter
	}
	for _, member := range c.running() {
		if addr := member.Addr.String(); !passing[addr] || !voting[addr] {
			return fmt.Errorf("%s is not a member yet (passing %v, voting %v)", addr, passing[addr], voting[addr])
		}
	}
	return nil
}

func (c *Cluster) running() []*Server {
	var running []*Server
	for _, s := range c.Servers {
		if s.running() {
			running = append(running, s)
		}
	}
	return running
}

// Addrs are the addresses of the servers that run.
func (c *Cluster) Addrs() []netip.Addr {
	var addrs []netip.Addr
	for _, s := range c.running() {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// Leader waits for a server that leads, and that can prove it to most of the
// others: not one that is frozen or cut off and once led.
func (c *Cluster) Leader(t testing.TB) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		var faults []error
		for _, s := range c.running() {
			err := s.leads(ctx)
			if err == nil {
				return s
			}
			faults = append(faults, fmt.Errorf("%s: %w", s.Addr, err))
		}
		select {
		case <-ctx.Done():
			t.Fatalf("find the leader: none after %s: %v", startTimeout, errors.Join(faults...))
		case <-time.After(pollInterval):
		}
	}
}

func (s *Server) leads(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	leader, err := s.Client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return err
	}
	if host, _, err := net.SplitHostPort(leader); err != nil || host != s.Addr.String() {
		return fmt.Errorf("it takes %q for the leader", leader)
	}
	_, _, err = s.Client.Catalog().Nodes((&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	return err
}
