package catalog

import (
	"context"
	"slices"

	"ecsmesh/shared/dryrun"
)

// foresee puts changes into the plan, with the requests by which Apply would
// carry them out. Whether Consul has the nodes is looked up, where it answers.
func (c *Catalog) foresee(ctx context.Context, changes []Change) []Result {
	results := make([]Result, len(changes))
	missing := c.lookUp(ctx, changes)
	for i, change := range changes {
		step := dryrun.Step{Action: change.Action.String(), What: "Consul's node " + change.Node, Why: change.Reason, Task: change.Task}
		results[i] = Result{Planned: true}
		switch {
		case missing[change.Node]:
			step.Note = "Consul has no such node, so nothing would change"
			results[i].Missing = change.Action == Drain
		case c.ForceLeave && change.Action == Delete && change.Agent:
			step.Note = "the task's Consul agent would be forced to leave first"
		}
		c.Plan.Would(ctx, step)
	}
	recorded := Catalog{servers: c.Plan.Consul(), Partition: c.Partition}
	recorded.Apply(ctx, changes)
	return results
}

// lookUp finds out which of the changes' nodes don't exist. It only reads, and
// knows of none where Consul can't be asked.
func (c *Catalog) lookUp(ctx context.Context, changes []Change) map[string]bool {
	ctx, cancel := c.Plan.Limit(ctx)
	defer cancel()
	all := map[string]bool{}
	for chunk := range slices.Chunk(changes, maxOperations) {
		nodes := make([]string, len(chunk))
		for i, change := range chunk {
			nodes[i] = change.Node
		}
		missing, err := c.missing(ctx, nodes)
		if err != nil {
			c.Plan.Unread(ctx, "Consul's catalog", err)
			return nil
		}
		for node := range missing {
			all[node] = true
		}
	}
	return all
}
