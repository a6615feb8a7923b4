package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

const (
	// maxOperations is Consul's limit of operations in a transaction, each of
	// which is one Raft commit.
	maxOperations = 128

	// maxRounds bounds how often a transaction is tried with fewer operations.
	// Consul names all that fail at once, so a second round is rare and a
	// third takes nodes that vanish meanwhile.
	maxRounds = 5

	// maxOutput bounds a check's output, in bytes. JSON may spell each byte
	// with six, and 128 such outputs must stay under Consul's 512 KiB for a
	// transaction.
	maxOutput = 500

	// maxLink leaves room in an output for why the task stops. It takes the
	// page of a task in a cluster with a name of some hundred characters.
	maxLink = 250
)

// Apply carries out changes, at most one for a node, in as few transactions as
// it takes, and says in the same order what became of each. (A transaction in
// which a node is deleted and its check written fails.) Transactions succeed or
// fail on their own, so what one has done stays done when the next finds Consul
// gone. Repeating a change does no harm.
func (c *Catalog) Apply(ctx context.Context, changes []Change) []Result {
	if c.Plan != nil {
		return c.foresee(ctx, changes)
	}
	// Agents may take seconds to leave, for which no other change waits.
	var others, withAgents []int
	for i, change := range changes {
		if c.ForceLeave && change.Action == Delete && change.Agent {
			withAgents = append(withAgents, i)
		} else {
			others = append(others, i)
		}
	}
	// Deletes last: a drain may be refused, and then all that is in its
	// transaction is done again, where Consul's work is with deletes. Those are
	// never refused for what is there.
	slices.SortStableFunc(others, func(a, b int) int { return cmp.Compare(changes[a].Action, changes[b].Action) })
	results := make([]Result, len(changes))
	c.applyThese(ctx, changes, others, results)
	stayed := c.forceLeave(ctx, changes, withAgents)
	c.applyThese(ctx, changes, withAgents, results)
	for i, err := range stayed { // its node is deleted all the same
		results[i].Err = errors.Join(err, results[i].Err)
	}
	return results
}

// applyThese applies the changes of these indexes.
func (c *Catalog) applyThese(ctx context.Context, changes []Change, indexes []int, results []Result) {
	for chunk := range slices.Chunk(indexes, maxOperations) {
		together := make([]Change, len(chunk))
		for n, i := range chunk {
			together[n] = changes[i]
		}
		for n, result := range c.applyTogether(ctx, together) {
			results[chunk[n]] = result
		}
	}
}

// applyTogether applies changes that fit in one transaction. Consul carries out
// all of it or nothing, and says which operations stood in the way: those are
// taken out, the others tried again, and then it is seen what was wrong.
func (c *Catalog) applyTogether(ctx context.Context, changes []Change) []Result {
	results := make([]Result, len(changes))
	refused := map[int]string{} // Consul's words, by index
	pending := make([]int, len(changes))
	for i := range changes {
		pending[i] = i
	}
	for round := 1; len(pending) > 0; round++ {
		operations := make(api.TxnOps, len(pending))
		for n, i := range pending {
			operations[n] = c.operation(changes[i])
		}
		refusals, err := c.transact(ctx, operations)
		if err == nil && len(refusals) == 0 {
			break
		}
		if err == nil && round == maxRounds {
			err = fmt.Errorf("part of the transaction is still refused after %d tries", maxRounds)
		}
		if err != nil {
			for _, i := range pending {
				results[i].Err = fmt.Errorf("change the catalog: %w", err)
			}
			break
		}
		for n, what := range refusals {
			refused[pending[n]] = what
		}
		pending = slices.DeleteFunc(pending, func(i int) bool { _, out := refused[i]; return out })
	}
	c.judge(ctx, changes, refused, results)
	return results
}

// transact tries operations in one transaction. It returns Consul's words for
// those that made it fail, by their indexes; none if it was carried out.
func (c *Catalog) transact(ctx context.Context, operations api.TxnOps) (map[int]string, error) {
	var refusals map[int]string
	err := c.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		refusals = nil
		// Not Txn(): it turns every refusal but 409 into an error without its
		// status, and what is refused for good would be tried till the end.
		var answer api.TxnResponse
		_, err := client.Raw().Write("/v1/txn", operations, &answer, (&api.WriteOptions{}).WithContext(ctx))
		var status api.StatusError
		if !errors.As(err, &status) || status.Code != http.StatusConflict {
			return err
		}
		if json.Unmarshal([]byte(status.Body), &answer) != nil {
			return err
		}
		refusals = map[int]string{}
		for _, refusal := range answer.Errors {
			if refusal.OpIndex >= 0 && refusal.OpIndex < len(operations) {
				refusals[refusal.OpIndex] = refusal.What
			}
		}
		if len(refusals) == 0 {
			return err
		}
		return nil
	})
	return refusals, err
}

