package catalog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

// Nodes returns all nodes of the mesh's tasks, in two reads: the nodes, then
// the checks that drain them. Both are consistent, so that what was registered
// or drained before the call is seen.
func (c *Catalog) Nodes(ctx context.Context) ([]Node, error) {
	found, meta, err := c.list(ctx, mesh.FilterTasks)
	if err == nil {
		err = consul.Complete(meta)
	}
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	drains, err := c.drains(ctx)
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, len(found))
	for i, node := range found {
		nodes[i] = Node{
			Name:         node.Node,
			TaskARN:      node.Meta[mesh.MetaTaskARN],
			ClusterARN:   node.Meta[mesh.MetaClusterARN],
			RegisteredAt: mesh.RegisteredAt(node.Meta),
			Agent:        node.Meta[mesh.MetaSyntheticNode] != "true",
			DrainIndex:   drains[node.Node],
		}
	}
	return nodes, nil
}

// list returns the nodes that a filter lets through and the token may read.
func (c *Catalog) list(ctx context.Context, filter string) (found []*api.Node, meta *api.QueryMeta, err error) {
	err = c.servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		found, meta, err = client.Catalog().Nodes(consistent(ctx, filter))
		return err
	})
	return found, meta, err
}

// present returns which of the nodes exist. The token may change them, and so
// read them; that others are hidden from it is no matter.
func (c *Catalog) present(ctx context.Context, nodes []string) (map[string]bool, error) {
	terms := make([]string, len(nodes))
	for i, node := range nodes {
		terms[i] = "Node == " + strconv.Quote(node)
	}
	found, _, err := c.list(ctx, strings.Join(terms, " or "))
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	present := map[string]bool{}
	for _, node := range found {
		present[node.Node] = true
	}
	return present, nil
}

// drains returns the index of each check that drains a node. One that is not
// critical drains nothing.
func (c *Catalog) drains(ctx context.Context) (map[string]uint64, error) {
	var (
		checks api.HealthChecks
		meta   *api.QueryMeta
	)
	err := c.servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		checks, meta, err = client.Health().State(api.HealthCritical, consistent(ctx, fmt.Sprintf("CheckID == %q", mesh.LifecycleCheckID)))
		return err
	})
	if err == nil {
		err = consul.Complete(meta)
	}
	if err != nil {
		return nil, fmt.Errorf("list drained nodes: %w", err)
	}
	drains := map[string]uint64{}
	for _, check := range checks {
		drains[check.Node] = check.ModifyIndex
	}
	return drains, nil
}

// consistent asks for what is true now: a stale answer could deny a node that
// is there, or show a drain that has been set anew.
func consistent(ctx context.Context, filter string) *api.QueryOptions {
	return (&api.QueryOptions{Filter: filter, RequireConsistent: true}).WithContext(ctx)
}
