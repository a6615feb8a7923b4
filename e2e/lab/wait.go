package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/shared/mesh"
)

const (
	// Patience bounds each wait for something that takes seconds at most, and on a
	// busy machine many of them.
	Patience = 2 * time.Minute

	pollInterval = 20 * time.Millisecond
)

// Await asks again and again until the condition holds, which is when it
// returns nil. Its error, after Patience or at the end of ctx, says what was
// waited for and what stood in the way at last.
func Await(ctx context.Context, what string, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	var last error
	for {
		// Once the time is up, an attempt fails for that alone.
		if err := condition(ctx); err == nil {
			return nil
		} else if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; at last: %w", what, context.Cause(ctx), last)
		case <-time.After(pollInterval):
		}
	}
}

// WaitLeader waits until the Consul servers have a leader, all of them know
// it, and certificates are signed.
func (l *Lab) WaitLeader(ctx context.Context) error {
	return Await(ctx, "a Consul leader", func(ctx context.Context) error {
		for _, address := range l.serverAddresses() {
			consul, err := l.ConsulAt(address)
			if err != nil {
				return err
			}
			options := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
			if _, _, err := consul.Catalog().Nodes(options); err != nil {
				return err
			}
			if _, _, err := consul.Connect().CARoots(options); err != nil {
				return err
			}
		}
		return nil
	})
}

// WaitPublished waits until the parameter holds exactly the addresses of
// these server tasks.
func (l *Lab) WaitPublished(ctx context.Context, tasks ...ecs.Task) error {
	want := addressesOf(tasks)
	return Await(ctx, fmt.Sprintf("%v in the parameter %s", want, ServersParameter), func(ctx context.Context) error {
		got, err := l.ServerList(ctx)
		if err != nil {
			return err
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("it holds %v", got)
		}
		return nil
	})
}

// WaitRegistered waits until the task is in the catalog, and stops waiting
// when the task stops.
func (l *Lab) WaitRegistered(ctx context.Context, task ecs.Task) error {
	return l.awaitNode(ctx, task, true)
}

// WaitDeregistered waits until the task is no longer in the catalog.
func (l *Lab) WaitDeregistered(ctx context.Context, task ecs.Task) error {
	return l.awaitNode(ctx, task, false)
}

func (l *Lab) awaitNode(ctx context.Context, task ecs.Task, want bool) error {
	name := mesh.NodeName(task.ID())
	what := map[bool]string{true: "node " + name, false: "the end of node " + name}[want]
	return Await(ctx, what, func(ctx context.Context) error {
		consul, err := l.Consul()
		if err != nil {
			return err
		}
		node, _, err := consul.Catalog().Node(name, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		if (node != nil) != want {
			now, _ := l.ECS.Task(task.TaskARN)
			return fmt.Errorf("registered: %t; the task is %s", node != nil, now.Summary())
		}
		return nil
	})
}

// WaitPassing waits until Consul says that exactly these tasks' instances of
// the service pass, and so do their sidecars.
func (l *Lab) WaitPassing(ctx context.Context, service string, tasks ...ecs.Task) error {
	var want []string
	for _, task := range tasks {
		want = append(want, mesh.NodeName(task.ID()))
	}
	slices.Sort(want)
	return Await(ctx, fmt.Sprintf("%d passing instances of %s", len(want), service), func(ctx context.Context) error {
		for _, name := range []string{service, mesh.ProxyService(service)} {
			got, err := l.passing(ctx, name)
			if err != nil {
				return err
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("passing instances of %s: %v, not %v", name, got, want)
			}
		}
		return nil
	})
}

// passing lists the nodes with a passing instance of the service.
func (l *Lab) passing(ctx context.Context, service string) ([]string, error) {
	consul, err := l.Consul()
	if err != nil {
		return nil, err
	}
	entries, _, err := consul.Health().Service(service, "", true, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	var nodes []string
	for _, entry := range entries {
		nodes = append(nodes, entry.Node.Node)
	}
	slices.Sort(nodes)
	return nodes, nil
}

// MeshNodes lists the catalog's nodes that stand for tasks.
func (l *Lab) MeshNodes(ctx context.Context) ([]string, error) {
	consul, err := l.Consul()
	if err != nil {
		return nil, err
	}
	options := (&api.QueryOptions{Filter: mesh.FilterTasks}).WithContext(ctx)
	nodes, _, err := consul.Catalog().Nodes(options)
	if err != nil {
		return nil, fmt.Errorf("list mesh nodes: %w", err)
	}
	var names []string
	for _, node := range nodes {
		names = append(names, node.Node)
	}
	return names, nil
}

// Services lists the names of all services in the catalog, sorted.
func (l *Lab) Services(ctx context.Context) ([]string, error) {
	consul, err := l.Consul()
	if err != nil {
		return nil, err
	}
	services, _, err := consul.Catalog().Services((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("list services: %w", err)
	}
	return slices.Sorted(maps.Keys(services)), nil
}

// WaitEmpty waits until no task is in the catalog.
func (l *Lab) WaitEmpty(ctx context.Context) error {
	return Await(ctx, "an empty catalog", func(ctx context.Context) error {
		nodes, err := l.MeshNodes(ctx)
		if err != nil {
			return err
		}
		if len(nodes) > 0 {
			return fmt.Errorf("nodes %v are left", nodes)
		}
		return nil
	})
}

// WaitEndpoints waits until the Envoy of a task sends requests for the
// service to exactly these tasks.
func (l *Lab) WaitEndpoints(ctx context.Context, from ecs.Task, service string, to ...ecs.Task) error {
	want := addressesOf(to)
	return Await(ctx, fmt.Sprintf("%v as the endpoints of %s in Envoy at %s", want, service, from.Address()), func(ctx context.Context) error {
		got, err := Endpoints(ctx, from, service)
		if err != nil {
			return err
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("they are %v", got)
		}
		return nil
	})
}

// WaitConsulServers waits until the Envoy of a task reaches Consul at exactly
// these server tasks.
func (l *Lab) WaitConsulServers(ctx context.Context, from ecs.Task, servers ...ecs.Task) error {
	want := addressesOf(servers)
	return Await(ctx, fmt.Sprintf("%v as the Consul servers of Envoy at %s", want, from.Address()), func(ctx context.Context) error {
		got, err := ConsulServers(ctx, from)
		if err != nil {
			return err
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("they are %v", got)
		}
		return nil
	})
}

// addressesOf are the tasks' addresses, sorted.
func addressesOf(tasks []ecs.Task) []netip.Addr {
	var addresses []netip.Addr
	for _, task := range tasks {
		addresses = append(addresses, task.Address())
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses
}

// WaitTask waits for a state of the task.
func (l *Lab) WaitTask(ctx context.Context, task ecs.Task, done func(ecs.Task) bool) (ecs.Task, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, Patience, errors.New("it took longer than "+Patience.String()))
	defer cancel()
	return l.ECS.Wait(ctx, task.TaskARN, done)
}
