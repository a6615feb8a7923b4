package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ecsmesh/e2e/tools"
)

// serveVariable makes of the test's binary a user's own server.
const serveVariable = "OWN_TEST_SERVER"

// serve is a server that knows nothing of the lab: it greets who its upstream
// says, and for two seconds after SIGTERM serves on, as one in a mesh should.
func serve() error {
	mux := http.NewServeMux()
	mux.HandleFunc("/greet", func(w http.ResponseWriter, _ *http.Request) {
		response, err := http.Get(os.Getenv("NAMES_URL"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		name, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			http.Error(w, fmt.Sprint(response.Status, err), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "a user's own server greets %s", name)
	})
	server := &http.Server{Addr: os.Getenv("LISTEN_ADDR"), Handler: mux, ReadHeaderTimeout: time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	time.Sleep(2 * time.Second)
	return server.Shutdown(context.WithoutCancel(ctx))
}

// demo runs it as a user does, with variables that make would hand on.
func demo(t *testing.T, variables ...string) (string, error) {
	t.Helper()
	root, err := tools.Root()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "go", "run", "./e2e/demo")
	command.Dir = root
	command.Env = append(os.Environ(), variables...)
	output, err := command.CombinedOutput()
	return string(output), err
}

func wantTold(t *testing.T, story string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(story, part) {
			t.Errorf("the story has no %q", part)
		}
	}
	if t.Failed() {
		t.Log(story)
	}
}

// TestAUsersTemplate has a log router and a migration, which nobody may wait for
// in vain, in a template that no account could deploy.
func TestAUsersTemplate(t *testing.T) {
	story, err := demo(t, "TASK=e2e/lab/testdata/own/shop.yaml", "PARAMETERS=Image=cart:9")
	if err != nil {
		t.Fatalf("%v\n%s", err, story)
	}
	wantTold(t, story, "T0", "T1", "T2", "T3", "T4",
		"log_router (aws-for-fluent-bit:stable)", "migrate (cart:9)", "exits with 0", "cart (cart:9)",
		"service prices: a stand-in",
		":3000  tcp passing",
		"cart answered 200: stand-in for container cart (cart:9) of task own-tasks-cart",
		"prices answered 200: stand-in for service prices",
		"requests to cart, 0 failed", "mutual TLS handshakes",
		"cart-1 is stopped", "requests since then, 0 failed", "the catalog is empty", "cleaned up")
}

// TestAUsersProgram runs in a task definition as register-task-definition takes
// it, and reaches its upstream through Envoy. The task role is missing, which
// only AWS has to mind.
func TestAUsersProgram(t *testing.T) {
	binary, err := os.Executable()
	must(t, err)
	story, err := demo(t, "TASK=e2e/lab/testdata/own/hello.json", "MESH=e2e/lab/testdata/own/hello-mesh.yaml",
		"PROGRAM="+serveVariable+"=1 "+binary, "REQUEST=/greet")
	if err != nil {
		t.Fatalf("%v\n%s", err, story)
	}
	wantTold(t, story, "Before you deploy it", "taskRoleArn",
		"its NAMES_URL",
		"your program answered 200: a user's own server greets {\"name\":\"names\"",
		"requests to hello, 0 failed", "requests since then, 0 failed", "cleaned up")
}

// TestAUsersMistake is told in a moment, in the command's own words, and nothing
// is started for it.
func TestAUsersMistake(t *testing.T) {
	root, err := tools.Root()
	must(t, err)
	folders := func() []string {
		found, err := filepath.Glob(filepath.Join(root, "dist", "demo-*"))
		must(t, err)
		return found
	}
	before := len(folders())
	file := filepath.Join(t.TempDir(), "bad.json")
	must(t, os.WriteFile(file, []byte(`{"family": "bad", "networkMode": "host", "ecsMesh": {"service": "bad"}, "containerDefinitions": [{"name": "a", "image": "b"}]}`), 0o600))
	for name, test := range map[string]struct {
		variables []string
		want      []string
	}{
		"two faults":           {[]string{"TASK=" + file}, []string{file + ": ", "networkMode", "port"}},
		"no block":             {[]string{"TASK=e2e/lab/testdata/own/hello.json"}, []string{"hello.json: ", "MESH=FILE"}},
		"no file":              {[]string{"TASK=" + file + ".yaml"}, []string{"no such file"}},
		"no program":           {[]string{"TASK=e2e/lab/testdata/own/shop.yaml", "PROGRAM=./no-such-server"}, []string{"PROGRAM", "no-such-server"}},
		"a program alone":      {[]string{"PROGRAM=true"}, []string{"TASK"}},
		"an unknown parameter": {[]string{"TASK=e2e/lab/testdata/own/shop.yaml", "PARAMETERS=Prot=1"}, []string{"Prot", "Port"}},
		"parameters":           {[]string{"TASK=e2e/lab/testdata/own/shop.yaml", "PARAMETERS=Port"}, []string{"Name=value"}},
		"a path":               {[]string{"TASK=e2e/lab/testdata/own/shop.yaml", "REQUEST=greet"}, []string{"REQUEST", "/orders"}},
		"ACLs":                 {[]string{"TASK=e2e/lab/testdata/own/shop.yaml", "SECURE=1"}, []string{"SECURE"}},
	} {
		t.Run(name, func(t *testing.T) {
			story, err := demo(t, test.variables...)
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Errorf("the demo ended with %v", err)
			}
			wantTold(t, story, test.want...)
			if strings.Contains(story, "the stage") {
				t.Errorf("something was started:\n%s", story)
			}
		})
	}
	if after := len(folders()); after != before {
		t.Errorf("there are %d folders of demos, and were %d", after, before)
	}
}
