// Package sam holds the project to AWS's SAM CLI, the real one: what it builds,
// runs in Docker, packages and deploys is what users get. `make test-sam` runs
// it, since it takes Docker.
package sam

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"ecsmesh/e2e/tools"
)

const (
	startTime = time.Minute
	stopTime  = 30 * time.Second

	// bridge is the network that every Docker daemon makes, and leaves behind.
	bridge = "docker0"
)

// docker is a Docker daemon: one that runs here, or one of the test's own.
type docker struct {
	env  []string // for those who use it, beside their own
	stop func() error
}

// startDocker uses the daemon that answers, and starts one where none does. It
// has all in dir, which is empty.
func startDocker(ctx context.Context, dir string) (*docker, error) {
	found := &docker{stop: func() error { return nil }}
	if found.run(ctx, nil, "info") == nil {
		return found, nil
	}
	d, err := launchDocker(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("start a Docker daemon: %w", err)
	}
	return d, nil
}

// launchDocker starts a daemon that leaves the host's firewall and routes alone.
// So its containers reach the host, and nobody else.
func launchDocker(ctx context.Context, dir string) (*docker, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("it takes root; start Docker, or run this as root")
	}
	root, err := tools.Root()
	if err != nil {
		return nil, err
	}
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	d := &docker{env: []string{"DOCKER_HOST=" + socket}}
	program, err := exec.LookPath("dockerd")
	if err != nil { // then setup.sh has unpacked one
		unpacked := filepath.Join(root, ".tools", "docker")
		program = filepath.Join(unpacked, "usr/sbin/dockerd")
		libraries, _ := filepath.Glob(filepath.Join(unpacked, "usr/lib/*-linux-gnu")) // the pattern is good
		more, _ := filepath.Glob(filepath.Join(unpacked, "lib/*-linux-gnu"))
		path := filepath.Dir(program) + ":" + filepath.Join(unpacked, "usr/bin") + ":" + os.Getenv("PATH")
		d.env = append(d.env, "PATH="+path)
		defer func(env []string) { d.env = env }(d.env) // the libraries are the daemon's alone
		d.env = append(d.env, "LD_LIBRARY_PATH="+strings.Join(append(libraries, more...), ":"))
	}
	log, err := os.Create(filepath.Join(dir, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	_, err = os.Stat("/sys/class/net/" + bridge)
	hadBridge := err == nil
	daemon := exec.Command(program, "--host", socket, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "docker.pid"),
		"--storage-driver", "vfs", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
	daemon.Env = append(os.Environ(), d.env...)
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM} // Ctrl-C is for us alone
	runtime.LockOSThread()                                                               // Pdeathsig is of the thread that starts it
	if err := daemon.Start(); err != nil {
		return nil, fmt.Errorf("%w; install Docker", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = daemon.Wait() // its log says why
		close(exited)
	}()
	d.stop = func() error {
		_ = daemon.Process.Signal(syscall.SIGTERM) // which it takes for a wish to end in order
		select {
		case <-exited:
		case <-time.After(stopTime):
			_ = daemon.Process.Kill()
			<-exited
			return fmt.Errorf("stop the Docker daemon: it did not end within %s", stopTime)
		}
		if hadBridge {
			return nil
		}
		if out, err := exec.Command("ip", "link", "delete", bridge).CombinedOutput(); err != nil {
			return fmt.Errorf("remove the network %s: %w: %s", bridge, err, out)
		}
		return nil
	}
	for begun := time.Now(); ; {
		err := d.run(ctx, nil, "info")
		if err == nil {
			return d, nil
		}
		select {
		case <-exited:
		case <-time.After(100 * time.Millisecond):
			if time.Since(begun) < startTime {
				continue
			}
		}
		text, _ := os.ReadFile(log.Name()) // without it there is less to say
		return nil, errors.Join(fmt.Errorf("%w\nits log ends:\n%s", err, text[max(0, len(text)-2000):]), d.stop())
	}
}

// run runs a command of the Docker CLI.
func (d *docker) run(ctx context.Context, stdin []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", args...)
	if cmd.Env = append(os.Environ(), d.env...); cmd.Err != nil {
		path, err := unpackedDocker()
		if err != nil {
			return err
		}
		cmd.Path, cmd.Err = path, nil
	}
	cmd.Stdin = bytes.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("docker %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

func unpackedDocker() (string, error) {
	root, err := tools.Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, ".tools/docker/usr/bin/docker")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find docker: %w (run `make sam-tools` first)", err)
	}
	return path, nil
}

// Architectures, by Go's names.
var architectures = map[string]string{"amd64": "x86_64", "arm64": "arm64"}

// standIn gives Docker an image of the name under which SAM looks for AWS's image
// of the runtime, where it has none. Our functions are static: they take nothing
// of that image but AWS's emulator of the runtime, which comes with SAM too. It
// returns what takes the image away again.
func (d *docker) standIn(ctx context.Context) (remove func() error, err error) {
	arch, ok := architectures[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("make an image of the runtime: Lambda has no functions for %s", runtime.GOARCH)
	}
	name := "public.ecr.aws/lambda/provided:al2023-rapid-" + arch
	if d.run(ctx, nil, "image", "inspect", name) == nil {
		return func() error { return nil }, nil
	}
	root, err := tools.Root()
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(root, ".tools/sam/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-"+arch))
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("make an image of the runtime: found %v, want one aws-lambda-rie-%s (run `make sam-tools` first)", found, arch)
	}
	program, err := os.ReadFile(found[0])
	if err != nil {
		return nil, err
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	header := &tar.Header{Name: "var/rapid/aws-lambda-rie", Mode: 0o755, Size: int64(len(program))}
	err = w.WriteHeader(header)
	if err == nil {
		_, err = w.Write(program)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("make an image of the runtime: %w", err)
	}
	if err := d.run(ctx, image.Bytes(), "import", "-", name); err != nil {
		return nil, fmt.Errorf("make an image of the runtime: %w", err)
	}
	return func() error { return d.run(context.WithoutCancel(ctx), nil, "image", "rm", "--force", name) }, nil
}
