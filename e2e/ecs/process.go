package ecs

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// launcher starts processes that can't outlive this one. The kernel kills a
// child when the thread that started it ends, so all of them are started from
// one thread, which lives as long as the launcher: then nothing stays behind,
// whatever ends this program, SIGKILL included.
type launcher struct {
	starts chan func()
}

func newLauncher() *launcher {
	l := &launcher{starts: make(chan func())}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for start := range l.starts {
			start()
		}
	}()
	return l
}

// start is exec.Cmd.Start with a process group of its own for the child.
func (l *launcher) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done := make(chan error)
	l.starts <- func() { done <- cmd.Start() }
	return <-done
}

// close kills what still runs.
func (l *launcher) close() { close(l.starts) }

// program is a command line in its environment: a container's or a health
// check's.
type program struct {
	args []string
	env  []string
	dir  string
}

// start runs the program with its output appended to the log file.
func (p program) start(l *launcher, log *os.File) (*process, error) {
	path, err := p.find()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: p.args, Env: p.env, Dir: p.dir, Stdout: log, Stderr: log}
	if err := l.start(cmd); err != nil {
		return nil, err
	}
	proc := &process{pid: cmd.Process.Pid, exited: make(chan struct{})}
	go func() {
		defer close(proc.exited)
		proc.exitCode = exitCode(cmd.Wait())
		proc.kill() // as in a container, nothing outlives the first process
	}()
	return proc, nil
}

// find looks the program up in its own PATH, not in this process's.
func (p program) find() (string, error) {
	name := p.args[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, variable := range p.env {
		dirs, ok := strings.CutPrefix(variable, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// process is a started program with all of its children.
type process struct {
	pid      int           // also the ID of its process group
	exited   chan struct{} // closed at the exit
	exitCode int           // valid after exited
}

// terminate asks the first process alone to end, as Docker does.
func (p *process) terminate() { _ = syscall.Kill(p.pid, syscall.SIGTERM) }

// kill ends the whole group. That it may be gone already is fine.
func (p *process) kill() { _ = syscall.Kill(-p.pid, syscall.SIGKILL) }

// run waits for the exit; where ctx ends first it kills the process.
func (p *process) run(ctx context.Context) (exitCode int, err error) {
	select {
	case <-p.exited:
		return p.exitCode, nil
	case <-ctx.Done():
		p.kill()
		<-p.exited
		return p.exitCode, context.Cause(ctx)
	}
}

// exitCode is the code that Docker and ECS report: 128 plus the signal's
// number for a process that a signal ended.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return 255
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