// judge finds out why Consul refused changes. A drain is refused where the
// node is not there, which is as good as drained; an undrain where the drain is
// not the one that was to be taken back. Consul is asked what it has, since its
// messages are for people and change. Only a denial is taken by its words: one
// who may not change a node may not see it either, and would take it for gone.
func (c *Catalog) judge(ctx context.Context, changes []Change, refused map[int]string, results []Result) {
	var (
		drained []string // nodes that were to be drained
		undrain bool     // whether any was to be undrained
	)
	for _, i := range slices.Sorted(maps.Keys(refused)) {
		switch {
		case denied(refused[i]): // nothing more to know
		case changes[i].Action == Drain:
			drained = append(drained, changes[i].Node)
		case changes[i].Action == Undrain:
			undrain = true
		}
	}
	var (
		missing              map[string]bool
		drains               map[string]uint64
		missingErr, drainErr error // why these are not known
	)
	if len(drained) > 0 {
		missing, missingErr = c.missing(ctx, drained)
	}
	if undrain {
		drains, drainErr = c.drains(ctx)
	}
	for i, what := range refused {
		change := changes[i]
		switch {
		case denied(what):
			results[i].Err = fmt.Errorf("%s node %s: Consul refused: %s", change.Action, change.Node, what)
		case change.Action == Drain && missingErr != nil:
			results[i].Err = fmt.Errorf("drain node %s: Consul refused (%s), and it is unknown whether the node exists: %w", change.Node, what, missingErr)
		case change.Action == Drain && missing[change.Node]:
			results[i].Missing = true
		case change.Action == Undrain && drainErr != nil:
			results[i].Err = fmt.Errorf("undrain node %s: Consul refused (%s), and it is unknown whether the drain is still the same: %w", change.Node, what, drainErr)
		case change.Action == Undrain && drains[change.Node] != change.Index:
			results[i].Stale = true
		default:
			results[i].Err = fmt.Errorf("%s node %s: Consul refused: %s", change.Action, change.Node, what)
		}
	}
}

// denied recognises a lack of rights by the words that Consul's servers know it
// by among themselves.
func denied(what string) bool { return strings.Contains(what, "Permission denied") }

// operation is a change in the words of Consul's transactions. Deleting a node
// that is not there succeeds, and so does a check that is set as it was, without
// a change that watchers would see. Deleting a check fails unless its index is
// the one given: nobody has touched it since.
func (c *Catalog) operation(change Change) *api.TxnOp {
	check := api.HealthCheck{Node: change.Node, CheckID: mesh.LifecycleCheckID, Partition: c.Partition}
	switch change.Action {
	case Drain:
		check.Name = mesh.LifecycleCheckName
		check.Status = api.HealthCritical
		check.Notes = mesh.LifecycleCheckNotes
		check.Output = output(change)
		return &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: check}}
	case Undrain:
		check.ModifyIndex = change.Index
		return &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckDeleteCAS, Check: check}}
	case Delete:
		return &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeDelete, Node: api.Node{Node: change.Node, Partition: c.Partition}}}
	default: // a verb that Consul doesn't know, and so refuses
		return &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckOp(change.Action.String()), Check: check}}
	}
}

// output is what a drain's check says: why, and where to see more. It has
// nothing of the one event or run that brings it: to Consul, what is set as it
// was has not changed, and no Envoy hears of it.
//
// In Consul's UI nothing of a task's is a link, but an output can be copied.
func output(change Change) string {
	task, err := mesh.ParseTaskARN(change.Task)
	link := task.ConsoleURL()
	if err != nil || link == "" || len(link) > maxLink {
		return shorten(change.Reason, maxOutput)
	}
	return shorten(change.Reason, maxOutput-len(link)-1) + "\n" + link
}

// shorten cuts text to so many bytes, between characters.
func shorten(text string, most int) string {
	const ellipsis = "…"
	if len(text) <= most {
		return text
	}
	end := most - len(ellipsis)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
