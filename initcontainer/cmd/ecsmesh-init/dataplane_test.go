package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/tools"
)

// startDataplane registers a service by the topology dataplane, and runs its
// Envoy by the file that is for consul-dataplane.
func startDataplane(t *testing.T, server *consultest.Server, program, name, more string, env ...string) *meshTask {
	t.Helper()
	task := newTask(t)
	task.env = append(task.env, env...)
	task.configure(server, fmt.Sprintf(`"topology": "dataplane", "service": {"name": %q, "port": 8080}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"%s}`, name, more))
	task.register(t)
	envoy, err := tools.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	task.start(t, "/usr/bin/env", "PATH="+filepath.Dir(envoy), "TMPDIR="+t.TempDir(), program, "-config-file", filepath.Join(task.volume, "consul-dataplane.json"))
	serveAt(t, task.address, 8080, name)
	task.awaitHealthy(t, server)
	return task
}

func buildDataplane(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dataplane")
	if output, err := exec.Command("go", "build", "-o", path, "ecsmesh/e2e/dataplane").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return path
}

// TestDataplane has two services find each other, whose Envoys know nothing but
// what is in consul-dataplane's configuration.
func TestDataplane(t *testing.T) {
	server, program := consultest.Start(t), buildDataplane(t)
	api := startDataplane(t, server, program, "api", "")
	web := startDataplane(t, server, program, "web", `, "upstreams": [{"destinationName": "api", "localBindAddress": "OWN", "localBindPort": 9001}]`)
	awaitAnswer(t, "http://"+web.address+":9001/", "api")
	awaitAnswer(t, "http://"+api.address+":22000/ready", "LIVE\n")
	if info, err := api.admin("/server_info"); err != nil || !strings.Contains(info, `"concurrency": 2,`) {
		t.Errorf("Envoy is %v:\n%s", err, info)
	}
	if _, err := os.Stat(filepath.Join(api.volume, "envoy-bootstrap.json")); !os.IsNotExist(err) {
		t.Errorf("there is a bootstrap of Envoy's, too: %v", err)
	}
	code, servers := api.run(t, filepath.Join(api.volume, "bin/ecsmesh-init"), "servers")
	if code != 0 || servers != server.Addr.String()+"\n" {
		t.Errorf("the servers are %q, exit %d", servers, code)
	}
}

// TestDataplaneWithItsRights has servers that take no plaintext, and nothing
// without a token.
func TestDataplaneWithItsRights(t *testing.T) {
	server, program := consultest.StartSecure(t), buildDataplane(t)
	policy, _, err := server.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "task", Rules: `node_prefix "ecs-" { policy = "write" }`}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token := func(service string) string {
		token, _, err := server.Client.ACL().TokenCreate(&api.ACLToken{
			ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: service}}, Policies: []*api.ACLLink{{ID: policy.ID}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return token.SecretID
	}
	configure(t, server, `{"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}`)
	secret := token("api")
	task := startDataplane(t, server, program, "api", "", "CONSUL_CACERT_PEM="+server.CA, "CONSUL_HTTP_TOKEN="+secret)
	web := startDataplane(t, server, program, "web", `, "upstreams": [{"destinationName": "api", "localBindAddress": "OWN", "localBindPort": 9001}]`,
		"CONSUL_CACERT_PEM="+server.CA, "CONSUL_HTTP_TOKEN="+token("web"))
	awaitAnswer(t, "http://"+web.address+":9001/", "api")
	var holders []string
	err = filepath.WalkDir(task.volume, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(content), secret) {
			return err
		}
		holders = append(holders, entry.Name())
		info, err := entry.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s, which holds the token, is %s", path, info.Mode())
		}
		return err
	})
	slices.Sort(holders)
	if want := []string{"consul-dataplane.json", "consul-token.json"}; err != nil || !slices.Equal(want, holders) {
		t.Errorf("the token is in %q, %v", holders, err)
	}
}

// TestServersWithoutAList says what is missing, on stderr, where consul-dataplane
// looks for it.
func TestServersWithoutAList(t *testing.T) {
	copied := filepath.Join(t.TempDir(), "bin", "ecsmesh-init")
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, content, 0o755); err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]string{"": "no such file", "{}": "it is empty", "x": "invalid character"} {
		file := filepath.Join(filepath.Dir(filepath.Dir(copied)), "consul-servers.json")
		if list != "" {
			if err := os.WriteFile(file, []byte(list), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if code, log := finish(t, exec.Command(copied, "servers")); code != 1 || !strings.Contains(log, want) {
			t.Errorf("%q: exit %d: %s", list, code, log)
		}
		_ = os.Remove(file)
	}
}
