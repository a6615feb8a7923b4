// Package bench measures what ecsmesh costs, with real Consul, real Envoys and
// the real binaries: `make bench`. Nothing here passes or fails by a time.
package bench

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/tools"
)

// measured is what the benchmarks of this run found.
var measured struct {
	sync.Mutex
	figures []results.Figure
}

// record keeps a figure for the report, and shows it as Go's benchmarks do.
func record(b *testing.B, figure results.Figure) {
	b.Helper()
	figure.Benchmark = cmp.Or(figure.Benchmark, b.Name()[len("Benchmark"):])
	measured.Lock()
	defer measured.Unlock()
	measured.figures = append(measured.figures, figure)
	target := ""
	if figure.Aimed() {
		target = fmt.Sprintf(" (at most %g)", figure.Target)
	}
	fmt.Printf("    %-44s %-28s %10.4g %s%s\n", figure.Subject, figure.Quantity, figure.Value, figure.Unit, target)
}

// TestMain leaves the figures of a run in dist/bench.json, if there are any.
func TestMain(m *testing.M) {
	load, err := describeLoad()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if len(measured.figures) > 0 {
		if err := leave(load); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func leave(load float64) error {
	root, err := tools.Root()
	if err != nil {
		return err
	}
	machine, err := describeMachine()
	if err != nil {
		return err
	}
	machine.Load = load
	commit, err := describeCommit(root)
	if err != nil {
		return err
	}
	slices.SortStableFunc(measured.figures, func(a, b results.Figure) int { return cmp.Compare(a.Benchmark, b.Benchmark) })
	return results.Results{Commit: commit, Taken: time.Now().UTC().Truncate(time.Second), Machine: machine, Figures: measured.figures}.
		Write(filepath.Join(root, "dist", "bench.json"))
}
