package lab_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/lab"
	"ecsmesh/functions/sweep/sweep"
)

// expectDifferences asks for a report, in which these nodes differ and no others.
func expectDifferences(t *testing.T, l *lab.Lab, want map[string][]sweep.Kind) {
	t.Helper()
	answer, err := l.Report(t.Context())
	must(t, err)
	var report sweep.Report
	must(t, json.Unmarshal(answer, &report))
	got := map[string][]sweep.Kind{}
	for _, d := range report.Differences {
		got[d.Node] = append(got[d.Node], d.Difference)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("differences between ECS and Consul (-want +got):\n%s\n%s", diff, answer)
	}
	if fine := "The list of Consul's servers is right; 1 of 1 answer."; !strings.HasSuffix(report.Summary, fine) {
		t.Errorf("the summary is %q, want %q at its end", report.Summary, fine)
	}
}
