// Package taskevent reads what ECS tells EventBridge about its tasks (detail
// type "ECS Task State Change") and says what it means for the mesh.
//
// ECS delivers these events at least once and in no promised order, and adds
// fields over time. So only what is used here is decoded, and the rest may
// have any shape.
package taskevent

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"

	"ecsmesh/shared/mesh"
)

// What the envelope of a task state change says.
const (
	Source     = "aws.ecs"
	DetailType = "ECS Task State Change"
)

// Task states of which ECS tells, as far as they matter here.
const (
	statusStopped = "STOPPED"
	statusDeleted = "DELETED" // follows STOPPED for a moment
)

// ErrOtherEvent marks a well-formed event of another kind.
var ErrOtherEvent = errors.New("not an ECS task state change")

// Event is one change of one task's state.
type Event struct {
	ID   string    // the envelope's; duplicates share it
	Time time.Time // the envelope's, in whole seconds; zero if unreadable

	TaskARN string
	Task    mesh.TaskARN // TaskARN, parsed
	Group   string       // service:NAME or family:NAME

	LastStatus    string // where the task is: PROVISIONING … RUNNING … STOPPED
	DesiredStatus string // where ECS wants it: RUNNING or STOPPED
	Version       int64  // grows with each change of the task; duplicates share it

	ClientAgent   bool      // the task has a Consul agent of its own
	StopCode      string    // why it stops, for programs: EssentialContainerExited, …; may be empty
	StoppedReason string    // why it stops, for people; may be empty
	StoppingAt    time.Time // since when it stops; zero if unreadable
	UpdatedAt     time.Time // when this change happened, in milliseconds; zero if unreadable
}

// Decode reads an event as EventBridge delivers it. It returns ErrOtherEvent
// for a well-formed event of another kind, and for anything else that isn't a
// task state change an error that names the field at fault. Errors never quote
// the event: it may come from anyone who can write to the queue.
func Decode(data []byte) (Event, error) {
	// In one go, since most of a function's work is to read events. What is of
	// the wrong type is left out, and the rest is there.
	var raw struct {
		ID         string `json:"id"`
		Source     string `json:"source"`
		DetailType string `json:"detail-type"`
		Time       string `json:"time"`
		Detail     *struct {
			TaskARN       string `json:"taskArn"`
			Group         string `json:"group"`
			LastStatus    string `json:"lastStatus"`
			DesiredStatus string `json:"desiredStatus"`
			Version       int64  `json:"version"`
			StopCode      string `json:"stopCode"`
			StoppedReason string `json:"stoppedReason"`
			StoppingAt    string `json:"stoppingAt"`
			UpdatedAt     string `json:"updatedAt"`

			Containers json.RawMessage `json:"containers"`
		} `json:"detail"`
	}
	malformed := json.Unmarshal(data, &raw)
	if malformed != nil && !inDetail(malformed) {
		return Event{}, fmt.Errorf("decode event: %w", describe(malformed))
	}
	switch {
	case raw.Source == "":
		return Event{}, errors.New("decode event: source is missing")
	case raw.DetailType == "":
		return Event{}, errors.New("decode event: detail-type is missing")
	case raw.Source != Source || raw.DetailType != DetailType:
		return Event{}, fmt.Errorf("decode event: %w", ErrOtherEvent)
	}

	if malformed != nil {
		return Event{}, fmt.Errorf("decode task event: %w", describe(malformed))
	}
	detail := raw.Detail
	if detail == nil {
		return Event{}, errors.New("decode task event: detail is missing")
	}
	for _, required := range []struct{ field, value string }{
		{"detail.taskArn", detail.TaskARN},
		{"detail.lastStatus", detail.LastStatus},
		{"detail.desiredStatus", detail.DesiredStatus},
	} {
		if required.value == "" {
			return Event{}, fmt.Errorf("decode task event: %s is missing", required.field)
		}
	}
	task, err := mesh.ParseTaskARN(detail.TaskARN)
	if err != nil { // it quotes the ARN
		return Event{}, errors.New("decode task event: detail.taskArn is not the ARN of an ECS task")
	}

	return Event{
		ID:            raw.ID,
		Time:          parseTime(raw.Time),
		TaskARN:       detail.TaskARN,
		Task:          task,
		Group:         detail.Group,
		LastStatus:    detail.LastStatus,
		DesiredStatus: detail.DesiredStatus,
		Version:       detail.Version,
		ClientAgent:   hasClientAgent(detail.Containers),
		StopCode:      detail.StopCode,
		StoppedReason: detail.StoppedReason,
		StoppingAt:    parseTime(detail.StoppingAt),
		UpdatedAt:     parseTime(detail.UpdatedAt),
	}, nil
}

