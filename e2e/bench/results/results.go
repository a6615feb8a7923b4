// Package results is what the benchmarks measured, as they leave it for the
// report.
package results

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Results are of one run on one machine.
type Results struct {
	Commit  string    // of the code that was measured
	Taken   time.Time // UTC
	Machine Machine
	Figures []Figure // in the order of their benchmarks' names
}

// Machine is where it was measured.
type Machine struct {
	Processor string
	Cores     int
	MemoryMiB int
	Kernel    string
	Go        string
	Consul    string
	Envoy     string
	Load      float64 // how many threads ran or waited for a core in the minute before
}

// Figure is one measured value.
type Figure struct {
	Benchmark string // such as TaskStart
	Subject   string // what was measured, such as "ecsmesh-init register"
	Quantity  string // of it, such as "CPU"
	Unit      string // such as ms, MB, Times, or "" for a number of things
	Value     float64

	// Target is what the value is to be at most; 0 where it only informs.
	Target float64 `json:",omitzero"`

	// Nothing tells that the target is 0.
	Nothing bool `json:",omitzero"`

	// Samples are what the value is made of, such as every task's time.
	Samples []float64 `json:",omitempty"`
}

// Times is the unit of a ratio: so many times as much as what the quantity names.
const Times = "×"

// Aimed tells whether there is a target.
func (f Figure) Aimed() bool { return f.Target != 0 || f.Nothing }

// Met tells whether the value is as good as it is to be.
func (f Figure) Met() bool { return !f.Aimed() || f.Value <= f.Target }

// Quantile is the smallest of the samples that a share of them, from 0 to 1, is
// not above. There must be one.
func Quantile(samples []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(samples))
	return sorted[max(0, min(len(sorted)-1, int(share*float64(len(sorted))+0.999999)-1))]
}

// Write leaves the results in a file.
func (r Results) Write(path string) error {
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil { //nolint:gosec // for all to read
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// Read reads what Write left.
func Read(path string) (Results, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Results{}, fmt.Errorf("read the results: %w", err)
	}
	var r Results
	if err := json.Unmarshal(content, &r); err != nil {
		return Results{}, fmt.Errorf("read the results of %s: %w", path, err)
	}
	return r, nil
}
