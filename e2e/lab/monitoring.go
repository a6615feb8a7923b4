package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"ecsmesh/e2e/cloudwatch"
)

// monitored are the functions that work for the mesh, as the outputs name them.
var monitored = []string{"DeregisterTasksFunction", "SweepFunction", "PublishServersFunction"}

// queues of the stack, as its outputs name their URLs.
var queues = []string{"TaskEventsQueueUrl", "TaskEventsDeadLetterQueueUrl", "UndeliveredEventsQueueUrl"}

// Monitoring gathers what CloudWatch would know of the stack: what its functions
// log, and how its queues fill.
type Monitoring struct {
	Metrics cloudwatch.Metrics
	Log     []string // warnings and errors, the newest first

	lab  *Lab
	read map[string]int // lines of each log group
}

// Monitor returns a Monitoring that knows nothing yet.
func (l *Lab) Monitor() *Monitoring { return &Monitoring{lab: l, read: map[string]int{}} }

var report = regexp.MustCompile(`^REPORT RequestId: .*\tDuration: ([0-9.]+) ms`)

// TakeIn adds what the functions have logged since the last time. at, if it is
// not zero, stands in place of the time at which they did.
func (m *Monitoring) TakeIn(ctx context.Context, at time.Time) error {
	for _, function := range monitored {
		name := m.lab.Outputs[function]
		lines, err := cloudwatch.Lines(ctx, m.lab.Emulator.Config(), "/aws/lambda/"+Stack+"-"+function)
		if err != nil {
			return err
		}
		for _, line := range lines[min(m.read[name], len(lines)):] {
			when := at
			if when.IsZero() {
				when = line.At
			}
			if err := m.Metrics.TakeIn([]byte(line.Text), at); err != nil {
				return err
			}
			if duration := report.FindStringSubmatch(line.Text); duration != nil {
				ms, err := strconv.ParseFloat(duration[1], 64)
				if err != nil {
					return fmt.Errorf("read %q: %w", line.Text, err)
				}
				m.Metrics.Put(lambdaMetric("Duration", name), when, ms)
				m.Metrics.Put(lambdaMetric("Invocations", name), when, 1)
			}
			m.keep(line)
		}
		m.read[name] = len(lines)
	}
	return nil
}

// keep keeps a warning or an error, as the dashboard's log widget asks for.
func (m *Monitoring) keep(line cloudwatch.Line) {
	var entry struct{ Level, Message, Error, TaskID, EventID, Reason string }
	if json.Unmarshal([]byte(line.Text), &entry) != nil || entry.Level != "WARN" && entry.Level != "ERROR" {
		return
	}
	words := []string{line.At.UTC().Format("15:04:05"), entry.Level, entry.Message, entry.Error, entry.TaskID, entry.EventID, entry.Reason}
	m.Log = slices.Insert(m.Log, 0, strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "" }), "  "))
}

// Invoked adds an invocation that failed, or that Lambda had no room for.
func (m *Monitoring) Invoked(metric, function string, at time.Time) {
	m.Metrics.Put(lambdaMetric(metric, m.lab.Outputs[function]), at, 1)
}

func lambdaMetric(name, function string) cloudwatch.ID {
	return cloudwatch.ID{Namespace: "AWS/Lambda", Name: name, Dimensions: map[string]string{"FunctionName": function}}
}

// WatchQueues looks at the queues every second, until ctx ends.
func (m *Monitoring) WatchQueues(ctx context.Context) error {
	empty := time.Now()
	for {
		now := time.Now()
		waiting, err := m.lookAtQueues(ctx, now, empty)
		switch {
		case err == nil && !waiting:
			empty = now
		case err != nil && ctx.Err() == nil:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// LookAtQueues adds how many messages wait in each queue at a time, and how old
// the oldest is, which was sent at a time that the emulator doesn't tell.
func (m *Monitoring) LookAtQueues(ctx context.Context, at, oldest time.Time) error {
	_, err := m.lookAtQueues(ctx, at, oldest)
	return err
}

// lookAtQueues tells, too, whether events wait.
func (m *Monitoring) lookAtQueues(ctx context.Context, at, oldest time.Time) (waiting bool, err error) {
	for _, output := range queues {
		url := m.lab.Outputs[output]
		out, err := sqs.NewFromConfig(m.lab.Emulator.Config()).GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
			QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
		})
		if err != nil {
			return false, fmt.Errorf("look at %s: %w", output, err)
		}
		put := func(metric string, value float64) {
			name := url[strings.LastIndexByte(url, '/')+1:]
			m.Metrics.Put(cloudwatch.ID{Namespace: "AWS/SQS", Name: metric, Dimensions: map[string]string{"QueueName": name}}, at, value)
		}
		visible, err := strconv.Atoi(out.Attributes["ApproximateNumberOfMessages"])
		if err != nil {
			return false, fmt.Errorf("look at %s: %w", output, err)
		}
		put("ApproximateNumberOfMessagesVisible", float64(visible))
		age := 0.0
		if visible > 0 || out.Attributes["ApproximateNumberOfMessagesNotVisible"] != "0" {
			age, waiting = at.Sub(oldest).Seconds(), true
		}
		put("ApproximateAgeOfOldestMessage", age)
	}
	return waiting, nil
}

// Dashboard is the stack's, as CloudWatch has it.
func (l *Lab) Dashboard(ctx context.Context) (cloudwatch.Dashboard, error) {
	return cloudwatch.ReadDashboard(ctx, l.Emulator.Config(), Stack)
}

// Alarmed are the stack's alarms that are on at a time by what was measured,
// without the stack's name.
func (m *Monitoring) Alarmed(ctx context.Context, now time.Time) ([]string, error) {
	alarms, err := cloudwatch.Alarms(ctx, m.lab.Emulator.Config())
	if err != nil {
		return nil, err
	}
	on := []string{}
	for name, alarm := range alarms {
		state, err := m.Metrics.StateOf(alarm, now)
		if err != nil {
			return nil, err
		}
		if state == cloudwatch.Alarm {
			on = append(on, strings.TrimPrefix(name, Stack+"-"))
		}
	}
	slices.Sort(on)
	return on, nil
}
