package bench

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

const (
	stopsInTurn = 20
	stopsAtOnce = 200

	// lookEvery is how often Envoy is asked where it sends requests.
	lookEvery = 2 * time.Millisecond
)

// BenchmarkStop takes the time from a task's event to the moment from which
// another task's Envoy sends it nothing. The tasks that stop are registered, and
// run nowhere. The emulator that carries events stands between the two moments, and
// is slower than AWS with many: so the function is measured without it, too.
func BenchmarkStop(b *testing.B) {
	m := startStopMesh(b)
	functions := startDeregisterTasks(b, startCloud(b, m.consulAddress.String(), nil, nil))
	handle := func(bodies [][]byte) {
		messages := make([]events.SQSMessage, len(bodies))
		for i, body := range bodies {
			messages[i] = message(body, i)
		}
		functions.handle(b, messages, 10)
	}
	put := func(bodies [][]byte) {
		inParallel(b, writers, bodies, func(body []byte) error { return m.lab.Emulator.PutEvent(b.Context(), body) })
	}
	for _, way := range []struct {
		subject string
		stop    func(bodies [][]byte)
	}{
		{"by the emulator's EventBridge, SQS and Lambda", put},
		{"by the function alone, in batches of 10", handle},
	} {
		var alone []float64
		for range stopsInTurn {
			alone = append(alone, m.stop(b, 1, way.stop)...)
		}
		recordStops(b, "a task "+way.subject, alone)
		recordStops(b, fmt.Sprintf("%d tasks at once %s", stopsAtOnce, way.subject), m.stop(b, stopsAtOnce, way.stop))
	}
}

func recordStops(b *testing.B, subject string, took []float64) {
	b.Helper()
	samples := took
	for _, share := range []float64{0.5, 0.95, 0.99} {
		record(b, results.Figure{Subject: subject, Quantity: "event to endpoint gone, " + percentile(share), Unit: "ms", Value: results.Quantile(took, share), Samples: samples})
		samples = nil // once is enough
	}
}

// stopMesh is a mesh in which a task calls those that stop.
type stopMesh struct {
	lab           *lab.Lab
	consul        *api.Client
	consulAddress netip.Addr
	caller        ecs.Task
	stopping      template
	registered    int // so far
}

func startStopMesh(b *testing.B) *stopMesh {
	b.Helper()
	l, err := lab.Start(b.Context(), lab.Options{Dev: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	m := &stopMesh{lab: l, stopping: sampleEvent(b, "mesh-task-stopping.json")}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	servers, err := l.StartServers(b.Context())
	must(err)
	must(l.WaitPublished(b.Context(), servers...))
	m.consulAddress = servers[0].Address()
	m.consul, err = l.Consul()
	must(err)
	m.caller, err = l.Web.Launch(b.Context())
	must(err)
	must(l.WaitEnvoy(b.Context(), m.caller))
	return m
}

// stop has n tasks register and then stop, and has for each how many milliseconds
// the caller's Envoy knew it after that.
func (m *stopMesh) stop(b *testing.B, n int, stop func(bodies [][]byte)) []float64 {
	b.Helper()
	fleet := newFleet(b, "api", m.registered+1, n, true)
	m.registered += n
	registerFleet(b, m.consul, fleet)
	addresses, bodies := make([]netip.Addr, n), make([][]byte, n)
	for i, member := range fleet {
		addresses[i], bodies[i] = member.address, m.stopping.of(member.arn, m.registered+i)
	}
	err := lab.Await(b.Context(), fmt.Sprintf("%d endpoints", n), func(ctx context.Context) error {
		endpoints, err := lab.Endpoints(ctx, m.caller, "api")
		if err == nil && len(endpoints) != n {
			err = fmt.Errorf("there are %d", len(endpoints))
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	took := make(chan []float64)
	began := time.Now()
	go func() { took <- m.watch(b, began, addresses) }()
	stop(bodies)
	samples := <-took
	if b.Failed() {
		b.FailNow()
	}
	inParallel(b, writers, fleet, func(member fleetMember) error {
		_, err := m.consul.Catalog().Deregister(&api.CatalogDeregistration{Node: member.registration.Node()}, nil)
		return err
	})
	return samples
}

// watch waits until the caller's Envoy knows none of the addresses, and has how
// many milliseconds after the beginning each was gone.
func (m *stopMesh) watch(b *testing.B, began time.Time, addresses []netip.Addr) []float64 {
	var took []float64
	for len(addresses) > 0 {
		endpoints, err := lab.Endpoints(b.Context(), m.caller, "api")
		since := time.Since(began)
		if err == nil && since > lab.Patience {
			err = fmt.Errorf("%d endpoints are left after %s", len(endpoints), since)
		}
		if err != nil {
			b.Error(err)
			return nil
		}
		addresses = slices.DeleteFunc(addresses, func(address netip.Addr) bool {
			_, known := slices.BinarySearchFunc(endpoints, address, netip.Addr.Compare)
			if !known {
				took = append(took, float64(since.Microseconds())/1000)
			}
			return !known
		})
		time.Sleep(lookEvery)
	}
	return took
}
