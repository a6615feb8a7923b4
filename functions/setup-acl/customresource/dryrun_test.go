package customresource

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"ecsmesh/shared/dryrun"

	"github.com/aws/aws-lambda-go/cfn"
)

func TestDryRunAnswersNobody(t *testing.T) {
	c := newCloudFormation(t)
	var log bytes.Buffer
	h := handler(fakeResource{put: func(context.Context, Request) (map[string]any, error) { return map[string]any{"A": "b"}, nil }}, &log)
	h.Plan = dryrun.New(h.Log)
	if err := h.Handle(t.Context(), c.event(cfn.RequestCreate)); err != nil {
		t.Fatal(err)
	}
	plan := h.Plan.Take()
	if len(plan.Would) != 1 || plan.Would[0].Why != "SUCCESS" || len(plan.Requests) != 1 || !strings.Contains(string(plan.Requests[0].Body), `"Data":{"A":"b"}`) {
		t.Errorf("the plan is %+v", plan)
	}
	if len(c.answers) > 0 || strings.Contains(log.String()+string(plan.Requests[0].Body), "s3cr3t") {
		t.Errorf("CloudFormation got %+v, and the log is %s", c.answers, log.String())
	}
	fault := errors.New("no such property")
	h = handler(fakeResource{put: func(context.Context, Request) (map[string]any, error) { return nil, fault }}, &log)
	h.Plan = dryrun.New(h.Log)
	if err := h.Handle(t.Context(), c.event(cfn.RequestCreate)); !errors.Is(err, fault) {
		t.Errorf("the error is %v, want %v", err, fault)
	}
}
