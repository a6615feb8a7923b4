package bench

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/emulator"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/shared/mesh"
)

// writers is how many tasks register, or leave, at the same time.
const writers = 16

// fleetMember is a task that runs nowhere, and is registered as if it did.
type fleetMember struct {
	arn, id      string
	address      netip.Addr
	registration registration.Registration
}

const fleetCluster = "arn:aws:ecs:" + emulator.Region + ":" + emulator.AccountID + ":cluster/mesh"

// fleetARN is that of the fleet's nth task.
func fleetARN(n int) string {
	return "arn:aws:ecs:" + emulator.Region + ":" + emulator.AccountID + fmt.Sprintf(":task/mesh/%032x", n)
}

// newFleet makes tasks of a service, numbered from first on, each with an address
// of its own. Where they pass, their checks are as `check` leaves those of tasks
// that take traffic.
func newFleet(b *testing.B, service string, first, n int, passing bool) []fleetMember {
	b.Helper()
	document := fmt.Sprintf(`{"service": {"name": %q, "port": 9090}, "consulServers": {"defaults": {"tls": false}}}`, service)
	cfg, err := config.Read(func(name string) string { return map[string]string{"ECSMESH_CONFIG": document}[name] })
	if err != nil {
		b.Fatal(err)
	}
	fleet := make([]fleetMember, n)
	for i := range fleet {
		arn := fleetARN(first + i)
		parsed, err := mesh.ParseTaskARN(arn)
		if err != nil {
			b.Fatal(err)
		}
		number := first + i
		address := netip.AddrFrom4([4]byte{10, byte(number >> 16), byte(number >> 8), byte(number)})
		task := taskmeta.Task{TaskARN: arn, ARN: parsed, Cluster: fleetCluster, Family: service}
		registered, err := registration.New(cfg, task, address, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		for _, check := range registered.Checks() {
			if passing {
				check.Status = api.HealthPassing
			}
		}
		fleet[i] = fleetMember{arn: arn, id: parsed.ID, address: address, registration: registered}
	}
	return fleet
}

// registerFleet writes each task into the catalog, as register does.
func registerFleet(b *testing.B, client *api.Client, fleet []fleetMember) {
	b.Helper()
	inParallel(b, writers, fleet, func(member fleetMember) error {
		_, err := member.registration.Write(b.Context(), client)
		return err
	})
}

// inParallel does something with all of them, some at a time.
func inParallel[T any](b *testing.B, atOnce int, all []T, do func(T) error) {
	b.Helper()
	work := make(chan T)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for each := range work {
				if err := do(each); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, each := range all {
		work <- each
	}
	close(work)
	workers.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// meshNodes is how many tasks the catalog has.
func meshNodes(b *testing.B, client *api.Client) int {
	b.Helper()
	nodes, _, err := client.Catalog().Nodes((&api.QueryOptions{Filter: mesh.FilterTasks, RequireConsistent: true}).WithContext(b.Context()))
	if err != nil {
		b.Fatal(err)
	}
	return len(nodes)
}

// raftCommits is how many entries Consul's log has seen, each of which every
// server has to keep.
func raftCommits(b *testing.B, client *api.Client) float64 {
	b.Helper()
	self, err := client.Agent().Self()
	if err != nil {
		b.Fatal(err)
	}
	raft, _ := self["Stats"]["raft"].(map[string]any)
	index, _ := raft["commit_index"].(string)
	commits, err := strconv.ParseFloat(index, 64)
	if err != nil {
		b.Fatalf("read Consul's commit index: %v", err)
	}
	return commits
}
