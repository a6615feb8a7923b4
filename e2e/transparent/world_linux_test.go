// Package transparent proves that a task's traffic goes through its Envoy with
// the application knowing nothing of it: real Consul, real Envoys, and real
// rules in network namespaces, as tasks on EC2 have them. The init container
// runs in what its image holds, with the rights that its task definition gives.
package transparent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sys/unix"

	"ecsmesh/e2e/netns"
	"ecsmesh/e2e/tools"
)

var (
	gateway  = netip.MustParseAddr("10.0.0.1") // Consul, AWS, and a stranger to the mesh
	metadata = netip.MustParseAddr("169.254.170.2")
)

const (
	envoyUser   = 101
	application = 1000 // the application's user
	readyWithin = time.Minute
)

// world is a VPC with a Consul server, AWS's endpoints and tasks.
type world struct {
	*netns.VPC
	consul *api.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{VPC: netns.Start(t, gateway, metadata)}
	consul, err := tools.Consul()
	if err != nil {
		t.Fatal(err)
	}
	start(t, &w.Namespace, exec.Command(consul, "agent", "-dev", "-bind", gateway.String(), "-client", gateway.String(),
		"-hcl", "disable_update_check = true", "-log-level", "warn"))
	dial := func(_ context.Context, _, addr string) (net.Conn, error) { return w.Dial(0, addr) }
	w.consul, err = api.NewClient(&api.Config{Address: gateway.String() + ":8500", HttpClient: &http.Client{Transport: &http.Transport{DialContext: dial}}})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "Consul is ready", func() error {
		roots, _, err := w.consul.Connect().CARoots(nil)
		if err == nil && roots.ActiveRootID == "" {
			err = errors.New("its certificate authority has no root")
		}
		return err
	})
	serve(t, &w.Namespace, metadata.String()+":80", func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/credentials" {
			fmt.Fprint(rw, `{"AccessKeyId": "id", "SecretAccessKey": "key", "Token": "token", "Expiration": "2099-01-01T00:00:00Z"}`)
			return
		}
		// The path says which task asks: address, launch type.
		part := strings.Split(r.URL.Path, "/")
		fmt.Fprintf(rw, `{"TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/%s", "Cluster": "prod", "Family": "x", "DesiredStatus": "RUNNING", "LaunchType": %q,
			"VPCID": "vpc-1", "Containers": [{"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [%q]}]}]}`, strings.ReplaceAll(part[1], ".", "0"), part[2], part[1])
	})
	serve(t, &w.Namespace, gateway.String()+":7000", func(rw http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential=id/") {
			http.Error(rw, "not signed with the task's credentials", http.StatusForbidden)
			return
		}
		rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
		fmt.Fprintf(rw, `{"Parameter": {"Type": "StringList", "Value": %q}}`, gateway)
	})
	return w
}

// task is one task, whose init container's root is a folder.
type task struct {
	*netns.Namespace
	world      *world
	root       string
	launchType string
	config     string // but for bootstrapDir and the servers
}

// newTask has the root of the image with iptables: the files of both of its
// parts.
func (w *world) newTask(t *testing.T, address, config string) *task {
	t.Helper()
	root, err := os.MkdirTemp("", "ecsmesh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	iptables, err := tools.Iptables()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := tools.Dist("ecsmesh-init")
	if err != nil {
		t.Fatal(err)
	}
	for _, copied := range [][]string{{iptables + "/.", root}, {binary, filepath.Join(root, "ecsmesh-init")}} {
		if output, err := exec.Command("cp", append([]string{"-r"}, copied...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
	}
	// Envoy runs outside of that root, where the volume has the same path.
	inside := filepath.Join(root, filepath.Dir(root))
	for _, folder := range []string{"proc", "etc", "ecsmesh", strings.TrimPrefix(filepath.Dir(root), "/")} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chmod(root, 0o755), os.Symlink("/", filepath.Join(inside, filepath.Base(root))),
		os.Chown(filepath.Join(root, "ecsmesh"), envoyUser, envoyUser)); err != nil {
		t.Fatal(err)
	}
	return &task{w.Connect(t, netip.MustParseAddr(address)), w, root, "EC2", config}
}

func (k *task) volume() string { return filepath.Join(k.root, "ecsmesh") }

func (k *task) environment() []string {
	return []string{
		"PATH=/usr/sbin", "AWS_REGION=eu-west-1", "AWS_ENDPOINT_URL_SSM=http://" + gateway.String() + ":7000", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/credentials",
		fmt.Sprintf("ECS_CONTAINER_METADATA_URI_V4=http://%s/%s/%s", metadata, k.Address, k.launchType),
		fmt.Sprintf(`ECSMESH_CONFIG={"bootstrapDir": %q, "consulServers": {"defaults": {"tls": false}}, %s}`, k.volume(), k.config),
	}
}

// capabilities are those that the task definition leaves to the init container.
var capabilities = []uintptr{unix.CAP_NET_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID}

// register runs the init container as root that has no capabilities but these.
func (k *task) register(capabilities ...uintptr) (code int, log string) {
	return k.run(context.Background(), func(command *exec.Cmd) { command.SysProcAttr.Credential = &syscall.Credential{} }, capabilities...)
}

func (k *task) run(ctx context.Context, change func(*exec.Cmd), capabilities ...uintptr) (code int, log string) {
	var output bytes.Buffer
	command := exec.CommandContext(ctx, "/ecsmesh-init", "register", "-timeout", "20s")
	command.Env, command.Stdin, command.Stdout, command.Stderr = k.environment(), strings.NewReader(""), &output, &output
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: k.root}
	command.Dir = "/"
	change(command)
	err := k.Aside(func() error {
		// A view of /proc of the container's own, which ends with it.
		if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
			unix.Mount("proc", filepath.Join(k.root, "proc"), "proc", 0, "")); err != nil {
			return err
		}
		for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
			if !slices.Contains(capabilities, capability) {
				if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
					return err
				}
			}
		}
		return command.Run()
	})
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err.Error()
	}
	return command.ProcessState.ExitCode(), output.String()
}

