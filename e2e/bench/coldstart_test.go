package bench

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/tools"
)

const (
	// coldStarts is how often each function starts.
	coldStarts = 30

	// rieDeadline bounds one start of a function, which takes milliseconds.
	rieDeadline = 10 * time.Second

	empty = "an empty function in Go"
)

// functionEnvironment is enough for each function to start. Nothing answers there.
var functionEnvironment = []string{
	"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "AWS_SESSION_TOKEN=bench",
	"AWS_ENDPOINT_URL=http://127.0.0.1:1", "AWS_LAMBDA_FUNCTION_TIMEOUT=10",
	"SERVERS_PARAMETER=/ecsmesh/consul-servers", "CONSUL_SERVER_CLUSTER=consul", "CONSUL_SERVER_SERVICE=consul-server",
}

// BenchmarkColdStart is what the first invocation of a function waits for, as
// AWS's own emulator of Lambda's runtime has it, beside a function that does
// nothing.
func BenchmarkColdStart(b *testing.B) {
	rie, err := tools.RIE()
	if err != nil {
		b.Fatal(err)
	}
	names := []string{empty, "publish-servers", "deregister-tasks", "sweep", "setup-acl", "deployment-hook", "mesh-task"}
	bootstraps := map[string]string{empty: build(b, "emptylambda")}
	for _, name := range names[1:] {
		bootstraps[name] = dist(b, name+"/bootstrap")
	}
	taken := map[string][]float64{}
	for range coldStarts {
		for _, name := range names { // in turn, so that what else the machine does is the same for all
			taken[name] = append(taken[name], coldStart(b, rie, bootstraps[name]))
		}
	}
	for _, name := range names {
		record(b, results.Figure{Subject: name, Quantity: "init", Unit: "ms", Value: median(taken[name]), Samples: taken[name]})
		if name != empty {
			ratios := make([]float64, coldStarts)
			for i := range ratios {
				ratios[i] = taken[name][i] / taken[empty][i]
			}
			record(b, results.Figure{Subject: name, Quantity: "init, of an empty function's", Unit: results.Times, Value: median(ratios), Target: 3})
		}
		record(b, results.Figure{Subject: name, Quantity: "size of the program", Unit: "MB", Value: size(b, bootstraps[name])})
		record(b, results.Figure{Subject: name, Quantity: "size of its zip", Unit: "MB", Value: zipped(b, bootstraps[name])})
	}
	for _, name := range names {
		// Without a runtime API a function ends when it has begun.
		recordPackages(b, name, program{name, []string{bootstraps[name]}}, append([]string{"AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"}, functionEnvironment...))
	}
}

// initReport is what the emulator says of a function's start.
var initReport = regexp.MustCompile(`INIT REPORT\(durationMs: ([0-9.]+)\)`)

// coldStart starts a function by an invocation, and returns how many
// milliseconds passed until it could take that.
func coldStart(b *testing.B, rie, bootstrap string) float64 {
	b.Helper()
	for attempt := 1; ; attempt++ {
		took, log, err := tryColdStart(b, rie, bootstrap)
		if err == nil {
			return took
		}
		// Now and then the emulator listens for its function only after it has started it.
		if attempt == 3 || !strings.Contains(log, "connect: connection refused") {
			b.Fatalf("start %s: %v:\n%s", bootstrap, err, log)
		}
	}
}

func tryColdStart(b *testing.B, rie, bootstrap string) (took float64, log string, err error) {
	b.Helper()
	front, back := freePort(b), freePort(b)
	command := exec.Command(rie, "--log-level", "info", "--runtime-interface-emulator-address", front, "--runtime-api-address", back, bootstrap)
	command.Env = append([]string{"PATH=" + os.Getenv("PATH")}, functionEnvironment...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := command.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	command.Stdout = command.Stderr
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	overdue := time.AfterFunc(rieDeadline, func() { _ = command.Process.Kill() })
	defer overdue.Stop()
	go invoke(front)
	for lines := bufio.NewScanner(output); took == 0 && lines.Scan(); {
		log += lines.Text() + "\n"
		if found := initReport.FindStringSubmatch(lines.Text()); found != nil {
			took, err = strconv.ParseFloat(found[1], 64)
		}
	}
	// It ends its function when it is told to end.
	_ = command.Process.Signal(syscall.SIGTERM)
	_, _ = io.Copy(io.Discard, output)
	_ = command.Wait()
	if err == nil && (took == 0 || !strings.Contains(log, "INIT RTDONE(status: success)")) {
		err = errors.New("it has not begun to work")
	}
	return took, log, err
}

// invoke invokes a function as soon as its emulator listens. What comes of it
// doesn't matter.
func invoke(at string) {
	for end := time.Now().Add(rieDeadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		response, err := http.Post("http://"+at+"/2015-03-31/functions/function/invocations", "application/json", strings.NewReader("{}"))
		if err == nil {
			_ = response.Body.Close()
			return
		}
	}
}

func freePort(b *testing.B) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// zipped is the size of a program as it is uploaded to Lambda.
func zipped(b *testing.B, bootstrap string) float64 {
	b.Helper()
	var archive bytes.Buffer
	writer := zip.NewWriter(&archive)
	content, err := os.ReadFile(bootstrap)
	if err != nil {
		b.Fatal(err)
	}
	into, err := writer.Create("bootstrap")
	if err == nil {
		_, err = into.Write(content)
	}
	if err = errors.Join(err, writer.Close()); err != nil {
		b.Fatalf("zip %s: %v", bootstrap, err)
	}
	return megabytes(int64(archive.Len()))
}
