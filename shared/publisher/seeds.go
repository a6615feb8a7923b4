package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ecsmesh/shared/consul"
)

// resolveTime leaves time to ask the seeds whose names were resolved when the
// name server of another one hangs.
const resolveTime = 5 * time.Second

// resolver is DNS.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// seedServers are the Consul servers that Consul itself names. Any seed that
// answers will do: a server, a load balancer in front of some, a client agent.
type seedServers struct {
	seeds    []string // IP addresses and DNS names
	port     int      // of every server's HTTP interface
	resolver resolver
	log      *slog.Logger

	addrs   []netip.Addr    // what the seeds were resolved to last
	servers *consul.Servers // at addrs, kept for their connections
}

func newSeedServers(seeds []string, port int, log *slog.Logger) *seedServers {
	return &seedServers{seeds: seeds, port: port, resolver: net.DefaultResolver, log: log}
}

// Servers returns the current servers; see consul.Servers.Current. They are never
// none: an answer without any is an error, as is no answer until ctx ends.
func (s *seedServers) Servers(ctx context.Context) ([]netip.Addr, error) {
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	current, err := s.servers.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask Consul at the seeds %s: %w", s.addrs, err)
	}
	if !consul.AnyReachable(ctx, current, s.port) {
		return nil, fmt.Errorf("ask Consul at the seeds %s: none of the servers %s that it names can be reached at port %d", s.addrs, current, s.port)
	}
	return current, nil
}

// reach prepares the connections to the seeds, and keeps those it has while the
// seeds' addresses stay.
func (s *seedServers) reach(ctx context.Context) error {
	addrs, err := s.resolve(ctx)
	if err != nil {
		return err
	}
	if slices.Equal(addrs, s.addrs) {
		return nil
	}
	servers, err := consul.NewServers(addrs, consul.Options{Port: s.port})
	if err != nil {
		return err
	}
	s.addrs, s.servers = addrs, servers
	return nil
}

// resolve returns the addresses of all seeds, sorted, each once. Seeds that
// can't be resolved are an error only where no other can.
func (s *seedServers) resolve(ctx context.Context) ([]netip.Addr, error) {
	resolving, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	found, faults := make([][]netip.Addr, len(s.seeds)), make([]error, len(s.seeds))
	var lookups sync.WaitGroup
	for i, seed := range s.seeds {
		lookups.Go(func() { found[i], faults[i] = s.lookUp(resolving, seed) })
	}
	lookups.Wait()
	addrs := slices.Concat(found...)
	if len(addrs) == 0 {
		return nil, fmt.Errorf("resolve the seeds: %w", errors.Join(faults...))
	}
	for i, err := range faults {
		if err != nil {
			s.log.WarnContext(ctx, "a seed can't be resolved; asking the others", "seed", s.seeds[i], "error", err)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs), nil
}

func (s *seedServers) lookUp(ctx context.Context, seed string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(seed); err == nil {
		return []netip.Addr{addr}, nil
	}
	addrs, err := s.resolver.LookupNetIP(ctx, "ip", seed)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap() // IPv4 addresses come as IPv6 ones
	}
	return addrs, nil
}
