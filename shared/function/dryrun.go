package function

import (
	"bytes"
	"context"
	"encoding/json"

	"ecsmesh/shared/dryrun"

	"github.com/aws/aws-lambda-go/lambda"
)

// planned answers an invocation with its plan. What the function itself would
// answer, as the messages of a batch that nobody can read, is beside it, or alone
// where the plan is only for the log.
//
// An error is the function's own: of an event that it can't make sense of.
type planned struct {
	plan     *dryrun.Plan
	function lambda.Handler
}

// Invoke implements lambda.Handler.
func (h planned) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	h.plan.Take() // of an invocation that ended in a panic
	answer, err := h.function.Invoke(ctx, payload)
	document := h.plan.Take()
	if err != nil {
		return nil, err
	}
	if h.plan.LogOnly {
		return answer, nil
	}
	merged := map[string]json.RawMessage{}
	if answer = bytes.TrimSpace(answer); bytes.HasPrefix(answer, []byte("{")) {
		if err := json.Unmarshal(answer, &merged); err != nil {
			return nil, err
		}
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &merged); err != nil {
		return nil, err
	}
	return json.Marshal(merged)
}
