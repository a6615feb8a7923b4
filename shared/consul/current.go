package consul

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

const (
	// serverService is the service under which Consul lists its own servers,
	// and the ID of each of its instances.
	serverService = "consul"

	// memberCheck is the check by which Consul's servers know each other to be
	// alive.
	memberCheck = "serfHealth"
)

// Current asks Consul which servers it has now and returns the addresses of
// those that are well: sorted, each once, and never none. Servers learn of a
// dead one from each other, within seconds.
//
// The leader answers, and only after most of the servers agreed that it leads:
// servers that are cut off from the others would name themselves alone. Without
// a leader the error is Do's, as it is without the right to read all of them
// (node:read and service:read).
//
// Anybody may call a service "consul". What isn't one of Consul's own members,
// or has no IP address, is left out.
func (s *Servers) Current(ctx context.Context) ([]netip.Addr, error) {
	var (
		entries []*api.ServiceEntry
		meta    *api.QueryMeta
	)
	err := s.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		opts := &api.QueryOptions{RequireConsistent: true, Namespace: Default, Partition: Default}
		entries, meta, err = client.Health().Service(serverService, "", true, opts.WithContext(ctx))
		return err
	})
	if err == nil {
		err = Complete(meta)
	}
	if err != nil {
		return nil, fmt.Errorf("read the current Consul servers: %w", err)
	}
	var servers []netip.Addr
	for _, entry := range entries {
		addr, err := netip.ParseAddr(entry.Node.Address)
		if err == nil && isServer(entry) {
			servers = append(servers, addr.Unmap())
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("read the current Consul servers: none of the %d that Consul names is usable", len(entries))
	}
	slices.SortFunc(servers, netip.Addr.Compare)
	return slices.Compact(servers), nil
}

// isServer tells one of Consul's own members from a service of the same name.
func isServer(entry *api.ServiceEntry) bool {
	return entry.Service.ID == serverService && entry.Node.Meta[mesh.MetaSyntheticNode] != "true" &&
		slices.ContainsFunc(entry.Checks, func(check *api.HealthCheck) bool { return check.CheckID == memberCheck })
}

// reachTimeout bounds AnyReachable. A server on the same network accepts a
// connection within milliseconds.
const reachTimeout = 300 * time.Millisecond

// AnyReachable tells whether one of the servers accepts connections at all of
// the ports. What Consul says of its servers need not be of use to the caller:
// it may reach Consul only through a load balancer, and after a snapshot was
// restored Consul names the servers of the time before, until it notices.
func AnyReachable(ctx context.Context, servers []netip.Addr, ports ...int) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	reached := make([]bool, len(servers))
	var dials sync.WaitGroup
	for i, addr := range servers {
		dials.Go(func() {
			reached[i] = !slices.ContainsFunc(ports, func(port int) bool { return !accepts(ctx, addr, port) })
		})
	}
	dials.Wait()
	return slices.Contains(reached, true)
}

func accepts(ctx context.Context, addr netip.Addr, port int) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(addr.String(), strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = conn.Close() // it was there
	return true
}
