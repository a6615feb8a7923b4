package function

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"ecsmesh/shared/dryrun"
)

type cautious struct {
	config
	dryrun.Switch
}

type strict struct {
	Logging
	dryrun.Switch
}

func (strict) Validate() error { return nil }

func (s strict) LogsPlan() bool { return !s.Local }

func TestDeployedItMayAnswerWithoutItsPlan(t *testing.T) {
	wire := func(strict, Runtime) int { return 0 }
	for local, want := range map[string]bool{"true": false, "false": true} {
		variables := map[string]string{"AWS_REGION": "eu-west-1", "DRY_RUN": "true", "AWS_SAM_LOCAL": local}
		_, plan, err := prepare(variables, &bytes.Buffer{}, wire)
		if err != nil || plan == nil || plan.LogOnly != want {
			t.Errorf("AWS_SAM_LOCAL=%s: the plan is %+v, %v; want it for the log alone: %t", local, plan, err, want)
		}
	}
}

func TestDryRunAnswersWithItsPlan(t *testing.T) {
	wire := func(_ cautious, lambda Runtime) func(context.Context, json.RawMessage) (any, error) {
		return func(ctx context.Context, event json.RawMessage) (any, error) {
			lambda.Plan.Would(ctx, dryrun.Step{Action: "greet", What: string(event)})
			if string(event) == `"nobody"` {
				return nil, errors.New("greet nobody")
			}
			return map[string]any{"batchItemFailures": []string{}}, nil
		}
	}
	handler, plan, err := prepare(map[string]string{"NAME": "web", "AWS_REGION": "eu-west-1", "DRY_RUN": "", "AWS_SAM_LOCAL": "true"}, &bytes.Buffer{}, wire)
	if err != nil || plan == nil {
		t.Fatalf("the plan is %v (%v)", plan, err)
	}
	served := planned{plan, lambda.NewHandler(handler)}
	if _, err := served.Invoke(t.Context(), []byte(`"nobody"`)); err == nil || !strings.Contains(err.Error(), "greet nobody") {
		t.Errorf("the error is %v", err)
	}
	got, err := served.Invoke(t.Context(), []byte(`"all"`))
	const want = `{"batchItemFailures":[],"couldNotRead":[],"dryRun":true,"requests":[],"would":[{"action":"greet","what":"\"all\""}]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	plan.LogOnly = true
	if got, err := served.Invoke(t.Context(), []byte(`"all"`)); err != nil || string(got) != `{"batchItemFailures":[]}` {
		t.Errorf("beside a plan for the log, the answer is %s, %v", got, err)
	}
	for _, variables := range []map[string]string{{"DRY_RUN": "false", "AWS_SAM_LOCAL": "true"}, {"DRY_RUN": ""}} {
		variables["NAME"], variables["AWS_REGION"] = "web", "eu-west-1"
		if _, plan, err := prepare(variables, &bytes.Buffer{}, wire); err != nil || plan != nil {
			t.Errorf("%v: the plan is %v (%v)", variables, plan, err)
		}
	}
}
