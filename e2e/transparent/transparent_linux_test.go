package transparent

import (
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/volume"
)

const (
	excludedUser = 2000
	webConfig    = `"service": {"name": "web", "port": 9090, "checks": [{"name": "up", "tcp": "127.0.0.1:9090"}]},
		"transparentProxy": {"excludeOutboundPorts": [8081], "excludeOutboundCIDRs": ["10.0.9.0/24"], "excludeUIDs": ["2000"]}`
	apiConfig = `"service": {"name": "api", "port": 9090, "checks": [{"name": "up", "tcp": "127.0.0.1:9090"}]},
		"proxy": {"expose": {"paths": [{"listenerPort": 9092, "path": "/", "localPathPort": 9090}]}}, "transparentProxy": {"excludeInboundPorts": [9091]}`
)

func TestTransparentProxy(t *testing.T) {
	w := newWorld(t)
	web, backend := w.newTask(t, "10.0.1.5", webConfig), w.newTask(t, "10.0.1.6", apiConfig)
	for name, k := range map[string]*task{"web": web, "api": backend} {
		// On all addresses, as most applications listen.
		serve(t, k.Namespace, "0.0.0.0:9090", says(name))
		serve(t, k.Namespace, "0.0.0.0:9091", says(name+" itself"))
		if code, log := k.register(capabilities...); code != 0 {
			t.Fatalf("register %s: exit %d:\n%s", name, code, log)
		}
	}
	expectEnvoysFiles(t, web)
	// Again, as after a kill: there is no Envoy yet, to which the rules of the
	// first run send everybody's traffic but Envoy's own user's.
	once := web.rules(t)
	if code, log := web.register(capabilities...); code != 0 {
		t.Fatalf("register again: exit %d:\n%s", code, log)
	}
	if diff := cmp.Diff(once, web.rules(t)); diff != "" {
		t.Errorf("applied twice (-once +twice):\n%s", diff)
	}
	envoy := web.startEnvoy(t)
	backend.startEnvoy(t)
	for range 3 {
		if code, log := web.check(); code != 0 || strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
			t.Errorf("check: exit %d:\n%s", code, log)
		}
	}

	virtual := virtualAddress(t, w, "api.virtual.consul")
	t.Logf("api.virtual.consul is %s", virtual)
	t.Run("by virtual address", func(t *testing.T) { expectByMesh(t, web, backend, "http://"+virtual+":9090/") })
	t.Run("by the address of a task", func(t *testing.T) { expectByMesh(t, web, backend, "http://10.0.1.6:9090/") })
	t.Run("not without a certificate", func(t *testing.T) {
		if answer, err := get(&w.Namespace, 0, "http://10.0.1.6:9090/"); err == nil {
			t.Errorf("a stranger was answered: %q", answer)
		}
		if answer, err := get(web.Namespace, excludedUser, "http://10.0.1.6:9090/"); err == nil {
			t.Errorf("who goes around Envoy was answered: %q", answer)
		}
	})
	t.Run("an excluded inbound port", func(t *testing.T) {
		if answer, err := get(&w.Namespace, 0, "http://10.0.1.6:9091/"); err != nil || answer != "api itself" {
			t.Errorf("got %q, %v", answer, err)
		}
	})
	t.Run("an exposed path", func(t *testing.T) {
		if answer, err := get(&w.Namespace, 0, "http://10.0.1.6:9092/"); err != nil || answer != "api" {
			t.Errorf("got %q, %v", answer, err)
		}
	})
	t.Run("what is excluded", func(t *testing.T) { expectExclusions(t, w, web) })
	t.Run("not against an intention", func(t *testing.T) {
		_, _, err := w.consul.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
			Kind: api.ServiceIntentions, Name: "api", Sources: []*api.SourceIntention{{Name: "web", Action: api.IntentionActionDeny}},
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range []string{virtual, "10.0.1.6"} {
			eventually(t, "web is denied", func() error {
				if answer, err := get(web.Namespace, application, "http://"+address+":9090/"); err == nil {
					return fmt.Errorf("it got %q", answer)
				}
				return nil
			})
		}
	})
	t.Run("doctor", func(t *testing.T) { expectDoctor(t, web, envoy) })
}