// Identify finds what a log line says of an event that Decode refuses, to find
// it by. What is not of the form of an ID is left out, for it may be anything.
func Identify(data []byte) (eventID, taskID string) {
	var raw struct {
		ID     any `json:"id"`
		Detail any `json:"detail"`
	}
	if json.Unmarshal(data, &raw) != nil {
		return "", ""
	}
	if id, _ := raw.ID.(string); usualID.MatchString(id) {
		eventID = id
	}
	detail, _ := raw.Detail.(map[string]any)
	arn, _ := detail["taskArn"].(string)
	return eventID, mesh.TaskID(arn)
}

// usualID is what the IDs of all events look like.
var usualID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// hasClientAgent looks for the container by its name. Where that can't be found
// out, as in an event of another shape, the task's node is deleted all the same.
func hasClientAgent(containers json.RawMessage) bool {
	var named []struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(containers, &named) != nil {
		return false
	}
	for _, container := range named {
		if container.Name == mesh.ClientAgentContainer {
			return true
		}
	}
	return false
}

// inDetail tells whether something in an event's detail, which differs between
// kinds of events, is of a type that a task's doesn't have.
func inDetail(err error) bool {
	var wrongType *json.UnmarshalTypeError
	return errors.As(err, &wrongType) && (wrongType.Field == "detail" || strings.HasPrefix(wrongType.Field, "detail."))
}

// describe says what is wrong with the JSON without quoting it.
func describe(err error) error {
	var (
		syntax    *json.SyntaxError
		wrongType *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON (at byte %d)", syntax.Offset)
	case errors.As(err, &wrongType):
		field := cmp.Or(wrongType.Field, "the event")
		kind, _, _ := strings.Cut(wrongType.Value, " ") // "number 1.5" quotes the number
		return fmt.Errorf("%s is of type %s, want %s", field, kind, jsonType(wrongType))
	}
	return err
}

// jsonType names what was expected in JSON's words.
func jsonType(err *json.UnmarshalTypeError) string {
	switch err.Type.Kind() {
	case reflect.String:
		return "string"
	case reflect.Int64:
		return "whole number"
	}
	return "object"
}

// parseTime is lenient: times only feed metrics and logs, and a task must be
// deregistered whatever became of their format.
func parseTime(value string) time.Time {
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Meaning is what an event asks of the mesh. A greater one is more final.
type Meaning int

// The meanings, from none to final.
const (
	Nothing Meaning = iota // the task goes on
	Drain                  // the task is stopping: send it no new work
	Delete                 // the task is gone: forget it
)

func (m Meaning) String() string {
	switch m {
	case Nothing:
		return "nothing"
	case Drain:
		return "drain"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("Meaning(%d)", int(m))
}

// Meaning decides on the event alone. ECS never takes a stop back, so a late
// or repeated event can't be wrong, only superfluous.
func (e Event) Meaning() Meaning {
	switch {
	case e.LastStatus == statusStopped || e.LastStatus == statusDeleted:
		return Delete
	case e.DesiredStatus == statusStopped:
		return Drain
	}
	return Nothing
}

// Supersedes tells whether e says more about its task than other does, an
// event of the same task: what is more final wins, then what is newer.
func (e Event) Supersedes(other Event) bool {
	if e.Meaning() != other.Meaning() {
		return e.Meaning() > other.Meaning()
	}
	return e.Version > other.Version
}

// HappenedAt is when the task changed, as precisely as the event says; zero if
// it doesn't say.
func (e Event) HappenedAt() time.Time {
	if !e.UpdatedAt.IsZero() {
		return e.UpdatedAt
	}
	return e.Time
}

// StopReason says in a sentence why the task stops, and since when. It is made
// of what ECS fixes when the stop begins, so all events of one stop give the
// same.
func (e Event) StopReason() string {
	if e.StoppingAt.IsZero() {
		return e.cause()
	}
	return e.cause() + " (since " + e.StoppingAt.UTC().Format(time.RFC3339) + ")"
}

func (e Event) cause() string {
	switch {
	case e.StopCode != "" && e.StoppedReason != "":
		return e.StopCode + ": " + e.StoppedReason
	case e.StopCode != "":
		return e.StopCode
	case e.StoppedReason != "":
		return e.StoppedReason
	}
	return "ECS is stopping the task"
}
