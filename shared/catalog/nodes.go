package catalog

import (
	"context"
	"fmt"
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
			Address:      node.Address,
			VPCID:        node.Meta[mesh.MetaVPCID],
			Revision:     strings.Trim(node.Meta[mesh.MetaFamily]+":"+node.Meta[mesh.MetaRevision], ":"),
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

// missing returns which of the nodes, as many as a transaction takes, don't
// exist. Consul finds each by its name, where a filter with all of their names
// would have it hold each of them against every node that there is.
//
// It says so after it refused to change them, and so knows better than before
// who is there. A node that is hidden from the token is not missing.
func (c *Catalog) missing(ctx context.Context, nodes []string) (map[string]bool, error) {
	questions := make(api.TxnOps, len(nodes))
	for i, node := range nodes {
		questions[i] = &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeGet, Node: api.Node{Node: node, Partition: c.Partition}}}
	}
	refusals, err := c.transact(ctx, questions)
	if err != nil {
		return nil, fmt.Errorf("look nodes up: %w", err)
	}
	missing := map[string]bool{}
	for i := range refusals {
		missing[nodes[i]] = true
	}
	return missing, nil
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
