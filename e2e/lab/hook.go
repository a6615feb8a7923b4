package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"ecsmesh/e2e/emulator"
)

// HookAnswer is what a deployment lifecycle hook tells ECS.
type HookAnswer struct {
	Status  string         `json:"hookStatus"` // SUCCEEDED, IN_PROGRESS, FAILED
	Delay   int            `json:"callBackDelay"`
	Details map[string]any `json:"hookDetails"`
}

// HookRole deploys examples/blue-green.yaml, which has a service of a task definition
// and no tasks, and is what ECS may do by the role of its hooks. The stack has the
// function with its parameter DeploymentHook.
func (l *Lab) HookRole(ctx context.Context, taskDefinition string) (aws.Config, error) {
	l.stacks.Lock()
	defer l.stacks.Unlock()
	outputs, err := l.Emulator.Deploy(ctx, "blue-green", filepath.Join(l.root, "examples", "blue-green.yaml"), nil, map[string]string{
		"ServiceName": "blue-green", "Cluster": MeshCluster, "Subnets": "subnet-0ec5a", "SecurityGroups": "sg-0ec5", "DesiredCount": "0",
		"TaskDefinition": taskDefinition, "HookFunctionArn": l.Outputs["DeploymentHookFunctionArn"], "ShiftedService": "api",
	})
	if err != nil {
		return aws.Config{}, err
	}
	credentials, err := l.Emulator.AssumeRole(ctx, emulator.ECS, outputs["HookRole"], "deployment")
	if err != nil {
		return aws.Config{}, err
	}
	return l.Emulator.ConfigAs(credentials), nil
}

// Hook invokes deployment-hook with an event, as ECS does at a deployment's stages.
func (l *Lab) Hook(ctx context.Context, as aws.Config, event json.RawMessage) (HookAnswer, error) {
	client := lambda.NewFromConfig(as)
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
