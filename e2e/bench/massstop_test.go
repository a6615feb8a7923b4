package bench

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/consultest"
)

// massTasks is how many tasks stop. Fewer show less of what Consul's log costs.
var massTasks = flag.Int("tasks", 10_000, "how many tasks BenchmarkMassStop has stop")

const (
	// stopConcurrency is the template's MaximumConcurrency of deregister-tasks.
	stopConcurrency = 5

	// duplicates is the share of events that come twice.
	duplicates = 0.05
)

// BenchmarkMassStop has 10,000 tasks, or those of -tasks, stop at once: all of
// their events wait in the queue, those of tasks that stop among those of tasks
// that have stopped, in any order, and some twice. The function's real processes
// take them as Lambda and SQS would have it. The other way, next to it, is a call
// of Consul's API for each instance of a service, with nothing before it that
// costs anything.
func BenchmarkMassStop(b *testing.B) {
	consul := consultest.StartCluster(b, 1).Servers[0] // unlike Start's, it keeps its log on disk
	fleet := newFleet(b, "api", 1, *massTasks, true)
	registerFleet(b, consul.Client, fleet)
	full := saveCatalog(b, consul.Client)
	queue := stopEvents(b, fleet)

	usual := measure(b, consul, "a call for each instance", func() { deregisterEach(b, consul, fleet) })
	usual.record(b)
	for _, size := range []int{10, 1000} {
		restoreCatalog(b, consul.Client, full)
		cloud := startCloud(b, consul.Addr.String(), nil, nil)
		functions := startDeregisterTasks(b, cloud)
		way := measure(b, consul, fmt.Sprintf("batches of up to %d events", size), func() { functions.handle(b, queue, size) })
		if left := meshNodes(b, consul.Client); left != 0 {
			b.Fatalf("%d of %d tasks are still in the catalog", left, *massTasks)
		}
		way.record(b)
		functions.record(b, way.subject, len(queue))
		compare(b, way, usual, size >= 1000)
	}
}

// emptied is what it took to empty the catalog.
type emptied struct {
	subject   string
	took, cpu time.Duration
	commits   float64
}

// measure watches Consul while something is done.
func measure(b *testing.B, consul *consultest.Server, subject string, do func()) emptied {
	b.Helper()
	before, err := cpuTime(consul.PID())
	if err != nil {
		b.Fatal(err)
	}
	commits, began := raftCommits(b, consul.Client), time.Now()
	do()
	e := emptied{subject: subject, took: time.Since(began), commits: raftCommits(b, consul.Client) - commits}
	after, err := cpuTime(consul.PID())
	if err != nil {
		b.Fatal(err)
	}
	e.cpu = after - before
	return e
}

func (e emptied) record(b *testing.B) {
	b.Helper()
	record(b, results.Figure{Subject: e.subject, Quantity: "time to an empty catalog", Unit: "s", Value: e.took.Seconds()})
	record(b, results.Figure{Subject: e.subject, Quantity: "Raft commits", Value: e.commits})
	record(b, results.Figure{Subject: e.subject, Quantity: "Consul's CPU", Unit: "s", Value: e.cpu.Seconds()})
}

// compare sets one way against the usual one. Only with large batches are there
// targets.
func compare(b *testing.B, way, usual emptied, large bool) {
	b.Helper()
	commits, took := 0.0, 0.0
	if large {
		commits, took = 1.0/50, 1.0/5
	}
	subject := way.subject + ", to " + usual.subject
	record(b, results.Figure{Subject: subject, Quantity: "Raft commits", Value: way.commits / usual.commits, Target: commits})
	record(b, results.Figure{Subject: subject, Quantity: "time to an empty catalog", Value: way.took.Seconds() / usual.took.Seconds(), Target: took})
	record(b, results.Figure{Subject: subject, Quantity: "Consul's CPU", Value: way.cpu.Seconds() / usual.cpu.Seconds()})
}

// stopEvents are all events of tasks that stop, in the order in which they come.
func stopEvents(b *testing.B, fleet []fleetMember) []events.SQSMessage {
	b.Helper()
	var queue []events.SQSMessage
	for _, sample := range []template{sampleEvent(b, "mesh-task-stopping.json"), sampleEvent(b, "mesh-task-stopped.json")} {
		for _, member := range fleet {
			number := len(queue)
			queue = append(queue, message(sample.of(member.arn, number), number))
		}
	}
	chance := rand.New(rand.NewPCG(7, 2026)) // the same in each run
	for _, n := range chance.Perm(len(queue))[:int(duplicates*float64(len(queue)))] {
		again := queue[n]
		again.MessageId = fmt.Sprintf("%08x%s", len(queue), again.MessageId[8:])
		queue = append(queue, again)
	}
	chance.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
	return queue
}

