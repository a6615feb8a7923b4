package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecsmesh/e2e/tools"
)

// functionTimeout bounds one invocation, as the template does.
const functionTimeout = 2 * time.Minute

// executionEnvironment is one of a function's: its real bootstrap, and as much of
// Lambda's Runtime API as that needs. It serves one invocation at a time, as
// Lambda has it.
type executionEnvironment struct {
	pid     int
	next    chan []byte
	answers chan invoked
	exited  chan struct{}
	log     bytes.Buffer // to be read once it has exited
}

// invoked is what an invocation came to.
type invoked struct {
	answer []byte
	failed bool
	took   time.Duration // as Lambda bills it, but for the rounding
}

// startFunction starts a function with the variables of its environment.
func startFunction(b *testing.B, name string, variables map[string]string) *executionEnvironment {
	b.Helper()
	program, err := tools.Dist(name + "/bootstrap")
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	e := &executionEnvironment{next: make(chan []byte), answers: make(chan invoked), exited: make(chan struct{})}
	server := &http.Server{Handler: e.runtimeAPI(), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // until it is closed

	command := exec.Command(program)
	command.Env = []string{
		"AWS_LAMBDA_RUNTIME_API=" + listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME=" + name,
		"AWS_LAMBDA_FUNCTION_VERSION=$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128", "_HANDLER=bootstrap",
	}
	for key, value := range variables {
		command.Env = append(command.Env, key+"="+value)
	}
	command.Stdout, command.Stderr = &e.log, &e.log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	e.pid = command.Process.Pid
	go func() {
		_ = command.Wait() // its log says how it ended
		close(e.exited)
	}()
	b.Cleanup(func() {
		_ = command.Process.Kill() // it may have ended
		<-e.exited
		_ = server.Close()
		if b.Failed() {
			log := e.log.Bytes()
			b.Logf("the log of %s ends:\n%s", name, log[max(0, len(log)-4096):])
		}
	})
	return e
}

// runtimeAPI is Lambda's, version 2018-06-01.
func (e *executionEnvironment) runtimeAPI() http.Handler {
	var began time.Time // of the one invocation there is
	number := 0
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case payload := <-e.next:
			number++
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", strconv.Itoa(number))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(functionTimeout).UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:bench")
			began = time.Now()
			_, _ = w.Write(payload) // to the process that asked for it
		case <-r.Context().Done():
		}
	})
	done := func(failed bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			took := time.Since(began)
			body, err := io.ReadAll(r.Body)
			w.WriteHeader(http.StatusAccepted)
			e.answers <- invoked{body, failed || err != nil, took}
		}
	}
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", done(false))
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", done(true))
	return mux
}

// invoke runs the function once.
func (e *executionEnvironment) invoke(ctx context.Context, payload []byte) (invoked, error) {
	ctx, cancel := context.WithTimeout(ctx, functionTimeout)
	defer cancel()
	select {
	case e.next <- payload:
	case <-e.exited:
		return invoked{}, errors.New("invoke the function: it has ended")
	case <-ctx.Done():
		return invoked{}, fmt.Errorf("invoke the function: %w", ctx.Err())
	}
	select {
	case result := <-e.answers:
		if result.failed {
			return result, fmt.Errorf("invoke the function: %s", result.answer)
		}
		return result, nil
	case <-e.exited:
		return invoked{}, errors.New("invoke the function: it ended")
	case <-ctx.Done():
		return invoked{}, fmt.Errorf("invoke the function: %w", ctx.Err())
	}
}

// peakMemory is the most that a process has had in memory, in MiB.
func peakMemory(pid int) (float64, error) {
	kib, err := field(fmt.Sprintf("/proc/%d/status", pid), "VmHWM")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(kib, " kB"), 64)
	return n / 1024, err
}

// cpuTime is what a process has used so far.
func cpuTime(pid int) (time.Duration, error) {
	const tick = 10 * time.Millisecond // Linux's, in what it tells to programs
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// After the name, which is in parentheses, come the state as the third field,
	// and the times as 14th and 15th.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var total time.Duration
	for _, text := range fields[11:13] {
		ticks, err := strconv.Atoi(text)
		if err != nil {
			return 0, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
		}
		total += time.Duration(ticks) * tick
	}
	return total, nil
}
