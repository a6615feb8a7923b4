package taskevent_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/shared/mesh"
	"ecsmesh/shared/taskevent"

	"github.com/google/go-cmp/cmp"
)

// eventsDir holds the samples that `sam local invoke` uses too.
var eventsDir = filepath.Join("..", "..", "events")

func sample(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(eventsDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeSamples(t *testing.T) {
	const (
		serverID = "ad4417b66398d9afb2cbde678fa9c95f"
		apiID    = "f9811b73ac5d1a8db842634fc0f871e0"
		webID    = "c4719afa76fa448b5eca99e673688584"
		workerID = "13029f9e83d15b3d437c2a7568fc1ca7"
	)
	task := func(cluster, id string) (string, mesh.TaskARN) {
		return "arn:aws:ecs:eu-west-1:123456789012:task/" + cluster + "/" + id,
			mesh.TaskARN{Partition: "aws", Region: "eu-west-1", Account: "123456789012", Cluster: cluster, ID: id}
	}
	serverARN, server := task("consul", serverID)
	apiARN, api := task("apps", apiID)
	webARN, web := task("apps", webID)
	workerARN, worker := task("apps", workerID)
	clock := func(hour, minute, second, millis int) time.Time {
		return time.Date(2025, time.November, 4, hour, minute, second, millis*int(time.Millisecond), time.UTC)
	}
	const (
		serverScaling = "Scaling activity initiated by (deployment ecs-svc/1767145809332142297)"
		apiScaling    = "Scaling activity initiated by (deployment ecs-svc/1105815016245936099)"
	)

	samples := map[string]struct {
		event   taskevent.Event
		meaning taskevent.Meaning
		reason  string
	}{
		"server-task-running.json": {
			event: taskevent.Event{
				ID: "6d6dc9ce-2a18-46d0-b5f2-a08ef408e2aa", Time: clock(9, 0, 12, 0),
				TaskARN: serverARN, Task: server, Group: "service:consul-server",
				LastStatus: "RUNNING", DesiredStatus: "RUNNING", Version: 5,
				UpdatedAt: clock(9, 0, 12, 64),
			},
			meaning: taskevent.Nothing,
			reason:  "ECS is stopping the task",
		},
		"server-task-stopping.json": {
			event: taskevent.Event{
				ID: "9d16091b-b042-48a9-b3a6-2928da9c1982", Time: clock(14, 22, 5, 0),
				TaskARN: serverARN, Task: server, Group: "service:consul-server",
				LastStatus: "RUNNING", DesiredStatus: "STOPPED", Version: 6,
				StopCode: "ServiceSchedulerInitiated", StoppedReason: serverScaling,
				StoppingAt: clock(14, 22, 5, 733), UpdatedAt: clock(14, 22, 5, 733),
			},
			meaning: taskevent.Drain,
			reason:  "ServiceSchedulerInitiated: " + serverScaling + " (since 2025-11-04T14:22:05Z)",
		},
		"mesh-task-stopping.json": {
			event: taskevent.Event{
				ID: "422845ac-ef62-4a20-87c7-a7cb7aebaa63", Time: clock(15, 3, 27, 0),
				TaskARN: apiARN, Task: api, Group: "service:api",
				LastStatus: "RUNNING", DesiredStatus: "STOPPED", Version: 6,
				StopCode: "ServiceSchedulerInitiated", StoppedReason: apiScaling,
				StoppingAt: clock(15, 3, 27, 512), UpdatedAt: clock(15, 3, 27, 512),
			},
			meaning: taskevent.Drain,
			reason:  "ServiceSchedulerInitiated: " + apiScaling + " (since 2025-11-04T15:03:27Z)",
		},
		"mesh-task-stopped.json": {
			event: taskevent.Event{
				ID: "44b04e22-750e-4760-9687-a9083e492c3f", Time: clock(15, 3, 56, 0),
				TaskARN: apiARN, Task: api, Group: "service:api",
				LastStatus: "STOPPED", DesiredStatus: "STOPPED", Version: 9,
				StopCode: "ServiceSchedulerInitiated", StoppedReason: apiScaling,
				StoppingAt: clock(15, 3, 27, 512), UpdatedAt: clock(15, 3, 56, 201),
			},
			meaning: taskevent.Delete,
			// As when it was stopping: a repeated drain changes nothing.
			reason: "ServiceSchedulerInitiated: " + apiScaling + " (since 2025-11-04T15:03:27Z)",
		},
		"mesh-task-essential-exited.json": {
			event: taskevent.Event{
				ID: "1f7ac182-6e9f-4091-8804-0c591278a467", Time: clock(15, 3, 41, 0),
				TaskARN: webARN, Task: web, Group: "service:web",
				LastStatus: "RUNNING", DesiredStatus: "STOPPED", Version: 6,
				StopCode: "EssentialContainerExited", StoppedReason: "Essential container in task exited",
				StoppingAt: clock(15, 3, 41, 87), UpdatedAt: clock(15, 3, 41, 87),
			},
			meaning: taskevent.Drain,
			reason:  "EssentialContainerExited: Essential container in task exited (since 2025-11-04T15:03:41Z)",
		},
		"mesh-task-spot-stopping.json": {
			event: taskevent.Event{
				ID: "ae7ef449-5a9a-452d-a41a-e81480731c46", Time: clock(15, 3, 44, 0),
				TaskARN: workerARN, Task: worker, Group: "service:worker",
				LastStatus: "RUNNING", DesiredStatus: "STOPPED", Version: 5,
				StopCode: "SpotInterruption", StoppedReason: "Your Spot Task was interrupted.",
				StoppingAt: clock(15, 3, 44, 930), UpdatedAt: clock(15, 3, 44, 930),
			},
			meaning: taskevent.Drain,
			reason:  "SpotInterruption: Your Spot Task was interrupted. (since 2025-11-04T15:03:44Z)",
		},
	}

	// A sample that is added to the folder is tested too.
	files, err := filepath.Glob(filepath.Join(eventsDir, "*-task-*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	// CloudFormation's to the macro is none of ECS's.
	files = slices.DeleteFunc(files, func(file string) bool { return file == "mesh-task-macro.json" })
	if diff := cmp.Diff(files, slices.Sorted(maps.Keys(samples))); diff != "" {
		t.Fatalf("samples (-in the folder +in this test):\n%s", diff)
	}

	for name, want := range samples {
		t.Run(name, func(t *testing.T) {
			got, err := taskevent.Decode(sample(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.event, got); diff != "" {
				t.Errorf("decoded (-want +got):\n%s", diff)
			}
			if got.Meaning() != want.meaning {
				t.Errorf("means %v, want %v", got.Meaning(), want.meaning)
			}
			if got.StopReason() != want.reason {
				t.Errorf("stop reason %q, want %q", got.StopReason(), want.reason)
			}
			if !got.HappenedAt().Equal(want.event.UpdatedAt) {
				t.Errorf("happened at %v, want %v", got.HappenedAt(), want.event.UpdatedAt)
			}
		})
	}
}

// change returns the event of a stopping task with fields of its detail replaced, or removed by nil.
func change(t *testing.T, fields map[string]any) []byte {
	t.Helper()
	var event map[string]any
	if err := json.Unmarshal(sample(t, "mesh-task-stopping.json"), &event); err != nil {
		t.Fatal(err)
	}
	detail := event["detail"].(map[string]any)
	for field, value := range fields {
		if value == nil {
			delete(detail, field)
		} else {
			detail[field] = value
		}
	}
	data, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeToleratesWhatItDoesNotUse(t *testing.T) {
	for name, fields := range map[string]map[string]any{
		"unknown fields":           {"quantumState": map[string]any{"spin": []int{1}}},
		"no exit codes":            {"containers": []any{map[string]any{"name": "ecsmesh-init"}}},
		"the API's own spelling":   {"attachments": []any{map[string]any{"type": "ElasticNetworkInterface", "details": []any{map[string]any{"name": "privateIpv4Address", "value": "10.0.0.1"}}}}},
		"containers of a new kind": {"containers": "none"},
		"no stop reason":           {"stopCode": nil, "stoppedReason": nil},
		"no version":               {"version": nil},
		"an unreadable time":       {"updatedAt": "yesterday", "stoppingAt": "soon"},
		"an old, short task ARN":   {"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/f9811b73ac5d1a8db842634fc0f871e0"},
		"another partition":        {"taskArn": "arn:aws-cn:ecs:cn-north-1:123456789012:task/apps/f9811b73ac5d1a8db842634fc0f871e0"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := taskevent.Decode(change(t, fields))
			if err != nil {
				t.Fatal(err)
			}
			if got.Meaning() != taskevent.Drain || got.Task.ID != "f9811b73ac5d1a8db842634fc0f871e0" {
				t.Errorf("got %v of task %s, want drain of f9811b73ac5d1a8db842634fc0f871e0", got.Meaning(), got.Task.ID)
			}
		})
	}
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	const envelope = `"source":"aws.ecs","detail-type":"ECS Task State Change"`
	for name, test := range map[string]struct{ event, want string }{
		"no JSON":             {`hush-hush`, `decode event: not JSON (at byte 1)`},
		"cut off":             {`{"id":"hush-hush`, `decode event: not JSON (at byte 16)`},
		"empty":               {``, `decode event: not JSON (at byte 0)`},
		"an array":            {`["hush-hush"]`, `decode event: the event is of type array, want object`},
		"null":                {`null`, `decode event: source is missing`},
		"no envelope":         {`{"taskArn":"hush-hush"}`, `decode event: source is missing`},
		"no detail type":      {`{"source":"aws.ecs"}`, `decode event: detail-type is missing`},
		"no detail":           {`{` + envelope + `}`, `decode task event: detail is missing`},
		"detail is a string":  {`{` + envelope + `,"detail":"hush-hush"}`, `decode task event: detail is of type string, want object`},
		"detail is null":      {`{` + envelope + `,"detail":null}`, `decode task event: detail is missing`},
		"no task ARN":         {string(change(t, map[string]any{"taskArn": nil})), `decode task event: detail.taskArn is missing`},
		"no task's ARN":       {string(change(t, map[string]any{"taskArn": "hush-hush"})), `decode task event: detail.taskArn is not the ARN of an ECS task`},
		"task ARN is a list":  {string(change(t, map[string]any{"taskArn": []string{"hush-hush"}})), `decode task event: detail.taskArn is of type array, want string`},
		"no last status":      {string(change(t, map[string]any{"lastStatus": nil})), `decode task event: detail.lastStatus is missing`},
		"no desired status":   {string(change(t, map[string]any{"desiredStatus": nil})), `decode task event: detail.desiredStatus is missing`},
		"version is a string": {string(change(t, map[string]any{"version": "hush-hush"})), `decode task event: detail.version is of type string, want whole number`},
		"version is a half":   {string(change(t, map[string]any{"version": 1.5})), `decode task event: detail.version is of type number, want whole number`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := taskevent.Decode([]byte(test.event))
			if err == nil || err.Error() != test.want {
				t.Fatalf("got error %v\nwant      %s", err, test.want)
			}
			if errors.Is(err, taskevent.ErrOtherEvent) {
				t.Error("it passes for an event of another kind")
			}
			if strings.Contains(err.Error(), "hush-hush") {
				t.Error("the error quotes the event")
			}
		})
	}
}

// TestIdentifyFindsNoMoreThanIDs has what could be anything left out.
func TestIdentifyFindsNoMoreThanIDs(t *testing.T) {
	const id, task = "422845ac-ef62-4a20-87c7-a7cb7aebaa63", "f9811b73ac5d1a8db842634fc0f871e0"
	const arn = "arn:aws:ecs:eu-west-1:123456789012:task/apps/" + task
	for event, want := range map[string][2]string{
		`{"id":"` + id + `","detail":{"taskArn":"` + arn + `"}}`: {id, task},
		`{"id":"` + id + `","detail":{"taskArn":7}}`:             {id, ""},
		`{"id":"` + id + `","detail":[]}`:                        {id, ""},
		`{"id":"hush-hush","detail":{"taskArn":"hush-hush"}}`:    {"", ""},
		`{"id":7,"detail":{"taskArn":"` + arn + `"}}`:            {"", task},
		`["hush-hush"]`: {"", ""},
		`hush-hush`:     {"", ""},
	} {
		if gotID, gotTask := taskevent.Identify([]byte(event)); gotID != want[0] || gotTask != want[1] {
			t.Errorf("%s: got %q and %q, want %q", event, gotID, gotTask, want)
		}
	}
}

func TestDecodeTellsOtherEventsApart(t *testing.T) {
	for _, event := range []string{
		`{"source":"aws.ecs","detail-type":"ECS Service Action","detail":{}}`,
		`{"source":"aws.events","detail-type":"Scheduled Event","detail":{}}`,
		`{"source":"acme.shop","detail-type":"ECS Task State Change","detail":{}}`,
	} {
		if _, err := taskevent.Decode([]byte(event)); !errors.Is(err, taskevent.ErrOtherEvent) {
			t.Errorf("%s: got %v, want ErrOtherEvent", event, err)
		}
	}
}

func TestMeaning(t *testing.T) {
	for _, test := range []struct {
		last, desired string
		want          taskevent.Meaning
	}{
		{"PROVISIONING", "RUNNING", taskevent.Nothing},
		{"PENDING", "RUNNING", taskevent.Nothing},
		{"ACTIVATING", "RUNNING", taskevent.Nothing},
		{"RUNNING", "RUNNING", taskevent.Nothing},
		{"PENDING", "STOPPED", taskevent.Drain}, // stopped before it ever ran
		{"RUNNING", "STOPPED", taskevent.Drain},
		{"DEACTIVATING", "STOPPED", taskevent.Drain},
		{"STOPPING", "STOPPED", taskevent.Drain},
		{"DEPROVISIONING", "STOPPED", taskevent.Drain},
		{"STOPPED", "STOPPED", taskevent.Delete},
		{"STOPPED", "RUNNING", taskevent.Delete}, // what is, not what was wanted
		{"DELETED", "STOPPED", taskevent.Delete},
		{"LEVITATING", "RUNNING", taskevent.Nothing}, // a state of the future
	} {
		event := taskevent.Event{LastStatus: test.last, DesiredStatus: test.desired}
		if got := event.Meaning(); got != test.want {
			t.Errorf("last %s, desired %s: means %v, want %v", test.last, test.desired, got, test.want)
		}
	}
}

func TestSupersedes(t *testing.T) {
	running := taskevent.Event{LastStatus: "RUNNING", DesiredStatus: "RUNNING", Version: 3}
	stopping := taskevent.Event{LastStatus: "RUNNING", DesiredStatus: "STOPPED", Version: 4}
	deprovisioning := taskevent.Event{LastStatus: "DEPROVISIONING", DesiredStatus: "STOPPED", Version: 5}
	stopped := taskevent.Event{LastStatus: "STOPPED", DesiredStatus: "STOPPED", Version: 6}
	runningLater := taskevent.Event{LastStatus: "RUNNING", DesiredStatus: "RUNNING", Version: 7}

	inOrder := []taskevent.Event{running, runningLater, stopping, deprovisioning, stopped}
	for i, earlier := range inOrder {
		if earlier.Supersedes(earlier) {
			t.Errorf("%s %d supersedes its own duplicate", earlier.LastStatus, earlier.Version)
		}
		for _, later := range inOrder[i+1:] {
			if !later.Supersedes(earlier) || earlier.Supersedes(later) {
				t.Errorf("%s %d must supersede %s %d, and not the other way round",
					later.LastStatus, later.Version, earlier.LastStatus, earlier.Version)
			}
		}
	}
}

func TestStopReason(t *testing.T) {
	for _, test := range []struct{ code, reason, want string }{
		{"UserInitiated", "Task stopped by user", "UserInitiated: Task stopped by user"},
		{"UserInitiated", "", "UserInitiated"},
		{"", "Host EC2 (instance i-0123456789abcdef0) terminated.", "Host EC2 (instance i-0123456789abcdef0) terminated."},
		{"", "", "ECS is stopping the task"},
	} {
		if got := (taskevent.Event{StopCode: test.code, StoppedReason: test.reason}).StopReason(); got != test.want {
			t.Errorf("code %q, reason %q: got %q, want %q", test.code, test.reason, got, test.want)
		}
	}
}

func TestHappenedAtFallsBackToTheEnvelope(t *testing.T) {
	event, err := taskevent.Decode(change(t, map[string]any{"updatedAt": nil}))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2025, time.November, 4, 15, 3, 27, 0, time.UTC); !event.HappenedAt().Equal(want) {
		t.Errorf("happened at %v, want the envelope's %v", event.HappenedAt(), want)
	}
}

func TestATaskWithAConsulClientIsKnownByItsContainer(t *testing.T) {
	for containers, want := range map[string]bool{
		`[{"name": "ecsmesh-init"}, {"name": "consul-client", "exitCode": 0}]`: true,
		`[{"name": "consul-client-2"}, {"lastStatus": "STOPPED"}]`:             false,
		`[]`:   false,
		`null`: false,
		// Of another shape: the task is taken out of the mesh all the same.
		`{"name": "consul-client"}`: false,
		`[{"name": 1}]`:             false,
	} {
		event, err := taskevent.Decode([]byte(`{"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {
			"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/apps/1a", "lastStatus": "STOPPED", "desiredStatus": "STOPPED", "containers": ` + containers + `}}`))
		if err != nil || event.ClientAgent != want {
			t.Errorf("%s: %t, %v; want %t", containers, event.ClientAgent, err, want)
		}
	}
}
