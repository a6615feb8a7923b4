package model

import (
	"encoding/json"
	"fmt"
	"time"
)

// mostReceives is how often a message is delivered before it ends in the
// dead-letter queue, where nobody reads it.
const mostReceives = 5

// message is what waits in SQS.
type message struct {
	id       string
	body     string
	task     *task // nil for what is no event of a task
	state    state // of which the event tells
	broken   bool  // it can't be read
	receives int
}

// tell sends the event of a task's last change, if it isn't lost, and perhaps
// twice; often it is delivered at once. The rule of the template lets through
// fewer, and the others must not matter.
func (m *model) tell(t *task) {
	copies := 1
	switch {
	case m.chance(15):
		copies = 0
	case m.chance(15):
		copies = 2
	}
	m.note("%s is %s, wanted %s; %d events", t.id, t.truth().last, t.truth().desired, copies)
	body := m.encode(t.event())
	for range copies {
		m.send(&message{body: body, task: t, state: t.truth()})
	}
	if copies > 0 && m.chance(50) {
		m.deliver()
	}
}

func (m *model) send(msg *message) {
	m.messages++
	msg.id = fmt.Sprintf("message-%d", m.messages)
	m.queue = append(m.queue, msg)
}

// event is the task's last change as EventBridge delivers it.
func (t *task) event() map[string]any {
	s := t.truth()
	at := s.at.Format("2006-01-02T15:04:05.000Z")
	detail := map[string]any{
		"attachments": []any{map[string]any{
			"id": "cc7bcc44-6874-46c7-b6fb-9dc042e470ba", "type": "eni", "status": "ATTACHED",
			"details": []any{map[string]any{"name": "privateIPv4Address", "value": t.place.address}},
		}},
		"availabilityZone": region + "b",
		"clusterArn":       clusterARN(t.cluster),
		"containers": []any{map[string]any{
			"name": "ecsmesh-init", "lastStatus": s.last, "taskArn": t.arn(),
			"networkInterfaces": []any{map[string]any{"privateIpv4Address": t.place.address}},
		}},
		"createdAt":         t.states[0].at.Format(time.RFC3339),
		"desiredStatus":     s.desired,
		"group":             "service:" + t.service,
		"lastStatus":        s.last,
		"startedBy":         "ecs-svc/1105815016245936099",
		"taskArn":           t.arn(),
		"taskDefinitionArn": fmt.Sprintf("arn:aws:ecs:%s:%s:task-definition/%s:1", region, account, t.service),
		"updatedAt":         at,
		"version":           s.version,
	}
	if s.desired == stopped {
		detail["stopCode"], detail["stoppedReason"] = t.stopCode, t.stopReason
	}
	if s.last == stopped {
		detail["stoppedAt"] = at
	}
	return map[string]any{
		"version":     "0",
		"id":          fmt.Sprintf("%s-%d", t.id[24:], s.version),
		"detail-type": "ECS Task State Change",
		"source":      "aws.ecs",
		"account":     account,
		"time":        s.at.Format(time.RFC3339),
		"region":      region,
		"resources":   []string{t.arn()},
		"detail":      detail,
	}
}

// batch is messages as Lambda gets them from SQS.
func batch(messages []*message) map[string]any {
	records := []any{}
	for _, msg := range messages {
		records = append(records, map[string]any{
			"messageId": msg.id, "body": msg.body, "eventSource": "aws:sqs", "awsRegion": region,
			"receiptHandle": "AQEB", "attributes": map[string]string{"ApproximateReceiveCount": fmt.Sprint(msg.receives)},
		})
	}
	return map[string]any{"Records": records}
}

func (m *model) encode(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		m.fail("encode %v: %v", value, err)
	}
	return string(text)
}
