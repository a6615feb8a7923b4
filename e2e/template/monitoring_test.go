package template

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ecsmesh/e2e/cloudwatch"
	"ecsmesh/e2e/tools"
)

// monitored are alarms, with what CloudFormation has in place of names.
type monitored struct {
	AlarmName, AlarmDescription any
	Namespace, MetricName       string
	Threshold                   any
	Dimensions                  []struct {
		Name  string
		Value any
	}
}

// TestAlarmsSayWhatToDo holds each alarm's description to its section of the
// runbook, and its metric to what is measured.
func TestAlarmsSayWhatToDo(t *testing.T) {
	runbook := read(t, "docs/runbook.md")
	written := metricsWritten(t)
	for id, alarm := range properties[monitored](t, expand(t), "AWS::CloudWatch::Alarm") {
		name := strings.TrimSuffix(id, "Alarm")
		description, _ := alarm.AlarmDescription.(string)
		if len(description) > 1024 {
			t.Errorf("%s: the description has %d characters, and CloudWatch takes 1024", name, len(description))
		}
		if !strings.HasSuffix(description, "Runbook: docs/runbook.md, "+name+".") {
			t.Errorf("%s: the description doesn't name its section of the runbook: %s", name, description)
		}
		if !regexp.MustCompile(`(?m)^#+ ` + name + `$`).MatchString(runbook) {
			t.Errorf("%s: docs/runbook.md has no section of that name", name)
		}
		if got := substitute(t, alarm.AlarmName); got != "STACK-"+name {
			t.Errorf("%s is named %q", name, got)
		}
		if alarm.Namespace == "ecsmesh" && !written[alarm.MetricName] {
			t.Errorf("%s watches %s, which no function writes", name, alarm.MetricName)
		}
		for _, dimension := range alarm.Dimensions {
			if !slices.Contains([]string{"FunctionName", "QueueName", "Reason"}, dimension.Name) {
				t.Errorf("%s has the dimension %s, which its metric has not", name, dimension.Name)
			}
		}
	}
}

// TestDashboard holds the dashboard to CloudWatch's rules, and to what is measured.
func TestDashboard(t *testing.T) {
	e := expand(t)
	written := metricsWritten(t)
	alarms := properties[monitored](t, e, "AWS::CloudWatch::Alarm")
	thresholds := map[string]any{}
	for id, alarm := range alarms {
		thresholds[strings.TrimSuffix(id, "Alarm")] = alarm.Threshold
	}
	for _, resource := range properties[struct{ DashboardBody any }](t, e, "AWS::CloudWatch::Dashboard") {
		d, err := cloudwatch.ParseDashboard([]byte(substitute(t, resource.DashboardBody)))
		if err != nil {
			t.Fatal(err)
		}
		taken := map[[2]int]string{}
		shown := map[string]bool{}
		for _, w := range d.Widgets {
			if w.X < 0 || w.Y < 0 || w.X+w.Width > 24 || w.Width < 1 || w.Height < 1 {
				t.Errorf("%s leaves the grid", w.Properties.Title)
			}
			for x := w.X; x < w.X+w.Width; x++ {
				for y := w.Y; y < w.Y+w.Height; y++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("%s lies on %s", w.Properties.Title, other)
					}
					taken[[2]int{x, y}] = w.Properties.Title
				}
			}
			switch w.Type {
			case "text":
			case "alarm":
				for _, arn := range w.Properties.Alarms {
					delete(alarms, strings.TrimSuffix(arn, ".Arn"))
				}
			case "metric":
				checkPlot(t, w.Properties, written)
				for _, line := range w.Properties.Annotations.Horizontal {
					threshold, isNumber := thresholds[line.Label].(float64)
					if _, known := thresholds[line.Label]; !known || isNumber && threshold != line.Value {
						t.Errorf("%s has a line %s at %v, and the alarm of that name is at %v", w.Properties.Title, line.Label, line.Value, thresholds[line.Label])
					}
				}
				for _, series := range w.Properties.Metrics {
					shown[series.Name] = true
				}
			case "log":
				for _, source := range regexp.MustCompile(`SOURCE '/aws/lambda/STACK-([^']+)'`).FindAllStringSubmatch(w.Properties.Query, -1) {
					if e.Resources[strings.TrimSuffix(source[1], "Function")+"LogGroup"].Type != "AWS::Logs::LogGroup" {
						t.Errorf("the log widget reads the log of %s, which has none", source[1])
					}
				}
			default:
				t.Errorf("there is a widget of type %q", w.Type)
			}
		}
		for id := range alarms {
			t.Errorf("%s is not on the dashboard", id)
		}
		for metric := range written {
			if !shown[metric] {
				t.Errorf("%s is not on the dashboard", metric)
			}
		}
	}
}

