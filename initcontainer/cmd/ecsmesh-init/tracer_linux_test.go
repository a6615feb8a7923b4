package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// step is a system call by which a program changes something outside of
// itself: a file, what is at the other end of a connection, or a process.
type step struct{ call, object string }

func (s step) String() string { return s.call + " " + s.object }

// outside tells whether the object is. What is no file, as the program's own
// event queue, or its log, is not.
func (s step) outside() bool {
	return strings.HasPrefix(s.object, "/") && !strings.HasPrefix(s.object, "/dev/")
}

// tracer runs a program and stops it before each of its steps, with ptrace(2).
// It knows those of Linux on amd64 and arm64.
type tracer struct {
	command *exec.Cmd

	// before is called for every step, and has the program killed instead
	// of taking it by returning false.
	before func(step) bool

	sockets map[string]string // what they are connected to: /address:port
	last    step
}

// run returns how the program ended.
func (tr *tracer) run(t *testing.T) syscall.WaitStatus {
	t.Helper()
	// Of the tracer's threads only one may trace.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A process group of its own tells its threads from other children.
	tr.command.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	tr.sockets = map[string]string{}
	if err := tr.command.Start(); err != nil {
		t.Fatal(err)
	}
	pid := tr.command.Process.Pid
	defer func() { _ = tr.command.Process.Release() }() // what Wait does otherwise
	known, killed := map[int]bool{}, false
	for {
		var status syscall.WaitStatus
		thread, err := syscall.Wait4(-pid, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			t.Fatalf("wait for the traced program: %v", err)
		case !status.Stopped():
			if thread == pid {
				return status
			}
			continue
		}
		deliver := 0
		switch stop := status.StopSignal(); {
		case stop == syscall.SIGTRAP|0x80: // a system call begins or ends
			step, err := tr.step(thread)
			if err != nil {
				t.Fatal(err)
			}
			if step.outside() && !killed && !tr.repeats(step) && !tr.before(step) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killed = true
				continue
			}
		case thread == pid && !known[thread]: // it has just begun
			if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
				t.Fatalf("trace the program: %v", err)
			}
		case stop == syscall.SIGTRAP: // there is a new thread
		case stop == syscall.SIGSTOP && !known[thread]: // the new thread itself
		default:
			deliver = int(stop)
		}
		known[thread] = true
		if err := unix.PtraceSyscall(thread, deliver); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatalf("let the traced program go on: %v", err)
		}
	}
}

// repeats tells whether a step only goes on with the one before it. In how many
// parts the kernel copies a file depends on the signals that come in between, such
// as those by which Go has its goroutines take turns.
func (tr *tracer) repeats(s step) bool {
	repeats := s.call == "copy" && s == tr.last
	tr.last = s
	return repeats
}

// systemCall is what PTRACE_GET_SYSCALL_INFO tells.
type systemCall struct {
	Op     uint8
	_      [3]uint8
	Arch   uint32
	_      [2]uint64 // instruction and stack pointer
	Number uint64
	Args   [6]uint64
	_      [2]uint64
}

// step reads what the stopped thread is about to do.
func (tr *tracer) step(thread int) (step, error) {
	var call systemCall
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(thread), unsafe.Sizeof(call), uintptr(unsafe.Pointer(&call)), 0, 0)
	if errno == syscall.ESRCH { // it ended with the others while it was stopped
		return step{}, nil
	}
	if errno != 0 {
		return step{}, fmt.Errorf("read a system call: %w", errno)
	}
	if call.Op != unix.PTRACE_SYSCALL_INFO_ENTRY {
		return step{}, nil
	}
	path := func(arg int) string { return text(thread, call.Args[arg]) }
	file := func(arg int) string { return tr.file(thread, call.Args[arg]) }
	switch call.Number {
	case unix.SYS_OPENAT:
		if call.Args[2]&(unix.O_WRONLY|unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC) != 0 {
			return step{"open", path(1)}, nil
		}
	case unix.SYS_MKDIRAT:
		return step{"mkdir", path(1)}, nil
	case unix.SYS_UNLINKAT:
		if call.Args[2]&unix.AT_REMOVEDIR != 0 {
			return step{"rmdir", path(1)}, nil
		}
		return step{"unlink", path(1)}, nil
	case unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2:
		return step{"chmod", path(1)}, nil
	case unix.SYS_SYMLINKAT:
		return step{"symlink", path(2)}, nil
	case unix.SYS_LINKAT:
		return step{"link", path(3)}, nil
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		return step{"rename", path(3)}, nil
	case unix.SYS_FCHMOD:
		return step{"chmod", file(0)}, nil
	case unix.SYS_FTRUNCATE:
		return step{"truncate", file(0)}, nil
	case unix.SYS_WRITE, unix.SYS_WRITEV, unix.SYS_PWRITE64, unix.SYS_SENDTO, unix.SYS_SENDMSG:
		return step{"write", file(0)}, nil
	case unix.SYS_SENDFILE:
		return step{"copy", file(0)}, nil
	case unix.SYS_COPY_FILE_RANGE, unix.SYS_SPLICE:
		return step{"copy", file(2)}, nil
	case unix.SYS_CONNECT:
		return step{"connect", tr.connects(thread, call.Args)}, nil
	case unix.SYS_CLONE:
		if call.Args[0]&unix.CLONE_VFORK != 0 { // else it is a thread
			return step{"fork", "/a process"}, nil
		}
	}
	return step{}, nil
}

// file names what a descriptor stands for.
func (tr *tracer) file(thread int, descriptor uint64) string {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", thread, int32(descriptor)))
	if err != nil {
		return ""
	}
	if peer, ok := tr.sockets[target]; ok {
		return peer
	}
	return target
}

// connects names the IP address and port that a socket is to connect to.
func (tr *tracer) connects(thread int, args [6]uint64) string {
	socket := tr.file(thread, args[0])
	peer := "/another kind of address"
	address := make([]byte, args[2])
	if _, err := unix.PtracePeekData(thread, uintptr(args[1]), address); err == nil && address[0] == unix.AF_INET {
		peer = "/" + netip.AddrPortFrom(netip.AddrFrom4([4]byte(address[4:8])), uint16(address[2])<<8|uint16(address[3])).String()
	}
	tr.sockets[socket] = peer
	return peer
}

// text reads a string of the traced program.
func text(thread int, address uint64) string {
	var (
		all  []byte
		part [8]byte
	)
	for {
		if _, err := unix.PtracePeekData(thread, uintptr(address)+uintptr(len(all)), part[:]); err != nil {
			return string(all)
		}
		if end := bytes.IndexByte(part[:], 0); end >= 0 {
			return string(append(all, part[:end]...))
		}
		all = append(all, part[:]...)
	}
}
