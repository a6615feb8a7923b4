package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/lab"
)

// revision has tasks be of one revision of their task definition. Each task of the
// lab has one of its own, for its address.
func revision(number int) func(*ecs.TaskDefinition) {
	return func(def *ecs.TaskDefinition) {
		def.Revision = number
		def.ARN = fmt.Sprintf("%s:%d", def.ARN[:strings.LastIndexByte(def.ARN, ':')], number)
	}
}

func failed[T any](_ T, err error) error { return err }

// ageSplitter has a service's splitter be there for so long that no Envoy drains
// connections from before.
func ageSplitter(t *testing.T, l *lab.Lab, service string) {
	t.Helper()
	consul, err := l.Consul()
	must(t, err)
	entry, _, err := consul.ConfigEntries().Get(api.ServiceSplitter, service, nil)
	must(t, err)
	if entry.GetMeta()["introduced"] == "" {
		t.Fatalf("the splitter of %s doesn't say when it was made: %v", service, entry.GetMeta())
	}
	entry.GetMeta()["introduced"] = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	_, _, err = consul.ConfigEntries().Set(entry, nil)
	must(t, err)
}

// TestADeploymentIsHeldAndItsTrafficShifted plays a blue/green deployment of api, and
// its rollback, with the function that ECS asks, while web calls api.
func TestADeploymentIsHeldAndItsTrafficShifted(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{Secure: true, Servers: 1, Parameters: map[string]string{"DeploymentHook": "ENABLED", "DeploymentHookServices": "api"}})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	must(t, l.Allow(t.Context(), "web", "api", api.IntentionActionAllow))
	earlier, blue := launch(t, l.Web), launch(t, l.API, revision(1001))
	must(t, l.WaitPassing(t.Context(), "api", blue))
	must(t, l.WaitPassing(t.Context(), "web", earlier))
	must(t, l.WaitEndpoints(t.Context(), earlier, "api", blue))
	all := lab.StartLoad(t.Context(), earlier, 20)
	var load *lab.Load
	answers := func(what string, by, notBy ecs.Task) {
		t.Helper()
		must(t, lab.Await(t.Context(), what, func(context.Context) error {
			seen := load.Requests()
			recent := seen[max(0, len(seen)-25):]
			if len(recent) < 25 || len(lab.AnsweredBy(recent, by)) != len(recent) {
				return fmt.Errorf("of the last %d requests it answered %d, and the other %d", len(recent), len(lab.AnsweredBy(recent, by)), len(lab.AnsweredBy(recent, notBy)))
			}
			return nil
		}))
	}
	hooks, err := l.HookRole(t.Context(), blue.TaskDefinitionARN)
	must(t, err)
	_, err = lambda.NewFromConfig(hooks).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(l.Outputs["SweepFunction"]), Payload: []byte("{}")})
	if err == nil || !denied(err) {
		t.Errorf("the role of the hooks invokes the sweep: %v", err)
	}
	ask := func(event json.RawMessage, want string) lab.HookAnswer {
		t.Helper()
		answer, err := l.Hook(t.Context(), hooks, event)
		must(t, err)
		if answer.Status != want {
			t.Fatalf("got %s because %v, want %s", answer.Status, answer.Details["ecsmesh-reason"], want)
		}
		return answer
	}
	// wait is as long as ECS does before it asks again, in which all Envoys learn.
	wait := func(answer lab.HookAnswer) {
		t.Helper()
		if answer.Delay <= 0 {
			t.Fatalf("it waits for %d s", answer.Delay)
		}
		time.Sleep(time.Duration(answer.Delay) * time.Second)
	}

	service := map[string]any{"service": "api"}
	before := l.API.NewRevision(blue.TaskDefinitionARN)
	after := l.API.NewRevision(strings.TrimSuffix(blue.TaskDefinitionARN, "1001") + "1002")
	deployment := l.API.Deploy(after, 1, before)
	wait(ask(deployment.HookEvent("PRE_SCALE_UP", nil, service), "IN_PROGRESS"))
	// A caller that starts now has no connections from before the service's first
	// splitter. Of those that have some, nothing fails.
	web := launch(t, l.Web)
	must(t, l.WaitPassing(t.Context(), "web", earlier, web))
	must(t, l.WaitEndpoints(t.Context(), web, "api", blue))
	load = lab.StartLoad(t.Context(), web, 50)
	ageSplitter(t, l, "api")
	wait(ask(deployment.HookEvent("PRE_SCALE_UP", nil, service), "IN_PROGRESS"))
	ask(deployment.HookEvent("PRE_SCALE_UP", nil, service), "SUCCEEDED")

	// The new task passes, and gets nothing.
	green := launch(t, l.API, revision(1002))
	if green.TaskDefinitionARN != after.TaskDefinition {
		t.Fatalf("the task is of %s, want %s", green.TaskDefinitionARN, after.TaskDefinition)
	}
	details := ask(deployment.HookEvent("POST_SCALE_UP", nil, nil), "IN_PROGRESS").Details
	must(t, lab.Await(t.Context(), "the end of the hold", func(ctx context.Context) error {
		answer, err := l.Hook(ctx, hooks, deployment.HookEvent("POST_SCALE_UP", nil, details))
		if err == nil && answer.Status != "SUCCEEDED" {
			details = answer.Details
			err = fmt.Errorf("%s because %v", answer.Status, details["ecsmesh-reason"])
		}
		return err
	}))
	must(t, l.WaitPassing(t.Context(), "api", blue, green))
	time.Sleep(time.Second) // a condition that is not to become true
	if early := lab.AnsweredBy(load.Requests(), green); len(early) > 0 {
		t.Errorf("the new task answered %d requests before the shift", len(early))
	}

	weights := func(old, fresh float64) map[string]float64 {
		return map[string]float64{before.ARN: old, after.ARN: fresh}
	}
	for range 2 {
		ask(deployment.HookEvent("PRODUCTION_TRAFFIC_SHIFT", weights(0, 100), service), "SUCCEEDED")
	}
	answers("all requests at the new task", green, blue)
	deployment.Status = "ROLLBACK_IN_PROGRESS"
	l.ECS.SetDeployment(deployment)
	for range 2 {
		ask(deployment.HookEvent("PRODUCTION_TRAFFIC_SHIFT", weights(100, 0), service), "SUCCEEDED")
	}
	answers("all requests back at the old task", blue, green)

	// A deployment that nobody told the hook of leaves no task of the old revision:
	// any task is better than none.
	must(t, l.API.Stop(blue.TaskARN))
	answers("all requests at the task that is left", green, blue)
	noFailures(t, load.Stop())
	noFailures(t, all.Stop())

	// Beside what it did, the function's role may nothing.
	credentials, err := l.Emulator.AssumeRole(t.Context(), emulator.Lambda, (&secure{Lab: l}).roleOf(t, "DeploymentHookFunction"), "test")
	must(t, err)
	as := l.Emulator.ConfigAs(credentials)
	as.RetryMaxAttempts = 1
	must(t, read(t.Context(), as, lab.ServersParameter))
	must(t, listTasks(t.Context(), as, lab.MeshCluster))
	for what, err := range map[string]error{
		"stop a task": failed(awsecs.NewFromConfig(as).StopTask(t.Context(), &awsecs.StopTaskInput{Cluster: aws.String(lab.MeshCluster), Task: aws.String(green.TaskARN)})),
		"write the list of servers": failed(ssm.NewFromConfig(as).PutParameter(t.Context(), &ssm.PutParameterInput{
			Name: aws.String(lab.ServersParameter), Value: aws.String("10.0.0.1"), Overwrite: aws.Bool(true),
		})),
		"read another parameter":    read(t.Context(), as, "/others"),
		"read the management token": secret(t.Context(), as, lab.ManagementSecret),
		"invoke a function":         failed(lambda.NewFromConfig(as).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(l.Outputs["SweepFunction"])})),
	} {
		if !denied(err) {
			t.Errorf("the function's role may %s: %v", what, err)
		}
	}
}
