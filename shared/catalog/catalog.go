// Package catalog reads and changes what Consul's catalog says of the mesh's
// tasks: each task is a node of its own, and a node is drained by a check.
//
// It decides nothing. Reading is all or an error, since a part would pass for
// the whole; writing says of each change what became of it, and is safe to
// repeat.
package catalog

import (
	"context"
	"fmt"
	"time"

	"ecsmesh/shared/dryrun"

	"github.com/hashicorp/consul/api"
)

// servers are the servers of one Consul cluster; see consul.Servers.Do.
type servers interface {
	Do(context.Context, func(context.Context, *api.Client) error) error
}

// Catalog is the catalog of one Consul cluster.
type Catalog struct {
	servers servers

	// Partition of Consul Enterprise that the nodes are in, which the servers
	// have to speak of as well: see consul.Tenancy. "" is the default one.
	Partition string

	// ForceLeave has the agents of nodes that are deleted forced to leave the
	// cluster, which takes operator:write.
	ForceLeave bool

	// Plan takes in what Apply would do, and then Apply does nothing. nil: it
	// does what it is asked for.
	Plan *dryrun.Plan
}

// New returns the catalog that these servers keep.
func New(servers servers) *Catalog { return &Catalog{servers: servers} }

// Node is a task's node.
type Node struct {
	Name         string
	TaskARN      string    // as the task wrote it; may be anything
	ClusterARN   string    // likewise
	RegisteredAt time.Time // by the task's clock; zero if unreadable
	Address      string    // IP
	VPCID        string    // in which that address is; "" is unknown
	Revision     string    // the task's definition as FAMILY:REVISION, or less where it didn't say
	Agent        bool      // a Consul agent of the task's own is, or was, there

	// DrainIndex is the index of the check that drains the node, which changes
	// whenever the check does; 0 if the node is not drained.
	DrainIndex uint64
}

// Drained tells whether the mesh sends no new work to the task.
func (n Node) Drained() bool { return n.DrainIndex != 0 }

// Action is what is done to a node.
type Action int

// The actions. The zero Action is none.
const (
	Drain   Action = iota + 1 // send the task no new work
	Undrain                   // send it work again
	Delete                    // forget it, with its services and checks
)

func (a Action) String() string {
	switch a {
	case Drain:
		return "drain"
	case Undrain:
		return "undrain"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("Action(%d)", int(a))
}

// Change is what is to become of a node.
type Change struct {
	Node   string
	Action Action
	Task   string // ARN of the node's task, for people
	Agent  bool   // of a delete: a Consul agent of the task's own is, or was, there
	Reason string // of a drain: why the task stops, for people
	Index  uint64 // of an undrain: the node's DrainIndex, as it was when the decision was made
}

// Result is what became of a change: by default, it was carried out.
type Result struct {
	// Planned: it went into the Plan, and was not carried out.
	Planned bool

	// Missing: there is no such node to drain, and nothing to do.
	Missing bool

	// Stale: the drain that was to be taken back is gone, or has been set with
	// another text since Index, and stays as it is. To Consul, a drain that is
	// set with the same text has not changed. An undrain whose answer was lost
	// is Stale when it is repeated.
	Stale bool

	// Err: it was not carried out, or nobody knows.
	Err error
}
