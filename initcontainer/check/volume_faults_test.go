package check

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// container is a mount namespace in which the program runs as it does in a
// task, and in which the shared volume can be given any fault that a real one
// has. Nobody needs to be root for it: within a user namespace of its own, a
// process may mount.
type container struct {
	volume string // where the volume is mounted

	commands io.WriteCloser // of the shell that keeps the namespace
	codes    *bufio.Scanner // with which they ended
	output   string         // a file, with what the last one wrote
}

const noNamespaces = "The kernel has to let this user create user and mount namespaces: look at the sysctls user.max_user_namespaces, " +
	"kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, and, in Docker, at the seccomp profile."

// newContainer mounts a volume. The options are those of a tmpfs.
func newContainer(t *testing.T, b *bench, options string) *container {
	t.Helper()
	c := &container{volume: t.TempDir(), output: filepath.Join(t.TempDir(), "output")}
	shell := exec.Command("/bin/sh")
	shell.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"V=" + c.volume,
		"ECS_CONTAINER_METADATA_URI_V4=" + b.run.Getenv(""),
		fmt.Sprintf(`ECSMESH_CONFIG={"bootstrapDir": %q, "service": {"name": "api", "port": 80}, "consulServers": {"hosts": %q, "defaults": {"tls": false}}}`,
			c.volume, b.consul.Addr),
	}
	shell.Stderr = os.Stderr
	shell.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	stdout, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.commands, err = shell.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	c.codes = bufio.NewScanner(stdout)
	if err := shell.Start(); err != nil {
		t.Fatalf("start a shell in namespaces of its own: %v\n%s", err, noNamespaces)
	}
	t.Cleanup(func() {
		_ = c.commands.Close() // ends the shell, as the end of the test's process does
		_ = shell.Wait()
	})
	if code, output := c.run(t, `mount -t tmpfs -o `+options+` tmpfs "$V"`); code != 0 {
		t.Fatalf("mount a volume: exit %d: %s\n%s", code, output, noNamespaces)
	}
	return c
}

// run runs a line of shell in the container.
func (c *container) run(t *testing.T, line string) (code int, output string) {
	t.Helper()
	fmt.Fprintf(c.commands, "( %s ) >'%s' 2>&1; echo $?\n", line, c.output)
	if !c.codes.Scan() {
		t.Fatalf("%s: the shell has ended", line)
	}
	code, err := strconv.Atoi(c.codes.Text())
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(c.output)
	if err != nil {
		t.Fatal(err)
	}
	return code, string(written)
}

// do is run for what has to succeed.
func (c *container) do(t *testing.T, line string) (output string) {
	t.Helper()
	code, output := c.run(t, line)
	if code != 0 {
		t.Fatalf("%s: exit %d:\n%s", line, code, output)
	}
	return output
}

// checkLine is Envoy's health check.
const checkLine = `"$V/bin/ecsmesh-init" check -refresh 1s`

// buildInit builds the program as it ships.
func buildInit(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ecsmesh-init")
	build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "../cmd/ecsmesh-init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build ecsmesh-init: %v\n%s", err, output)
	}
	return path
}