// deregisterFunctions are as many processes of deregister-tasks as Lambda would run.
type deregisterFunctions struct {
	environments []*executionEnvironment

	mu          sync.Mutex
	invocations int
	billed      time.Duration // each invocation's rounded up to a millisecond
}

func startDeregisterTasks(b *testing.B, cloud *cloud) *deregisterFunctions {
	b.Helper()
	variables := cloud.environment()
	variables["SERVERS_PARAMETER"] = "/ecsmesh/consul-servers"
	f := &deregisterFunctions{}
	for range stopConcurrency {
		f.environments = append(f.environments, startFunction(b, "deregister-tasks", variables))
	}
	return f
}

// handle has the functions handle all messages, and those again that they give back.
func (f *deregisterFunctions) handle(b *testing.B, messages []events.SQSMessage, size int) {
	b.Helper()
	idle := make(chan *executionEnvironment, len(f.environments))
	for _, e := range f.environments {
		idle <- e
	}
	for len(messages) > 0 {
		var again []events.SQSMessage
		inParallel(b, len(f.environments), batches(b, messages, size), func(next batch) error {
			environment := <-idle
			defer func() { idle <- environment }()
			result, err := environment.invoke(b.Context(), next.payload)
			if err != nil {
				return err
			}
			back, err := next.failed(result.answer)
			f.mu.Lock()
			defer f.mu.Unlock()
			again = append(again, back...)
			f.invocations++
			f.billed += time.Duration(math.Ceil(float64(result.took)/float64(time.Millisecond))) * time.Millisecond
			return err
		})
		messages = again
	}
}

func (f *deregisterFunctions) record(b *testing.B, subject string, messages int) {
	b.Helper()
	var memory float64
	var cpu time.Duration
	for _, e := range f.environments {
		peak, err := peakMemory(e.pid)
		if err != nil {
			b.Fatal(err)
		}
		used, err := cpuTime(e.pid)
		if err != nil {
			b.Fatal(err)
		}
		memory, cpu = max(memory, peak), cpu+used
	}
	record(b, results.Figure{Subject: subject, Quantity: "invocations", Value: float64(f.invocations)})
	record(b, results.Figure{Subject: subject, Quantity: "billed time", Unit: "s", Value: f.billed.Seconds()})
	record(b, results.Figure{Subject: subject, Quantity: "the function's CPU per event", Unit: "ms", Value: float64(cpu.Microseconds()) / 1000 / float64(messages)})
	record(b, results.Figure{Subject: subject, Quantity: "the function's peak memory", Unit: "MiB", Value: memory, Target: 128})
}

// deregisterEach takes out the tasks' services and sidecars one by one.
func deregisterEach(b *testing.B, consul *consultest.Server, fleet []fleetMember) {
	b.Helper()
	client, err := api.NewClient(&api.Config{Address: consul.Addr.String() + fmt.Sprintf(":%d", consultest.HTTPPort), HttpClient: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: stopConcurrency}, // no call waits for a connection
	}})
	if err != nil {
		b.Fatal(err)
	}
	inParallel(b, stopConcurrency, fleet, func(member fleetMember) error {
		for _, part := range []api.CatalogRegistration{member.registration.Service, member.registration.Sidecar} {
			gone := &api.CatalogDeregistration{Node: part.Node, ServiceID: part.Service.ID}
			if _, err := client.Catalog().Deregister(gone, nil); err != nil {
				return err
			}
		}
		return nil
	})
	services, _, err := consul.Client.Catalog().Services(&api.QueryOptions{RequireConsistent: true})
	if err != nil {
		b.Fatal(err)
	}
	if len(services) != 1 { // Consul itself
		b.Fatalf("the services %v are left", services)
	}
}

// saveCatalog keeps all that Consul has, for restoreCatalog.
func saveCatalog(b *testing.B, client *api.Client) []byte {
	b.Helper()
	stream, _, err := client.Snapshot().Save(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer stream.Close() //nolint:errcheck // only read
	saved, err := io.ReadAll(stream)
	if err != nil {
		b.Fatal(err)
	}
	return saved
}

func restoreCatalog(b *testing.B, client *api.Client, saved []byte) {
	b.Helper()
	if err := client.Snapshot().Restore(nil, bytes.NewReader(saved)); err != nil {
		b.Fatal(err)
	}
	if nodes := meshNodes(b, client); nodes != *massTasks {
		b.Fatalf("%d tasks are in the restored catalog, want %d", nodes, *massTasks)
	}
}
