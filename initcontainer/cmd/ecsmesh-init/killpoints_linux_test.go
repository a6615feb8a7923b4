package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// TestKilledBeforeEveryStepAndRunAgain kills the program before each system
// call by which it changes something outside of itself. What it leaves can do
// no harm, and the next run ends as if there had been no other.
func TestKilledBeforeEveryStepAndRunAgain(t *testing.T) {
	w := newWorld(t)
	var steps []step
	status := w.trace(t, func(s step) bool { steps = append(steps, s); return true })
	if status.ExitStatus() != 0 {
		t.Fatalf("the run that was not killed: %v", status)
	}
	want := w.endState(t)
	w.expectComplete(t, steps, want)
	for k, at := range steps {
		t.Logf("%2d  %s", k+1, strings.ReplaceAll(at.String(), w.volume, ""))
		w.forget(t)
		var taken []step
		status := w.trace(t, func(s step) bool {
			taken = append(taken, s)
			return len(taken) <= k
		})
		if status.Signal() != syscall.SIGKILL {
			t.Fatalf("before step %d, %s: not killed: %v", k+1, at, status)
		}
		if diff := cmp.Diff(steps[:k+1], taken, cmp.AllowUnexported(step{})); diff != "" {
			t.Fatalf("step %d came another way (-before +now):\n%s", k+1, diff)
		}
		w.expectHarmless(t, want)
		if code, log := w.register(t); code != 0 {
			t.Fatalf("after a kill before step %d, %s: exit %d:\n%s", k+1, at, code, log)
		}
		if diff := cmp.Diff(want, w.endState(t)); diff != "" {
			t.Fatalf("after a kill before step %d, %s (-undisturbed +then):\n%s", k+1, at, diff)
		}
	}
}

func (w *world) trace(t *testing.T, before func(step) bool) syscall.WaitStatus {
	t.Helper()
	tr := tracer{command: w.command("register"), before: before}
	return tr.run(t)
}

// forget is a fresh volume, and a Consul that doesn't know the task.
func (w *world) forget(t *testing.T) {
	t.Helper()
	if _, err := w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-" + taskID}, nil); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(w.volume)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(w.volume, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// expectComplete looks for what would have been overseen among the steps: all
// that is there in the end came by one of them.
func (w *world) expectComplete(t *testing.T, steps []step, end map[string]string) {
	t.Helper()
	var made []string
	for _, s := range steps {
		if s.call == "rename" || s.call == "mkdir" {
			made = append(made, strings.TrimPrefix(s.object, w.volume))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(end)) {
		if path != "catalog" && !slices.Contains(made, path) {
			t.Errorf("no step made %s", path)
		}
	}
	if len(steps) < 40 {
		t.Errorf("only %d steps were seen: %v", len(steps), steps)
	}
}

// expectHarmless expects of a run that was killed that everything under its
// final name is whole, and that the task takes no traffic.
func (w *world) expectHarmless(t *testing.T, end map[string]string) {
	t.Helper()
	for path, found := range w.files(t) {
		temporary := strings.HasPrefix(filepath.Base(path), ".")
		folder := strings.HasPrefix(found, "d") // its mode is set after it is made
		if diff := cmp.Diff(end[path], found); diff != "" && !temporary && !folder {
			t.Errorf("%s is not whole (-want +got):\n%s", path, diff)
		}
	}
	for _, service := range []string{"api", "api-sidecar-proxy"} {
		passing, _, err := w.consul.Client.Health().Service(service, "", true, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(passing) > 0 {
			t.Errorf("%s passes although the task never started", service)
		}
	}
}
