package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/config"
)

// binary is the program under test, built as it ships.
var binary string

func TestMain(m *testing.M) {
	if os.Getenv(asApplication) != "" {
		os.Exit(application())
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "ecsmesh-init")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "ecsmesh-init")
		build := exec.Command("go", "build", "-ldflags", "-s -w -X main.version=1.2.3", "-o", binary, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build ecsmesh-init: %v\n%s", err, output)
			return 1
		}
		return m.Run()
	}())
}

const (
	taskID  = "0f2ff1f7f2c24a4f8f9b7cc1b0cbf1f7"
	taskARN = "arn:aws:ecs:eu-west-1:123456789012:task/prod/" + taskID
)

// world is everything around one task: AWS's and ECS's endpoints, a real
// Consul behind a proxy, and the task's shared volume.
type world struct {
	consul   *consultest.Server
	ssm      answer[func() (status int, code, value string)]
	metadata answer[func() (status int, body string)]

	// refuse has Consul answer with this status to writes, if not 0.
	refuse atomic.Int32

	volume string
	env    map[string]string
}

// answer is what an endpoint answers with; a test may change it at any time.
type answer[F any] struct{ f atomic.Value }

func (a *answer[F]) set(f F) { a.f.Store(f) }
func (a *answer[F]) get() F  { return a.f.Load().(F) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		consul: consultest.Start(t),
		volume: t.TempDir(),
	}
	w.metadata.set(func() (int, string) { return 200, taskMetadata("RUNNING") })
	behind, err := url.Parse("http://" + net.JoinHostPort(w.consul.Addr.String(), "8500"))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	serve := func(handler http.HandlerFunc) *httptest.Server {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return server
	}
	consul := serve(func(rw http.ResponseWriter, r *http.Request) {
		if status := w.refuse.Load(); status != 0 && r.Method == http.MethodPut {
			http.Error(rw, "Permission denied: token lacks permission", int(status))
			return
		}
		proxy.ServeHTTP(rw, r)
	})
	consulAt := netip.MustParseAddrPort(consul.Listener.Addr().String())
	w.ssm.set(func() (int, string, string) { return 200, "", consulAt.Addr().String() })
	ssm := serve(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") != "AmazonSSM.GetParameter" {
			t.Errorf("the task called %s", r.Header.Get("X-Amz-Target"))
		}
		status, code, value := w.ssm.get()()
		rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
		rw.WriteHeader(status)
		if code != "" {
			fmt.Fprintf(rw, `{"__type": %q, "message": "as the test has it"}`, code)
			return
		}
		fmt.Fprintf(rw, `{"Parameter": {"Name": "/ecsmesh/consul-servers", "Type": "StringList", "Value": %q}}`, value)
	})
	metadata := serve(func(rw http.ResponseWriter, _ *http.Request) {
		status, body := w.metadata.get()()
		rw.WriteHeader(status)
		fmt.Fprint(rw, body)
	})
	w.env = map[string]string{
		"PATH": os.Getenv("PATH"), "AWS_ENDPOINT_URL": ssm.URL, "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
		"ECS_CONTAINER_METADATA_URI_V4": metadata.URL,
		// Nothing of this may redirect a task that was told its servers.
		"CONSUL_HTTP_ADDR": "127.0.0.1:1", "CONSUL_HTTP_SSL": "true", "CONSUL_NAMESPACE": "x", "CONSUL_PARTITION": "x",
	}
	w.configure(fmt.Sprintf(`"service": {"name": "api", "port": 8080}, "consulServers": {"defaults": {"tls": false}, "http": {"port": %d}}`, consulAt.Port()))
	return w
}

func (w *world) configure(fields string) {
	w.env["ECSMESH_CONFIG"] = fmt.Sprintf(`{"bootstrapDir": %q, %s}`, w.volume, fields)
}

