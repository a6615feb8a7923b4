package taskevent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"ecsmesh/shared/mesh"
	"ecsmesh/shared/taskevent"

	"github.com/google/go-cmp/cmp"
)

// decodeErrors are all that Decode may say: words of this program alone, and
// nothing of the event.
var decodeErrors = regexp.MustCompile(`^decode (task )?event: (` +
	`not an ECS task state change|` +
	`not JSON \(at byte \d+\)|` +
	`(source|detail-type|detail(\.(taskArn|lastStatus|desiredStatus))?) is missing|` +
	`detail\.taskArn is not the ARN of an ECS task|` +
	`(the event|id|source|detail-type|time|detail(\.(taskArn|group|lastStatus|desiredStatus|version|stopCode|stoppedReason|stoppingAt|updatedAt))?)` +
	` is of type (array|bool|number|object|string), want (object|string|whole number))$`)

var nodeName = regexp.MustCompile(`^ecs-[0-9A-Za-z-]+$`)

func FuzzDecode(f *testing.F) {
	samples, err := filepath.Glob(filepath.Join(eventsDir, "*.json"))
	if err != nil || len(samples) == 0 {
		f.Fatalf("there are no samples: %v", err)
	}
	for _, name := range samples {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	const arn = `"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/apps/0a"`
	for _, detail := range []string{
		`{` + arn + `, "lastStatus": "RUNNING", "desiredStatus": "RUNNING"}`,
		`{` + arn + `, "lastStatus": "DELETED", "desiredStatus": "STOPPED", "version": 9223372036854775807}`,
		`{` + arn + `, "lastStatus": "STOPPED", "desiredStatus": "RUNNING", "version": 1e400, "updatedAt": "2025-11-04T15:03:27+14:00"}`,
		`{"taskArn": "arn:aws-cn:ecs:cn-north-1:1:task/../../0a", "lastStatus": "\u0000", "desiredStatus": "\ud800"}`,
		`{` + arn + `, "lastStatus": ["STOPPED"], "desiredStatus": null, "version": "6"}`,
		`"{}"`, `null`, `[]`, ``,
	} {
		f.Add([]byte(`{"source": "aws.ecs", "detail-type": "ECS Task State Change", "time": "2025-11-04T15:03:27Z", "detail": ` + detail + `}`))
	}
	f.Add([]byte(`{"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification"}`))
	f.Add([]byte("\xff\xfe{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		event, err := taskevent.Decode(data)
		if err != nil {
			if !decodeErrors.MatchString(err.Error()) {
				t.Errorf("the error may quote the event: %v", err)
			}
			if diff := cmp.Diff(taskevent.Event{}, event); diff != "" {
				t.Errorf("an error, and an event all the same:\n%s", diff)
			}
			return
		}
		expectMeaning(t, event)
		if task, err := mesh.ParseTaskARN(event.TaskARN); err != nil || task != event.Task {
			t.Errorf("the task is %+v, and its ARN says %+v, %v", event.Task, task, err)
		}
		if name := mesh.NodeName(event.Task.ID); !nodeName.MatchString(name) {
			t.Errorf("the node's name would be %q", name)
		}
		if event.Supersedes(event) {
			t.Error("the event supersedes itself")
		}
		if event.StopReason() == "" {
			t.Error("there is no reason for the stop")
		}
		again, err := taskevent.Decode(encode(t, event))
		if err != nil {
			t.Fatalf("what was decoded can't be decoded again: %v", err)
		}
		if diff := cmp.Diff(event, again); diff != "" {
			t.Errorf("decoded again (-first +second):\n%s", diff)
		}
	})
}

// expectMeaning holds the worst mistakes against an event: to take out a task
// that goes on, and to keep one that is gone.
func expectMeaning(t *testing.T, event taskevent.Event) {
	t.Helper()
	gone := event.LastStatus == "STOPPED" || event.LastStatus == "DELETED"
	unwanted := event.DesiredStatus == "STOPPED"
	switch meaning := event.Meaning(); {
	case !gone && !unwanted && meaning != taskevent.Nothing,
		!gone && meaning == taskevent.Delete,
		gone && meaning != taskevent.Delete,
		unwanted && meaning == taskevent.Nothing:
		t.Errorf("a task that is %q, and %q is wanted: %v", event.LastStatus, event.DesiredStatus, meaning)
	}
}

// encode writes an event as EventBridge does.
func encode(t *testing.T, event taskevent.Event) []byte {
	t.Helper()
	stamp := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.Format(time.RFC3339Nano)
	}
	data, err := json.Marshal(map[string]any{
		"id": event.ID, "source": taskevent.Source, "detail-type": taskevent.DetailType, "time": stamp(event.Time),
		"detail": map[string]any{
			"taskArn": event.TaskARN, "group": event.Group, "lastStatus": event.LastStatus, "desiredStatus": event.DesiredStatus,
			"version": event.Version, "stopCode": event.StopCode, "stoppedReason": event.StoppedReason, "stoppingAt": stamp(event.StoppingAt), "updatedAt": stamp(event.UpdatedAt),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// FuzzSupersedes has two events of one task in either order.
func FuzzSupersedes(f *testing.F) {
	f.Add("RUNNING", "STOPPED", int64(4), "STOPPED", "STOPPED", int64(6))
	f.Add("RUNNING", "RUNNING", int64(3), "RUNNING", "STOPPED", int64(3))
	f.Add("DELETED", "STOPPED", int64(-1), "STOPPED", "STOPPED", int64(9))
	f.Fuzz(func(t *testing.T, last, desired string, version int64, otherLast, otherDesired string, otherVersion int64) {
		a := taskevent.Event{LastStatus: last, DesiredStatus: desired, Version: version}
		b := taskevent.Event{LastStatus: otherLast, DesiredStatus: otherDesired, Version: otherVersion}
		if a.Supersedes(b) && b.Supersedes(a) {
			t.Error("each supersedes the other: which one stays depends on their order")
		}
		if a.Supersedes(b) && a.Meaning() < b.Meaning() {
			t.Errorf("%v supersedes %v", a.Meaning(), b.Meaning())
		}
	})
}
