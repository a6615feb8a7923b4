package transparent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/volume"
)

// TestATransparentProxyWithAConsulClient has a client that runs as a user of its
// own, whose traffic is redirected where its ports don't say else.
func TestATransparentProxyWithAConsulClient(t *testing.T) {
	w := newWorld(t)
	k := w.newTask(t, "10.0.1.5", `"topology": "client-agent", "service": {"name": "web", "port": 9090}, "transparentProxy": {"consulDNS": {"enabled": true}}`)
	shared := volume.Volume(k.volume())
	resolver := filepath.Join(k.root, "etc/resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver 10.0.0.2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(k.volume(), 0o777); err != nil { // two users' in this test
		t.Fatal(err)
	}
	code, log := k.run(t.Context(), func(c *exec.Cmd) {
		c.Args[1] = "discover-servers"
		c.SysProcAttr.Credential = &syscall.Credential{Uid: volume.ConsulUser, Gid: volume.ConsulUser}
	})
	if code != 0 {
		t.Fatalf("discover-servers: exit %d:\n%s", code, log)
	}
	startClient := func() *exec.Cmd {
		return k.startAs(t, volume.ConsulUser, tools.Consul, "agent", "-data-dir="+shared.ClientData(), "-config-file="+shared.Client())
	}
	client := startClient()
	serve(t, k.Namespace, "127.0.0.1:9090", says("web"))
	if code, log := k.register(capabilities...); code != 0 {
		t.Fatalf("register: exit %d:\n%s", code, log)
	}
	envoy := k.startEnvoy(t)

	// The client comes back by itself, with no Envoy to pass its traffic on.
	for _, command := range []*exec.Cmd{envoy, client} {
		if err := command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = command.Wait() // it was killed
	}
	startClient()
	eventually(t, "the client asks the servers", func() error {
		answer, err := get(k.Namespace, application, "http://127.0.0.1:8500/v1/catalog/service/consul")
		if err == nil && !strings.Contains(answer, gateway.String()) {
			err = fmt.Errorf("it says %s", answer)
		}
		return err
	})
	k.startEnvoy(t)

	addresses, err := lookup(k.Namespace, "127.0.0.1:53", "web.virtual.consul")
	if err != nil || len(addresses) != 1 || !strings.HasPrefix(addresses[0], "240.") {
		t.Errorf("web.virtual.consul is %s: %v", addresses, err)
	}
	content, err := os.ReadFile(resolver)
	if err != nil || string(content) != "nameserver 127.0.0.1\nnameserver 10.0.0.2\n" {
		t.Errorf("resolv.conf: %q, %v", content, err)
	}
}
