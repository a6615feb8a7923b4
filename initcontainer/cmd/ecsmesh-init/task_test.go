package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/tools"
)

// meshTask is a task at an address of its own, with its program, a real Envoy
// and Envoy's health check.
type meshTask struct {
	id       string
	address  string
	env      []string
	volume   string
	stopping atomic.Bool // as ECS says within the task
}

// startTask registers a task and runs its Envoy until the test ends. OWN in the
// configuration's fields stands for the task's address. More goes into the
// environment of the init container.
func startTask(t *testing.T, server *consultest.Server, fields string, env ...string) *meshTask {
	t.Helper()
	task := newTask(t)
	task.env = append(task.env, env...)
	task.configure(server, fields)
	task.register(t)
	task.startEnvoy(t)
	return task
}

// newTask is a task that has its metadata, and no configuration yet.
func newTask(t *testing.T) *meshTask {
	t.Helper()
	task := &meshTask{
		id:      fmt.Sprintf("%032x", rand.Uint64()),
		address: netip.AddrFrom4([4]byte{127, 6, byte(rand.IntN(256)), byte(1 + rand.IntN(254))}).String(),
		volume:  t.TempDir(),
	}
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		desired := "RUNNING"
		if task.stopping.Load() {
			desired = "STOPPED"
		}
		fmt.Fprintf(w, `{"TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/%s", "Family": "Gateway", "DesiredStatus": %q, "Containers": [{"Name": "app", "Health": {"status": "HEALTHY"}, "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [%q]}]}]}`, task.id, desired, task.address)
	}))
	t.Cleanup(metadata.Close)
	task.env = []string{"PATH=" + os.Getenv("PATH"), "ECS_CONTAINER_METADATA_URI_V4=" + metadata.URL}
	return task
}

// configure gives the task a configuration of these fields.
func (m *meshTask) configure(server *consultest.Server, fields string) {
	m.env = append(m.env, fmt.Sprintf(`ECSMESH_CONFIG={"bootstrapDir": %q, "consulServers": {"hosts": %q, "defaults": {"tls": %t}}, %s}`,
		m.volume, server.Addr, server.Security != nil, strings.ReplaceAll(fields, "OWN", m.address)))
}

func (m *meshTask) register(t *testing.T) {
	t.Helper()
	if code, log := m.run(t, binary, "register"); code != 0 {
		t.Fatalf("exit %d:\n%s", code, log)
	}
}

func (m *meshTask) run(t *testing.T, program string, args ...string) (code int, log string) {
	t.Helper()
	command := exec.Command(program, args...)
	command.Env = m.env
	return finish(t, command)
}

func (m *meshTask) startEnvoy(t *testing.T) {
	t.Helper()
	program, err := tools.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	m.start(t, program, "-c", filepath.Join(m.volume, "envoy-bootstrap.json"), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
}

// start runs a program of the task until the test ends, or stop is called.
func (m *meshTask) start(t *testing.T, program string, args ...string) (stop func(os.Signal)) {
	t.Helper()
	var log bytes.Buffer
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr = &log, &log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func(signal os.Signal) {
		_ = command.Process.Signal(signal)
		_ = command.Wait()
	}
	t.Cleanup(func() {
		stop(os.Kill)
		if t.Failed() {
			t.Logf("the log of %s at %s:\n%s", filepath.Base(program), m.address, &log)
		}
	})
	return stop
}

// check is Envoy's health check.
func (m *meshTask) check(t *testing.T) (code int, log string) {
	t.Helper()
	return m.run(t, filepath.Join(m.volume, "bin/ecsmesh-init"), "check")
}

// awaitHealthy runs Envoy's health check until it passes, as ECS does, and
// expects Consul to know then.
func (m *meshTask) awaitHealthy(t *testing.T, server *consultest.Server) {
	t.Helper()
	await(t, "the task at "+m.address+" to be healthy", func() error {
		if code, log := m.check(t); code != 0 {
			return fmt.Errorf("exit %d:\n%s", code, log)
		}
		checks, _, err := server.Client.Health().Node("ecs-"+m.id, nil)
		if err == nil && (len(checks) == 0 || checks.AggregatedStatus() != api.HealthPassing) {
			err = fmt.Errorf("Consul has %+v", checks)
		}
		return err
	})
}

// admin is a page of the admin interface of the task's Envoy.
func (m *meshTask) admin(page string) (string, error) {
	return get("http://" + net.JoinHostPort(m.address, "19000") + page)
}

func await(t *testing.T, what string, holds func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waiting for %s: not after %s: %v", what, patience, err)
		}
	}
}

// awaitAnswer asks until the answer is what it should be.
func awaitAnswer(t *testing.T, url, want string) {
	t.Helper()
	await(t, "an answer from "+url, func() error {
		got, err := get(url)
		if err == nil && got != want {
			err = fmt.Errorf("it is %q", got)
		}
		return err
	})
}

func get(url string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(content), err
}

// serveAt answers with a text at a port of an address.
func serveAt(t *testing.T, address string, port int, text string) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	served := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }))
	_ = served.Listener.Close()
	served.Listener = listener
	served.Start()
	t.Cleanup(served.Close)
}

// configure writes configuration entries. They are JSON, since the client of
// Consul's has fields that only later servers know.
func configure(t *testing.T, server *consultest.Server, entries ...string) {
	t.Helper()
	for _, entry := range entries {
		if _, err := server.Client.Raw().Write("/v1/config", json.RawMessage(entry), nil, nil); err != nil {
			t.Fatalf("%s: %v", entry, err)
		}
	}
}

// startService starts a task with a service that answers with its name, at
// whose port 9001 its Envoy reaches an upstream.
func startService(t *testing.T, server *consultest.Server, name, upstream string) *meshTask {
	t.Helper()
	upstreams := ""
	if upstream != "" {
		upstreams = fmt.Sprintf(`, "upstreams": [{"localBindAddress": "OWN", "localBindPort": 9001, %s}]`, upstream)
	}
	task := startTask(t, server, fmt.Sprintf(`"service": {"name": %q, "port": 8080}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"%s}`, name, upstreams))
	serveAt(t, task.address, 8080, name)
	task.awaitHealthy(t, server)
	return task
}
