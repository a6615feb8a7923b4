package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/doctor/facts"
	"ecsmesh/initcontainer/register"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
)

const patience = 30 * time.Second

// cloud is AWS as far as tasks need it: parameters, and who a role is. A role's
// name is the access key, and its tag names the service that follows "role-".
type cloud struct {
	url string

	mu         sync.Mutex
	parameters map[string]string
	refuses    string        // an error's code for whoever reads a parameter
	silent     chan struct{} // not nil: nobody gets an answer before it is closed
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{parameters: map[string]string{}}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": c.url, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "role-api", "AWS_SECRET_ACCESS_KEY": "secret-key"} {
		t.Setenv(name, value)
	}
	return c
}

// change changes what the cloud has, for the rest of a test.
func (c *cloud) change(t *testing.T, change func()) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	before, refuses, silent := maps.Clone(c.parameters), c.refuses, c.silent
	change()
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.parameters, c.refuses, c.silent = before, refuses, silent
	})
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	c.mu.Lock()
	silent, refuses, parameters := c.silent, c.refuses, maps.Clone(c.parameters)
	c.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-r.Context().Done():
		}
		return
	}
	if r.Header.Get("X-Amz-Target") == "" {
		w.Header().Set("Content-Type", "text/xml") // which Consul wants of STS
	}
	_, key, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	role, _, _ := strings.Cut(key, "/")
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		for name, value := range parameters {
			if refuses == "" && strings.Contains(string(body), fmt.Sprintf("%q", name)) {
				fmt.Fprintf(w, `{"Parameter": {"Value": %q}}`, value)
				return
			}
		}
		if refuses == "" {
			refuses = "ParameterNotFound"
		}
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"__type": %q, "message": "as the test has it"}`, refuses)
	case strings.Contains(string(body), "GetCallerIdentity"):
		fmt.Fprintf(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/%s/task</Arn><UserId>ID%s:task</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, role, role)
	default:
		fmt.Fprintf(w, `<GetRoleResponse><GetRoleResult><Role><Arn>arn:aws:iam::123456789012:role/%s</Arn><RoleId>ID%s</RoleId><RoleName>%s</RoleName><Path>/</Path><Tags><member><Key>%s</Key><Value>%s</Value></member></Tags></Role></GetRoleResult></GetRoleResponse>`,
			role, role, role, serviceTag, strings.TrimPrefix(role, "role-"))
	}
}

// world is what a task needs of others.
type world struct {
	*cloud
	consul *consultest.Server
}

const serversParameter = "/ecsmesh/consul-servers"

func newWorld(t *testing.T, consul *consultest.Server) *world {
	t.Helper()
	w := &world{newCloud(t), consul}
	w.parameters[serversParameter] = consul.Addr.String()
	return w
}

// task is one of the mesh, whose application is a stand-in.
type task struct {
	*world
	id, address string
	volume      volume.Volume
	env         map[string]string
	metadata    *httptest.Server
	now         func() time.Time

	mu       sync.Mutex
	desired  string
	known    int    // HTTP status of the metadata
	app      int    // … of the application's health
	health   string // of the application's container
	inside   string // the container that asks
	exitCode string // of the init container
}

// newTask is one that has not started. OWN in the configuration's fields stands
// for its address.
func (w *world) newTask(t *testing.T, fields string) *task {
	t.Helper()
	k := &task{
		world: w, id: fmt.Sprintf("%032x", rand.Uint64()), volume: volume.Volume(t.TempDir()),
		address: netip.AddrFrom4([4]byte{127, 8, byte(rand.IntN(256)), byte(1 + rand.IntN(254))}).String(),
		desired: "RUNNING", known: 200, app: 200, health: "HEALTHY", inside: "app", exitCode: "0",
	}
	k.metadata = httptest.NewServer(http.HandlerFunc(k.serveMetadata))
	t.Cleanup(k.metadata.Close)
	k.env = map[string]string{taskmeta.Variable: k.metadata.URL}
	k.configure(fields)
	return k
}

func (k *task) configure(fields string) {
	k.env[config.Variable] = fmt.Sprintf(`{"bootstrapDir": %q, %s}`, k.volume, strings.ReplaceAll(fields, "OWN", k.address))
}

func (k *task) serveMetadata(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.WriteHeader(k.known)
	if r.URL.Path != "/task" {
		fmt.Fprintf(w, `{"Name": %q}`, k.inside)
		return
	}
	fmt.Fprintf(w, `{"TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/%s", "Family": "Api", "Revision": "3", "DesiredStatus": %q, "Containers": [
		{"Name": "ecsmesh-init", "KnownStatus": "STOPPED", "ExitCode": %s},
		{"Name": "app", "Health": {"status": %q}, "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [%q]}]}]}`, k.id, k.desired, k.exitCode, k.health, k.address)
}

// set changes what ECS or the application says.
func (k *task) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

func (k *task) getenv(name string) string { return k.env[name] }

// register is the init container.
func (k *task) register(t *testing.T) error {
	t.Helper()
	cfg, err := config.Read(k.getenv)
	if err != nil {
		return err
	}
	endpoint, err := taskmeta.FromEnvironment(k.getenv)
	if err != nil {
		return err
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	var log bytes.Buffer
	r := register.Registrar{Config: cfg, Metadata: endpoint, Binary: own, Deadline: patience, Log: slog.New(slog.NewTextHandler(&log, nil))}
	err = r.Run(t.Context())
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, &log)
	}
	return err
}

// serve is the application, until the test ends.
func (k *task) serve(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(k.address, "8080"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		k.mu.Lock()
		defer k.mu.Unlock()
		w.WriteHeader(k.app)
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
}

// startEnvoy is Envoy's container, until the test ends, or stop is called.
func (k *task) startEnvoy(t *testing.T) (stop func()) {
	t.Helper()
	program, err := tools.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	command := exec.Command(program, "-c", k.volume.Bootstrap(), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
	command.Stdout, command.Stderr = &log, &log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = command.Process.Kill()
			_ = command.Wait()
		})
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", &log)
		}
	})
	return stop
}

