package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kept are the resources whose replacement would take events along that wait in a queue, or has CloudFormation refuse
// the update: each with its type and what makes it the resource that it is. A change here is one that a release has to
// explain, and that e2e/lab's test of updates has to go through.
var kept = map[string]string{
	"MeshTaskStoppingRule":              `AWS::Events::Rule {"Name":{"Fn::Sub":["ecsmesh-mesh-task-${Stack}",{"Stack":{"Fn::Select":[2,{"Fn::Split":["/",{"Ref":"AWS::StackId"}]}]}}]}}`,
	"TaskEventsQueue":                   `AWS::SQS::Queue {}`,
	"TaskEventsQueuePolicy":             `AWS::SQS::QueuePolicy {}`,
	"TaskEventsDeadLetterQueue":         `AWS::SQS::Queue {}`,
	"UndeliveredEventsQueue":            `AWS::SQS::Queue {}`,
	"UndeliveredEventsQueuePolicy":      `AWS::SQS::QueuePolicy {}`,
	"DeregisterTasksFunction":           `AWS::Lambda::Function {}`,
	"DeregisterTasksFunctionTaskEvents": `AWS::Lambda::EventSourceMapping {"EventSourceArn":{"Fn::GetAtt":["TaskEventsQueue","Arn"]}}`,
	"SetupAclFunction":                  `AWS::Lambda::Function {}`,
	// CloudFormation refuses another function for a custom resource.
	"ConsulAcl": `Custom::ConsulAcl {"ServiceToken":{"Fn::GetAtt":["SetupAclFunction","Arn"]}}`,
}

// renamed are resources that a parameter gives their name. They hold nothing, so their replacement takes nothing along.
var renamed = []string{"MeshTaskMacro"}

// The emulator knows of some properties, and not of others, that AWS replaces a resource for their change. AWS's own
// list of them is in the linter's schemas.
func TestUpdatesReplaceNothing(t *testing.T) {
	e := expand(t)
	for id, resource := range e.Resources {
		identity := map[string]any{}
		values := parse[map[string]any](t, resource.Properties)
		for _, property := range createOnly(t, resource.Type) {
			if value, set := values[property]; set {
				identity[property] = value
			}
		}
		if parameter := dependsOnParameter(e, identity); parameter != "" && !slices.Contains(renamed, id) {
			t.Errorf("%s: another %s has it replaced", id, parameter)
		}
		if want, ok := kept[id]; ok {
			if diff := cmp.Diff(want, resource.Type+" "+toJSON(t, identity)); diff != "" {
				t.Errorf("%s is another resource in this version (-before +now):\n%s", id, diff)
			}
		}
	}
	for id := range kept {
		if _, ok := e.Resources[id]; !ok {
			t.Errorf("the update to this version deletes %s", id)
		}
	}
}

// createOnly are the properties of a type whose change is another resource.
func createOnly(t *testing.T, resourceType string) []string {
	t.Helper()
	if strings.HasPrefix(resourceType, "Custom::") {
		return []string{"ServiceToken"}
	}
	schemas, err := filepath.Glob(filepath.Join(filepath.Dir(pythonPath(t)), "../lib/python*/site-packages/cfnlint/data/schemas"))
	if err != nil || len(schemas) != 1 {
		t.Fatalf("the linter's schemas are in %v: %v", schemas, err)
	}
	read := func(name string) []byte {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(schemas[0], name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	file := parse[map[string]string](t, read("providers/us-east-1.json"))[resourceType]
	if file == "" {
		t.Fatalf("the linter has no schema of %s", resourceType)
	}
	schema := parse[struct {
		CreateOnly  []string `json:"createOnlyProperties"`
		Conditional []string `json:"conditionalCreateOnlyProperties"`
	}](t, read("resources/"+file+".json"))
	var names []string
	for _, pointer := range slices.Concat(schema.CreateOnly, schema.Conditional) {
		names = append(names, strings.TrimPrefix(pointer, "/properties/"))
	}
	return names
}

// dependsOnParameter names a parameter, or a condition, that a part of the template takes its value from.
func dependsOnParameter(e expanded, part any) string {
	switch part := part.(type) {
	case []any:
		for _, element := range part {
			if found := dependsOnParameter(e, element); found != "" {
				return found
			}
		}
	case map[string]any:
		for key, value := range part {
			if name, ok := value.(string); ok && key == "Ref" {
				if _, ok := e.Parameters[name]; ok {
					return name
				}
			}
			if key == "Fn::If" {
				return fmt.Sprint(value.([]any)[0])
			}
			if found := dependsOnParameter(e, value); found != "" {
				return found
			}
		}
	case string: // of Fn::Sub
		for name := range e.Parameters {
			if strings.Contains(part, "${"+name+"}") {
				return name
			}
		}
	}
	return ""
}

// EventBridge tries an event that a queue's policy denies no second time. So each queue that a rule sends to has a
// policy that is there before the rule and after it; it can't name the rule but by its name.
func TestQueuesLetRulesInBeforeTheyAreThere(t *testing.T) {
	e := expand(t)
	policies := properties[struct {
		Queues         []struct{ Ref string }
		PolicyDocument json.RawMessage
	}](t, e, "AWS::SQS::QueuePolicy")
	type attribute struct {
		Of []string `json:"Fn::GetAtt"`
	}
	for id, rule := range properties[struct {
		Name    any
		Targets []struct {
			ID               string `json:"Id"`
			Arn              attribute
			DeadLetterConfig struct{ Arn attribute }
		}
	}](t, e, "AWS::Events::Rule") {
		for _, target := range rule.Targets {
			if len(target.DeadLetterConfig.Arn.Of) == 0 {
				t.Errorf("%s: what can't be delivered to %s is lost", id, target.ID)
			}
			for _, arn := range []attribute{target.Arn, target.DeadLetterConfig.Arn} {
				if len(arn.Of) == 0 || e.Resources[arn.Of[0]].Type != "AWS::SQS::Queue" {
					continue
				}
				queue, found := arn.Of[0], false
				for name, policy := range policies {
					if len(policy.Queues) != 1 || policy.Queues[0].Ref != queue {
						continue
					}
					found = true
					if !slices.Contains(e.Resources[id].DependsOn, name) {
						t.Errorf("%s: it may be there before %s lets it send", id, name)
					}
					if document := string(policy.PolicyDocument); strings.Contains(document, `"`+id+`"`) {
						t.Errorf("%s: it waits for %s", name, id)
					}
				}
				if !found {
					t.Errorf("%s: %s has no policy of its own", id, queue)
				}
			}
		}
	}
	if target := properties[struct {
		Targets []struct {
			ID string `json:"Id"`
		}
	}](t, e, "AWS::Events::Rule")[meshRule].Targets[0]; target.ID != "TaskEventsQueue" {
		t.Errorf("%s has a target %q: an update takes the one before away first", meshRule, target.ID)
	}
}