func checkPlot(t *testing.T, p cloudwatch.Properties, written map[string]bool) {
	t.Helper()
	aws := map[string]string{
		"Errors": "AWS/Lambda", "Invocations": "AWS/Lambda", "Throttles": "AWS/Lambda", "Duration": "AWS/Lambda",
		"ApproximateAgeOfOldestMessage": "AWS/SQS", "ApproximateNumberOfMessagesVisible": "AWS/SQS",
	}
	reasons := constants(t, "functions/sweep/sweep", "Reason")
	if p.Region != "AWS::Region" || p.Period%60 != 0 || p.Period == 0 {
		t.Errorf("%s is of Region %q, with periods of %d s", p.Title, p.Region, p.Period)
	}
	for _, series := range p.Metrics {
		if series.Namespace == "ecsmesh" && !written[series.Name] || series.Namespace != "ecsmesh" && aws[series.Name] != series.Namespace {
			t.Errorf("%s plots %s, which nothing measures", p.Title, series.ID)
		}
		if reason, ok := series.Dimensions["Reason"]; ok && !slices.Contains(reasons, reason) {
			t.Errorf("%s plots the reason %s, which the sweep doesn't have", p.Title, reason)
		}
		if _, ok := cloudwatch.Statistic(series.Stat+p.Stat, []cloudwatch.Point{{}}); !ok {
			t.Errorf("%s plots %s by %q", p.Title, series.ID, series.Stat+p.Stat)
		}
	}
	if strings.Contains(p.Title, "left") {
		for _, reason := range reasons {
			if !slices.ContainsFunc(p.Metrics, func(s cloudwatch.Series) bool { return s.Dimensions["Reason"] == reason }) {
				t.Errorf("%s lacks the reason %s", p.Title, reason)
			}
		}
	}
}

// substitute is the text that CloudFormation makes of a text with variables,
// each of which is its own name, but for the stack's.
func substitute(t *testing.T, value any) string {
	t.Helper()
	if object, ok := value.(map[string]any); ok {
		value = object["Fn::Sub"]
	}
	text, ok := value.(string)
	if !ok {
		data, _ := json.Marshal(value)
		t.Fatalf("%s is no text", data)
	}
	text = strings.ReplaceAll(text, "${AWS::StackName}", "STACK")
	text = strings.ReplaceAll(text, "${AlarmLatencyMilliseconds}", "10000")
	return regexp.MustCompile(`\$\{([^}]+)\}`).ReplaceAllString(text, "$1")
}

func read(t *testing.T, name string) string {
	t.Helper()
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// metricsWritten are the names of all metrics that the functions write, as the
// source has them.
func metricsWritten(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	inspect(t, []string{"functions", "shared"}, func(node ast.Node) {
		call, ok := node.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || method.Sel.Name != "Count" && method.Sel.Name != "Milliseconds" {
			return
		}
		if pack, ok := method.X.(*ast.Ident); !ok || pack.Name != "metrics" {
			return
		}
		if literal, ok := call.Args[0].(*ast.BasicLit); ok && literal.Kind == token.STRING {
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			names[name] = true
		}
	})
	for _, name := range []string{
		"ServersPublished", "NoUsableServer", "TasksDrained", "TasksDeregistered", "EventToConsulMilliseconds", "OrphansFound",
		"SweepSkipped", "SweepBrakeApplied",
	} {
		if !names[name] {
			t.Errorf("no function writes %s; found are %q", name, slices.Sorted(maps.Keys(names)))
		}
	}
	return names
}

// constants are the values of a package's text constants of a type.
func constants(t *testing.T, folder, typeName string) []string {
	t.Helper()
	var values []string
	inspect(t, []string{folder}, func(node ast.Node) {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != typeName {
			return
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
	})
	if len(values) == 0 {
		t.Fatalf("%s has no constants of type %s", folder, typeName)
	}
	return values
}

// inspect shows every node of the source in the folders, tests left out.
func inspect(t *testing.T, folders []string, see func(ast.Node)) {
	t.Helper()
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				see(node)
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestTheQueryReadsEveryLog holds the query that follows a task to the logs that
// there are, and to Logs Insights' rules.
func TestTheQueryReadsEveryLog(t *testing.T) {
	e := expand(t)
	groups := properties[struct{}](t, e, "AWS::Logs::LogGroup")
	queries := properties[struct {
		Name          any
		LogGroupNames json.RawMessage
		QueryString   string
	}](t, e, "AWS::Logs::QueryDefinition")
	if len(queries) != 1 {
		t.Fatalf("there are %d queries", len(queries))
	}
	for _, query := range queries {
		if got := substitute(t, query.Name); got != "STACK/one task from event to Consul" {
			t.Errorf("its name is %q", got)
		}
		for group := range groups {
			if !strings.Contains(string(query.LogGroupNames), `"`+group+`"`) {
				t.Errorf("it doesn't read %s", group)
			}
		}
		if strings.Count(query.QueryString, "/TASK_ID/") != 1 {
			t.Errorf("it has not one place for an ID: %s", query.QueryString)
		}
		runbook := read(t, "docs/runbook.md")
		for _, words := range []string{"one task from event to Consul", "millisecondsSinceEvent", "TASK_ID"} {
			if !strings.Contains(runbook, words) {
				t.Errorf("docs/runbook.md doesn't tell of %s", words)
			}
		}
	}
}
