// Package usage measures what one run of a program takes.
package usage

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a process took, and those that it waited for.
type Usage struct {
	Wall    time.Duration // from before its start until it was gone
	CPU     time.Duration // of user and system
	Peak    int64         // bytes of memory that were resident at most
	Written int64         // bytes, to files, pipes and connections
}

// Of runs a command to its end. What it prints goes to standard error. The peak
// of memory is right only where this process is small, for Linux has a child
// begin with its parent's.
func Of(argv []string) (Usage, error) {
	command := exec.Command(argv[0], argv[1:]...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	if err := command.Start(); err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", argv[0], err)
	}
	// It is dead then, and still in /proc.
	if err := awaitEnd(command.Process.Pid); err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", argv[0], err)
	}
	used := Usage{Wall: time.Since(began)}
	var err error
	if used.Written, err = written(command.Process.Pid); err != nil {
		return Usage{}, fmt.Errorf("measure %s: %w", argv[0], err)
	}
	if err := command.Wait(); err != nil {
		return Usage{}, fmt.Errorf("run %s: %w", argv[0], err)
	}
	resources := command.ProcessState.SysUsage().(*syscall.Rusage)
	used.CPU = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	used.Peak = resources.Maxrss << 10
	return used, nil
}

func awaitEnd(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR { //nolint:errorlint // the plain number of the system call
			return err
		}
	}
}

// written is what a process gave to write and its like, whether or not that
// went to a disk.
func written(pid int) (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(content, []byte("wchar: "))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	return strconv.ParseInt(string(line), 10, 64)
}
