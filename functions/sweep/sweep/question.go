package sweep

import (
	"encoding/json"
	"fmt"
	"strings"
)

// question is what a report is to be about.
type question struct {
	// clusters whose tasks are looked at beside those of the clusters that
	// Consul's nodes name; by their ARNs.
	clusters []string

	// maxDeletes is what the sweep's payload would say; see readOverride.
	maxDeletes *int
}

// readQuestion reads {"report": true} from an invocation's payload, with
// {"clusters": ["ARN"]} or without. nil is no question.
func readQuestion(payload json.RawMessage) (*question, error) {
	var fields map[string]json.RawMessage
	_ = json.Unmarshal(payload, &fields) // what is no object asks nothing, and the sweep says what is wrong with it
	switch value := string(fields["report"]); value {
	case "", "false":
		return nil, nil
	case "true":
	default:
		return nil, fmt.Errorf("read payload: report is %.20s, want true or false", value)
	}
	var (
		q   question
		err error
	)
	if value, ok := fields["clusters"]; ok {
		if err := json.Unmarshal(value, &q.clusters); err != nil {
			return nil, fmt.Errorf("read payload: clusters is %.20s, want a list of the ARNs of ECS clusters", value)
		}
	}
	for i, arn := range q.clusters {
		parts := strings.SplitN(arn, ":", 6)
		if len(parts) != 6 || parts[0] != "arn" || parts[2] != "ecs" || !strings.HasPrefix(parts[5], "cluster/") || !isClusterName(parts[5][len("cluster/"):]) {
			return nil, fmt.Errorf("read payload: clusters[%d] is %.300q, want the ARN of an ECS cluster (arn:PARTITION:ecs:REGION:ACCOUNT:cluster/NAME)", i, arn)
		}
	}
	q.maxDeletes, err = readOverride(payload)
	return &q, err
}
