package check

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
)

// Result is what one of the service's checks finds now. Status is empty where
// that can't be known.
type Result struct {
	CheckID, Name  string
	Container      bool // it is ECS's word of a container
	Status, Output string
}

// Look runs the service's checks, and reads its containers' health from what ECS
// says of the task; nil is not known. It tells nobody. The error names what this
// user may not read: the results of those checks are not known.
func Look(ctx context.Context, shared volume.Volume, task Task, meta *taskmeta.Task) ([]Result, error) {
	var found []status
	err := Run{Volume: shared}.readRequests(&task)
	if err == nil {
		found = probeAll(ctx, task.Checks)
	} else {
		found = make([]status, len(task.Checks))
	}
	if meta != nil {
		found = append(found, containersHealth(task.Containers, *meta)...)
	} else {
		found = append(found, make([]status, len(task.Containers))...)
	}
	results := make([]Result, len(found))
	for i, check := range task.Registration.Service.Checks {
		results[i] = Result{check.CheckID, check.Name, i >= len(task.Checks), found[i].Status, found[i].Output}
	}
	return results, err
}

// Memory is what the runs of the health check remember of looking after the
// task, as far as others are to know.
type Memory struct {
	Servers      []netip.Addr // those that Envoy has now, where they are not the first
	LookAt       time.Time    // when Consul is asked next for the task's registration; zero: nobody ran yet
	RenewAt      time.Time    // when the ACL token is renewed next; zero: never
	RenewTriedAt time.Time    // when that was tried last; zero: not yet
	ToldAt       time.Time    // when Consul was told last how the task is; zero: not yet
	Passed       bool         // it was told once that the service passes
}

// Remember reads it. Before the first run there is nothing to remember, which is
// no error.
func Remember(shared volume.Volume, task Task) (Memory, error) {
	var kept upkeep
	if err := volume.ReadJSON(shared.Upkeep(), &kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Memory{}, err
	}
	memory := Memory{Servers: kept.Servers, LookAt: kept.LookAt, RenewTriedAt: kept.RenewTriedAt}
	switch {
	case kept.Renewed:
		memory.RenewAt = kept.RenewAt
	case task.Token != nil:
		memory.RenewAt = task.Token.RenewAt
	}
	if info, err := os.Stat(shared.Checks()); err == nil {
		memory.ToldAt = info.ModTime()
	}
	if _, err := os.Stat(shared.Passed()); err == nil {
		memory.Passed = true
	}
	return memory, nil
}

// HeldToken reads the ACL token that Envoy has, and since when it is there. Its
// error never has it in it.
func HeldToken(shared volume.Volume) (secret string, since time.Time, err error) {
	return (&synchronization{Run: Run{Volume: shared}}).heldToken()
}
