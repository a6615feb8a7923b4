package lab

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

// HookAnswer is what a deployment lifecycle hook tells ECS.
type HookAnswer struct {
	Status  string         `json:"hookStatus"` // SUCCEEDED, IN_PROGRESS, FAILED
	Delay   int            `json:"callBackDelay"`
	Details map[string]any `json:"hookDetails"`
}

// Hook invokes deployment-hook with an event, as ECS does at a deployment's stages.
// The stack has the function with its parameter DeploymentHook.
func (l *Lab) Hook(ctx context.Context, event json.RawMessage) (HookAnswer, error) {
	client := lambda.NewFromConfig(l.Emulator.Config())
	out, err := client.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(l.Outputs["DeploymentHookFunctionArn"]), Payload: event})
	if err != nil {
		return HookAnswer{}, fmt.Errorf("invoke the deployment hook: %w", err)
	}
	var answer HookAnswer
	if err := json.Unmarshal(out.Payload, &answer); err != nil || out.FunctionError != nil {
		return HookAnswer{}, fmt.Errorf("invoke the deployment hook: %s", out.Payload)
	}
	return answer, nil
}