func taskMetadata(desired string) string {
	return fmt.Sprintf(`{"TaskARN": %q, "Cluster": "prod", "Family": "Api", "DesiredStatus": %q, "VPCID": "vpc-1", "Containers": [{"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.5"]}]}]}`, taskARN, desired)
}

func (w *world) command(args ...string) *exec.Cmd {
	command := exec.Command(binary, args...)
	for name, value := range w.env {
		command.Env = append(command.Env, name+"="+value)
	}
	return command
}

// register runs the program to its end.
func (w *world) register(t *testing.T, args ...string) (code int, log string) {
	t.Helper()
	return finish(t, w.command(append([]string{"register"}, args...)...))
}

func finish(t *testing.T, command *exec.Cmd) (code int, log string) {
	t.Helper()
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return command.ProcessState.ExitCode(), output.String()
}

func (w *world) nodes(t *testing.T) []string {
	t.Helper()
	nodes, _, err := w.consul.Client.Catalog().Nodes(&api.QueryOptions{Filter: `Meta["synthetic-node"] == "true"`})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, node := range nodes {
		names = append(names, node.Node)
	}
	return names
}

// endState is all that a run leaves behind, but for the time of it.
func (w *world) endState(t *testing.T) map[string]string {
	t.Helper()
	state := w.files(t)
	node, _, err := w.consul.Client.Catalog().NodeServiceList("ecs-"+taskID, nil)
	if err != nil {
		t.Fatal(err)
	}
	checks, _, err := w.consul.Client.Health().Node("ecs-"+taskID, nil)
	if err != nil {
		t.Fatal(err)
	}
	node.Node.CreateIndex, node.Node.ModifyIndex = 0, 0
	for _, service := range node.Services {
		service.CreateIndex, service.ModifyIndex = 0, 0
	}
	for _, check := range checks {
		check.CreateIndex, check.ModifyIndex = 0, 0
	}
	catalog, err := json.MarshalIndent([]any{node, checks}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	state["catalog"] = timeless(string(catalog))
	return state
}

// files are what is on the volume: the mode of each, and what is in it.
func (w *world) files(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(w.volume, func(path string, entry os.DirEntry, err error) error {
		if err != nil || path == w.volume {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		var (
			content []byte
			target  string
		)
		name := strings.TrimPrefix(path, w.volume)
		switch {
		case entry.IsDir():
		case info.Mode().Type() == os.ModeSymlink:
			target, err = os.Readlink(path)
		case name == "/bin/ecsmesh-init":
			content, err = digest(path)
		default:
			content, err = os.ReadFile(path)
		}
		found[name] = info.Mode().String() + " " + target + "\n" + timeless(string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// timeless takes the line out of which two runs differ.
func timeless(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(line string) bool { return strings.Contains(line, "ecsmesh-registered-at") }), "\n")
}

// digest stands for what is in a large file.
func digest(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return fmt.Appendf(nil, "%x", sum.Sum(nil)), err
}

func TestRegister(t *testing.T) {
	w := newWorld(t)
	code, log := w.register(t)
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, log)
	}
	state := w.endState(t)
	want := []string{"/bin", "/bin/ecsmesh-init", "/consul-servers.json", "/envoy-bootstrap.json",
		"/state", "/state/live", "/state/live/consul-servers.json", "/state/lock", "/state/task.json", "catalog"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(state))); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"api-" + taskID, "api-" + taskID + "-sidecar-proxy", "api-" + taskID + "-tcp"} {
		if !strings.Contains(state["catalog"], `"`+id+`"`) {
			t.Errorf("no %s in the catalog", id)
		}
	}
	for _, text := range []string{`"fixed_value": "dc1"`, `"node_name": "ecs-` + taskID + `"`} {
		if !strings.Contains(state["/envoy-bootstrap.json"], text) {
			t.Errorf("no %s in the bootstrap", text)
		}
	}
	// The copy on the volume is the program, and finds its volume by itself.
	code, log = finish(t, exec.Command(filepath.Join(w.volume, "bin/ecsmesh-init"), "check"))
	if code != 1 || !strings.Contains(lastLine(log), "probe Envoy: it is not up") {
		t.Errorf("check: exit %d:\n%s", code, log)
	}
}

