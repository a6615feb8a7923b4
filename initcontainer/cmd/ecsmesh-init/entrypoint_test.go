package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asApplication has the test binary play the application that is wrapped.
const asApplication = "ECSMESH_TEST_APPLICATION"

// application says what happens to it, and does what it is told to on its
// standard input.
func application() int {
	signals := make(chan os.Signal, 100)
	signal.Notify(signals)
	orders := make(chan []string)
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			orders <- strings.Fields(lines.Text())
		}
	}()
	fmt.Println("ready", strings.Join(os.Args[1:], "|"))
	for {
		select {
		case received := <-signals:
			if received != syscall.SIGURG && received != syscall.SIGCHLD { // Go's own and the orphan's
				fmt.Println("signal", int(received.(syscall.Signal)))
			}
		case order := <-orders:
			if code, end := obey(order); end {
				return code
			}
		}
	}
}

func obey(order []string) (code int, end bool) {
	switch order[0] {
	case "say":
		fmt.Println(order[1])
	case "complain":
		fmt.Fprintln(os.Stderr, order[1])
	case "parent":
		fmt.Println("parent", os.Getppid())
	case "where":
		dir, err := os.Getwd()
		fmt.Println(dir, os.Getenv("GREETING"), err)
	case "exit":
		code, err := strconv.Atoi(order[1])
		return code, err == nil
	case "die":
		number, _ := strconv.Atoi(order[1])
		signal.Reset()
		_ = syscall.Kill(os.Getpid(), syscall.Signal(number))
		select {} // what comes next is the signal
	case "orphan":
		// The shell ends first, so that nobody but PID 1 can await its child.
		output, err := exec.Command("sh", "-c", "sleep 0.05 >/dev/null & echo $!").Output()
		pid, _ := strconv.Atoi(strings.TrimSpace(string(output)))
		if err != nil || pid == 0 {
			fmt.Println("no orphan:", err)
			return 1, true
		}
		for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) { // as long as it is a zombie
			time.Sleep(time.Millisecond)
		}
		fmt.Println("the orphan is gone")
	}
	return 0, false
}

// wrapped is an application behind the wrapper.
type wrapped struct {
	command *exec.Cmd
	orders  io.Writer
	says    <-chan string // closed when neither lives
	log     <-chan string
}

// patience is how long tests wait for what must come.
const patience = 30 * time.Second

// wrap starts the application and waits until it is ready. Configure changes
// how, before it does.
func wrap(t *testing.T, configure func(*exec.Cmd), args ...string) *wrapped {
	t.Helper()
	w := &wrapped{command: exec.Command(binary, append([]string{"entrypoint"}, args...)...)}
	w.command.Env = append(os.Environ(), asApplication+"=yes")
	var err error
	if w.orders, err = w.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if configure != nil {
		configure(w.command)
	}
	if w.command.Stdout == nil {
		w.command.Stdout, w.says = pipe(t)
	}
	if w.command.Stderr == nil {
		w.command.Stderr, w.log = pipe(t)
	}
	if err := w.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.command.Process.Kill() })
	for _, end := range []io.Writer{w.command.Stdout, w.command.Stderr} {
		end.(*os.File).Close()
	}
	if w.says != nil {
		w.expect(t, "ready serve|--now")
	}
	return w
}

// pipe returns the end to write to, and the lines that come out of the other.
func pipe(t *testing.T) (*os.File, <-chan string) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return write, linesOf(read)
}

func linesOf(read *os.File) <-chan string {
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		defer read.Close()
		for scanner := bufio.NewScanner(read); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}

// theApplication are the arguments that run it.
func theApplication(t *testing.T, flags ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append(flags, "--", self, "serve", "--now")
}

func (w *wrapped) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := w.command.Process.Signal(sig); err != nil {
		t.Fatalf("send signal %d: %v", sig, err)
	}
}

func (w *wrapped) order(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(w.orders, line); err != nil {
		t.Fatal(err)
	}
}

// expect takes the application's next line.
func (w *wrapped) expect(t *testing.T, want string) {
	t.Helper()
	if got := next(t, w.says); got != want {
		t.Fatalf("the application says %q, want %q", got, want)
	}
}

func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatal("there is no more output")
		}
		return strings.TrimSuffix(line, "\r")
	case <-time.After(patience):
		t.Fatalf("no output for %s", patience)
	}
	return ""
}

func (w *wrapped) expectKeptBack(t *testing.T, grace string) {
	t.Helper()
	want := "ecsmesh-init entrypoint: SIGTERM received; passing it on in " + grace + ", after the mesh has moved new work elsewhere"
	if got := next(t, w.log); got != want {
		t.Errorf("the log says %q, want %q", got, want)
	}
}

func (w *wrapped) expectExit(t *testing.T, want int) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- w.command.Wait() }()
	select {
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatalf("the wrapper lives on for %s", patience)
	}
	if got := w.command.ProcessState.ExitCode(); got != want {
		t.Errorf("exit code %d, want %d", got, want)
	}
}

