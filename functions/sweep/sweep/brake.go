package sweep

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Brake bounds how many tasks one run may delete: the larger of both. A few may
// go at any time, and many only from a mesh that has many more.
type Brake struct {
	MaxTasks   int
	MaxPercent int // of the mesh's nodes
}

// limit is how many of the mesh's nodes one run may delete; an override, where
// there is one, is the limit instead.
func (b Brake) limit(nodes int, override *int) int {
	if override != nil {
		return *override
	}
	return max(b.MaxTasks, nodes*b.MaxPercent/100)
}

// braked says that nothing was deleted, and what to do.
func braked(orphans, nodes, limit int) error {
	return fmt.Errorf("delete %d of the mesh's %d nodes: refused, since one run may delete %d. "+
		"ECS says that their tasks have stopped, or doesn't know them. Usually Consul was restored from an older snapshot, "+
		"or the events of stopping tasks don't arrive: look at the event rule and its queues. "+
		"If the tasks are really gone, invoke this function once with the payload {\"maxDeletes\": %d}, "+
		"or raise the template parameters SweepMaxDeletedTasks and SweepMaxDeletedPercent", orphans, nodes, limit, orphans)
}

// readOverride reads {"maxDeletes": N} from an invocation's payload. Any other
// object, such as a schedule's event, has no override: nil.
func readOverride(payload json.RawMessage) (*int, error) {
	var fields map[string]json.RawMessage
	if len(payload) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(payload, &fields); err != nil {
		return nil, errors.New(`read payload: it is no JSON object; want {} or {"maxDeletes": N}`)
	}
	value, ok := fields["maxDeletes"]
	if !ok {
		return nil, nil
	}
	n, err := strconv.Atoi(string(value))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("read payload: maxDeletes is %.20s, want a whole number, 0 or more", value)
	}
	return &n, nil
}
