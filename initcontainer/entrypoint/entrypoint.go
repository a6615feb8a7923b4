// Package entrypoint wraps the application's command. ECS tells an application
// to stop in the same moment in which it tells the mesh; the wrapper keeps
// SIGTERM back for a grace period, in which the mesh moves new work elsewhere.
// In all else it is as if it were not there: signals go through, and standard
// input and output, the environment, the working directory and the exit code
// are the application's own.
package entrypoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultGrace is many times what a drain takes to reach all of the mesh. With
// it, ECS's default stopTimeout of 30 s leaves the application 20 s.
const DefaultGrace = 10 * time.Second

// Exit codes for an application that could not be started, and what is added
// to the signal that ended it: those of a shell.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// exitFailure is of the wrapper itself.
const exitFailure = 1

// Wrapper is the wrapped command.
type Wrapper struct {
	Command []string      // name or path, and its arguments; never empty
	Grace   time.Duration // between the first SIGTERM and the application's
	Log     io.Writer     // is told when the grace period begins
}

// Run runs the command to its end and returns its exit code, or 128 plus the
// number of the signal that ended it. An error says why there is no such end;
// the exit code is then the wrapper's. Nothing else in the process may await
// children or handle signals meanwhile.
func (w Wrapper) Run() (code int, err error) {
	path, err := exec.LookPath(w.Command[0])
	if err != nil && !errors.Is(err, exec.ErrDot) { // a PATH with "." is the user's choice
		return exitCodeOf(err), fmt.Errorf("start the application: %w", err)
	}
	// From before there is an application, so that none is lost.
	signals := make(chan os.Signal, 2*lastSignal)
	signal.Notify(signals, passedOn()...)
	defer signal.Stop(signals)

	// Linux kills the application with the thread that started it. This one
	// lives as long as the wrapper.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pid, err := syscall.ForkExec(path, w.Command, &syscall.ProcAttr{ //nolint:gosec // what a wrapper is for
		Env:   os.Environ(),
		Files: []uintptr{0, 1, 2},
		Sys:   endWithParent(),
	})
	if err != nil {
		return exitCodeOf(err), fmt.Errorf("start the application: %s: %w", path, err)
	}
	// A handle, since the number may be another's once the application ended.
	application, err := os.FindProcess(pid)
	if err != nil {
		return exitFailure, fmt.Errorf("find the application: %w", err)
	}
	go w.relay(signals, application)
	return wait(pid)
}

func exitCodeOf(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return exitNotFound
	}
	return exitNotExecutable
}

// lastSignal is the highest number of a signal.
const lastSignal = 64

// passedOn are the signals to pass on: all that a Go program can receive,
// which leaves out SIGKILL, SIGSTOP, SIGPROF and 32 to 34.
func passedOn() []os.Signal {
	var all []os.Signal
	for n := syscall.Signal(1); n <= lastSignal; n++ {
		switch {
		case n == syscall.SIGCHLD: // of the wrapper's own children
		case n == syscall.SIGURG: // of Go's own scheduler
		case signal.Ignored(n): // as under nohup; the application inherits it
		default:
			all = append(all, n)
		}
	}
	return all
}

// relay passes signals on, until the process ends.
func (w Wrapper) relay(signals <-chan os.Signal, application *os.Process) {
	var (
		asked      bool             // to stop, for the first time
		grace      <-chan time.Time // while a SIGTERM is kept back
		announcing atomic.Bool
	)
	for {
		var received os.Signal
		select {
		case <-grace:
			received = syscall.SIGTERM
		case received = <-signals:
		}
		switch {
		case received == syscall.SIGTERM && !asked:
			asked = true
			grace = time.After(w.Grace)
			announcing.Store(true)
			go w.announce(&announcing) // a log may block
			continue
		case received == syscall.SIGTERM:
			grace = nil // a second one goes instead of the first
		case received == syscall.SIGPIPE && announcing.Load():
			continue
		}
		_ = application.Signal(received) // one that has ended needs none
		switch received {
		case syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU:
			// The shell at a terminal waits for the wrapper to stop. As PID 1
			// it can't, and nobody waits.
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
	}
}

// announce writes the wrapper's one line. If nobody reads its log, it leaves
// announcing true: a SIGPIPE is then the wrapper's own.
func (w Wrapper) announce(announcing *atomic.Bool) {
	_, err := fmt.Fprintf(w.Log, "ecsmesh-init entrypoint: SIGTERM received; passing it on in %s, after the mesh has moved new work elsewhere\n", w.Grace)
	announcing.Store(err != nil)
}

// wait returns the exit code of the child. Until then it takes in all children
// that end: as PID 1 the wrapper inherits those that the application orphans.
func wait(child int) (code int, err error) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return exitFailure, fmt.Errorf("wait for the application: %w", err)
		case pid != child:
		case status.Signaled():
			return exitSignal + int(status.Signal()), nil
		default:
			return status.ExitStatus(), nil
		}
	}
}
