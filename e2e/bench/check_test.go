package bench

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/bench/script"
	"ecsmesh/e2e/tools"
)

const (
	// checks is how often the check runs while nothing changes.
	checks = 30

	// looks is how often it looks after the task.
	looks = 5

	// settling is generous: a task is healthy within a second.
	settling = time.Minute
)

// BenchmarkCheck is what a task in the mesh costs between its start and its
// stop, beside its application and its Envoy: a run of Envoy's health check every
// few seconds, and nothing in between.
func BenchmarkCheck(b *testing.B) {
	s, m := surround(b), newMeter(b)
	s.during(func() { m.run(b, program{starter, []string{dist(b, "ecsmesh-init"), "register"}}, s.env) })
	envoy := s.startEnvoy(b)
	closeApplication := s.startApplication(b)
	check := func(refresh string) program {
		return program{"check", []string{filepath.Join(s.volume, "bin", "ecsmesh-init"), "check", "-refresh", refresh}}
	}
	// It looks after the task in half an hour at the earliest.
	s.awaitPassing(b, check("1h"))

	quiet := runs{}
	asked := s.during(func() {
		for range checks {
			quiet = append(quiet, m.run(b, check("1h"), s.env))
		}
	})
	recordCheck(b, "check, nothing changed", quiet, asked, true)
	s.recordRest(b, envoy)

	closeApplication()
	changed := runs{}
	asked = s.during(func() { changed = append(changed, m.run(b, check("1h"), s.env)) })
	recordCheck(b, "check, the service's health changed", changed, asked, false)
	if status := s.health(b); status != api.HealthCritical {
		b.Errorf("Consul calls the task %s after its application ended", status)
	}

	busy := runs{}
	asked = s.during(func() {
		for range looks {
			busy = append(busy, m.run(b, check("1s"), s.env))
			time.Sleep(1600 * time.Millisecond) // the next look is in 1.5 s at the latest
		}
	})
	recordCheck(b, "check, looking after the task", busy, asked, false)
	if kinds := byKind(asked); kinds[script.Consul+" reads"] < looks {
		b.Errorf("it looked after the task %d times, and made the requests %v", looks, kinds)
	}
}

// recordCheck records runs of the check, and how much each asked of others.
func recordCheck(b *testing.B, subject string, taken runs, asked []script.Request, steady bool) {
	b.Helper()
	cpus := results.Figure{Subject: subject, Quantity: "CPU", Unit: "ms", Value: taken.median(cpu)}
	memory := results.Figure{Subject: subject, Quantity: "peak memory", Unit: "MB", Value: taken.median(peak)}
	requests := results.Figure{Subject: subject, Quantity: "requests to Consul", Nothing: steady}
	for kind, count := range byKind(asked) {
		if strings.HasPrefix(kind, script.Consul) {
			requests.Value += float64(count) / float64(len(taken))
		}
	}
	if steady {
		cpus.Target, memory.Target, cpus.Samples = 10, 15, taken.each(cpu)
	}
	record(b, cpus)
	record(b, results.Figure{Subject: subject, Quantity: "from exec to exit", Unit: "ms", Value: taken.median(wall)})
	record(b, memory)
	record(b, requests)
}

func (s *surroundings) startEnvoy(b *testing.B) *os.Process {
	b.Helper()
	path, err := tools.Envoy()
	if err != nil {
		b.Fatal(err)
	}
	command := exec.Command(path, "-c", filepath.Join(s.volume, "envoy-bootstrap.json"), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error")
	command.Env = s.env
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return command.Process
}

// startApplication has something at the service's port, in this very process.
func (s *surroundings) startApplication(b *testing.B) (end func()) {
	b.Helper()
	listener, err := net.Listen("tcp", netip.AddrPortFrom(s.address, 8080).String())
	if err != nil {
		b.Fatal(err)
	}
	application := http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = application.Serve(listener) }()
	b.Cleanup(func() { _ = application.Close() })
	return func() { _ = application.Close() }
}

// awaitPassing runs the check as ECS does, until it and Consul say that all is well.
func (s *surroundings) awaitPassing(b *testing.B, check program) {
	b.Helper()
	var log []byte
	for end := time.Now().Add(settling); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		command := exec.Command(check.argv[0], check.argv[1:]...)
		command.Env = s.env
		var err error
		if log, err = command.CombinedOutput(); err == nil && s.health(b) == api.HealthPassing {
			return
		}
	}
	b.Fatalf("the task is not healthy after %s, but %s:\n%s", settling, s.health(b), log)
}

func (s *surroundings) health(b *testing.B) string {
	b.Helper()
	found, _, err := s.consul.Client.Health().Node("ecs-"+benchTaskID, nil)
	if err != nil {
		b.Fatal(err)
	}
	return found.AggregatedStatus()
}

// recordRest records what runs in the task while nothing happens. All that runs
// in it has its environment.
func (s *surroundings) recordRest(b *testing.B, envoy *os.Process) {
	b.Helper()
	processes, memory, ofEnvoy := 0, int64(0), int64(0)
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	for _, folder := range folders {
		environment, err := os.ReadFile(folder + "/environ")
		if err != nil || !strings.Contains(string(environment), s.volume) {
			continue // it is another's, or has ended
		}
		resident, err := residentBytes(folder)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			b.Fatal(err)
		case filepath.Base(folder) == strconv.Itoa(envoy.Pid):
			ofEnvoy = resident
		default:
			processes++
			memory += resident
		}
	}
	if ofEnvoy == 0 {
		b.Fatal("Envoy is not among the task's processes")
	}
	const rest = "beside the application and Envoy"
	record(b, results.Figure{Benchmark: "Rest", Subject: rest, Quantity: "processes", Value: float64(processes), Nothing: true})
	record(b, results.Figure{Benchmark: "Rest", Subject: rest, Quantity: "memory", Unit: "MB", Value: megabytes(memory), Nothing: true})
	record(b, results.Figure{Benchmark: "Rest", Subject: "Envoy", Quantity: "memory", Unit: "MB", Value: megabytes(ofEnvoy)})
}

func residentBytes(process string) (int64, error) {
	content, err := os.ReadFile(process + "/statm")
	if err != nil {
		return 0, err
	}
	var all, resident int64
	if _, err := fmt.Sscan(string(content), &all, &resident); err != nil {
		return 0, fmt.Errorf("read %s/statm: %w", process, err)
	}
	return resident * int64(os.Getpagesize()), nil
}
