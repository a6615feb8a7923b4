package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/bench/usage"
	"ecsmesh/e2e/tools"
)

// program is one whose runs are measured.
type program struct {
	name string // in the figures
	argv []string
}

// runs is what the runs of one program took.
type runs []usage.Usage

// Values of usages, in the units of the figures.
func wall(u usage.Usage) float64    { return milliseconds(u.Wall) }
func cpu(u usage.Usage) float64     { return milliseconds(u.CPU) }
func peak(u usage.Usage) float64    { return megabytes(u.Peak) }
func written(u usage.Usage) float64 { return megabytes(u.Written) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func megabytes(bytes int64) float64        { return float64(bytes) / 1e6 }

func (r runs) each(value func(usage.Usage) float64) []float64 {
	values := make([]float64, len(r))
	for i, u := range r {
		values[i] = value(u)
	}
	return values
}

// median is of all runs.
func (r runs) median(value func(usage.Usage) float64) float64 { return median(r.each(value)) }

// times is the median of how many times as much as the others these runs took,
// each of which was beside one of them.
func (r runs) times(others runs, value func(usage.Usage) float64) float64 {
	ratios := r.each(value)
	for i, other := range others.each(value) {
		ratios[i] /= other
	}
	return median(ratios)
}

func median(values []float64) float64 { return results.Quantile(values, 0.5) }

// meter runs programs and measures them.
type meter struct{ path string }

func newMeter(b *testing.B) meter { return meter{build(b, "measure")} }

// run runs a program, which has to succeed.
func (m meter) run(b *testing.B, p program, env []string) usage.Usage {
	b.Helper()
	var output, log bytes.Buffer
	command := exec.Command(m.path, p.argv...)
	command.Env, command.Stdout, command.Stderr = env, &output, &log
	if err := command.Run(); err != nil {
		b.Fatalf("%s: %v\n%s", p.name, err, &log)
	}
	var used usage.Usage
	if err := json.Unmarshal(output.Bytes(), &used); err != nil {
		b.Fatalf("%s: read what it took: %v", p.name, err)
	}
	return used
}

// build builds one of the programs that are there for benchmarks alone, as those
// are built that ship.
func build(b *testing.B, name string) string {
	b.Helper()
	root, err := tools.Root()
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), name)
	command := exec.Command("go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", path, "./e2e/bench/"+name)
	command.Dir, command.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		b.Fatalf("build %s: %v\n%s", name, err, output)
	}
	return path
}

// dist is one of the programs that ship.
func dist(b *testing.B, name string) string {
	b.Helper()
	path, err := tools.Dist(name)
	if err != nil {
		b.Fatal(err)
	}
	return path
}

// size is that of a file.
func size(b *testing.B, path string) float64 {
	b.Helper()
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return megabytes(info.Size())
}
