package model

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

// How much is run by default: about a minute on two busy cores.
const (
	defaultSeeds = 8
	defaultSteps = 2000
)

// regressions are seeds that found a fault, with what it was.
var regressions = []struct {
	seed  uint64
	fault string
}{}

// TestModel runs the model with the seeds 1, 2, 3, …, several at the same time.
// MODEL_SEEDS says how many, MODEL_STEPS how many steps each, and MODEL_SEED
// runs one alone.
func TestModel(t *testing.T) {
	steps := number(t, "MODEL_STEPS", defaultSteps)
	if seed := number(t, "MODEL_SEED", 0); seed != 0 {
		newModel(t, uint64(seed)).run(steps)
		return
	}
	seeds := number(t, "MODEL_SEEDS", defaultSeeds)
	var (
		mu       sync.Mutex
		happened = map[string]int{}
	)
	t.Run("seeds", func(t *testing.T) {
		for seed := range seeds {
			t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
				t.Parallel()
				m := newModel(t, uint64(seed+1))
				m.run(steps)
				mu.Lock()
				defer mu.Unlock()
				for what, times := range m.happened {
					happened[what] += times
				}
			})
		}
	})
	t.Logf("in %d runs of %d steps: %v", seeds, steps, happened)
	if steps < defaultSteps || seeds < defaultSeeds || t.Failed() {
		return
	}
	// A run in which nothing happens proves nothing.
	for _, what := range []string{
		"deregister-tasks: working, then drained",
		"deregister-tasks: working, then absent",
		"deregister-tasks: drained, then absent",
		"sweep: working, then drained",
		"sweep: working, then absent",
		"sweep: drained, then absent",
		"sweep: drained, then working",
		"check: absent, then working",
		"check: working, then absent",
		"init: absent, then working",
		"init: working, then absent",
	} {
		if happened[what] == 0 {
			t.Errorf("it never happened that %s", what)
		}
	}
}

func TestRegressions(t *testing.T) {
	for _, r := range regressions {
		t.Run(fmt.Sprintf("seed %d: %s", r.seed, r.fault), func(t *testing.T) {
			t.Parallel()
			newModel(t, r.seed).run(defaultSteps)
		})
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
