package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// leaveTimeout outlasts the five seconds for which a server waits until the
	// others have heard.
	leaveTimeout = 8 * time.Second

	// maxLeaving bounds how many agents are forced to leave at the same time.
	maxLeaving = 8
)

// States of an agent as the others know it, by serf's numbers.
const (
	memberAlive  = 1
	memberLeft   = 3
	memberFailed = 4
)

// forceLeave has Consul forget the agents of the nodes that the changes of these
// indexes delete, and returns the errors, by index. Without that, Consul's
// leader would register a node again whose agent it takes for alive, and all
// agents would try for long to reach one that failed.
//
// It takes half of the time that is left at most: the nodes are to be deleted
// whatever became of their agents.
func (c *Catalog) forceLeave(ctx context.Context, changes []Change, indexes []int) map[int]error {
	if len(indexes) == 0 {
		return nil
	}
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	var errs map[int]error
	err := c.servers.Do(ctx, func(attempt context.Context, client *api.Client) error {
		members, err := members(attempt, client)
		if err != nil {
			return err
		}
		var (
			mu      sync.Mutex
			all     sync.WaitGroup
			leaving = make(chan struct{}, maxLeaving)
			joined  error
		)
		errs = map[int]error{}
		for _, i := range indexes {
			node := changes[i].Node
			all.Go(func() {
				leaving <- struct{}{}
				defer func() { <-leaving }()
				err := leave(ctx, client, node, members[node]) // longer than an attempt
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					errs[i] = fmt.Errorf("force agent %s to leave: %w", node, err)
					joined = errors.Join(joined, errs[i])
				}
			})
		}
		all.Wait()
		return joined
	})
	if err != nil && len(errs) == 0 {
		errs = map[int]error{}
		for _, i := range indexes {
			errs[i] = fmt.Errorf("force agent %s to leave: %w", changes[i].Node, err)
		}
	}
	return errs
}

// members are the states of all agents, as one server knows them.
func members(ctx context.Context, client *api.Client) (map[string]int, error) {
	var found []*api.AgentMember
	if _, err := client.Raw().Query("/v1/agent/members", &found, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("list Consul's agents: %w", err)
	}
	states := map[string]int{}
	for _, member := range found {
		states[member.Name] = member.Status
	}
	return states, nil
}

// leave has an agent forgotten that has left or failed. To prune one that is
// taken for alive would hold up the gossip of all agents for seconds: it is only
// told to leave, which the others believe once it doesn't answer.
func leave(ctx context.Context, client *api.Client, node string, state int) error {
	prune := state == memberLeft || state == memberFailed
	if !prune && state != memberAlive {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	err := client.Agent().ForceLeaveOptions(node, api.ForceLeaveOpts{Prune: prune}, (&api.QueryOptions{}).WithContext(ctx))
	if unknownMember(err) {
		return nil
	}
	return err
}

// unknownMember tells whether there is no such agent any more. Consul has only
// words for that, the same ones in all of its versions.
func unknownMember(err error) bool {
	var answer api.StatusError
	return errors.As(err, &answer) && answer.Code == http.StatusInternalServerError && strings.Contains(answer.Body, "No node found with name")
}
