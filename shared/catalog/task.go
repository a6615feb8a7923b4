package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"ecsmesh/shared/consul"

	"github.com/hashicorp/consul/api"
)

// Registered is what the catalog has of one task. Both are empty where there is
// no such node, or nothing on it.
type Registered struct {
	Services []Service
	Checks   []Check
}

// Service is a service instance on a task's node.
type Service struct {
	ID    string
	Envoy bool // it is a sidecar proxy, or a gateway
}

// Check is a check on a task's node.
type Check struct {
	ID        string
	ServiceID string // "": it is the whole node's
	Status    string // as Consul has it: passing, warning, critical
	Output    string
}

const (
	// readTogether is how many nodes are read within one attempt, of three seconds:
	// two reads each, of some milliseconds.
	readTogether = 64

	// readsAtOnce is how many of them are read at the same time: as many as there are
	// connections that a server's client keeps.
	readsAtOnce = 4
)

// Registered reads what there is on each of the nodes, by their names. It asks for
// what is true now, and returns consul.ErrHidden where the token may not read all of
// it.
func (c *Catalog) Registered(ctx context.Context, nodes ...string) (map[string]Registered, error) {
	all := map[string]Registered{}
	for some := range slices.Chunk(nodes, readTogether) {
		var found []read
		err := c.servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
			found, err = readNodes(ctx, client, some)
			return err
		})
		for i, node := range some {
			if err == nil && found[i].hidden != nil { // which another server would hide, too
				err = fmt.Errorf("read node %s: %w", node, found[i].hidden)
			}
			if err != nil {
				return nil, err
			}
			all[node] = found[i].Registered
		}
	}
	return all, nil
}

// read is what was read of a node, or why that is not all of it.
type read struct {
	Registered
	hidden error
}

// readNodes is one attempt. Of several errors it has one, which tells enough.
func readNodes(ctx context.Context, client *api.Client, nodes []string) ([]read, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		found = make([]read, len(nodes))
		next  atomic.Int64
		first sync.Once
		err   error
		reads sync.WaitGroup
	)
	for range min(readsAtOnce, len(nodes)) {
		reads.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(nodes) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				one, failed := readNode(ctx, client, nodes[i])
				if failed != nil {
					first.Do(func() { err = fmt.Errorf("read node %s: %w", nodes[i], failed) })
					cancel(failed)
					return
				}
				found[i] = one
			}
		})
	}
	reads.Wait()
	if err == nil {
		err = context.Cause(ctx) // which ended before all were read
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

func readNode(ctx context.Context, client *api.Client, node string) (read, error) {
	services, ofServices, err := client.Catalog().NodeServiceList(node, consistent(ctx, ""))
	if err != nil {
		return read{}, err
	}
	checks, ofChecks, err := client.Health().Node(node, consistent(ctx, ""))
	if err != nil {
		return read{}, err
	}
	found := read{hidden: cmp.Or(consul.Complete(ofServices), consul.Complete(ofChecks))}
	if services != nil {
		for _, s := range services.Services {
			found.Services = append(found.Services, Service{ID: s.ID, Envoy: s.Kind != api.ServiceKindTypical})
		}
	}
	for _, check := range checks {
		found.Checks = append(found.Checks, Check{ID: check.CheckID, ServiceID: check.ServiceID, Status: check.Status, Output: check.Output})
	}
	return found, nil
}
