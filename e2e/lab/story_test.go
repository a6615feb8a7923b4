package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/cloudwatch"
	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// entry is what a line of a function's log says of events and tasks, be it a
// message or metrics.
type entry struct {
	Message          string
	EventID, TaskID  string
	EventIDs         []string
	TaskIDs          []string
	Level            string
	AWS              any    `json:"_aws"`
	Milliseconds     *int64 `json:"millisecondsSinceEvent"`
	TasksDrained     int
	TasksUndrained   int
	TasksDeregisterd int `json:"TasksDeregistered"`
}

// TestOneQueryFollowsATask has the query that the template keeps tell the story
// of tasks as real functions logged it.
func TestOneQueryFollowsATask(t *testing.T) {
	t.Parallel()
	var post courier
	begun := time.Now()
	l, _ := startWithServers(t, lab.Options{Servers: 1, Events: post.events})
	must(t, l.UseHTTP(t.Context(), "api"))
	followed, missed := launch(t, l.API), launch(t, l.API)
	must(t, l.WaitPassing(t.Context(), "api", followed, missed))

	// One is drained by mistake and put back, and leaves as tasks do. Of the
	// other's end nobody hears, until the sweep sees it.
	const first, second = `{"id": "0d3c2e51-5a7f-4a8e-9b1c-1f2e3d4c5b6a"}`, `{"id": "7e6d5c4b-3a29-4817-8695-a4b3c2d1e0f9"}`
	drainByHand(t, l, followed)
	must(t, l.Sweep(t.Context(), first))
	must(t, l.API.Stop(followed.TaskARN))
	must(t, l.WaitDeregistered(t.Context(), followed))
	post.lose(missed)
	must(t, l.API.Stop(missed.TaskARN))
	_, err := l.WaitTask(t.Context(), missed, ecs.Task.Stopped)
	must(t, err)
	must(t, l.Sweep(t.Context(), second))
	must(t, l.WaitDeregistered(t.Context(), missed))

	query, err := cloudwatch.SavedQuery(t.Context(), l.Emulator.Config(), lab.Stack+"/one task from event to Consul")
	must(t, err)
	for _, test := range []struct {
		of   ecs.Task
		want []string
	}{
		{followed, []string{
			"sweep: task undrained", "sweep: 1 undrained",
			"deregister-tasks: task drained", "deregister-tasks: 1 drained",
			"deregister-tasks: task deregistered", "deregister-tasks: 1 deregistered",
		}},
		{missed, []string{"sweep: task deregistered", "sweep: 1 deregistered"}},
	} {
		t.Run(test.of.ID(), func(t *testing.T) {
			var story []string
			must(t, lab.Await(t.Context(), "the whole story", func(ctx context.Context) (err error) {
				if story, err = tell(ctx, l, query, test.of, begun); err != nil || slices.Equal(story, test.want) {
					return err
				}
				return fmt.Errorf("it is\n%s", strings.Join(story, "\n"))
			}))
			if diff := cmp.Diff(test.want, story); diff != "" {
				t.Errorf("the story (-want +got):\n%s", diff)
			}
		})
	}
	everyLineNamesItsTask(t, l, query, begun, followed, missed)
	for _, task := range []ecs.Task{followed, missed} {
		log, err := os.ReadFile(l.Log(task, "ecsmesh-init"))
		must(t, err)
		for line := range strings.Lines(string(log)) {
			if !strings.Contains(line, " taskId="+task.ID()) {
				t.Errorf("a line of the init container doesn't name the task: %s", line)
			}
		}
	}
}

// tell is the story of a task, as the query tells it: what happened, without
// what was done again, since an event of each step of a stop arrives.
func tell(ctx context.Context, l *lab.Lab, query cloudwatch.Query, of ecs.Task, from time.Time) ([]string, error) {
	query.Text = strings.ReplaceAll(query.Text, "TASK_ID", of.ID())
	lines, err := query.Run(ctx, l.Emulator.Config(), from, time.Now())
	if err != nil {
		return nil, err
	}
	var story []string
	for i, line := range lines {
		if i > 0 && line.At.Before(lines[i-1].At) {
			return nil, fmt.Errorf("line %d is older than the one before: %s", i, line.Text)
		}
		var e entry
		if err := json.Unmarshal([]byte(line.Text), &e); err != nil {
			return nil, fmt.Errorf("read %q: %w", line.Text, err)
		}
		function := "deregister-tasks"
		if e.EventID != "" && e.Milliseconds == nil {
			function = "sweep"
		}
		switch {
		case e.AWS == nil && e.TaskID != of.ID(), e.AWS != nil && !slices.Contains(e.TaskIDs, of.ID()):
			return nil, fmt.Errorf("this is about another task: %s", line.Text)
		case e.EventID == "" && len(e.EventIDs) == 0:
			return nil, fmt.Errorf("this names no event: %s", line.Text)
		}
		what := e.Message
		for word, n := range map[string]int{"drained": e.TasksDrained, "undrained": e.TasksUndrained, "deregistered": e.TasksDeregisterd} {
			if n > 0 {
				what = fmt.Sprintf("%d %s", n, word)
			}
		}
		if what = function + ": " + what; !slices.Contains(story, what) {
			story = append(story, what)
		}
	}
	return story, nil
}

// everyLineNamesItsTask looks through all that the functions logged: a line in
// which a task occurs has it in its field, and one about a task names an event.
func everyLineNamesItsTask(t *testing.T, l *lab.Lab, query cloudwatch.Query, from time.Time, tasks ...ecs.Task) {
	t.Helper()
	query.Text = "fields @timestamp, @message | sort @timestamp asc"
	lines, err := query.Run(t.Context(), l.Emulator.Config(), from, time.Now())
	must(t, err)
	if len(lines) < 10 {
		t.Fatalf("there are %d lines", len(lines))
	}
	for _, line := range lines {
		var e entry
		if json.Unmarshal([]byte(line.Text), &e) != nil || e.Message == "starting" {
			continue // Lambda's own START, END and REPORT, and what precedes the first event
		}
		if e.EventID == "" && len(e.EventIDs) == 0 && e.TasksDrained+e.TasksDeregisterd > 0 {
			t.Errorf("the line names no event: %s", line.Text)
		}
		for _, task := range tasks {
			named := e.TaskID == task.ID() || slices.Contains(e.TaskIDs, task.ID())
			if mentioned := strings.Contains(line.Text, task.ID()); mentioned != named {
				t.Errorf("%s is named: %t, mentioned: %t: %s", mesh.NodeName(task.ID()), named, mentioned, line.Text)
			}
		}
	}
}
