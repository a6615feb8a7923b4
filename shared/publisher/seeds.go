package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
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

// access is how Consul is reached at the seeds; see access.Access.
type access interface {
	Port() int
	Use(ctx context.Context, addrs []netip.Addr, use func(*consul.Servers) error) error
}

// seedServers are the Consul servers that Consul itself names. Any seed that
// answers will do: a server, a load balancer in front of some, a client agent.
type seedServers struct {
	seeds    []string // IP addresses and DNS names
	consul   access
	resolver resolver
	log      *slog.Logger
}

func newSeedServers(seeds []string, consul access, log *slog.Logger) *seedServers {
	return &seedServers{seeds: seeds, consul: consul, resolver: net.DefaultResolver, log: log}
}

// Servers returns the current servers; see consul.Servers.Current. They are never
// none: an answer without any is an error, as is no answer until ctx ends.
func (s *seedServers) Servers(ctx context.Context) ([]netip.Addr, error) {
	addrs, err := s.resolve(ctx)
	if err != nil {
		return nil, err
	}
	var current []netip.Addr
	err = s.consul.Use(ctx, addrs, func(servers *consul.Servers) (err error) {
		current, err = servers.Current(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask Consul at the seeds %s: %w", addrs, err)
	}
	if port := s.consul.Port(); !consul.AnyReachable(ctx, current, port) {
		return nil, fmt.Errorf("ask Consul at the seeds %s: none of the servers %s that it names can be reached at port %d", addrs, current, port)
	}
	return current, nil
}

func (s *seedServers) String() string { return "Consul at the seeds " + strings.Join(s.seeds, ", ") }

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
