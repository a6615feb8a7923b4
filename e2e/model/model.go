// Package model lets many tasks live in a random world: events get lost,
// doubled, late and out of order, answers get lost, functions and containers
// are killed half-way, people interfere, Consul is restored from a snapshot.
// What decides is the real code, on a real Consul; only ECS, SQS and the clock
// are models.
//
// All of ours that are at work are processes (see process), each of which stops
// at every remote call until it is let go on. So one step is one thing that
// happens: ECS changes a task, a container starts to run, one request reaches
// Consul or doesn't. After every step the catalog must be such that no task was
// harmed, and when the world has come to rest and two sweeps have run, it must
// say what ECS says (see invariants.go).
//
// A seed repeats a run, as long as no process waits for so long that it takes a
// real time-out for a fault: on a machine that is very busy runs may differ.
package model

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/metrics"
)

const (
	// mostProcesses is how many of ours are at work at the same time.
	mostProcesses = 4

	// longestWait is how many steps a slow call takes: less than the real time
	// in which its caller gives up.
	longestWait = 20

	// hang is when a process that neither asks for anything nor ends is given
	// up. None of ours takes half as long, whatever doesn't answer.
	hang = 4 * time.Minute
)

// model is one run.
type model struct {
	*world
	t      testing.TB
	seed   uint64
	steps  int        // to take before all comes to rest
	step   int        // the present one
	rng    *rand.Rand // of this step
	calm   bool       // no more faults
	folder string     // holds the tasks' shared volumes
	trace  trace

	consul       *consultest.Server
	envoyAndApps *httptest.Server // of all tasks
	metadata     *httptest.Server // likewise
	over         chan struct{}    // closed when the run has ended
	running      sync.WaitGroup   // processes' goroutines
	fronts       []*front

	processes  []*process
	late       []*call  // carried out at some time, though nobody waits any more
	deregister []*front // one for each sandbox of the function
	sweeper    *front
	metrics    *metrics.Writer

	catalog   map[string]entry // the tasks' nodes, by name, after the last step
	mostNodes int              // that there ever were
	ownDrains map[uint64]bool  // the indexes of drains that were ours
	snapshots [][]byte         // of Consul
	happened  map[string]int   // how often ours left a node as what
}

func newModel(t testing.TB, seed uint64, steps int) *model {
	m := &model{
		world:     newWorld(),
		t:         t,
		seed:      seed,
		steps:     steps,
		folder:    t.TempDir(),
		consul:    consultest.Start(t),
		over:      make(chan struct{}),
		metrics:   metrics.NewWriter(io.Discard, "model"),
		catalog:   map[string]entry{},
		ownDrains: map[uint64]bool{},
		happened:  map[string]int{},
	}
	m.envoyAndApps = unshared(m.serveEnvoyAndApps)
	m.metadata = unshared(m.serveMetadata)
	for range 2 {
		m.deregister = append(m.deregister, m.newFront())
	}
	m.sweeper = m.newFront()
	t.Cleanup(m.close)
	return m
}

// unshared starts a server that closes each connection after one answer: every
// run of a check opens new ones, which a real one takes with it when it ends.
func unshared(serve http.HandlerFunc) *httptest.Server {
	server := httptest.NewUnstartedServer(serve)
	server.Config.SetKeepAlivesEnabled(false)
	server.Start()
	return server
}

// close lets everything end that is still at work.
func (m *model) close() {
	close(m.over)
	for _, p := range m.processes {
		p.cancel()
	}
	m.running.Wait()
	for _, f := range m.fronts {
		f.server.Close()
	}
	m.envoyAndApps.Close()
	m.metadata.Close()
}

// run takes the steps, lets the world come to rest, and expects the truth.
func (m *model) run() {
	for range m.steps {
		m.takeStep()
	}
	m.comeToRest()
	m.sweepNow()
	m.sweepNow()
	m.expectTruth()
}

func (m *model) takeStep() {
	m.begin()
	var ready []*process
	for _, p := range m.processes {
		if m.step >= p.calls[0].until {
			ready = append(ready, p)
		}
	}
	if p, ok := oneOf(m, ready); ok && m.chance(70) {
		m.goOn(p)
		return
	}
	for done := false; !done; {
		done = m.pick().do(m)
	}
}

// begin begins a step. Each has random numbers of its own, so that runs that
// differ in one of them don't differ in all that follows.
func (m *model) begin() {
	m.step++
	m.rng = rand.New(rand.NewPCG(m.seed, uint64(m.step)))
}

// chance is true in so many of a hundred cases.
func (m *model) chance(percent int) bool { return m.rng.IntN(100) < percent }

// oneOf picks one at random; of none, the zero value.
func oneOf[T any](m *model, all []T) (one T, ok bool) {
	if len(all) == 0 {
		return one, false
	}
	return all[m.rng.IntN(len(all))], true
}

// take removes one at random.
func take[T any](m *model, all *[]T) (one T, ok bool) {
	if len(*all) == 0 {
		return one, false
	}
	i := m.rng.IntN(len(*all))
	one = (*all)[i]
	*all = slices.Delete(*all, i, i+1)
	return one, true
}
