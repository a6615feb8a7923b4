package bench

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/register"
	"ecsmesh/initcontainer/taskmeta"
)

const (
	// startingTasks stand for 2,000, and ssmRate for the 40 reads a second that SSM
	// allows an account by default: a quarter of both. What a task waits for SSM
	// depends on how many share a read, and the work of 2,000 tasks, which have
	// processors of their own, would be more than what this machine has to give.
	startingTasks = 2_000 / 4
	ssmRate       = 40 / 4
)

// BenchmarkMassStart has 2,000 tasks start within a minute, and at once, in an
// account whose SSM is that of every new one, on the scale of a quarter. Each task
// is a whole registration, in a goroutine instead of a process.
func BenchmarkMassStart(b *testing.B) {
	for _, wave := range []struct {
		subject string
		within  time.Duration
	}{
		{"2,000 tasks within a minute, on a scale of 1/4", time.Minute},
		{"2,000 tasks at once, on a scale of 1/4", 0},
	} {
		consul := consultest.Start(b)
		cloud := startCloud(b, consul.Addr.String(), newBucket(ssmRate), nil)
		for name, value := range cloud.environment() {
			b.Setenv(name, value)
		}
		took := startTasks(b, wave.within)
		if registered := meshNodes(b, consul.Client); registered != startingTasks {
			b.Fatalf("%d tasks are registered, want %d", registered, startingTasks)
		}
		consul.Stop()
		for _, share := range []float64{0.5, 0.95, 0.99, 1} {
			figure := results.Figure{Subject: wave.subject, Quantity: "time to registered, " + percentile(share), Unit: "s", Value: results.Quantile(took, share)}
			if share == 1 {
				figure.Target, figure.Samples = register.DefaultDeadline.Seconds(), took
			}
			record(b, figure)
		}
		record(b, results.Figure{Subject: wave.subject, Quantity: "SSM reads per task", Value: float64(cloud.ssmCalls.Load()) / startingTasks})
		record(b, results.Figure{Subject: wave.subject, Quantity: "share of SSM reads throttled", Value: float64(cloud.throttled.Load()) / float64(cloud.ssmCalls.Load())})
	}
}

// percentile is the usual name of a share.
func percentile(share float64) string {
	if share == 1 {
		return "longest"
	}
	return "p" + strconv.FormatFloat(100*share, 'f', -1, 64)
}

// startTasks starts the tasks at random moments, and has how many seconds each took
// to be registered.
func startTasks(b *testing.B, within time.Duration) []float64 {
	b.Helper()
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.Split(r.URL.Path, "/")[1])
		if err != nil {
			http.NotFound(w, r)
			return
		}
		// Answers of httptest go to tasks that wait for them.
		_, _ = fmt.Fprintf(w, `{"Cluster": %q, "TaskARN": %q, "Family": "api", "DesiredStatus": "RUNNING", "Containers": [{"Name": "ecsmesh-init", "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.1.%d.%d"]}]}]}`,
			fleetCluster, fleetARN(n), n>>8, n&0xff)
	}))
	defer metadata.Close()
	dir := b.TempDir()
	binary := filepath.Join(dir, "ecsmesh-init")                                 // what every task copies to its volume
	if err := os.WriteFile(binary, []byte("#!/bin/true\n"), 0o700); err != nil { //nolint:gosec // it is a program
		b.Fatal(err)
	}

	chance := rand.New(rand.NewPCG(7, 2026)) // the same in each run
	took := make([]float64, startingTasks)
	var tasks sync.WaitGroup
	for n := range took {
		delay := time.Duration(chance.Float64() * float64(within))
		tasks.Go(func() {
			time.Sleep(delay)
			began := time.Now()
			if err := registerTask(b, filepath.Join(dir, strconv.Itoa(n)), binary, metadata.URL+"/"+strconv.Itoa(n)); err != nil {
				b.Errorf("task %d: %v", n, err)
			}
			took[n] = time.Since(began).Seconds()
		})
	}
	tasks.Wait()
	return took
}

// registerTask does what `ecsmesh-init register` does.
func registerTask(b *testing.B, volume, binary, metadata string) error {
	environment := map[string]string{
		"ECS_CONTAINER_METADATA_URI_V4": metadata,
		"ECSMESH_CONFIG":                fmt.Sprintf(`{"bootstrapDir": %q, "service": {"port": 9090}, "consulServers": {"defaults": {"tls": false}}}`, volume),
	}
	getenv := func(name string) string { return environment[name] }
	cfg, err := config.Read(getenv)
	if err != nil {
		return err
	}
	endpoint, err := taskmeta.FromEnvironment(getenv)
	if err != nil {
		return err
	}
	if err := os.Mkdir(volume, 0o700); err != nil {
		return err
	}
	return register.Registrar{Config: cfg, Metadata: endpoint, Binary: binary, Deadline: register.DefaultDeadline, Log: slog.New(slog.DiscardHandler)}.Run(b.Context())
}
