package model

import (
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// trace is what has happened, so that a failure can be understood.
type trace struct {
	mu    sync.Mutex
	lines []line
}

type line struct {
	text  string
	tasks []string // IDs that it mentions; a line without any concerns all
}

var taskID = regexp.MustCompile(`[0-9a-f]{32}`)

// add adds a line about the tasks that it mentions and some others.
func (t *trace) add(text string, tasks ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line{text, append(taskID.FindAllString(text, -1), tasks...)})
}

// about returns the last n lines that concern a task.
func (t *trace) about(id string, n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []string
	for _, l := range slices.Backward(t.lines) {
		if len(found) == n {
			break
		}
		if len(l.tasks) == 0 || slices.Contains(l.tasks, id) {
			found = append(found, l.text)
		}
	}
	slices.Reverse(found)
	return strings.Join(found, "\n")
}

// shortIDs shortens the IDs of the tasks, which are numbers.
func shortIDs(text string) string {
	return taskID.ReplaceAllStringFunc(text, func(id string) string { return "#" + strings.TrimLeft(id, "0") })
}

// note adds to the trace what happens in the world.
func (m *model) note(format string, args ...any) { m.noteOf(nil, format, args...) }

// noteOf adds what happens to a process.
func (m *model) noteOf(p *process, format string, args ...any) {
	text := fmt.Sprintf("%5d  %s  ", m.step, m.clock().Format(time.TimeOnly))
	if p == nil {
		m.trace.add(text + fmt.Sprintf(format, args...))
		return
	}
	m.trace.add(text+p.name+" "+fmt.Sprintf(format, args...), p.concerns...)
}

// logOf is the log of a process, which is part of the trace.
func (m *model) logOf(p *process) *slog.Logger {
	return slog.New(slog.NewTextHandler(logOf{&m.trace, p}, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // the system's
			}
			return a
		},
	}))
}

type logOf struct {
	trace *trace
	p     *process
}

func (l logOf) Write(text []byte) (int, error) {
	l.trace.add("                 | "+strings.TrimSpace(string(text)), l.p.concerns...)
	return len(text), nil
}

// traced is how many lines of a task's trace a failure shows.
const traced = 60

// violated ends the run: an invariant doesn't hold for a task.
func (m *model) violated(id, format string, args ...any) {
	m.t.Helper()
	m.fail("%s\nthe last of what happened to task %s:\n%s", fmt.Sprintf(format, args...), id, m.trace.about(id, traced))
}

// fail ends the run.
func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d, step %d (MODEL_SEED=%d MODEL_STEPS=%d runs it again): %s",
		m.seed, m.step, m.seed, m.steps, shortIDs(fmt.Sprintf(format, args...)))
}