// tellEnvoy has Envoy do what its admin interface does.
func (k *task) tellEnvoy(t *testing.T, what string) {
	t.Helper()
	answer, err := http.Post("http://"+net.JoinHostPort(k.address, "19000")+what, "", nil)
	must(t, err)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", what, answer.Status)
	}
}

// check is Envoy's health check.
func (k *task) check(t *testing.T) error {
	t.Helper()
	return check.Run{Volume: k.volume, Budget: check.DefaultBudget, Refresh: check.LeastRefresh, Getenv: k.getenv, Log: slog.New(slog.DiscardHandler)}.Do(t.Context())
}

// start starts a whole task, and waits until Consul says that it passes.
func (w *world) start(t *testing.T, fields string) *task {
	t.Helper()
	k := w.newTask(t, fields)
	k.begin(t)
	return k
}

func (k *task) begin(t *testing.T) {
	t.Helper()
	if err := k.register(t); err != nil {
		t.Fatal(err)
	}
	k.serve(t)
	k.startEnvoy(t)
	k.await(t)
}

// await waits until Consul says that the task passes.
func (k *task) await(t *testing.T) {
	t.Helper()
	eventually(t, "the task to pass", func() error {
		if err := k.check(t); err != nil {
			return err
		}
		checks, _, err := k.consul.Client.Health().Node("ecs-"+k.id, nil)
		if err == nil && (len(checks) == 0 || checks.AggregatedStatus() != api.HealthPassing) {
			err = fmt.Errorf("Consul has %+v", checks)
		}
		return err
	})
}

// leave takes the init container's configuration away, as other containers have
// none.
func (k *task) leave() { delete(k.env, config.Variable) }

func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// doctor is a run within the task.
func (k *task) doctor(t *testing.T) Report {
	t.Helper()
	begun := time.Now()
	report := Diagnose(facts.Source{Volume: k.volume, Getenv: k.getenv, Now: k.now}.Gather(t.Context()))
	if took := time.Since(begun); took > facts.Budget {
		t.Errorf("it took %s", took)
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("%s", &text)
		}
	})
	return report
}

// expect wants the first thing that is wrong, and words of what was found.
func (k *task) expect(t *testing.T, want Cause, found ...string) Report {
	t.Helper()
	report := k.doctor(t)
	got, wrong := report.Cause()
	if got != want {
		t.Errorf("the first thing that is wrong: %q, want %q", words[got], words[want])
		return report
	}
	if wrong {
		for _, each := range found {
			if !strings.Contains(report.First.Fact+"\n"+report.First.Do, each) {
				t.Errorf("nothing of %q in: %s\n%s", each, report.First.Fact, report.First.Do)
			}
		}
	}
	return report
}

// soon is expect as soon as it holds: Envoy takes a moment to notice.
func (k *task) soon(t *testing.T, want Cause, found ...string) {
	t.Helper()
	eventually(t, words[want], func() error {
		report := Diagnose(facts.Source{Volume: k.volume, Getenv: k.getenv, Now: k.now}.Gather(t.Context()))
		if got, _ := report.Cause(); got != want {
			return fmt.Errorf("it is %q", words[got])
		}
		return nil
	})
	k.expect(t, want, found...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deaf is an address at which connections are neither taken nor refused.
func deaf(t *testing.T, port int) netip.Addr {
	t.Helper()
	addr := netip.AddrFrom4([4]byte{127, 9, byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
	deafAt(t, addr, port)
	return addr
}

// deafAt is the same at that address, as behind a security group: its queue is
// full.
func deafAt(t *testing.T, addr netip.Addr, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: addr.As4()}))
	must(t, syscall.Listen(fd, 0))
	for range 10 {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, uint16(port)).String(), 100*time.Millisecond)
		var network net.Error
		if errors.As(err, &network) && network.Timeout() {
			return
		}
		must(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("it takes connections")
}

func (k *task) path(elem ...string) string {
	return filepath.Join(append([]string{string(k.volume)}, elem...)...)
}