// rules are the kernel's table, as iptables of the image lists it.
func (k *task) rules(t *testing.T) string {
	t.Helper()
	output, err := k.iptables("-S")
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return output
}

func (k *task) iptables(arguments ...string) (string, error) {
	command := exec.Command("/usr/sbin/iptables", append([]string{"-t", "nat"}, arguments...)...)
	command.SysProcAttr, command.Dir, command.Stdin = &syscall.SysProcAttr{Chroot: k.root}, "/", strings.NewReader("")
	var output []byte
	err := k.Do(func() (err error) {
		output, err = command.CombinedOutput()
		return err
	})
	return string(output), err
}

// startAs runs a program as a user, by its file: a checkout may be where that
// user can't get to.
func (k *task) startAs(t *testing.T, user uint32, find func() (string, error), arguments ...string) *exec.Cmd {
	t.Helper()
	path, err := find()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	command := exec.Command("/proc/self/fd/3", arguments...)
	command.ExtraFiles, command.Dir = []*os.File{file}, "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	start(t, k.Namespace, command)
	return command
}

// startEnvoy returns when the task passes.
func (k *task) startEnvoy(t *testing.T) *exec.Cmd {
	t.Helper()
	envoy := k.startAs(t, envoyUser, tools.Envoy, "-c", filepath.Join(k.volume(), "envoy-bootstrap.json"), "--disable-hot-restart", "--concurrency", "1", "-l", "warning")
	eventually(t, "the task at "+k.Address.String()+" passes", func() error {
		code, log := k.check()
		if code != 0 {
			return errors.New(log)
		}
		checks, _, err := k.world.consul.Health().Node("ecs-"+strings.ReplaceAll(k.Address.String(), ".", "0"), nil)
		if err == nil && checks.AggregatedStatus() != api.HealthPassing {
			err = fmt.Errorf("%+v", checks)
		}
		return err
	})
	return envoy
}

// check is the health check of Envoy's container.
func (k *task) check() (code int, log string) { return k.execute(envoyUser, "check", "-refresh", "1s") }

// execute runs the program that is on the volume in another container, as a user.
func (k *task) execute(user uint32, arguments ...string) (code int, log string) {
	command := exec.Command(filepath.Join(k.volume(), "bin", "ecsmesh-init"), arguments...)
	command.Env, command.Dir = k.environment(), "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	var output []byte
	err := k.Do(func() (err error) {
		output, err = command.CombinedOutput()
		return err
	})
	if err != nil && command.ProcessState == nil {
		return -1, err.Error()
	}
	return command.ProcessState.ExitCode(), string(output)
}

// get asks for a URL from within a task, as a user.
func get(from *netns.Namespace, user int, url string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(_ context.Context, _, addr string) (net.Conn, error) { return from.Dial(user, addr) },
	}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}

// serve answers at an address inside of a namespace.
func serve(t *testing.T, in *netns.Namespace, addr string, handler http.HandlerFunc) {
	t.Helper()
	var listener net.Listener
	if err := in.Do(func() (err error) {
		listener, err = net.Listen("tcp4", addr)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
}

func says(text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, text) }
}

// start runs a program inside of a namespace until the test ends.
func start(t *testing.T, in *netns.Namespace, command *exec.Cmd) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = log, log
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := in.Do(command.Start); err != nil {
		t.Fatalf("start %s: %v", command, err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		_ = log.Close()
		if t.Failed() {
			content, _ := os.ReadFile(log.Name())
			t.Logf("the log of %s ends:\n%s", command, content[max(0, len(content)-16<<10):])
		}
	})
}

func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	err := condition()
	for end := time.Now().Add(readyWithin); err != nil && time.Now().Before(end); err = condition() {
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("%s: not after %s: %v", what, readyWithin, err)
	}
}