// TestCheckOnAVolumeThatFails has the volume fail before the first run or
// later, while the application and Envoy come and go: ECS and Consul are told
// of everything all the same. But a task is not registered again as long as
// nobody can remember that it was.
func TestCheckOnAVolumeThatFails(t *testing.T) {
	binary := buildInit(t)
	for what, fault := range map[string]struct{ options, fail, mend string }{
		"it is full": {
			"size=64m", `! head -c 64m /dev/zero >"$V/filler"`, `rm "$V/filler"`,
		},
		"it takes no more files": {
			"nr_inodes=40", `i=0; while touch "$V/filler$i"; do i=$((i + 1)); done`, `rm "$V"/filler*`,
		},
		"it is read-only": {
			"size=64m", `mount -o remount,bind,ro "$V"`, `mount -o remount,bind,rw "$V"`,
		},
	} {
		for when, runs := range map[string]int{"from the first run on": 0, "later": 1} {
			t.Run(what+" "+when, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				if err := b.run.Volume.CopyBinary(binary); err != nil {
					t.Fatal(err)
				}
				c := newContainer(t, b, fault.options)
				c.do(t, fmt.Sprintf(`cp -a '%s/.' "$V"`, b.run.Volume))
				for range runs {
					c.do(t, checkLine)
				}
				c.do(t, fault.fail)

				for range 2 {
					b.app.Store(500)
					c.do(t, checkLine)
					b.expect(t, "critical", "passing", "critical")
					b.app.Store(200)
					c.do(t, checkLine)
					b.expect(t, "passing", "passing", "passing")
				}
				b.envoy.Store(503)
				if code, output := c.run(t, checkLine); code != 1 || !strings.Contains(output, "Envoy: it is not ready") {
					t.Errorf("Envoy is not ready, and ECS is told %d:\n%s", code, output)
				}
				b.expect(t, "passing", "passing", "critical")
				b.envoy.Store(200)
				c.do(t, checkLine)
				b.expect(t, "passing", "passing", "passing")

				b.vanish(t)
				for looks := 0; looks < 3; {
					if strings.Contains(c.do(t, checkLine), "the task is not looked after") {
						looks++
					}
				}
				if b.registered(t) {
					t.Error("it is registered again, and nobody can remember it")
				}

				// What was told meanwhile, and not remembered, misleads nobody.
				if _, err := b.task.Registration.Write(t.Context(), b.client); err != nil {
					t.Fatal(err)
				}
				b.app.Store(500)
				c.do(t, checkLine)
				b.app.Store(200)
				c.do(t, fault.mend)
				b.awaitPassing(t, c)
				b.vanish(t)
				b.awaitPassing(t, c)
			})
		}
	}
}

// awaitPassing runs the health check, as ECS does, until the task takes
// traffic: soon after its next look at what Consul has.
func (b *bench) awaitPassing(t *testing.T, c *container) {
	t.Helper()
	const patience = 30 * time.Second // of which it needs two seconds
	var output string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		output = c.do(t, checkLine)
		if found := b.checks(t); len(found) == 3 && found["health"] == "passing" && found["port"] == "passing" && found["sidecar-proxy-envoy"] == "passing" {
			return
		}
	}
	t.Fatalf("after %s Consul has %v; the last run says:\n%s", patience, b.checks(t), output)
}

// TestRegisterOnAVolumeThatFails wants one error that says what to do.
func TestRegisterOnAVolumeThatFails(t *testing.T) {
	binary := buildInit(t)
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4 << 10
	pages := (info.Size() + page - 1) / page
	for what, test := range map[string]struct {
		options, fail string
		want          []string
		registered    bool
	}{
		"it is full": {
			options: "size=64k", fail: "true",
			want: []string{"bin/ecsmesh-init on the shared volume", "no space left on device", "give the task more ephemeral storage"},
		},
		// The task is in Consul by then, where it takes no traffic; when ECS
		// stops it, it is deregistered as any other.
		"it is full after the binary": {
			options: fmt.Sprintf("size=%d", pages*page), fail: "true",
			want:       []string{"consul-servers.json on the shared volume", "no space left on device", "give the task more ephemeral storage"},
			registered: true,
		},
		"it takes no more files": {
			options: "nr_inodes=3", fail: "true",
			want: []string{"on the shared volume", "no space left on device", "give the task more ephemeral storage"},
		},
		"it is read-only": {
			options: "size=64m", fail: `mount -o remount,bind,ro "$V"`,
			want: []string{"on the shared volume", "read-only file system", "mount the volume so that this container may write to it"},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.vanish(t)
			b.members.Store(`[{"Name": "app", "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.5"]}]}]`)
			c := newContainer(t, b, test.options)
			c.do(t, test.fail)
			code, output := c.run(t, fmt.Sprintf("'%s' register -timeout 20s", binary))
			lines := strings.Split(strings.TrimSpace(output), "\n")
			last := lines[len(lines)-1]
			if code != 1 || strings.Count(output, "ecsmesh-init register: ") != 1 || !strings.HasPrefix(last, "ecsmesh-init register: ") {
				t.Errorf("exit %d, and not one error at the end:\n%s", code, output)
			}
			for _, words := range append(test.want, "the shared volume "+c.volume) {
				if !strings.Contains(last, words) {
					t.Errorf("the error doesn't say %q: %s", words, last)
				}
			}
			if got := b.registered(t); got != test.registered {
				t.Errorf("registered: %t, want %t", got, test.registered)
			}
			if test.registered {
				for id, status := range b.checks(t) {
					if status != "critical" {
						t.Errorf("check %s is %s", id, status)
					}
				}
			}
		})
	}
}
