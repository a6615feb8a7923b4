package monthly

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ecsmesh/e2e/tools"
)

// TestPage holds the page and its picture to the model.
func TestPage(t *testing.T) {
	for name, want := range Default().Files() {
		got, err := os.ReadFile(filepath.Join(root(t), "docs", "performance", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not what the model says: go run ./e2e/cost", name)
		}
	}
}

// TestInputsHaveSources keeps numbers from nowhere out of the model.
func TestInputsHaveSources(t *testing.T) {
	groups, inputs := Default().All()
	names := map[string]bool{}
	for _, group := range groups {
		for _, input := range inputs[group] {
			if input.Name == "" || input.Source == "" {
				t.Errorf("%s: %+v has no name, or no source", group, input)
			}
			if names[group+input.Name] {
				t.Errorf("%s: %q is there twice", group, input.Name)
			}
			names[group+input.Name] = true
			if group == "Prices" && (input.Region == "" || !strings.HasPrefix(input.Source, "https://")) {
				t.Errorf("the price of %s has no Region, or no URL", input.Name)
			}
			path, _, _ := strings.Cut(input.Source, ",")
			if first, _, isPath := strings.Cut(path, "/"); isPath && (first == "functions" || first == "initcontainer" || first == "events") || path == "template.yaml" {
				if _, err := os.Stat(filepath.Join(root(t), path)); err != nil {
					t.Errorf("%s: %v", input.Name, err)
				}
			}
		}
	}
}

// TestInputsAreTheTemplates reads the template for what the model says of it.
func TestInputsAreTheTemplates(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root(t), "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s := Default().Stack
	for pattern, input := range map[string]Input{
		`(?s)\n  TaskEventsBatchSize:.*?Default: (\d+)`:               s.BatchSize,
		`(?s)\n  TaskEventsBatchingWindowSeconds:.*?Default: (\d+)`:   s.WindowSeconds,
		`MaximumConcurrency: (\d+)`:                                   s.Pollers,
		`(?s)\n  SweepScheduleExpression:.*?Default: rate\((\d+) min`: s.ScheduleMinutes,
		`(?s)\n  PublishServersScheduleExpression:.*?rate\((\d+) min`: s.ScheduleMinutes,
		`(?s)\nGlobals:.*?MemorySize: (\d+)`:                          s.FunctionMB,
		`(?s)\n  SweepFunction:.*?MemorySize: (\d+)`:                  s.SweepMB,
	} {
		found := regexp.MustCompile(pattern).FindSubmatch(content)
		if found == nil {
			t.Errorf("the template has nothing like %s", pattern)
			continue
		}
		if value, err := strconv.ParseFloat(string(found[1]), 64); err != nil || value != input.Value {
			t.Errorf("%s: the template has %s, the model %g", input.Name, found[1], input.Value)
		}
	}
}

// TestMetrics counts those that the functions write.
func TestMetrics(t *testing.T) {
	written := 0
	for _, file := range []string{"functions/deregister-tasks/deregister/handler.go", "functions/sweep/sweep/report.go", "shared/publisher/publisher.go"} {
		content, err := os.ReadFile(filepath.Join(root(t), file))
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, found := range regexp.MustCompile(`metrics\.(?:Count|Milliseconds)\("(\w+)"`).FindAllStringSubmatch(string(content), -1) {
			names[found[1]] = true
		}
		written += len(names)
		if file == "shared/publisher/publisher.go" {
			written += len(names) // in sweep, too
		}
	}
	const reasons = 3
	if want := Default().Stack.Metrics.Value; float64(written+reasons) != want {
		t.Errorf("the functions write %d metrics, and sweep some for %d reasons; the model has %g", written, reasons, want)
	}
}

// TestAlarms counts those of the template, and its dashboards.
func TestAlarms(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root(t), "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for kind, input := range map[string]Input{"Alarm": Default().Stack.Alarms, "Dashboard": Default().Stack.Dashboards} {
		made := len(regexp.MustCompile(`(?m)^    Type: AWS::CloudWatch::`+kind+`$`).FindAll(content, -1))
		if float64(made) != input.Value {
			t.Errorf("the template makes %d of %s, the model has %g", made, input.Name, input.Value)
		}
	}
}

// TestMonotone holds where more tasks never cost less.
func TestMonotone(t *testing.T) {
	in := Default()
	for _, o := range in.options() {
		before := Bill{}
		for tasks := 1.0; tasks <= 1e6; tasks = math.Ceil(tasks * 1.07) {
			bill := o.bill(tasks)
			if bill.Dollars() < before.Dollars() || bill.Calls() < before.Calls() {
				t.Errorf("%s: %g tasks cost %g and %g calls, fewer %g and %g", o.name, tasks,
					bill.Dollars(), bill.Calls(), before.Dollars(), before.Calls())
			}
			before = bill
		}
	}
}

func root(t *testing.T) string {
	t.Helper()
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}
