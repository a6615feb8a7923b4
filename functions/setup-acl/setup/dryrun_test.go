package setup

import (
	"slices"
	"strings"
	"testing"

	"ecsmesh/shared/dryrun"

	"github.com/google/go-cmp/cmp"
)

// actions are how often each is planned.
func actions(d dryrun.Document) map[string]int {
	counts := map[string]int{}
	for _, step := range d.Would {
		counts[step.Action]++
	}
	return counts
}

func TestDryRunMakesNothingInConsul(t *testing.T) {
	w := newWorld(t)
	resource := w.resource(t)
	resource.Plan = dryrun.New(resource.Log)
	if _, err := resource.Put(t.Context(), sample(t, nil)); err != nil {
		t.Fatal(err)
	}
	first := resource.Plan.Take()
	if diff := cmp.Diff(map[string]int{"make": len(first.Requests)}, actions(first)); diff != "" || len(first.Requests) == 0 || len(first.CouldNotRead) > 0 {
		t.Errorf("the plan has %d requests, could not read %s (-want +got):\n%s", len(first.Requests), first.CouldNotRead, diff)
	}
	if made := w.methods(t); len(made) > 0 {
		t.Errorf("it made the auth methods %s", made)
	}
	// The plan is what is then made.
	if _, err := w.resource(t).Put(t.Context(), sample(t, nil)); err != nil {
		t.Fatal(err)
	}
	made := w.methods(t)
	for _, method := range made {
		if !slices.ContainsFunc(first.Would, func(s dryrun.Step) bool { return s.What == "auth method "+method }) {
			t.Errorf("the auth method %s was not in the plan", method)
		}
	}
	// From then on the plan is to update that, and then to remove it: nothing of
	// which is done, as a property of the stack's resource has it, too.
	if _, err := resource.Put(t.Context(), sample(t, nil)); err != nil {
		t.Fatal(err)
	}
	if got := actions(resource.Plan.Take()); got["update"] != len(first.Would) || len(got) != 1 {
		t.Errorf("the plan is %v, want %d updates", got, len(first.Would))
	}
	note, err := w.resource(t).Delete(t.Context(), sample(t, map[string]any{"DryRun": "true"}))
	if err != nil || !strings.HasPrefix(note, "dry run") {
		t.Errorf("deleted: %q, %v", note, err)
	}
	if !strings.Contains(w.log.String(), `"msg":"would remove","what":"auth method iam-ecs-service-token"`) {
		t.Errorf("the log doesn't say what would be removed:\n%s", w.log)
	}
	if diff := cmp.Diff(made, w.methods(t)); diff != "" {
		t.Errorf("the auth methods changed (-before +after):\n%s", diff)
	}
	if strings.Contains(w.log.String(), w.consul.Token) {
		t.Errorf("the log has the management token:\n%s", w.log)
	}
}
