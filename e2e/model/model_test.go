package model

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// How much is run by default: about a minute on two busy cores.
const (
	defaultSeeds = 12
	defaultSteps = 2000
)

// regression is a seed that found a fault once.
type regression struct {
	seed  uint64
	fault string
}

// regressions run besides the others. They find their faults as long as the
// steps stay what they are.
var regressions []regression

// TestModel runs the seeds 1, 2, 3, … and those of regressions. MODEL_SEEDS says
// how many, MODEL_STEPS how many steps each; MODEL_SEED runs one alone.
func TestModel(t *testing.T) {
	steps := number(t, "MODEL_STEPS", defaultSteps)
	if seed := number(t, "MODEL_SEED", 0); seed != 0 {
		newModel(t, uint64(seed), steps).run()
		return
	}
	runs := slices.Clone(regressions)
	for seed := range number(t, "MODEL_SEEDS", defaultSeeds) {
		runs = append(runs, regression{seed: uint64(seed + 1)})
	}
	var (
		mu       sync.Mutex
		happened = map[string]int{}
	)
	t.Run("seed", func(t *testing.T) {
		for _, r := range runs {
			t.Run(fmt.Sprint(r.seed), func(t *testing.T) {
				t.Parallel()
				if r.fault != "" {
					t.Logf("this seed once found: %s", r.fault)
				}
				m := newModel(t, r.seed, steps)
				m.run()
				mu.Lock()
				defer mu.Unlock()
				for what, times := range m.happened {
					happened[what] += times
				}
			})
		}
	})
	t.Logf("in %d runs of %d steps: %v", len(runs), steps, happened)
	if t.Failed() || steps < defaultSteps || len(runs) < defaultSeeds {
		return
	}
	// A run in which nothing happens proves nothing.
	for _, what := range []string{
		"deregister-tasks: drained",
		"deregister-tasks: absent",
		"sweep: drained",
		"sweep: absent",
		"sweep: working", // undrained
		"init: working",
		"init: absent", // what was left at its address
		"check: working",
		"check: absent", // taken back
	} {
		if happened[what] == 0 {
			t.Errorf("it never happened: %s", what)
		}
	}
}

// number reads a variable of the environment.
func number(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		t.Fatalf("%s is %q, want a whole number", variable, value)
	}
	return n
}
