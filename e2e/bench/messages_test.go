package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-lambda-go/events"

	"ecsmesh/e2e/tools"
)

// maxPayload is what Lambda gives a function at once, in bytes. SQS ends a batch
// before it gets there.
const maxPayload = 6 << 20

// template is an event of a task, in which another one's place can be taken.
type template struct {
	event   []byte
	arn, id string
}

// sampleEvent reads one of events/, in one line as EventBridge delivers it.
func sampleEvent(b *testing.B, name string) template {
	b.Helper()
	root, err := tools.Root()
	if err != nil {
		b.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, "events", name))
	if err != nil {
		b.Fatal(err)
	}
	var event bytes.Buffer
	if err := json.Compact(&event, content); err != nil {
		b.Fatal(err)
	}
	var parts struct {
		ID     string
		Detail struct{ TaskARN string }
	}
	if err := json.Unmarshal(event.Bytes(), &parts); err != nil {
		b.Fatal(err)
	}
	return template{event.Bytes(), parts.Detail.TaskARN, parts.ID}
}

// of is the event of another task, and itself another.
func (t template) of(arn string, number int) []byte {
	event := bytes.ReplaceAll(t.event, []byte(t.arn), []byte(arn))
	return bytes.ReplaceAll(event, []byte(t.id), fmt.Appendf(nil, "%08x%s", number, t.id[8:]))
}

// message is an event on its way through SQS, as long as one there is.
func message(body []byte, number int) events.SQSMessage {
	return events.SQSMessage{
		MessageId:      fmt.Sprintf("%08x-2176-4367-9466-6e33ef90fad7", number),
		ReceiptHandle:  fmt.Sprintf("%0400x", number),
		Body:           string(body),
		Attributes:     map[string]string{"ApproximateReceiveCount": "1", "SentTimestamp": "1762268636515", "SenderId": "AIDAECSMESHSAMPLEIDAB", "ApproximateFirstReceiveTimestamp": "1762268636539"},
		Md5OfBody:      "fa98e4da1fa9137b29fff91f9486d4d5",
		EventSource:    "aws:sqs",
		EventSourceARN: "arn:aws:sqs:eu-west-1:123456789012:ecsmesh-TaskEventsQueue-Zq3vL0c7XkUe",
		AWSRegion:      "eu-west-1",
	}
}

// batch is what a function gets of SQS at once.
type batch struct {
	messages []events.SQSMessage
	payload  []byte
}

// batches divides messages as SQS does where there are always enough of them: by
// number, and by what fits into a payload.
func batches(b *testing.B, messages []events.SQSMessage, most int) []batch {
	b.Helper()
	var all []batch
	for len(messages) > 0 {
		next := batch{messages: messages[:min(most, len(messages))]}
		for {
			var err error
			if next.payload, err = json.Marshal(events.SQSEvent{Records: next.messages}); err != nil {
				b.Fatal(err)
			}
			if len(next.payload) <= maxPayload {
				break
			}
			next.messages = next.messages[:len(next.messages)*maxPayload/len(next.payload)]
		}
		messages = messages[len(next.messages):]
		all = append(all, next)
	}
	return all
}

// failed are the messages of a batch that a function gives back.
func (t batch) failed(answer []byte) ([]events.SQSMessage, error) {
	var response events.SQSEventResponse
	if err := json.Unmarshal(answer, &response); err != nil {
		return nil, fmt.Errorf("read the function's answer %s: %w", answer, err)
	}
	if response.BatchItemFailures == nil {
		return nil, fmt.Errorf("read the function's answer %s: it has no batchItemFailures", answer)
	}
	back := map[string]bool{}
	for _, failure := range response.BatchItemFailures {
		back[failure.ItemIdentifier] = true
	}
	var messages []events.SQSMessage
	for _, message := range t.messages {
		if back[message.MessageId] {
			messages = append(messages, message)
		}
	}
	return messages, nil
}