func TestEntrypointIsAsIfItWereNotThere(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := wrap(t, func(c *exec.Cmd) {
		c.Dir = dir
		c.Env = append(c.Env, "GREETING=hello")
	}, theApplication(t)...)
	w.order(t, "where")
	w.expect(t, dir+" hello <nil>")
	w.order(t, "complain loudly")
	if got := next(t, w.log); got != "loudly" {
		t.Errorf("standard error has %q", got)
	}
	w.order(t, "exit 7")
	w.expectExit(t, 7)
	if line, more := <-w.log; more {
		t.Errorf("the wrapper has something to say: %s", line)
	}
}

func TestEntrypointKeepsOnlySIGTERMBack(t *testing.T) {
	// Where the tests run under nohup, the wrapper must not: what is ignored when
	// it starts stays so. A signal that is handled here is not ignored in a child.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT)
	defer signal.Stop(handled)
	w := wrap(t, nil, theApplication(t, "-grace", "1h")...)
	w.signal(t, syscall.SIGTERM)
	w.expectKeptBack(t, "1h0m0s")
	notPassed := []syscall.Signal{
		syscall.SIGKILL, syscall.SIGSTOP, // can't be caught
		syscall.SIGCHLD, syscall.SIGURG, syscall.SIGPROF, 32, 33, 34, // Go's own
		syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, // stop the wrapper, too
		syscall.SIGTERM,
	}
	for n := syscall.Signal(1); n <= 64; n++ {
		if !slices.Contains(notPassed, n) {
			w.signal(t, n)
			w.expect(t, fmt.Sprint("signal ", int(n)))
		}
	}
	for range 3 { // the second is passed, in place of the first, and all that follow
		w.signal(t, syscall.SIGTERM)
		w.expect(t, "signal 15")
	}
	w.order(t, "exit 0")
	w.expectExit(t, 0)
	if line, more := <-w.says; more {
		t.Errorf("the application got more: %s", line)
	}
}

func TestEntrypointPassesSIGTERMOnAfterTheGracePeriod(t *testing.T) {
	const grace = 200 * time.Millisecond
	w := wrap(t, nil, theApplication(t, "-grace", grace.String())...)
	sent := time.Now()
	w.signal(t, syscall.SIGTERM)
	w.expect(t, "signal 15")
	if kept := time.Since(sent); kept < grace {
		t.Errorf("the application was told after %s", kept)
	}
	w.expectKeptBack(t, "200ms")
	w.order(t, "exit 3")
	w.expectExit(t, 3)
}

// TestEntrypointPassesSIGTERMOnOnce lets the grace period pass after a second
// SIGTERM went instead of the first.
func TestEntrypointPassesSIGTERMOnOnce(t *testing.T) {
	t.Parallel()
	const grace = 3 * time.Second // within which the second SIGTERM comes
	w := wrap(t, nil, theApplication(t, "-grace", grace.String())...)
	w.signal(t, syscall.SIGTERM)
	w.expectKeptBack(t, "3s")
	w.signal(t, syscall.SIGTERM)
	w.expect(t, "signal 15")
	time.Sleep(grace + grace/2)
	w.order(t, "say done")
	w.expect(t, "done")
	w.order(t, "exit 0")
	w.expectExit(t, 0)
}

// TestEntrypointIsToldToStopBeforeItStarts sends SIGTERM in the moment in which
// the wrapper is about to start the application.
func TestEntrypointIsToldToStopBeforeItStarts(t *testing.T) {
	command := exec.Command(binary, "entrypoint", "-grace", "0s", "--", "sleep", "60")
	command.Env = os.Environ()
	told := false
	tr := tracer{command: command, before: func(s step) bool {
		if s.call == "fork" && !told { // Linux begins a fork again after a signal
			told = true
			return command.Process.Signal(syscall.SIGTERM) == nil
		}
		return true
	}}
	if status := tr.run(t); !told || status.ExitStatus() != 128+int(syscall.SIGTERM) {
		t.Errorf("told: %t; exit code %d, and signal %d", told, status.ExitStatus(), status.Signal())
	}
}

// TestEntrypointLeavesIgnoredSignalsIgnored is what nohup does.
func TestEntrypointLeavesIgnoredSignalsIgnored(t *testing.T) {
	const script = `trap "" HUP INT; exec "$0" entrypoint -- sh -c 'kill -HUP $PPID; kill -HUP $$; kill -INT $$; echo alive'`
	code, output := finish(t, exec.Command("sh", "-c", script, binary))
	if code != 0 || output != "alive\n" {
		t.Errorf("exit %d: %q", code, output)
	}
}

func TestEntrypointEndsWithTheApplication(t *testing.T) {
	for order, code := range map[string]int{"exit 0": 0, "exit 255": 255, "die 9": 128 + 9, "die 15": 128 + 15} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			w := wrap(t, nil, theApplication(t, "-grace", "1h")...)
			w.signal(t, syscall.SIGTERM)
			w.expectKeptBack(t, "1h0m0s")
			w.order(t, order)
			w.expectExit(t, code)
		})
	}
}

