package ecs_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"ecsmesh/e2e/ecs"
)

// TestSecretsAreVariables has a container and its health check find what the
// task's execution role fetched.
func TestSecretsAreVariables(t *testing.T) {
	t.Parallel()
	fake, _ := start(t, func(o *ecs.Options) {
		o.Secret = func(_ context.Context, role, from string) (string, error) { return role + " got " + from, nil }
	})
	const want = "puller got arn:secret"
	def := define(script("app", `[ "$TOKEN" = "`+want+`" ] && `+forever, healthCheck(ecs.HealthCheck{
		Command: []string{"CMD-SHELL", `[ "$TOKEN" = "` + want + `" ]`}, Interval: 5,
	})))
	def.ExecutionRoleARN = "puller"
	def.Containers[0].Secrets = []ecs.Secret{{Name: "TOKEN", ValueFrom: "arn:secret"}}
	wait(t, fake, run(t, fake, def, ecs.TaskOptions{}), ecs.Task.Ready)
}

func TestASecretThatIsDeniedStopsTheTask(t *testing.T) {
	t.Parallel()
	fake, _ := start(t, func(o *ecs.Options) {
		o.Secret = func(context.Context, string, string) (string, error) { return "", errors.New("AccessDenied") }
	})
	def := define(script("app", forever))
	def.ExecutionRoleARN = "puller"
	def.Containers[0].Secrets = []ecs.Secret{{Name: "TOKEN", ValueFrom: "arn:secret"}}
	task := wait(t, fake, run(t, fake, def, ecs.TaskOptions{}), ecs.Task.Stopped)
	if summary := task.Summary(); task.StopCode != ecs.StopCodeTaskFailedToStart || !strings.Contains(summary, "fetch secret TOKEN: AccessDenied") {
		t.Errorf("the task is %s", summary)
	}
}
