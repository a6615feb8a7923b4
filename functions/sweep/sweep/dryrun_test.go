package sweep

import (
	"context"
	"errors"
	"strings"
	"testing"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/dryrun"
)

// planning has the catalog plan changes, as it does in a dry run.
type planning struct{ *fakeNodes }

func (p planning) Apply(_ context.Context, changes []catalog.Change) []catalog.Result {
	p.applied = append(p.applied, changes)
	results := make([]catalog.Result, len(changes))
	for i := range results {
		results[i].Planned = true
	}
	return results
}

func TestDryRunClaimsNothing(t *testing.T) {
	f := newFixture()
	f.Plan = dryrun.New(f.Log)
	f.Nodes = planning{f.nodes}
	gone := arnOf(apps, 1)
	f.ecs.set(gone, "STOPPED", "STOPPED")
	node := f.register(gone)
	f.run(t)
	f.expectNodes(t, node)
	if len(f.nodes.applied) != 1 || f.nodes.applied[0][0].Task != gone || f.nodes.applied[0][0].Action != catalog.Delete {
		t.Errorf("planned are %+v", f.nodes.applied)
	}
	f.expectMetrics(t, map[string]int{
		"OrphansFound": 1, "SweepSkipped": 1, "SweepSkipped DryRun": 1,
	})
}

func TestDryRunWithoutConsul(t *testing.T) {
	f := newFixture()
	f.Plan = dryrun.New(f.Log)
	f.nodes.hidden = errors.New("no answer")
	if err := f.handle(t, `{"maxDeletes": 57}`); err != nil {
		t.Fatal(err)
	}
	plan := f.Plan.Take()
	if len(plan.CouldNotRead) != 1 || len(plan.Would) != 1 || !strings.Contains(plan.Would[0].Note, "57 tasks") {
		t.Errorf("the plan is %+v", plan)
	}
	if f.metrics.Len() > 0 {
		t.Errorf("metrics of a mesh that was not seen: %s", f.metrics.String())
	}
}
