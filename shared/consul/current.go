package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

// serverService is the service under which Consul lists its own servers.
const serverService = "consul"

// CurrentServers asks the client's server which Consul servers there are and
// returns the addresses of those that are well: sorted, each once, and never
// none. Servers learn of a dead one from each other, within seconds.
//
// The leader answers, and only after most of the servers agreed that it leads:
// servers that are cut off from the others would name themselves alone. Without
// a leader the error is Consul's, as it is without the right to read all of them
// (node:read and service:read).
//
// Consul's servers have IP addresses. An entry with anything else was put there
// by somebody else; it is left out.
func CurrentServers(ctx context.Context, client *api.Client) ([]netip.Addr, error) {
	opts := &api.QueryOptions{RequireConsistent: true}
	entries, meta, err := client.Health().Service(serverService, "", true, opts.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("read the current Consul servers: %w", err)
	}
	if meta.ResultsFilteredByACLs {
		return nil, errors.New("read the current Consul servers: the ACL token may not read all of them; it needs node:read and service:read")
	}
	var servers []netip.Addr
	for _, entry := range entries {
		if addr, err := netip.ParseAddr(entry.Node.Address); err == nil {
			servers = append(servers, addr.Unmap())
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("read the current Consul servers: none of the %d that Consul names is usable", len(entries))
	}
	slices.SortFunc(servers, netip.Addr.Compare)
	return slices.Compact(servers), nil
}

// reachTimeout bounds AnyReachable. A server on the same network accepts a
// connection within milliseconds.
const reachTimeout = 300 * time.Millisecond

// AnyReachable tells whether one of the servers accepts connections at a port.
// What Consul says of its servers need not be of use to the caller: it may
// reach Consul only through a load balancer, and after a snapshot was restored
// Consul names the servers of the time before, until it notices.
func AnyReachable(ctx context.Context, servers []netip.Addr, port int) bool {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	reached := make([]bool, len(servers))
	var dials sync.WaitGroup
	for i, addr := range servers {
		dials.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(addr.String(), strconv.Itoa(port)))
			if err == nil {
				_ = conn.Close() // it was there
				reached[i] = true
			}
		})
	}
	dials.Wait()
	return slices.Contains(reached, true)
}
