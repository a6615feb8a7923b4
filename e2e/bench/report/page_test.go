package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/tools"
)

// TestThePageIsOfItsResults holds docs/performance to its results.json.
func TestThePageIsOfItsResults(t *testing.T) {
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "docs", "performance")
	kept, err := results.Read(filepath.Join(folder, resultsFile))
	if err != nil {
		t.Fatal(err)
	}
	files, err := render(kept, folder)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Errorf("%v; run `make bench-report FROM=docs/performance/results.json`", err)
		} else if diff := cmp.Diff(want, string(content)); diff != "" {
			t.Errorf("%s is not of results.json; run `make bench-report FROM=docs/performance/results.json` (-want +got):\n%s", name, diff)
		}
	}
	plots, err := filepath.Glob(filepath.Join(folder, "*.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, plot := range plots {
		if files[filepath.Base(plot)] == "" {
			t.Errorf("%s is of no result", plot)
		}
	}
}