func TestTheApplicationEndsWithTheEntrypoint(t *testing.T) {
	w := wrap(t, nil, theApplication(t)...)
	w.signal(t, syscall.SIGKILL)
	for {
		select {
		case _, alive := <-w.says:
			if !alive {
				return
			}
		case <-time.After(patience):
			t.Fatal("the application lives on")
		}
	}
}

// TestEntrypointWhoseLogNobodyReads has the log end in a broken pipe, which is
// the wrapper's trouble and not the application's.
func TestEntrypointWhoseLogNobodyReads(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	read.Close()
	w := wrap(t, func(c *exec.Cmd) { c.Stderr = write }, theApplication(t, "-grace", "200ms")...)
	w.signal(t, syscall.SIGTERM)
	w.expect(t, "signal 15")
	w.order(t, "exit 0")
	w.expectExit(t, 0)
}

func TestEntrypointAsPID1(t *testing.T) {
	w := wrap(t, func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
		if os.Getuid() != 0 {
			c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		}
	}, theApplication(t, "-grace", "1h")...)
	w.order(t, "parent")
	w.expect(t, "parent 1")
	for range 3 {
		w.order(t, "orphan")
		w.expect(t, "the orphan is gone")
	}
	w.signal(t, syscall.SIGTSTP) // PID 1 can't be stopped, and goes on
	w.expect(t, "signal 20")
	w.signal(t, syscall.SIGTERM)
	w.expectKeptBack(t, "1h0m0s")
	w.signal(t, syscall.SIGTERM)
	w.expect(t, "signal 15")
	w.order(t, "exit 5")
	w.expectExit(t, 5)
}

// TestEntrypointAtATerminal presses keys.
func TestEntrypointAtATerminal(t *testing.T) {
	master, slave := terminal(t)
	w := wrap(t, func(c *exec.Cmd) {
		c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}, theApplication(t)...)
	w.orders, w.says = master, linesOf(master)
	await := func(want string) {
		t.Helper()
		// The wrapper passes on, too, what the terminal told both.
		for said := ""; said != want; {
			said = next(t, w.says)
		}
	}
	press := func(key string) {
		t.Helper()
		if _, err := io.WriteString(master, key); err != nil {
			t.Fatal(err)
		}
	}
	await("ready serve|--now")
	w.order(t, "say hello")
	await("hello")
	press("\x03") // Ctrl-C
	await("signal 2")
	press("\x1a") // Ctrl-Z
	await("signal 20")
	w.awaitState(t, 'T')
	if err := syscall.Kill(-w.command.Process.Pid, syscall.SIGCONT); err != nil { // as fg does
		t.Fatal(err)
	}
	await("signal 18")
	w.order(t, "say again")
	await("again")
	w.order(t, "exit 4")
	w.expectExit(t, 4)
}

// awaitState waits for the wrapper to be in a state by its letter in proc(5).
func (w *wrapped) awaitState(t *testing.T, want byte) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.command.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		if after[0] == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the wrapper's state is %c, want %c", after[0], want)
		}
	}
}

func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Else the terminal mixes what is pressed with what the application says,
	// and throws that away at Ctrl-C and Ctrl-Z.
	modes, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	modes.Lflag = modes.Lflag&^unix.ECHO | unix.NOFLSH
	if err := unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, modes); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// TestEntrypointThatCanNotStart has one row for everything that can be wrong
// with the command.
func TestEntrypointThatCanNotStart(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"data": 0o644, "garbage": 0o755} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte{0, 1, 2}, mode); err != nil {
			t.Fatal(err)
		}
	}
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"":                               {2, "ecsmesh-init entrypoint: no command to run"},
		"--":                             {2, "ecsmesh-init entrypoint: no command to run"},
		"-grace 5 -- true":               {2, `invalid value "5" for flag -grace`},
		"-grace -1s -- true":             {2, "-grace is -1s; want 0s or more"},
		"-forever -- true":               {2, "flag provided but not defined: -forever"},
		"-- no-such-program":             {127, `start the application: exec: "no-such-program": executable file not found`},
		"-- " + dir + "/nothing":         {127, dir + "/nothing: no such file or directory"},
		"-- " + dir + "/data":            {126, dir + `/data": permission denied`},
		"-- " + dir:                      {126, dir + `": is a directory`},
		"-- " + dir + "/garbage":         {126, dir + "/garbage: exec format error"},
		"true -grace x":                  {0, ""}, // the application's own flag
		"-grace 1s true":                 {0, ""},
		"-grace 0s -- sh -c exit\t9":     {9, ""},
		"sh -c kill\t-KILL\t$$;sleep\t9": {137, ""},
	} {
		split := strings.Fields(strings.ReplaceAll(args, "\t", "\x00"))
		for i := range split {
			split[i] = strings.ReplaceAll(split[i], "\x00", " ")
		}
		code, output := finish(t, exec.Command(binary, append([]string{"entrypoint"}, split...)...))
		if code != want.code || !strings.Contains(lastLine(output), want.text) {
			t.Errorf("%q: exit %d, want %d and %q:\n%s", args, code, want.code, want.text, output)
		}
	}
}