func TestTheServersAreWaitedFor(t *testing.T) {
	w := newWorld(t)
	var published atomic.Bool
	var throttled atomic.Int32
	at := w.ssm.get()
	w.ssm.set(func() (int, string, string) {
		switch {
		case throttled.Add(1) == 1:
			return 400, "ThrottlingException", ""
		case !published.Load():
			return 400, "ParameterNotFound", ""
		}
		return at()
	})
	command := w.command("register")
	var log bytes.Buffer
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	for throttled.Load() < 3 {
		select {
		case err := <-ended:
			t.Fatalf("ended before there were servers: %v\n%s", err, &log)
		case <-time.After(10 * time.Millisecond):
		}
	}
	published.Store(true)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v\n%s", err, &log)
		}
	case <-time.After(patience):
		_ = command.Process.Kill()
		t.Fatal("still waiting although the servers are known")
	}
	if !strings.Contains(log.String(), "waiting for the Consul servers' addresses") {
		t.Errorf("the log does not say what was waited for:\n%s", &log)
	}
}

// TestServersThatWereReplacedMeanwhile has the first list name servers that
// are gone.
func TestServersThatWereReplacedMeanwhile(t *testing.T) {
	w := newWorld(t)
	var reads atomic.Int32
	at := w.ssm.get()
	w.ssm.set(func() (int, string, string) {
		if reads.Add(1) == 1 {
			return 200, "", "127.255.255.253,127.255.255.254"
		}
		return at()
	})
	if code, log := w.register(t); code != 0 || reads.Load() != 2 {
		t.Errorf("exit %d after %d reads:\n%s", code, reads.Load(), log)
	}
}

func TestAStoppingTaskIsNotRegistered(t *testing.T) {
	w := newWorld(t)
	w.metadata.set(func() (int, string) { return 200, taskMetadata("STOPPED") })
	code, log := w.register(t)
	if code != 0 || len(w.nodes(t)) != 0 || !strings.Contains(log, "the task is stopping") {
		t.Errorf("exit %d, nodes %v:\n%s", code, w.nodes(t), log)
	}
}

func TestHostsWinOverTheParameter(t *testing.T) {
	w := newWorld(t)
	w.ssm.set(func() (int, string, string) { t.Error("SSM was asked"); return 500, "InternalServerError", "" })
	w.configure(fmt.Sprintf(`"service": {"port": 8080}, "consulServers": {"hosts": %q, "defaults": {"tls": false}}`, w.consul.Addr))
	if code, log := w.register(t); code != 0 {
		t.Errorf("exit %d:\n%s", code, log)
	}
}

func lastLine(log string) string {
	lines := strings.Split(strings.TrimSuffix(log, "\n"), "\n")
	return lines[len(lines)-1]
}

