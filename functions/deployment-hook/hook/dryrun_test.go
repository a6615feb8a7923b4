package hook

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/dryrun"

	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

// TestADryRunLetsEveryDeploymentGoOn has a plan say what would have become of it.
func TestADryRunLetsEveryDeploymentGoOn(t *testing.T) {
	answers := func(status Status, reason string) dryrun.Step {
		return dryrun.Step{Action: "answer", What: "ECS", Why: reason, Detail: status}
	}
	resolver := dryrun.Step{Action: "write", What: "Consul's service-resolver api", Why: "it is to have a subset for each revision of the deployment"}
	splitter := func(why string, weights map[string]float64) dryrun.Step {
		step := dryrun.Step{Action: "write", What: "Consul's service-splitter api", Why: why}
		if weights != nil {
			step.Detail = weights
		}
		return step
	}
	noECS := func(w *world) { w.err = errors.New("no route") }
	gate := string(sample(t, "post-scale-up"))
	shift := string(sample(t, "traffic-shift"))
	withoutWeights := strings.NewReplacer(`"`+greenARN+`": 100,`, "", `"`+blueARN+`": 0`, "").Replace(shift)
	for name, test := range map[string]struct {
		event  string
		change func(*world)
		want   []dryrun.Step
		unread string
	}{
		"it passes": {gate, func(*world) {}, []dryrun.Step{answers(Succeeded, "1 tasks pass in Consul")}, ""},
		"it waits": {
			gate, func(w *world) { w.registered = catalog.Registered{} },
			[]dryrun.Step{answers(InProgress, "task "+taskID+" is not registered in Consul")}, "",
		},
		"it waited too long": {
			strings.Replace(gate, `"executionId"`, `"hookDetails": {"ecsmesh-since-POST_SCALE_UP": "2026-03-01T11:00:00Z"}, "executionId"`, 1),
			func(w *world) { w.registered = catalog.Registered{} },
			[]dryrun.Step{answers(Failed, "it waited for 1h0m0s: task "+taskID+" is not registered in Consul")}, "",
		},
		"it is rolled back":     {gate, func(w *world) { w.deployment.Status = "ROLLBACK_IN_PROGRESS" }, []dryrun.Step{answers(Failed, "the deployment is ROLLBACK_IN_PROGRESS, so there is nothing to wait for")}, ""},
		"the event is no event": {"[]", func(*world) {}, []dryrun.Step{answers(Failed, "read the event: json: cannot unmarshal array into Go value of type hook.event")}, ""},
		"ECS is away at the gate": {gate, noECS, []dryrun.Step{
			{Action: "wait for", What: "the tasks of " + greenARN, Why: "each is to be registered in Consul with its Envoy, and to pass"},
			answers(InProgress, "the deployment in ECS could not be read"),
		}, "the deployment in ECS: no route"},
		"ECS knows nothing yet": {gate, func(w *world) { w.err = errUnknown }, []dryrun.Step{
			{Action: "wait for", What: "the tasks of " + greenARN, Why: "each is to be registered in Consul with its Envoy, and to pass"},
			answers(InProgress, "the deployment in ECS could not be read"),
		}, "the deployment in ECS: ECS doesn't know it"},
		"ECS refuses": {gate, func(w *world) { w.err = &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "no"} }, []dryrun.Step{
			{Action: "wait for", What: "the tasks of " + greenARN, Why: "each is to be registered in Consul with its Envoy, and to pass"},
			answers(Failed, "api error AccessDeniedException: no"),
		}, "the deployment in ECS: api error AccessDeniedException: no"},
		"ECS is away at the shift": {shift, noECS, []dryrun.Step{
			resolver, splitter("the traffic goes as ECS moves it", map[string]float64{blueID: 0, greenID: 100}),
			answers(InProgress, "the deployment in ECS could not be read"),
		}, "the deployment in ECS: no route"},
		"ECS is away, and gave no weights": {withoutWeights, noECS, []dryrun.Step{
			resolver, splitter("all of the traffic is for the new revision, or on the way back for the one from before", nil),
			answers(InProgress, "the deployment in ECS could not be read"),
		}, "the deployment in ECS: no route"},
		"Consul is away before the scale-up": {string(sample(t, "pre-scale-up")), func(w *world) { w.consul = consul.ErrNoAnswer }, []dryrun.Step{
			resolver, splitter("the traffic stays at the revision from before until ECS moves it", map[string]float64{greenID: 0}),
			answers(InProgress, "the service in Consul could not be read"),
		}, "the service in Consul: no Consul server answered in time"},
		"the splitter is another's": {shift, func(w *world) { w.consul = errForeign }, []dryrun.Step{answers(Failed, errForeign.Error())}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			test.change(w)
			var log bytes.Buffer
			h := w.hook(0)
			h.Log = slog.New(slog.NewTextHandler(&log, nil))
			h.Plan = dryrun.New(h.Log)
			got, err := h.Handle(t.Context(), []byte(test.event))
			if err != nil {
				t.Fatal(err)
			}
			last := test.want[len(test.want)-1]
			want := Answer{Status: Succeeded, Details: map[string]any{reasonDetail: "dry run; it would have been " + string(last.Detail.(Status)) + ": " + last.Why}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
			plan := h.Plan.Take()
			if diff := cmp.Diff(test.want, plan.Would); diff != "" {
				t.Errorf("the plan (-want +got):\n%s", diff)
			}
			if got := strings.Join(plan.CouldNotRead, "; "); got != test.unread {
				t.Errorf("it could not read %q, want %q", got, test.unread)
			}
			if !strings.Contains(log.String(), `msg="would answer" what=ECS`) || strings.Contains(log.String(), "the deployment goes on") {
				t.Errorf("the log is\n%s", &log)
			}
		})
	}
}

// silent is an ECS that never answers.
type silent struct{ *world }

func (silent) Deployment(ctx context.Context, _ string) (Deployment, error) {
	<-ctx.Done()
	return Deployment{}, ctx.Err()
}

func TestADryRunDoesNotWaitForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newWorld().hook(0)
		h.Plan, h.Deployments = dryrun.New(h.Log), silent{newWorld()}
		begun := time.Now()
		if answer, err := h.Handle(t.Context(), sample(t, "pre-scale-up")); err != nil || answer.Status != Succeeded {
			t.Errorf("got %+v, %v", answer, err)
		}
		if took := time.Since(begun); took != dryrun.ReadTime {
			t.Errorf("it took %s, want %s", took, dryrun.ReadTime)
		}
	})
}
