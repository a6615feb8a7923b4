package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"ecsmesh/shared/mesh"
	"ecsmesh/shared/taskevent"

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
)

// consulServers are the servers of one Consul cluster; see consul.Servers.Do.
type consulServers interface {
	Do(context.Context, func(context.Context, *api.Client) error) error
}

// consulCatalog changes Consul's catalog in as few transactions as it takes.
type consulCatalog struct {
	servers consulServers
}

// Apply implements catalog. Transactions succeed or fail on their own, so what
// one has done stays done when the next finds Consul gone.
func (c *consulCatalog) Apply(ctx context.Context, changes []change) []result {
	results := make([]result, 0, len(changes))
	for chunk := range slices.Chunk(changes, maxOperations) {
		results = append(results, c.applyTogether(ctx, chunk)...)
	}
	return results
}

// applyTogether applies changes that fit in one transaction. Consul carries out
// all of it or nothing, and says which operations stood in the way: those are
// taken out, the others tried again, and then it is seen what was wrong.
func (c *consulCatalog) applyTogether(ctx context.Context, changes []change) []result {
	results := make([]result, len(changes))
	refused := map[int]string{} // Consul's words, by index
	pending := make([]int, len(changes))
	for i := range changes {
		pending[i] = i
	}
	for round := 1; len(pending) > 0; round++ {
		refusals, err := c.transact(ctx, changes, pending)
		if err == nil && len(refusals) == 0 {
			break
		}
		if err == nil && round == maxRounds {
			err = fmt.Errorf("change the catalog: Consul still refuses part of the transaction after %d tries", maxRounds)
		}
		if err != nil {
			for _, i := range pending {
				results[i].Err = err
			}
			break
		}
		for i, what := range refusals {
			refused[i] = what
		}
		pending = slices.DeleteFunc(pending, func(i int) bool { _, out := refusals[i]; return out })
	}
	c.judge(ctx, changes, refused, results)
	return results
}

// transact tries the changes of these indexes in one transaction. It returns
// Consul's words for those that made it fail; none if it was carried out.
func (c *consulCatalog) transact(ctx context.Context, changes []change, indexes []int) (map[int]string, error) {
	operations := make(api.TxnOps, len(indexes))
	for n, i := range indexes {
		operations[n] = operation(changes[i])
	}
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
			if refusal.OpIndex >= 0 && refusal.OpIndex < len(indexes) {
				refusals[indexes[refusal.OpIndex]] = refusal.What
			}
		}
		if len(refusals) == 0 {
			return err
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("change the catalog: %w", err)
	}
	return refusals, nil
}

// judge finds out why Consul refused changes. A drain is refused where the
// node is not there, which is as good as drained. Consul is asked which nodes
// it has, since its messages are for people and change.
func (c *consulCatalog) judge(ctx context.Context, changes []change, refused map[int]string, results []result) {
	var drains []string
	for i := range refused {
		if changes[i].Meaning == taskevent.Drain {
			drains = append(drains, changes[i].Node)
		}
	}
	var (
		present map[string]bool
		unknown error
	)
	if len(drains) > 0 {
		present, unknown = c.present(ctx, drains)
	}
	for i, what := range refused {
		drain := changes[i].Meaning == taskevent.Drain
		switch {
		case drain && unknown != nil:
			results[i].Err = fmt.Errorf("drain node %s: Consul refused (%s), and it is unknown whether the node exists: %w", changes[i].Node, what, unknown)
		case drain && !present[changes[i].Node]:
			results[i].Missing = true
		default:
			results[i].Err = fmt.Errorf("%s node %s: Consul refused: %s", changes[i].Meaning, changes[i].Node, what)
		}
	}
}

// present returns which of the nodes exist.
func (c *consulCatalog) present(ctx context.Context, nodes []string) (map[string]bool, error) {
	terms := make([]string, len(nodes))
	for i, node := range nodes {
		terms[i] = "Node == " + strconv.Quote(node)
	}
	var (
		found []*api.Node
		meta  *api.QueryMeta
	)
	err := c.servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		// A stale answer could deny a node that is there, and leave it undrained.
		query := &api.QueryOptions{Filter: strings.Join(terms, " or "), RequireConsistent: true}
		found, meta, err = client.Catalog().Nodes(query.WithContext(ctx))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	if meta.ResultsFilteredByACLs {
		return nil, errors.New("list nodes: Consul's ACLs hide some of them")
	}
	present := map[string]bool{}
	for _, node := range found {
		present[node.Node] = true
	}
	return present, nil
}

// operation is a change in the words of Consul's transactions. Deleting a node
// that is not there succeeds, and so does a check that is set as it was, without
// a change that watchers would see.
func operation(c change) *api.TxnOp {
	if c.Meaning == taskevent.Delete {
		return &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeDelete, Node: api.Node{Node: c.Node}}}
	}
	return &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
		Node:    c.Node,
		CheckID: mesh.LifecycleCheckID,
		Name:    mesh.LifecycleCheckName,
		Status:  api.HealthCritical,
		Output:  shorten(c.Reason),
	}}}
}

// shorten cuts text to maxOutput bytes, between characters.
func shorten(text string) string {
	const ellipsis = "…"
	if len(text) <= maxOutput {
		return text
	}
	end := maxOutput - len(ellipsis)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
