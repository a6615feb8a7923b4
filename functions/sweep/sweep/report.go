package sweep

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/metrics"
)

// maxExamples bounds how many nodes the log names for one reason. In a mesh of
// thousands there may be thousands.
const maxExamples = 5

// report logs and counts what became of the nodes: a line for each task that was
// changed, one for each reason to leave some as they are, and one for the run.
func (s *Sweep) report(ctx context.Context, findings []*finding, orphans int, braked bool) {
	done := map[catalog.Action]int{}
	var changed []*finding
	left := map[Reason][]*finding{}
	skipped := 0
	for _, f := range findings {
		if f.left != "" {
			left[f.left] = append(left[f.left], f)
			skipped++
		}
		done[f.action]++
		if f.action != 0 {
			changed = append(changed, f)
		}
		log := s.Log.With("taskArn", f.TaskARN, invocation.TaskID, f.taskID(), "action", f.action.String(), "reason", f.why)
		switch f.action {
		case catalog.Drain:
			log.InfoContext(ctx, "task drained")
		case catalog.Undrain:
			log.InfoContext(ctx, "task undrained")
		case catalog.Delete:
			log.InfoContext(ctx, "task deregistered")
		}
	}
	reasons := slices.Sorted(maps.Keys(left))
	for _, reason := range reasons {
		examples := map[string]string{}
		for _, f := range left[reason][:min(len(left[reason]), maxExamples)] {
			examples[f.Name] = f.why
		}
		s.Log.InfoContext(ctx, "nodes left as they are", "reason", reason, "nodes", len(left[reason]), "examples", examples,
			invocation.TaskIDs, taskIDs(left[reason]).Value)
	}
	s.Log.InfoContext(ctx, "swept", "nodes", len(findings), "orphans", orphans,
		"drained", done[catalog.Drain], "deregistered", done[catalog.Delete], "undrained", done[catalog.Undrain],
		"skipped", skipped, "brakeApplied", braked)

	applied := 0
	if braked {
		applied = 1
	}
	errs := []error{s.Metrics.Write(invocation.About(ctx, taskIDs(changed)),
		metrics.Count("OrphansFound", orphans),
		metrics.Count("TasksDrained", done[catalog.Drain]),
		metrics.Count("TasksDeregistered", done[catalog.Delete]),
		metrics.Count("TasksUndrained", done[catalog.Undrain]),
		metrics.Count("SweepSkipped", skipped),
		metrics.Count("SweepBrakeApplied", applied),
	)}
	for _, reason := range reasons {
		errs = append(errs, s.Metrics.With("Reason", string(reason)).Write(
			invocation.About(ctx, taskIDs(left[reason])), metrics.Count("SweepSkipped", len(left[reason]))))
	}
	if err := errors.Join(errs...); err != nil { // the work is done all the same
		s.Log.WarnContext(ctx, "metrics lost", "error", err)
	}
}

// taskID is the ID that the node is named for, whatever its meta says.
func (f *finding) taskID() string { return strings.TrimPrefix(f.Name, mesh.NodePrefix) }

// taskIDs is the field by which lines about many tasks name the first of them.
func taskIDs(findings []*finding) slog.Attr {
	ids := make([]string, len(findings))
	for i, f := range findings {
		ids[i] = f.taskID()
	}
	return invocation.List(invocation.TaskIDs, ids)
}
