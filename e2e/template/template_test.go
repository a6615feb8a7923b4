// Package template tests template.yaml as AWS would see it: expanded by SAM, read by the linter, and with its
// event patterns matched against the sample events in events.
package template

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"ecsmesh/e2e/tools"
)

// expanded is the CloudFormation template that SAM makes of ours.
type expanded struct {
	path       string
	Parameters map[string]struct{ Default any } // a text or a number
	Conditions map[string]any
	Resources  map[string]struct {
		Type       string
		Condition  string
		DependsOn  []string
		Metadata   struct{ BuildMethod string }
		Properties json.RawMessage
	}
}

// properties reads those of each resource of a type, by logical ID.
func properties[T any](t *testing.T, e expanded, resourceType string) map[string]T {
	t.Helper()
	found := map[string]T{}
	for id, resource := range e.Resources {
		if resource.Type != resourceType {
			continue
		}
		var p T
		if err := json.Unmarshal(resource.Properties, &p); err != nil {
			t.Fatalf("read %s: %v", id, err)
		}
		found[id] = p
	}
	if len(found) == 0 {
		t.Fatalf("the template has no %s", resourceType)
	}
	return found
}

func TestTemplatesAreClean(t *testing.T) {
	lint := python(t, filepath.Join(filepath.Dir(pythonPath(t)), "cfn-lint"), expand(t).path, "examples/*.yaml")
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("cfn-lint: %v\n%s", err, out)
	}
}

// Neither linter nor emulator reads a schedule's expression. This is the part of the syntax that we use.
func TestScheduleExpressions(t *testing.T) {
	rate := regexp.MustCompile(`^rate\((1 (minute|hour|day)|([2-9]|[1-9]\d+) (minutes|hours|days))\)$`)
	e := expand(t)
	for id, schedule := range properties[struct {
		ScheduleExpression struct{ Ref string }
	}](t, e, "AWS::Scheduler::Schedule") {
		expression, _ := e.Parameters[schedule.ScheduleExpression.Ref].Default.(string)
		if !rate.MatchString(expression) {
			t.Errorf("%s: %q is not a rate", id, expression)
		}
	}
}

// The sample is what the schedule sends, with EventBridge Scheduler's placeholders filled in.
func TestScheduleSendsTheSample(t *testing.T) {
	placeholder := regexp.MustCompile(`<aws\.scheduler\.[a-z-]+>`)
	sample := readEvent(t, "schedule.json")
	for id, schedule := range properties[struct{ Target struct{ Input string } }](t, expand(t), "AWS::Scheduler::Schedule") {
		var input map[string]string
		if err := json.Unmarshal([]byte(schedule.Target.Input), &input); err != nil {
			t.Fatalf("%s: read the input: %v", id, err)
		}
		for key, value := range input {
			if placeholder.MatchString(value) && sample[key] != nil {
				input[key] = sample[key].(string)
			}
		}
		if got, want := toJSON(t, input), toJSON(t, sample); got != want {
			t.Errorf("%s sends %s, and events/schedule.json is %s", id, got, want)
		}
	}
}

func expand(t *testing.T) expanded {
	t.Helper()
	cmd := python(t, "e2e/template/expand.py", "template.yaml")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("expand template.yaml: %v\n%s", err, stderr.String())
	}
	e := expanded{path: filepath.Join(t.TempDir(), "template.json")}
	if err := os.WriteFile(e.path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatalf("read the expanded template: %v", err)
	}
	return e
}

// python runs one of our scripts, or a Python program, at the root of the checkout.
func python(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), pythonPath(t), args...)
	cmd.Dir = root(t)
	return cmd
}

func pythonPath(t *testing.T) string {
	t.Helper()
	path, err := tools.Python()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// readEvent reads a file in events, afresh each time, so that a test may change what it got.
func readEvent(t *testing.T, name string) map[string]any {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root(t), "events", name))
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(content, &event); err != nil {
		t.Fatalf("read events/%s: %v", name, err)
	}
	return event
}

func toJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