// expectDoctor has doctor ask Consul itself, though everybody's connections but
// those of Envoy's user go to Envoy, which is killed.
func expectDoctor(t *testing.T, web *task, envoy *exec.Cmd) {
	t.Helper()
	for _, user := range []uint32{0, envoyUser} {
		if code, said := web.execute(user, "doctor"); code != 0 || !strings.HasPrefix(said, "Nothing is wrong.\n") {
			t.Errorf("user %d: exit %d:\n%s", user, code, said)
		}
	}
	_ = envoy.Process.Kill()
	_ = envoy.Wait()
	for _, user := range []uint32{0, envoyUser, application} {
		if code, said := web.execute(user, "doctor"); code != 1 || !strings.HasPrefix(said, "The first thing that is wrong: Envoy does not run.\n") {
			t.Errorf("user %d: exit %d:\n%s", user, code, said)
		}
	}
}

// expectByMesh has the application ask, in plain HTTP, and Envoy of the other
// task see a certificate.
func expectByMesh(t *testing.T, from, to *task, url string) {
	t.Helper()
	// Consul tells from's Envoy of the other service when it is there.
	eventually(t, url+" answers", func() error {
		_, err := get(from.Namespace, application, url)
		return err
	})
	before, out := to.stat(t, "ssl.handshake"), from.stat(t, outboundConnections)
	answer, err := get(from.Namespace, application, url)
	if err != nil || answer != "api" {
		t.Errorf("got %q, %v", answer, err)
	}
	if to.stat(t, "ssl.handshake") <= before || from.stat(t, outboundConnections) <= out {
		t.Error("the request didn't go from Envoy to Envoy")
	}
}

// expectExclusions asks for what is not of the mesh. All of it answers, by
// Envoy or not.
func expectExclusions(t *testing.T, w *world, web *task) {
	t.Helper()
	for _, port := range []string{"8080", "8081"} {
		serve(t, &w.Namespace, "0.0.0.0:"+port, says("outside"))
	}
	near := w.Connect(t, mustAddr("10.0.9.9"))
	serve(t, near, "0.0.0.0:8080", says("outside"))
	for _, c := range []struct {
		what, url  string
		user       int
		redirected bool
	}{
		{"nothing", "http://10.0.0.1:8080/", application, true},
		{"root", "http://10.0.0.1:8080/", 0, true},
		{"a port", "http://10.0.0.1:8081/", application, false},
		{"a network", "http://10.0.9.9:8080/", application, false},
		{"a user", "http://10.0.0.1:8080/", excludedUser, false},
		{"Envoy's user", "http://10.0.0.1:8080/", envoyUser, false},
		{"the task's metadata and credentials", "http://169.254.170.2/credentials", application, false},
		{"loopback", "http://127.0.0.1:9090/", application, false},
		{"the task itself", "http://10.0.1.5:9090/", application, false},
	} {
		before := web.stat(t, outboundConnections)
		if _, err := get(web.Namespace, c.user, c.url); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if redirected := web.stat(t, outboundConnections) > before; redirected != c.redirected {
			t.Errorf("%s: redirected: %v", c.what, redirected)
		}
	}
}

// outboundConnections ends the name of the statistic that counts what came to
// Envoy by redirection.
const outboundConnections = "127.0.0.1_15001.downstream_cx_total"

