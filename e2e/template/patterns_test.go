package template

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecsmesh/e2e/emulator"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/google/go-cmp/cmp"
)

const (
	stack = "ecsmesh"

	// The rules, by their logical IDs.
	serverRule = "ServerTaskStateChangeRule"
	meshRule   = "MeshTaskStoppingRule"

	serverCluster = "arn:aws:ecs:eu-west-1:123456789012:cluster/consul" // of the sample events
	serverService = "consul-server"
)

// A misspelt key in a pattern is no fault to CloudFormation or the linter: the rule just never fires.
func TestRulesMatchSampleEvents(t *testing.T) {
	e := startEmulator(t)
	if err := deploy(t, e, nil); err != nil {
		t.Fatal(err)
	}
	patterns := rulePatterns(t, e)

	// Which rules each sample is for.
	samples := map[string][]string{
		"mesh-task-essential-exited.json":    {meshRule},
		"macro.json":                         nil, // CloudFormation sends it to the function
		"mesh-task-spot-stopping.json":       {meshRule},
		"mesh-task-stopped.json":             {meshRule},
		"mesh-task-stopping.json":            {meshRule},
		"schedule.json":                      nil, // goes to the function directly
		"server-task-running.json":           {serverRule},
		"server-task-stopping.json":          {serverRule},
		"setup-acl-create.json":              nil, // CloudFormation sends it to the function
		"setup-acl-delete.json":              nil, // likewise
		"sqs-batch.json":                     nil, // is what the queue makes of events; see below
		"sweep-override.json":                nil, // is for the sweep, by hand
		"sweep-report.json":                  nil, // likewise
		"deployment-hook-post-scale-up.json": nil, // ECS sends these to the function
		"deployment-hook-pre-scale-up.json":  nil,
		"deployment-hook-rollback.json":      nil,
		"deployment-hook-traffic-shift.json": nil,
	}
	files, err := os.ReadDir(filepath.Join(root(t), "events"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, ok := samples[file.Name()]; !ok {
			t.Errorf("the test doesn't know which rules events/%s is for", file.Name())
		}
	}
	for name, want := range samples {
		event := readEvent(t, name)
		if want != nil {
			checkEnvelope(t, name, event)
		}
		if diff := cmp.Diff(want, matching(t, e, patterns, event)); diff != "" {
			t.Errorf("events/%s: the rules differ (-want +got):\n%s", name, diff)
		}
	}

	t.Run("the batch has what the mesh tasks' rule lets through", func(t *testing.T) {
		var events, others int
		for _, record := range readEvent(t, "sqs-batch.json")["Records"].([]any) {
			var event map[string]any
			if err := json.Unmarshal([]byte(record.(map[string]any)["body"].(string)), &event); err != nil {
				others++
				continue
			}
			events++
			checkEnvelope(t, "sqs-batch.json", event)
			if diff := cmp.Diff([]string{meshRule}, matching(t, e, patterns, event)); diff != "" {
				t.Errorf("event %v: the rules differ (-want +got):\n%s", event["id"], diff)
			}
		}
		if events < 2 || others != 1 {
			t.Errorf("the batch has %d events and %d other messages, want several and one", events, others)
		}
	})

	for name, variant := range map[string]struct {
		sample string
		change func(event map[string]any)
		want   []string
	}{
		"a mesh task that runs": {
			sample: "mesh-task-stopping.json",
			change: func(event map[string]any) { detail(event)["desiredStatus"] = "RUNNING" },
		},
		"a stopped task without the init container": {
			sample: "mesh-task-stopped.json",
			change: func(event map[string]any) { container(event, "ecsmesh-init")["name"] = "init" },
		},
		"a stopped task that only mentions the init container": {
			sample: "mesh-task-stopped.json",
			change: func(event map[string]any) {
				c := container(event, "ecsmesh-init")
				c["name"], c["image"] = "init", "ecsmesh-init"
				detail(event)["group"] = "service:ecsmesh-init"
			},
		},
		"a stopped mesh task in the servers' cluster": {
			sample: "mesh-task-stopped.json",
			change: func(event map[string]any) { detail(event)["clusterArn"] = serverCluster },
			want:   []string{meshRule},
		},
		"a mesh task's other event": {
			sample: "mesh-task-stopped.json",
			change: func(event map[string]any) { event["detail-type"] = "ECS Container Instance State Change" },
		},
		"a mesh task's event from someone else": {
			sample: "mesh-task-stopped.json",
			change: func(event map[string]any) { event["source"] = "example.ecs" },
		},
		"a server task in another cluster": {
			sample: "server-task-running.json",
			change: func(event map[string]any) { detail(event)["clusterArn"] = serverCluster + "-2" },
		},
		"a task of another service beside the servers": {
			sample: "server-task-running.json",
			change: func(event map[string]any) { detail(event)["group"] = "service:" + serverService + "-2" },
		},
		"a task of the servers' family outside their service": {
			sample: "server-task-running.json",
			change: func(event map[string]any) { detail(event)["group"] = "family:" + serverService },
		},
		"a server task's event from someone else": {
			sample: "server-task-running.json",
			change: func(event map[string]any) { event["source"] = "example.ecs" },
		},
		"a server task's other event": {
			sample: "server-task-running.json",
			change: func(event map[string]any) { event["detail-type"] = "ECS Service Action" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			event := readEvent(t, variant.sample)
			variant.change(event)
			if diff := cmp.Diff(variant.want, matching(t, e, patterns, event)); diff != "" {
				t.Errorf("the rules differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLargeBatchesNeedAWindow(t *testing.T) {
	e := startEmulator(t)
	if err := deploy(t, e, map[string]string{"TaskEventsBatchSize": "11"}); err == nil {
		t.Error("a batch of 11 without a window was deployed")
	}
	large := map[string]string{"TaskEventsBatchSize": "11", "TaskEventsBatchingWindowSeconds": "1"}
	if err := deploy(t, e, large); err != nil {
		t.Error(err)
	}
}

func startEmulator(t *testing.T) *emulator.Emulator {
	t.Helper()
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// deploy brings up our template for the servers of the sample events, with functions that nobody will run.
func deploy(t *testing.T, e *emulator.Emulator, params map[string]string) error {
	t.Helper()
	_, err := deployTo(t, e, nil, with(inECS, params))
	return err
}

// deployTo brings up our template, with the code of functions that somebody will run, and returns its outputs.
func deployTo(t *testing.T, e *emulator.Emulator, code, params map[string]string) (map[string]string, error) {
	t.Helper()
	all := map[string]string{}
	for id := range sources {
		all[id] = t.TempDir()
	}
	return e.Deploy(t.Context(), stack, filepath.Join(root(t), "template.yaml"), with(all, code), params)
}

// rulePatterns reads the deployed rules' patterns, with all references resolved, by the rules' logical IDs.
func rulePatterns(t *testing.T, e *emulator.Emulator) map[string]string {
	t.Helper()
	resources, err := cloudformation.NewFromConfig(e.Config()).DescribeStackResources(t.Context(),
		&cloudformation.DescribeStackResourcesInput{StackName: aws.String(stack)})
	if err != nil {
		t.Fatal(err)
	}
	patterns := map[string]string{}
	for _, resource := range resources.StackResources {
		if aws.ToString(resource.ResourceType) != "AWS::Events::Rule" {
			continue
		}
		rule, err := eventbridge.NewFromConfig(e.Config()).DescribeRule(t.Context(),
			&eventbridge.DescribeRuleInput{Name: resource.PhysicalResourceId})
		if err != nil {
			t.Fatal(err)
		}
		patterns[aws.ToString(resource.LogicalResourceId)] = aws.ToString(rule.EventPattern)
	}
	return patterns
}

// matching names the rules that an event matches.
func matching(t *testing.T, e *emulator.Emulator, patterns map[string]string, event map[string]any) []string {
	t.Helper()
	var rules []string
	for rule, pattern := range patterns {
		matches, err := e.MatchesPattern(t.Context(), pattern, toJSON(t, event))
		if err != nil {
			t.Fatalf("%s: %v", rule, err)
		}
		if matches {
			rules = append(rules, rule)
		}
	}
	slices.Sort(rules)
	return rules
}

// checkEnvelope finds what AWS puts into every event, and the emulator doesn't ask for.
func checkEnvelope(t *testing.T, name string, event map[string]any) {
	t.Helper()
	for _, key := range strings.Fields("version id detail-type source account time region") {
		if text, _ := event[key].(string); text == "" {
			t.Errorf("events/%s: an event has no %s", name, key)
		}
	}
	resources, _ := event["resources"].([]any)
	if len(resources) != 1 || resources[0] != detail(event)["taskArn"] {
		t.Errorf("events/%s: the event's resources are %v, want its task's ARN", name, resources)
	}
}

func detail(event map[string]any) map[string]any { return event["detail"].(map[string]any) }

func container(event map[string]any, name string) map[string]any {
	containers := detail(event)["containers"].([]any)
	i := slices.IndexFunc(containers, func(c any) bool { return c.(map[string]any)["name"] == name })
	return containers[i].(map[string]any)
}
