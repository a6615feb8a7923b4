package hook

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Stages of a deployment at which there is something to do.
const (
	PreScaleUp             = "PRE_SCALE_UP"
	PostScaleUp            = "POST_SCALE_UP"
	ProductionTrafficShift = "PRODUCTION_TRAFFIC_SHIFT"
)

// Keys of hookDetails.
const (
	// serviceDetail is set by the user: the service whose traffic is shifted, by
	// its name in Consul.
	serviceDetail = "service"

	// sinceDetail comes back as it was answered: when a step was first asked
	// about, by the step, in RFC 3339.
	sinceDetail = "ecsmesh-since-"

	// reasonDetail is for people.
	reasonDetail = "ecsmesh-reason"
)

// event is what ECS sends.
type event struct {
	Stage      string `json:"lifecycleStage"`
	Deployment string `json:"resourceArn"`
	Execution  struct {
		Service           string             `json:"serviceArn"`
		Target            string             `json:"targetServiceRevisionArn"`
		ProductionWeights map[string]float64 `json:"productionTrafficWeights"` // percent, by a revision's ARN
	} `json:"executionDetails"`
	HookDetails json.RawMessage `json:"hookDetails"`

	details map[string]any       // of HookDetails
	cluster string               // name of the service's
	since   map[string]time.Time // when a step was first asked about
}

// parse reads an event that comes at a time, and finds all of its faults.
func parse(text []byte, now time.Time) (event, error) {
	var e event
	if err := json.Unmarshal(text, &e); err != nil {
		return event{}, fmt.Errorf("read the event: %w", err)
	}
	var faults []error
	for _, field := range []struct{ name, value, kind string }{
		{"resourceArn", e.Deployment, "service-deployment"},
		{"executionDetails.serviceArn", e.Execution.Service, "service"},
		{"executionDetails.targetServiceRevisionArn", e.Execution.Target, "service-revision"},
	} {
		parsed, err := arn.Parse(field.value)
		if err != nil || parsed.Service != "ecs" || !strings.HasPrefix(parsed.Resource, field.kind+"/") {
			faults = append(faults, fmt.Errorf("%s is %q, want arn:PARTITION:ecs:REGION:ACCOUNT:%s/…", field.name, field.value, field.kind))
		}
	}
	// service/CLUSTER/NAME; the old, short form lacks the cluster.
	if parts := strings.Split(e.Execution.Service, "/"); len(parts) == 3 {
		e.cluster = parts[1]
	} else if len(faults) == 0 {
		faults = append(faults, fmt.Errorf("executionDetails.serviceArn is %q, which names no cluster", e.Execution.Service))
	}
	var err error
	if e.details, err = parseDetails(e.HookDetails); err != nil {
		faults = append(faults, err)
	}
	e.since = map[string]time.Time{}
	for _, back := range []bool{false, true} {
		since, err := e.begun(e.step(back), now)
		if err != nil {
			faults = append(faults, err)
		}
		e.since[e.step(back)] = since
	}
	if len(faults) > 0 {
		return event{}, fmt.Errorf("read the event: %w", errors.Join(faults...))
	}
	return e, nil
}

// parseDetails takes an object, and one in a text, as CloudFormation has it.
func parseDetails(raw json.RawMessage) (map[string]any, error) {
	var details map[string]any
	var text string
	if json.Unmarshal(raw, &text) == nil && text != "" {
		raw = json.RawMessage(text)
	}
	if len(raw) == 0 {
		return map[string]any{}, nil
	}
	if err := json.Unmarshal(raw, &details); err != nil {
		return nil, fmt.Errorf("hookDetails is %.100s, want an object", raw)
	}
	if details == nil {
		details = map[string]any{} // of null
	}
	return details, nil
}

// step is the event's stage, and which of its steps where it has several: those of
// a canary deployment are hours apart, and a rollback's is the last: without weights,
// only the deployment tells of the way back. ECS brings back what was answered to
// those before.
func (e event) step(back bool) string {
	weight, weighed := e.Execution.ProductionWeights[e.Execution.Target]
	switch {
	case e.Stage != ProductionTrafficShift:
	case weighed:
		return e.Stage + "-" + strconv.FormatFloat(weight, 'f', -1, 64)
	case back:
		return e.Stage + "-back"
	}
	return e.Stage
}

// begun is when a step was first asked about.
func (e event) begun(step string, now time.Time) (time.Time, error) {
	said, ok := e.details[sinceDetail+step]
	if !ok {
		return now, nil
	}
	text, _ := said.(string)
	since, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("hookDetails has %v for %s, want a time: it is this function's own, so leave it out", said, sinceDetail+step)
	}
	return since, nil
}

// service is the name of the ECS service.
func (e event) service() string { return lastPart(e.Execution.Service) }

func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// Status is what becomes of the deployment, as ECS reads it.
type Status string

// What ECS takes for an answer.
const (
	Succeeded  Status = "SUCCEEDED"   // it goes on
	InProgress Status = "IN_PROGRESS" // it waits, and ECS asks again
	Failed     Status = "FAILED"      // ECS rolls it back
)

// Answer is what ECS gets.
type Answer struct {
	Status  Status         `json:"hookStatus"`
	Delay   int            `json:"callBackDelay,omitempty"` // seconds until ECS asks again
	Details map[string]any `json:"hookDetails,omitempty"`
}
