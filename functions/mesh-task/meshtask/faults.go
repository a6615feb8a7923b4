package meshtask

import (
	"errors"
	"fmt"
	"slices"
)

// Fault is one thing that keeps a task definition from becoming a mesh task.
type Fault struct {
	Path  string // ContainerDefinitions[0].DependsOn[1]; in the block EcsMesh.port
	Found string
	Want  string
}

// Error implements error in one line.
func (f Fault) Error() string { return fmt.Sprintf("%s: found %s; %s", f.Path, f.Found, f.Want) }

// report is what is said of a definition, beside what becomes of it.
type report struct {
	faults []error
	notes  []string
}

func (r *report) fault(path, found, want string) {
	if fault := (Fault{path, found, want}); !slices.Contains(r.faults, error(fault)) {
		r.faults = append(r.faults, fault)
	}
}

func (r *report) note(format string, args ...any) {
	if note := fmt.Sprintf(format, args...); !slices.Contains(r.notes, note) {
		r.notes = append(r.notes, note)
	}
}

func (r *report) err() error { return errors.Join(r.faults...) }
