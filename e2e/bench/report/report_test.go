package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/bench/results"
)

func TestThinIsDoneOnce(t *testing.T) {
	many := make([]float64, 5000)
	for i := range many {
		many[i] = float64(len(many)-i) / 3
	}
	once := thin(results.Results{Figures: []results.Figure{{Value: 1.0 / 3, Samples: many}}})
	if diff := cmp.Diff(once, thin(once)); diff != "" {
		t.Errorf("the second time it changes more (-once +twice):\n%s", diff)
	}
	kept := once.Figures[0].Samples
	if len(kept) != most+1 || results.Quantile(kept, 0.99) != significant(results.Quantile(many, 0.99), 4) {
		t.Errorf("it keeps %d samples, and of p99 %g", len(kept), results.Quantile(kept, 0.99))
	}
}

func TestNumbers(t *testing.T) {
	for want, value := range map[string]float64{
		"0": 0, "0.0141": 0.014123, "1": 1, "1.62": 1.618, "38.6": 38.61, "999": 999, "1,000": 1000, "12,346": 12345.6, "1,234,567": 1234567, "-1,000": -1000, "-999": -999,
	} {
		if got := number(value); got != want {
			t.Errorf("%g is written as %s, want %s", value, got, want)
		}
	}
}

var some = []results.Figure{
	{Benchmark: "Stop", Subject: "one & only", Quantity: "gone", Unit: "ms", Value: 300, Target: 500, Samples: []float64{200, 300, 400}},
	{Benchmark: "Stop", Subject: "one & only", Quantity: "events lost", Value: 1, Nothing: true},
	{Benchmark: "Stop/200", Subject: "200 <at once>", Quantity: "gone", Unit: "ms", Value: 700},
	{Benchmark: "Stop", Subject: "200 <at once>", Quantity: "gone, of one's", Unit: results.Times, Value: 2.333, Target: 2},
}

func TestTable(t *testing.T) {
	want := `| | one & only | 200 <at once> |
|---|--:|--:|
| gone | 300 ms ✓ (≤ 500) | 700 ms |
| events lost | **1 ✗ (0)** |  |
| gone, of one's |  | **2.33 × ✗ (≤ 2)** |
`
	if diff := cmp.Diff(want, table(some)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Many subjects stand below each other.
	var many []results.Figure
	for _, subject := range []string{"10", "100", "1,000", "10,000", "100,000", "1,000,000"} {
		many = append(many, results.Figure{Subject: subject, Quantity: "tasks", Value: 1})
	}
	if got := table(many); !strings.HasPrefix(got, "| | tasks |\n|---|--:|\n| 10 | 1 |\n| 100 | 1 |\n") {
		t.Errorf("it is\n%s", got)
	}
}

func TestMissedTargetsAreNamed(t *testing.T) {
	want := "Of 3 targets, these were missed:\n\n- Stop, one & only, events lost: **1 ✗ (0)**\n- Stop, 200 <at once>, gone, of one's: **2.33 × ✗ (≤ 2)**\n"
	if diff := cmp.Diff(want, describeTargets(some)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := describeTargets(some[:1]); got != "All 1 targets were met.\n" {
		t.Errorf("it says %q", got)
	}
}

// TestPlotsAreXML reads each plot to its end.
func TestPlotsAreXML(t *testing.T) {
	plots := append(benchmark{"Stop", some}.plots(), plot{"targets", "", drawTargets(some)})
	if len(plots) != 3 {
		t.Fatalf("there are %d plots, want the distribution, the ratios and the targets", len(plots))
	}
	for _, plot := range plots {
		decoder := xml.NewDecoder(strings.NewReader(plot.svg))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v:\n%s", plot.file, err, plot.svg)
				break
			}
		}
	}
}

// TestEveryFigureIsShown has a benchmark that the page knows, one that it
// doesn't, and none for another part of it.
func TestEveryFigureIsShown(t *testing.T) {
	folder := t.TempDir()
	page := "# Page\n"
	for _, name := range []string{runBlock, targetsBlock, "Stop", "Start", restBlock} {
		page += "\n<!-- begin " + name + " -->\nold\n<!-- end " + name + " -->\n"
	}
	if err := os.WriteFile(filepath.Join(folder, readme), []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := render(results.Results{Figures: append(some, results.Figure{Benchmark: "New", Subject: "it", Quantity: "much", Value: 7})}, folder)
	if err != nil {
		t.Fatal(err)
	}
	got := files[readme]
	for _, want := range []string{"<!-- begin Stop -->\n\n| | one", "![Stop: ratios](stop-ratios.svg)\n", "<!-- begin Start -->\n\nNot measured in this run.\n", "### New\n\n| | it |\n|---|--:|\n| much | 7 |\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "old") {
		t.Errorf("something old is in\n%s", got)
	}
	if _, err := fill("# Page\n", map[string]string{restBlock: "x"}); err == nil || !strings.Contains(err.Error(), `"<!-- begin rest -->"`) {
		t.Errorf("a page without marks: %v", err)
	}
}