// stat is the sum of Envoy's statistics whose names end so.
func (k *task) stat(t *testing.T, name string) (sum int) {
	t.Helper()
	body, err := get(k.Namespace, application, "http://127.0.0.1:19000/stats")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(body) {
		stat, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if strings.HasPrefix(stat, "listener.") && strings.HasSuffix(stat, name) {
			found = true
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	if !found {
		t.Fatalf("Envoy has no statistic %s", name)
	}
	return sum
}

// virtualAddress asks Consul's DNS.
func virtualAddress(t *testing.T, w *world, name string) string {
	t.Helper()
	addresses, err := lookup(&w.Namespace, gateway.String()+":8600", name)
	if err != nil || len(addresses) != 1 {
		t.Fatalf("look up %s: %v, %v", name, addresses, err)
	}
	return addresses[0]
}

// expectEnvoysFiles: root wrote nothing that Envoy's user can't replace.
func expectEnvoysFiles(t *testing.T, k *task) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(k.volume(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() == fs.ModeSymlink {
			return err
		}
		seen++
		owner, err := volume.OwnerOf(path)
		if err == nil && owner != envoyUser {
			t.Errorf("%s belongs to %d", path, owner)
		}
		return err
	})
	if err != nil || seen < 6 {
		t.Errorf("%d files: %v", seen, err)
	}
}

// TestKilledAndRunAgain kills the init container at moments of a run, which
// takes about as long.
func TestKilledAndRunAgain(t *testing.T) {
	w := newWorld(t)
	k := w.newTask(t, "10.0.1.5", webConfig)
	began := time.Now()
	if code, log := k.register(capabilities...); code != 0 {
		t.Fatalf("exit %d:\n%s", code, log)
	}
	took, want := time.Since(began), k.rules(t)
	const moments = 20
	for i := range moments {
		for _, arguments := range []string{"-F", "-X"} {
			if output, err := k.iptables(arguments); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
		}
		after := took * time.Duration(i+1) / moments
		ctx, cancel := context.WithTimeout(t.Context(), after)
		code, log := k.run(ctx, func(c *exec.Cmd) { c.SysProcAttr.Credential = &syscall.Credential{} }, capabilities...)
		cancel()
		if left := k.rules(t); left != want && strings.Contains(left, " -j CONSUL_") {
			t.Errorf("killed after %s (exit %d), it left a part of the rules:\n%s%s", after, code, left, log)
		}
		if code, log := k.register(capabilities...); code != 0 {
			t.Fatalf("after a kill after %s: exit %d:\n%s", after, code, log)
		}
		if diff := cmp.Diff(want, k.rules(t)); diff != "" {
			t.Errorf("after a kill after %s:\n%s", after, diff)
		}
		expectEnvoysFiles(t, k)
	}
}

func TestWhatTransparentProxyNeedsIsSaidBeforeATaskIsRegistered(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		run  func(*task) (int, string)
		want string
	}{
		"EC2": {func(k *task) (int, string) {
			k.launchType = "FARGATE"
			return k.register(capabilities...)
		}, "transparentProxy.enabled wants: that needs the capability NET_ADMIN, which no container has on Fargate"},
		"root": {func(k *task) (int, string) {
			return k.run(context.Background(), func(c *exec.Cmd) { c.SysProcAttr.Credential = &syscall.Credential{Uid: envoyUser, Gid: envoyUser} }, capabilities...)
		}, `runs as user 101, and iptables needs root; set "User": "0"`},
		"capabilities": {func(k *task) (int, string) { return k.register() }, "lacks the capability NET_ADMIN, SETUID, SETGID"},
		"NET_ADMIN":    {func(k *task) (int, string) { return k.register(capabilities[1:]...) }, "lacks the capability NET_ADMIN;"},
		"iptables": {func(k *task) (int, string) {
			return k.run(context.Background(), func(c *exec.Cmd) { c.Env = append(c.Env, "PATH=/nowhere") }, capabilities...)
		}, "iptables"},
	} {
		t.Run(name, func(t *testing.T) {
			k := w.newTask(t, "10.0.2."+strconv.Itoa(len(name)), webConfig)
			code, log := c.run(k)
			lines := strings.Split(strings.TrimSpace(log), "\n")
			if code != 1 || !strings.Contains(lines[len(lines)-1], c.want) {
				t.Errorf("exit %d:\n%s\nwant: %s", code, log, c.want)
			}
			t.Log(lines[len(lines)-1])
			if rules := k.rules(t); strings.Contains(rules, "CONSUL_") {
				t.Errorf("there are rules:\n%s", rules)
			}
		})
	}
	nodes, _, err := w.consul.Catalog().Nodes(&api.QueryOptions{Filter: `Meta["synthetic-node"] == "true"`})
	if err != nil || len(nodes) > 0 {
		t.Errorf("in the catalog: %v, %v", nodes, err)
	}
}
