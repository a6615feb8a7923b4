package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/cost/monthly"
)

// Files of docs/performance.
const (
	readme      = "README.md"
	resultsFile = "results.json"
	targetsPlot = "targets.svg"
)

// Blocks of the README beside those that are named for benchmarks.
const (
	runBlock     = "run"
	targetsBlock = "targets"
	restBlock    = "rest" // benchmarks that the README has no block for
)

// most is how many samples of a figure are kept, less one.
const most = 200

// thin keeps of many samples as many quantiles as a plot can show, and of each
// the digits that mean something.
func thin(all results.Results) results.Results {
	all.Figures = slices.Clone(all.Figures)
	for i, figure := range all.Figures {
		samples := figure.Samples
		if len(samples) > most+1 {
			samples = make([]float64, most+1)
			for j := range samples {
				samples[j] = results.Quantile(figure.Samples, float64(j)/most)
			}
		}
		all.Figures[i].Samples = nil
		for _, sample := range samples {
			all.Figures[i].Samples = append(all.Figures[i].Samples, significant(sample, 4))
		}
		all.Figures[i].Value = significant(figure.Value, 6)
	}
	return all
}

// render returns the README of a folder with new blocks, and the plots beside it.
func render(all results.Results, folder string) (files map[string]string, err error) {
	content, err := os.ReadFile(filepath.Join(folder, readme))
	if err != nil {
		return nil, err
	}
	text := string(content)
	files = monthly.Default().Files()
	files[targetsPlot] = drawTargets(all.Figures)
	blocks := map[string]string{
		runBlock:     describeRun(all),
		targetsBlock: describeTargets(all.Figures) + image("Targets", targetsPlot),
	}
	for _, name := range blockNames(text) {
		if blocks[name] == "" {
			blocks[name] = "Not measured in this run.\n"
		}
	}
	rest := ""
	for _, benchmark := range byBenchmark(all.Figures) {
		block := table(benchmark.figures) + distributions(benchmark.figures)
		for _, plot := range benchmark.plots() {
			files[plot.file] = plot.svg
			block += image(plot.title, plot.file)
		}
		if blocks[benchmark.name] == "" {
			rest += "### " + benchmark.name + "\n\n" + block + "\n"
			continue
		}
		blocks[benchmark.name] = block
	}
	if rest != "" {
		blocks[restBlock] = strings.TrimSuffix(rest, "\n")
	} else {
		blocks[restBlock] = "Nothing else was measured.\n"
	}
	files[readme], err = fill(text, blocks)
	return files, err
}

// benchmark is the figures of one.
type benchmark struct {
	name    string
	figures []results.Figure
}

// byBenchmark keeps the figures' order. Those of a benchmark's parts are its own.
func byBenchmark(figures []results.Figure) []benchmark {
	var all []benchmark
	for _, figure := range figures {
		name, _, _ := strings.Cut(figure.Benchmark, "/")
		i := slices.IndexFunc(all, func(b benchmark) bool { return b.name == name })
		if i < 0 {
			i, all = len(all), append(all, benchmark{name: name})
		}
		all[i].figures = append(all[i].figures, figure)
	}
	return all
}

func image(title, file string) string { return fmt.Sprintf("\n![%s](%s)\n", title, file) }

const (
	beginning = "<!-- begin "
	end       = "<!-- end "
	closing   = " -->\n"
)

// blockNames are those of a text's blocks.
func blockNames(text string) []string {
	var names []string
	for _, part := range strings.Split(text, beginning)[1:] {
		name, _, _ := strings.Cut(part, closing)
		names = append(names, name)
	}
	return names
}

// fill puts blocks between their marks in a text.
func fill(text string, blocks map[string]string) (string, error) {
	for name, block := range blocks {
		before, rest, begun := strings.Cut(text, beginning+name+closing)
		_, after, ended := strings.Cut(rest, end+name+closing)
		if !begun || !ended {
			return "", fmt.Errorf("fill in %s: it has no %q and %q", readme, strings.TrimSpace(beginning+name+closing), strings.TrimSpace(end+name+closing))
		}
		text = before + beginning + name + closing + "\n" + block + "\n" + end + name + closing + after
	}
	return text, nil
}

// describeRun tells of what the figures are.
func describeRun(all results.Results) string {
	m := all.Machine
	return fmt.Sprintf("Commit `%s`, %s, on one machine with %d cores (%s), %.0f GiB and Linux %s, with Go %s, Consul %s and Envoy %s. The load before the run was %s.\n",
		all.Commit, all.Taken.Format("2 January 2006"), m.Cores, m.Processor, float64(m.MemoryMiB)/1024, m.Kernel, strings.TrimPrefix(m.Go, "go"), m.Consul, m.Envoy, number(m.Load))
}

// describeTargets says first which ones were missed.
func describeTargets(figures []results.Figure) string {
	aimed, missed := 0, ""
	for _, f := range figures {
		if !f.Aimed() {
			continue
		}
		aimed++
		if !f.Met() {
			missed += fmt.Sprintf("- %s, %s, %s: %s\n", f.Benchmark, f.Subject, f.Quantity, cell(f))
		}
	}
	if missed == "" {
		return fmt.Sprintf("All %d targets were met.\n", aimed)
	}
	return fmt.Sprintf("Of %d targets, these were missed:\n\n%s", aimed, missed)
}
