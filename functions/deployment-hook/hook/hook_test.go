package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

const (
	ecsARN   = "arn:aws:ecs:eu-west-1:123456789012:"
	blueARN  = ecsARN + "service-revision/apps/api/1920498462936580504"
	greenARN = ecsARN + "service-revision/apps/api/9313423515462893900"
	blueID   = "revision-1920498462936580504"
	greenID  = "revision-9313423515462893900"
	taskID   = "f9811b73ac5d1a8db842634fc0f871e0"
)

func sample(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("../../../events/deployment-hook-" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// world is ECS and Consul as a hook sees them.
type world struct {
	deployment Deployment
	err        error // of ECS
	tasks      []Task
	registered catalog.Registered
	consul     error
	protocol   string
	wait       string  // of each Split
	splits     []Split // as they were asked for
}

var (
	_ deployments = (*world)(nil)
	_ nodes       = (*world)(nil)
	_ traffic     = (*world)(nil)
)

func (w *world) Deployment(context.Context, string) (Deployment, error) { return w.deployment, w.err }

func (w *world) Revisions(_ context.Context, arns ...string) (map[string]Revision, error) {
	all := map[string]Revision{
		blueARN:  {TaskDefinition: ecsARN + "task-definition/api:1"},
		greenARN: {TaskDefinition: ecsARN + "task-definition/api:2"},
	}
	for _, arn := range arns {
		if _, ok := all[arn]; !ok {
			return nil, errUnknown
		}
	}
	return all, nil
}

func (w *world) Tasks(context.Context, string, string, Revision) ([]Task, error) { return w.tasks, nil }

func (w *world) Registered(_ context.Context, nodes ...string) (map[string]catalog.Registered, error) {
	all := map[string]catalog.Registered{}
	for _, node := range nodes {
		all[node] = w.registered
	}
	return all, w.consul
}

func (w *world) Protocol(context.Context, string) (string, error) {
	if errors.Is(w.consul, errForeign) || errors.Is(w.consul, errChanged) { // of what is written
		return w.protocol, nil
	}
	return w.protocol, w.consul
}

func (w *world) Split(_ context.Context, _ string, split Split) (string, error) {
	w.splits = append(w.splits, split)
	return w.wait, w.consul
}

// newWorld is one in which all goes well.
func newWorld() *world {
	return &world{
		deployment: Deployment{Status: "IN_PROGRESS", Wanted: 1, Sources: []string{blueARN}},
		tasks:      []Task{{ID: taskID, Status: "RUNNING", Running: true, InMesh: true}},
		registered: catalog.Registered{
			Services: []catalog.Service{{ID: "api-1"}, {ID: "api-1-sidecar-proxy", Envoy: true}},
			Checks: []catalog.Check{
				{ID: "api-1-tcp", ServiceID: "api-1", Status: api.HealthPassing},
				{ID: "api-1-sidecar-proxy-envoy", ServiceID: "api-1-sidecar-proxy", Status: api.HealthPassing},
			},
		},
		protocol: "http",
	}
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (w *world) hook(at time.Duration) *Hook {
	return &Hook{
		Deployments: w, Nodes: w, Traffic: w, Limit: 30 * time.Minute, Services: []string{"api"},
		Now: func() time.Time { return epoch.Add(at) }, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func (w *world) ask(t *testing.T, at time.Duration, event []byte) (Answer, string) {
	t.Helper()
	answer, err := w.hook(at).Handle(t.Context(), event)
	if err != nil {
		t.Fatal(err)
	}
	reason, _ := answer.Details[reasonDetail].(string)
	return answer, reason
}

func TestTheGateOpensForTasksThatPass(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		want   Status
		reason string
	}{
		"all pass": {func(*world) {}, Succeeded, "1 tasks pass in Consul"},
		"there are to be none": {
			func(w *world) { w.deployment.Wanted, w.tasks = 0, nil }, Succeeded, "is to have no tasks",
		},
		"outside of the mesh": {
			func(w *world) { w.tasks[0].InMesh = false }, Succeeded, "none of the new revision's 1 tasks is in the mesh: they have no container ecsmesh-init",
		},
		"not all are there": {
			func(w *world) { w.deployment.Wanted = 2 }, InProgress, "ECS has 1 of 2 tasks",
		},
		"one starts": {
			func(w *world) { w.tasks[0].Running, w.tasks[0].Status = false, "PENDING" }, InProgress, "task " + taskID + " is PENDING",
		},
		"not registered": {
			func(w *world) { w.registered = catalog.Registered{} }, InProgress, "task " + taskID + " is not registered in Consul",
		},
		"registered by half": {
			func(w *world) { w.registered.Services = w.registered.Services[:1] }, InProgress, "task " + taskID + " has no Envoy registered in Consul",
		},
		"gone between two reads": {
			func(w *world) { w.registered.Checks = nil }, InProgress, "task " + taskID + ": the service api-1 has no check in Consul",
		},
		"its Envoy has no check": {
			func(w *world) { w.registered.Checks = w.registered.Checks[:1] }, InProgress, "the service api-1-sidecar-proxy has no check in Consul",
		},
		"a check fails": {
			func(w *world) {
				w.registered.Checks[0].Status, w.registered.Checks[0].Output = api.HealthCritical, "connection\nrefused"
			},
			InProgress, "task " + taskID + ": the check api-1-tcp is critical: connection refused",
		},
		"a check warns": {
			func(w *world) { w.registered.Checks[0].Status = api.HealthWarning }, InProgress, "the check api-1-tcp is warning",
		},
		"a long output": {
			func(w *world) {
				w.registered.Checks[0].Status, w.registered.Checks[0].Output = api.HealthCritical, strings.Repeat("é", 1000)
			},
			InProgress, "éé…",
		},
		"many obstacles": {
			func(w *world) {
				w.registered = catalog.Registered{}
				for range 4 {
					w.tasks = append(w.tasks, w.tasks[0])
				}
			},
			InProgress, "; and 2 more",
		},
		"Consul is away":     {func(w *world) { w.consul = consul.ErrNoAnswer }, InProgress, "no Consul server answered in time"},
		"Consul refuses":     {func(w *world) { w.consul = api.StatusError{Code: 403, Body: "Permission denied"} }, Failed, "Permission denied"},
		"Consul hides":       {func(w *world) { w.consul = consul.ErrHidden }, Failed, "hidden by Consul's ACLs"},
		"ECS is away":        {func(w *world) { w.err = errors.New("throttled") }, InProgress, "throttled"},
		"ECS lags behind":    {func(w *world) { w.err = errUnknown }, InProgress, "ECS doesn't know it"},
		"it is rolled back":  {func(w *world) { w.deployment.Status = "ROLLBACK_IN_PROGRESS" }, Failed, "the deployment is ROLLBACK_IN_PROGRESS"},
		"it is stopped":      {func(w *world) { w.deployment.Status = "STOP_REQUESTED" }, Failed, "the deployment is STOP_REQUESTED"},
		"late, when all was": {func(w *world) { w.deployment.Status = "SUCCESSFUL" }, Succeeded, "1 tasks pass"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			test.change(w)
			answer, reason := w.ask(t, 0, sample(t, "post-scale-up"))
			if answer.Status != test.want || !strings.Contains(reason, test.reason) {
				t.Errorf("got %s because %q; want %s because %q", answer.Status, reason, test.want, test.reason)
			}
			if waits := answer.Status == InProgress; waits != (answer.Delay == 15) {
				t.Errorf("ECS is to ask again after %d s", answer.Delay)
			}
		})
	}
}

// next is the event that follows an answer: ECS merges what was answered.
func next(t *testing.T, event []byte, answer Answer) []byte {
	t.Helper()
	var e map[string]any
	if err := json.Unmarshal(event, &e); err != nil {
		t.Fatal(err)
	}
	e["hookDetails"] = answer.Details
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWaitingEndsWithItsReason(t *testing.T) {
	w := newWorld()
	w.registered = catalog.Registered{}
	event := sample(t, "post-scale-up")
	for _, at := range []time.Duration{0, 15 * time.Second, 29*time.Minute + 59*time.Second} {
		answer, _ := w.ask(t, at, event)
		if answer.Status != InProgress {
			t.Fatalf("after %s: %s", at, answer.Status)
		}
		if since := answer.Details[sinceDetail+PostScaleUp]; since != "2026-03-01T12:00:00Z" {
			t.Errorf("after %s it waits since %v", at, since)
		}
		event = next(t, event, answer)
	}
	answer, reason := w.ask(t, 30*time.Minute, event)
	if answer.Status != Failed || reason != "it waited for 30m0s: task "+taskID+" is not registered in Consul" {
		t.Errorf("got %s because %q", answer.Status, reason)
	}
	// The next stage has its own time, and what passes in the end passes.
	w.registered = newWorld().registered
	if answer, _ := w.ask(t, 31*time.Minute, event); answer.Status != Succeeded {
		t.Errorf("got %s when all is well", answer.Status)
	}
}

// TestEachStepHasItsOwnTime has a canary's steps, hours apart, and the way back each
// find Consul without a leader for a moment.
func TestEachStepHasItsOwnTime(t *testing.T) {
	w := newWorld()
	details := map[string]any{"service": "api"}
	for _, step := range []struct {
		percent int
		at      time.Duration
	}{{10, 0}, {50, 2 * time.Hour}, {100, 4 * time.Hour}, {0, 5 * time.Hour}} {
		weights := strings.NewReplacer(`": 100`, fmt.Sprintf(`": %d`, step.percent), `": 0`, fmt.Sprintf(`": %d`, 100-step.percent))
		event := next(t, []byte(weights.Replace(string(sample(t, "traffic-shift")))), Answer{Details: details})
		for _, at := range []time.Duration{step.at, step.at + time.Minute} {
			w.consul = consul.ErrNoAnswer
			answer, reason := w.ask(t, at, event)
			if answer.Status != InProgress {
				t.Errorf("the step to %d%%: got %s because %q", step.percent, answer.Status, reason)
			}
			details = answer.Details
			event = next(t, event, answer)
		}
	}
}

// TestTheWayBackHasItsOwnTimeWithoutWeights has ECS give none, as where it shifts no
// traffic itself, and Consul without a leader at the shift and, hours later, back.
func TestTheWayBackHasItsOwnTimeWithoutWeights(t *testing.T) {
	w := newWorld()
	w.consul = consul.ErrNoAnswer
	event := []byte(strings.NewReplacer(`"`+greenARN+`": 100,`, "", `"`+blueARN+`": 0`, "").Replace(string(sample(t, "traffic-shift"))))
	answer, _ := w.ask(t, 0, event)
	w.deployment.Status = "ROLLBACK_IN_PROGRESS"
	event = next(t, event, answer)
	for _, step := range []struct {
		at   time.Duration
		want Status
	}{{2 * time.Hour, InProgress}, {2*time.Hour + 29*time.Minute, InProgress}, {2*time.Hour + 30*time.Minute, Failed}} {
		answer, reason := w.ask(t, step.at, event)
		if answer.Status != step.want {
			t.Errorf("after %s: got %s because %q", step.at, answer.Status, reason)
		}
		if answer.Status == InProgress {
			event = next(t, event, answer)
		}
	}
}

func TestWhatTheUserSetComesBack(t *testing.T) {
	w := newWorld()
	w.registered = catalog.Registered{}
	event := next(t, sample(t, "post-scale-up"), Answer{Details: map[string]any{"service": "api", "mine": 7.0}})
	answer, reason := w.ask(t, 0, event)
	want := map[string]any{"service": "api", "mine": 7.0, reasonDetail: reason, sinceDetail + PostScaleUp: "2026-03-01T12:00:00Z"}
	if diff := cmp.Diff(want, answer.Details); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTrafficGoesWithTheDeployment(t *testing.T) {
	for name, test := range map[string]struct {
		event  string
		change func(*world)
		blue   float64
		back   bool
	}{
		"before it":         {"pre-scale-up", func(*world) {}, 100, false},
		"with it":           {"traffic-shift", func(*world) {}, 0, false},
		"back":              {"rollback", func(w *world) { w.deployment.Status = "ROLLBACK_IN_PROGRESS" }, 100, true},
		"back, by weights":  {"rollback", func(*world) {}, 100, true},
		"a step":            {"traffic-shift 90", func(*world) {}, 90, false},
		"without weights":   {"traffic-shift none", func(*world) {}, 0, false},
		"back without them": {"traffic-shift none", func(w *world) { w.deployment.Status = "ROLLBACK_IN_PROGRESS" }, 100, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			test.change(w)
			file, weight, _ := strings.Cut(test.event, " ")
			event := string(sample(t, file))
			switch weight {
			case "90":
				event = strings.NewReplacer(`": 100`, `": 10`, `": 0`, `": 90`).Replace(event)
			case "none":
				event = strings.NewReplacer(`"`+greenARN+`": 100,`, "", `"`+blueARN+`": 0`, "").Replace(event)
			}
			want := Split{
				Subsets: map[string]Subset{blueID: {"api", "1"}, greenID: {"api", "2"}},
				Weights: map[string]float64{blueID: test.blue, greenID: 100 - test.blue}, Back: test.back,
				Hold: test.event == "pre-scale-up",
			}
			for range 2 {
				if answer, reason := w.ask(t, 0, []byte(event)); answer.Status != Succeeded {
					t.Fatalf("got %s because %s", answer.Status, reason)
				}
			}
			if diff := cmp.Diff([]Split{want, want}, w.splits); diff != "" {
				t.Errorf("(-want +asked for):\n%s", diff)
			}
		})
	}
}

func TestTrafficThatIsNotShifted(t *testing.T) {
	for name, test := range map[string]struct {
		event  string
		change func(*world)
		want   Status
		reason string
	}{
		"the first deployment": {"pre-scale-up", func(w *world) { w.deployment.Sources = nil }, Succeeded, "first deployment"},
		"it is over":           {"pre-scale-up", func(w *world) { w.deployment.Status = "STOPPED" }, Failed, "the deployment is STOPPED"},
		"after two revisions": {
			"pre-scale-up", func(w *world) { w.deployment.Sources = append(w.deployment.Sources, blueARN+"1") }, Failed, "nothing says which has the traffic",
		},
		"Envoys learn":          {"pre-scale-up", func(w *world) { w.wait = "soon" }, InProgress, "soon"},
		"late, when all was":    {"traffic-shift", func(w *world) { w.deployment.Status = "SUCCESSFUL" }, Failed, "the deployment is SUCCESSFUL"},
		"late, after it went":   {"rollback", func(w *world) { w.deployment.Status = "ROLLBACK_SUCCESSFUL" }, Failed, "the deployment is ROLLBACK_SUCCESSFUL"},
		"tcp":                   {"pre-scale-up", func(w *world) { w.protocol = "tcp" }, Failed, "give it Protocol http"},
		"tcp, at first":         {"pre-scale-up", func(w *world) { w.protocol, w.deployment.Sources = "tcp", nil }, Failed, "give it Protocol http"},
		"tcp, late":             {"traffic-shift", func(w *world) { w.protocol = "tcp" }, Failed, "give it Protocol http"},
		"Consul is away":        {"pre-scale-up", func(w *world) { w.consul = consul.ErrNoAnswer }, InProgress, "no Consul server"},
		"Consul refuses":        {"traffic-shift", func(w *world) { w.consul = api.StatusError{Code: 403, Body: "Permission denied"} }, Failed, "Permission denied"},
		"another's splitter":    {"traffic-shift", func(w *world) { w.consul = errForeign }, Failed, "not this function's"},
		"a concurrent edit":     {"traffic-shift", func(w *world) { w.consul = errChanged }, Failed, "another has changed it"},
		"one on the way back":   {"rollback", func(w *world) { w.consul = errChanged }, InProgress, "another has changed it"},
		"a strange revision":    {"traffic-shift", func(w *world) { w.deployment.Sources = nil }, Succeeded, "100% for " + greenID},
		"a revision of another": {"rollback", func(w *world) { w.deployment.Sources = nil }, Failed, "which is no revision of the deployment"},
		"ECS is away":           {"traffic-shift", func(w *world) { w.err = errors.New("throttled") }, InProgress, "throttled"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			test.change(w)
			answer, reason := w.ask(t, 0, sample(t, test.event))
			if strings.HasPrefix(name, "late") && w.splits != nil {
				t.Errorf("asked for %v", w.splits)
			}
			if answer.Status != test.want || !strings.Contains(reason, test.reason) {
				t.Errorf("got %s because %q; want %s because %q", answer.Status, reason, test.want, test.reason)
			}
		})
	}
}

func TestEventsThatAreMalformed(t *testing.T) {
	good := string(sample(t, "pre-scale-up"))
	for name, test := range map[string]struct{ event, want string }{
		"no JSON":           {"{", "read the event: unexpected end"},
		"empty":             {"{}", `resourceArn is "", want arn:PARTITION:ecs:REGION:ACCOUNT:service-deployment/`},
		"all of its faults": {"{}", `executionDetails.targetServiceRevisionArn is ""`},
		"a task":            {strings.Replace(good, ":service/apps", ":task/apps", 1), "executionDetails.serviceArn is"},
		"no cluster":        {strings.Replace(good, ":service/apps", ":service", 1), "which names no cluster"},
		"details of a text": {strings.Replace(good, `{
    "service": "api"
  }`, `"Test string"`, 1), "hookDetails is Test string, want an object"},
		"a list": {strings.Replace(good, `{
    "service": "api"
  }`, `[1]`, 1), "hookDetails is [1], want an object"},
		"a time of no time": {strings.Replace(good, `"service"`, `"ecsmesh-since-PRE_SCALE_UP": 7, "service"`, 1), "hookDetails has 7 for ecsmesh-since-PRE_SCALE_UP, want a time"},
		"another's service": {strings.Replace(good, `"service": "api"`, `"service": "ledger"`, 1), `hookDetails has the service "ledger", want one of those whose traffic may be shifted: api`},
		"no service":        {strings.Replace(good, `"service": "api"`, `"mine": 1`, 1), `hookDetails has the service ""`},
		"another stage":     {strings.Replace(good, "PRE_SCALE_UP", "POST_TEST_TRAFFIC_SHIFT", 1), `there is nothing to do at the stage "POST_TEST_TRAFFIC_SHIFT"`},
		"weights of no sum": {strings.Replace(string(sample(t, "traffic-shift")), `": 100`, `": 50`, 1), "are 50 together, want 100"},
		"a negative weight": {strings.Replace(string(sample(t, "traffic-shift")), `": 0`, `": -1`, 1), "want 0 to 100"},
	} {
		t.Run(name, func(t *testing.T) {
			if answer, reason := newWorld().ask(t, 0, []byte(test.event)); answer.Status != Failed || !strings.Contains(reason, test.want) {
				t.Errorf("got %s because %q; want FAILED because %q", answer.Status, reason, test.want)
			}
		})
	}
	text := strings.Replace(good, `{
    "service": "api"
  }`, `"{\"service\": \"api\"}"`, 1)
	if answer, reason := newWorld().ask(t, 0, []byte(text)); answer.Status != Succeeded {
		t.Errorf("details in a text: %s because %s", answer.Status, reason)
	}
}

// FuzzHandle has events of any kind get one of ECS's three answers.
func FuzzHandle(f *testing.F) {
	for _, name := range []string{"pre-scale-up", "post-scale-up", "traffic-shift", "rollback"} {
		text, err := os.ReadFile("../../../events/deployment-hook-" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		answer, err := newWorld().hook(0).Handle(t.Context(), event)
		if err != nil || answer.Status != Succeeded && answer.Status != InProgress && answer.Status != Failed {
			t.Errorf("got %+v, %v", answer, err)
		}
		if _, err := json.Marshal(answer); err != nil {
			t.Error(err)
		}
	})
}
