package bench

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/bench/script"
	"ecsmesh/e2e/bench/usage"
)

// starts is how often each program starts the task.
const starts = 50

// The subjects of BenchmarkTaskStart.
const (
	starter = "ecsmesh-init register"
	floor   = "the floor"
)

// BenchmarkTaskStart is what puts a task into the mesh, from exec to exit, beside
// the least that this can take, and beside PEER, another command for the same
// environment.
func BenchmarkTaskStart(b *testing.B) {
	s, m := surround(b), newMeter(b)
	ours := program{starter, []string{dist(b, "ecsmesh-init"), "register"}}
	start := func(p program) usage.Usage {
		s.reset(b)
		used := m.run(b, p, s.env)
		if p.name == starter || p.name == floor {
			s.expectRegistered(b, p.name)
		}
		return used
	}
	requests := s.during(func() { start(ours) })
	least := s.floorOf(b, requests)
	programs := []program{least, ours}
	if peer := os.Getenv("PEER"); peer != "" {
		programs = append(programs, program{"PEER", []string{"sh", "-c", "exec " + peer}})
	}
	for _, p := range programs {
		counts := byKind(s.during(func() { start(p) }))
		if p.name == floor && !maps.Equal(counts, byKind(requests)) {
			b.Fatalf("the floor makes the requests %v, want those of ecsmesh-init: %v", counts, byKind(requests))
		}
		recordRequests(b, p.name, counts)
	}
	taken := map[string]runs{}
	for range starts {
		for _, p := range programs { // in turn, so that what else the machine does is the same for all
			taken[p.name] = append(taken[p.name], start(p))
		}
	}
	for _, p := range programs {
		recordStarts(b, p.name, taken[p.name], taken[floor])
	}
	record(b, results.Figure{Subject: starter, Quantity: "size of the program", Unit: "MB", Value: size(b, ours.argv[0]), Target: 11})
	record(b, results.Figure{Subject: floor, Quantity: "size of the program", Unit: "MB", Value: size(b, least.argv[0])})
	recordPackages(b, "ecsmesh-init", program{"ecsmesh-init version", []string{ours.argv[0], "version"}}, s.env)
}

// floorOf is the program that makes these requests, and leaves the files that
// are on the volume now.
func (s *surroundings) floorOf(b *testing.B, requests []script.Request) program {
	b.Helper()
	dir := b.TempDir()
	files, list := filepath.Join(dir, "files"), filepath.Join(dir, "requests.json")
	if err := os.CopyFS(files, os.DirFS(s.volume)); err != nil {
		b.Fatal(err)
	}
	content, err := json.Marshal(requests)
	if err == nil {
		err = os.WriteFile(list, content, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
	return program{floor, []string{build(b, "floor"), list, files, s.volume}}
}

// most are the targets for the numbers of requests.
var most = map[string]float64{"metadata reads": 1, "SSM reads": 1, "Consul writes": 2}

func recordRequests(b *testing.B, subject string, counts map[string]int) {
	b.Helper()
	for _, kind := range script.Kinds {
		figure := results.Figure{Subject: subject, Quantity: kind, Value: float64(counts[kind])}
		if subject == starter {
			figure.Target = most[kind]
		}
		record(b, figure)
	}
}

// recordStarts records what the starts took, and how many times as much that is
// as the floor's.
func recordStarts(b *testing.B, subject string, taken, least runs) {
	b.Helper()
	for _, q := range []struct {
		name, unit    string
		value         func(usage.Usage) float64
		target, times float64 // at most, and at most of the floor's
		samples       bool
	}{
		{"from exec to exit", "ms", wall, 0, 1.5, true},
		{"CPU", "ms", cpu, 0, 0, false},
		{"peak memory", "MB", peak, 20, 0, false},
		{"written", "MB", written, 0, 0, false},
	} {
		absolute := results.Figure{Subject: subject, Quantity: q.name, Unit: q.unit, Value: taken.median(q.value)}
		relative := results.Figure{Subject: subject, Quantity: q.name + ", of the floor's", Unit: results.Times, Value: taken.times(least, q.value)}
		if q.samples {
			absolute.Samples = taken.each(q.value)
		}
		if subject == starter {
			absolute.Target, relative.Target = q.target, q.times
		}
		record(b, absolute)
		if subject != floor {
			record(b, relative)
		}
	}
}