// TestOneClearError has one row for everything that can be wrong around a
// task: the last line of its log says what, and it is not registered.
func TestOneClearError(t *testing.T) {
	const soon = "-timeout=3s" // that a busy machine answers once within
	for name, test := range map[string]struct {
		arrange func(t *testing.T, w *world)
		code    int
		want    []string
	}{
		"no configuration": {func(_ *testing.T, w *world) { delete(w.env, "ECSMESH_CONFIG") }, 2, []string{"ECSMESH_CONFIG is not set"}},
		"bad JSON":         {func(_ *testing.T, w *world) { w.env["ECSMESH_CONFIG"] = `{"service": }` }, 2, []string{"ECSMESH_CONFIG is not valid JSON", "line 1, column 13"}},
		"several faults": {func(_ *testing.T, w *world) {
			w.configure(`"servce": {}, "service": {"port": "x"}, "consulServers": {}`)
		}, 2, []string{
			"ECSMESH_CONFIG is invalid", "servce: found an unknown field; remove it", `service.port: found "x"; want a whole number from 0 to 65535`, `consulServers.http.caCertParameter: found nothing; TLS is on, so say which CA issued the servers' certificates`}},
		"no metadata variable": {func(_ *testing.T, w *world) { delete(w.env, "ECS_CONTAINER_METADATA_URI_V4") }, 1, []string{"ECS_CONTAINER_METADATA_URI_V4 is not set"}},
		"no metadata endpoint": {func(_ *testing.T, w *world) { w.env["ECS_CONTAINER_METADATA_URI_V4"] = "http://127.0.0.1:1/v4/x" }, 1, []string{"read task metadata", "http://127.0.0.1:1/v4/x/task", "connection refused", "gave up after 3s"}},
		"metadata refused":     {func(_ *testing.T, w *world) { w.metadata.set(func() (int, string) { return 404, "" }) }, 1, []string{"read task metadata", "HTTP status 404 Not Found"}},
		"bridge network": {func(_ *testing.T, w *world) {
			w.metadata.set(func() (int, string) { return 200, strings.ReplaceAll(taskMetadata("RUNNING"), "awsvpc", "bridge") })
		}, 1, []string{`its network mode is "bridge"; the mesh needs awsvpc`}},
		"no servers": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 400, "ParameterNotFound", "" })
		}, 1,
			[]string{"find the Consul servers", "gave up after 3s", "/ecsmesh/consul-servers", "no servers published yet", "publish-servers"}},
		"SSM throttles": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 400, "ThrottlingException", "" })
		}, 1,
			[]string{"gave up after 3s", "ThrottlingException"}},
		"SSM refuses": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 400, "AccessDeniedException", "" })
		}, 1,
			[]string{"find the Consul servers", "AccessDeniedException", "check that the task role allows ssm:GetParameter"}},
		"no list of addresses": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 200, "", "10.0.0.1,consul" })
		}, 1,
			[]string{"read SSM parameter /ecsmesh/consul-servers", `"consul" is not an IP address`}},
		"outlier detection of newer servers": {func(_ *testing.T, w *world) {
			w.configure(fmt.Sprintf(`"service": {"port": 80, "networkResilienceConfig": {"enabled": true, "outlierDetection": {"consecutive5xx": 5}}}, "consulServers": {"defaults": {"tls": false}, "hosts": %q}`, w.consul.Addr))
		}, 1,
			[]string{`invalid config key "UpstreamConfig.Defaults.PassiveHealthCheck.Consecutive5xx"`, "these servers are too old"}},
		"Consul is down": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 200, "", "127.255.255.254" })
		}, 1,
			[]string{"no Consul server answered in time", "gave up after 3s", "127.255.255.254", "connection refused"}},
		"the token is refused": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 400, "AccessDeniedException", "" })
			w.configure(`"service": {"port": 80}, "consulServers": {"defaults": {"tls": false}, "hosts": "127.0.0.1", "tokenParameter": "/token"}`)
		}, 1,
			[]string{"read the ACL token", "/token", "AccessDeniedException"}},
		"the CA is throttled": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 400, "ThrottlingException", "" })
			w.configure(`"service": {"port": 80}, "consulServers": {"defaults": {"caCertParameter": "/ca"}, "hosts": "127.0.0.1"}`)
		}, 1,
			[]string{"read the CA of the Consul servers", "/ca", "ThrottlingException", "gave up after 3s"}},
		"the CA is none": {func(_ *testing.T, w *world) {
			w.ssm.set(func() (int, string, string) { return 200, "", "no certificate" })
			w.configure(`"service": {"port": 80}, "consulServers": {"defaults": {"caCertParameter": "/ca"}, "hosts": "127.0.0.1"}`)
		}, 1,
			[]string{"read the CA of the Consul servers", "/ca", "it holds no certificate"}},
		"Consul refuses":     {func(_ *testing.T, w *world) { w.refuse.Store(403) }, 1, []string{"register api-" + taskID, "403", "Permission denied"}},
		"an unknown command": {func(*testing.T, *world) {}, 2, []string{`there is no command "regster"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.arrange(t, w)
			args := []string{"register", soon}
			if name == "an unknown command" {
				args = []string{"regster"}
			}
			start := time.Now()
			code, log := finish(t, w.command(args...))
			expectError(t, test.code, test.want, code, log)
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			if nodes := w.nodes(t); len(nodes) != 0 {
				t.Errorf("registered in spite of it: %v", nodes)
			}
		})
	}
}

func expectError(t *testing.T, wantCode int, want []string, code int, log string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("exit %d, want %d:\n%s", code, wantCode, log)
	}
	for _, text := range want {
		if !strings.Contains(lastLine(log), text) {
			t.Errorf("no %q in the last line of:\n%s", text, log)
		}
	}
}

// TestRefusalsAreNotRetried gives a deadline that only a retry would reach.
func TestRefusalsAreNotRetried(t *testing.T) {
	for name, refuse := range map[string]func(*world){
		"Consul": func(w *world) { w.refuse.Store(403) },
		"SSM":    func(w *world) { w.ssm.set(func() (int, string, string) { return 400, "AccessDeniedException", "" }) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			refuse(w)
			start := time.Now()
			if code, log := w.register(t, "-timeout=1m"); code != 1 || time.Since(start) > 20*time.Second {
				t.Errorf("exit %d after %s:\n%s", code, time.Since(start), log)
			}
		})
	}
}

// TestAFullVolume mounts a volume of one page in a mount namespace of the
// test's own.
func TestAFullVolume(t *testing.T) {
	w := newWorld(t)
	namespace := []string{"--mount"}
	if os.Getuid() != 0 {
		namespace = []string{"--mount", "--map-root-user"}
	}
	command := w.command()
	script := `mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" register`
	command.Path, command.Args = "/usr/bin/unshare", append(append([]string{"unshare"}, namespace...), "sh", "-c", script, "sh", w.volume, binary)
	code, log := finish(t, command)
	expectError(t, 1, []string{"write " + w.volume + "/bin/ecsmesh-init on the shared volume", "no space left on device", "give the task more ephemeral storage"}, code, log)
	if nodes := w.nodes(t); len(nodes) != 0 {
		t.Errorf("registered in spite of it: %v", nodes)
	}
}

func TestUsage(t *testing.T) {
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"-h":                   {0, "Usage: ecsmesh-init"},
		"check -h":             {0, "Usage: ecsmesh-init"},
		"help":                 {0, "Usage: ecsmesh-init"},
		"check -timeout 0s":    {2, "-timeout is 0s; want 1s or more"},
		"check -refresh 9ms":   {2, "-refresh is 9ms; want 1s or more"},
		"check -refresh often": {2, `invalid value "often" for flag -refresh`},
		"entrypoint -h":        {0, "stopTimeout must be longer"},
		"schema now":           {2, `unexpected argument "now"`},
		"register now":         {2, `unexpected argument "now"`},
		"register -forever":    {2, "flag provided but not defined: -forever"},
	} {
		code, output := finish(t, exec.Command(binary, strings.Fields(args)...))
		where := output
		if want.code != 0 {
			where = lastLine(output)
		}
		if code != want.code || !strings.Contains(where, want.text) {
			t.Errorf("%s: exit %d:\n%s", args, code, output)
		}
	}
}

func TestVersion(t *testing.T) {
	output, err := exec.Command(binary, "version").Output()
	if err != nil || string(output) != "1.2.3\n" {
		t.Errorf("got %q, %v", output, err)
	}
}

func TestSchema(t *testing.T) {
	output, err := exec.Command(binary, "schema").Output()
	if err != nil || !bytes.Equal(output, config.Schema) {
		t.Errorf("got %.100q…, %v", output, err)
	}
}
