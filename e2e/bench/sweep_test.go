package bench

import (
	"fmt"
	"testing"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/consultest"
)

// BenchmarkSweep has the function's real process look after meshes of three sizes,
// in each of which a hundredth of the tasks have stopped unseen.
func BenchmarkSweep(b *testing.B) {
	consul := consultest.Start(b)
	var before float64 // s, for a tenth of the tasks, at best
	last := 0          // number of the task registered last
	for _, size := range []int{100, 1_000, 10_000} {
		more := size - meshNodes(b, consul.Client)
		registerFleet(b, consul.Client, newFleet(b, "api", last+1, more, true))
		last += more
		dead := map[string]bool{}
		for n := range size / 100 {
			dead[fleetARN(last-n)] = true
		}
		cloud := startCloud(b, consul.Addr.String(), nil, func(arn string) bool { return dead[arn] })
		variables := cloud.environment()
		variables["SERVERS_PARAMETER"] = "/ecsmesh/consul-servers"
		variables["CONSUL_SEED_ADDRESSES"] = consul.Addr.String()
		sweep := startFunction(b, "sweep", variables)
		first := sweepOnce(b, sweep)
		if left := meshNodes(b, consul.Client); left != size-len(dead) {
			b.Fatalf("%d of %d tasks are left, want %d", left, size, size-len(dead))
		}
		memory, err := peakMemory(sweep.pid)
		if err != nil {
			b.Fatal(err)
		}
		cpu, err := cpuTime(sweep.pid)
		if err != nil {
			b.Fatal(err)
		}
		subject := fmt.Sprintf("%d tasks", size)
		record(b, results.Figure{Subject: subject, Quantity: "time of the first run", Unit: "s", Value: first})
		record(b, results.Figure{Subject: subject, Quantity: "CPU of the first run and the start", Unit: "s", Value: cpu.Seconds()})
		record(b, results.Figure{Subject: subject, Quantity: "peak memory", Unit: "MiB", Value: memory, Target: 128})
		record(b, results.Figure{Subject: subject, Quantity: "ECS calls", Value: float64(cloud.ecsCalls.Load())})
		record(b, results.Figure{Subject: subject, Quantity: "SSM calls", Value: float64(cloud.ssmCalls.Load())})
		best := min(first, sweepOnce(b, sweep), sweepOnce(b, sweep))
		if before != 0 { // linear at worst
			record(b, results.Figure{Subject: subject, Quantity: "time, to that of a tenth", Value: best / before, Target: 10})
		}
		before = best
	}
}

// sweepOnce has how many seconds a run took.
func sweepOnce(b *testing.B, sweep *executionEnvironment) float64 {
	b.Helper()
	run, err := sweep.invoke(b.Context(), []byte("{}"))
	if err != nil {
		b.Fatal(err)
	}
	return run.took.Seconds()
}
