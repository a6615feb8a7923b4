package bench

import (
	"bytes"
	"cmp"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ecsmesh/e2e/bench/results"
)

const (
	// traces is how often a program is looked at while its packages initialize.
	traces = 15

	// slowest is how many packages are named.
	slowest = 3
)

// initialized is a line of Go's GODEBUG=inittrace=1.
var initialized = regexp.MustCompile(`(?m)^init (\S+) @\S+ ms, (\S+) ms clock`)

// recordPackages records how long the packages of a program take to initialize,
// before its main begins, and which of them take longest.
func recordPackages(b *testing.B, subject string, p program, env []string) {
	b.Helper()
	var totals []float64
	each := map[string][]float64{}
	for range traces {
		total := 0.0
		for name, took := range traceInit(b, p, env) {
			each[name] = append(each[name], took)
			total += took
		}
		totals = append(totals, total)
	}
	note := func(subject string, took []float64) {
		record(b, results.Figure{Benchmark: "Initialization", Subject: subject, Quantity: "time before main begins", Unit: "ms", Value: median(took)})
	}
	note(subject, totals)
	names := slices.SortedFunc(maps.Keys(each), func(x, y string) int { return cmp.Compare(median(each[y]), median(each[x])) })
	for _, name := range names[:slowest] {
		note(subject+": "+strings.TrimPrefix(name, "github.com/aws/"), each[name])
	}
}

// traceInit returns how many milliseconds each package of a program took to
// initialize. How the program ends doesn't matter.
func traceInit(b *testing.B, p program, env []string) map[string]float64 {
	b.Helper()
	var log bytes.Buffer
	command := exec.Command(p.argv[0], p.argv[1:]...)
	command.Env, command.Stderr = append(slices.Clone(env), "GODEBUG=inittrace=1"), &log
	ended := command.Run()
	took := map[string]float64{}
	for _, line := range initialized.FindAllStringSubmatch(log.String(), -1) {
		milliseconds, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			b.Fatalf("%s: %v", p.name, err)
		}
		took[line[1]] = milliseconds
	}
	if len(took) < slowest {
		b.Fatalf("%s tells of %d packages, %v:\n%s", p.name, len(took), ended, &log)
	}
	return took
}
