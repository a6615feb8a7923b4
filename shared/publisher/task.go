package publisher

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// task is an ECS task as the decision sees it, in ECS's own words.
type task struct {
	ARN             string
	LastStatus      string   // PENDING, RUNNING, …
	DesiredStatus   string   // RUNNING or STOPPED
	Health          string   // the task's: HEALTHY, UNHEALTHY, UNKNOWN, or empty
	ContainerHealth []string // each container's, in the same words
	IPv4, IPv6      []string // private addresses
}

const (
	running   = "RUNNING"
	unhealthy = "UNHEALTHY"
)

// serverAddr is the address under which a task serves Consul, or the reason
// why it can't be counted on.
func serverAddr(t task) (netip.Addr, error) {
	switch {
	case t.LastStatus != running:
		return netip.Addr{}, fmt.Errorf("its last status is %s", t.LastStatus)
	case t.DesiredStatus != running:
		return netip.Addr{}, fmt.Errorf("its desired status is %s", t.DesiredStatus)
	case t.unhealthy():
		return netip.Addr{}, errors.New("its containers are unhealthy")
	}
	for _, candidates := range [][]string{t.IPv4, t.IPv6} {
		if len(candidates) == 0 {
			continue
		}
		addr, err := netip.ParseAddr(candidates[0])
		if err != nil {
			return netip.Addr{}, fmt.Errorf("its private address %q is not an IP address", candidates[0])
		}
		return addr, nil
	}
	return netip.Addr{}, errors.New("it has no private address (only awsvpc networking gives one)")
}

// unhealthy takes a task for unhealthy when any of its containers is, also one
// that is not essential and that ECS leaves out of the task's own health. A task
// without health checks is as healthy as can be known.
func (t task) unhealthy() bool {
	return t.Health == unhealthy || slices.Contains(t.ContainerHealth, unhealthy)
}
