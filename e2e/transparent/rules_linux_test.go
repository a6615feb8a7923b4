package transparent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/netns"
	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/redirect"
)

func mustAddr(text string) netip.Addr { return netip.MustParseAddr(text) }

// lookup asks a DNS server from within a namespace.
func lookup(from *netns.Namespace, server, name string) (addresses []string, err error) {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
		err = from.Aside(func() (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, server)
			return err
		})
		return conn, err
	}}
	found, err := resolver.LookupNetIP(context.Background(), "ip4", name+".")
	for _, addr := range found {
		addresses = append(addresses, addr.Unmap().String())
	}
	return addresses, err
}

// apply redirects in a task's namespace, with iptables of its root.
func (k *task) apply(r redirect.Redirection) error {
	return k.Aside(func() error {
		if err := syscall.Unshare(syscall.CLONE_FS); err != nil {
			return err
		}
		if err := syscall.Chroot(k.root); err != nil {
			return err
		}
		return r.Apply(context.Background())
	})
}

func someRedirection(k *task) redirect.Redirection {
	return redirect.Redirection{
		Address: k.Address, EnvoyUser: envoyUser, Proxy: config.Proxy{PublicListenerPort: 20000, HealthCheckPort: 22000, AdminBindPort: 19000},
		TransparentProxy: config.TransparentProxy{ExcludeUIDs: []uint32{5}, ExcludeOutboundPorts: []int{25}},
	}
}

// TestRulesOfAnEarlierRunAreReplaced leaves half of the rules, others, and some
// that are not ours.
func TestRulesOfAnEarlierRunAreReplaced(t *testing.T) {
	k := (&world{VPC: netns.Start(t, gateway)}).newTask(t, "10.0.1.5", "")
	t.Setenv("PATH", "/usr/sbin") // of the task's root
	if err := k.apply(someRedirection(k)); err != nil {
		t.Fatal(err)
	}
	want := k.rules(t)
	commands := strings.Split(strings.TrimSpace(want), "\n")
	t.Log(want)
	for n := range commands {
		for _, arguments := range []string{"-F", "-X"} {
			if output, err := k.iptables(arguments); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
		}
		for _, command := range commands[:n] {
			if strings.HasPrefix(command, "-P ") {
				continue
			}
			if output, err := k.iptables(strings.Fields(command)...); err != nil {
				t.Fatalf("%s: %v: %s", command, err, output)
			}
		}
		if err := k.apply(someRedirection(k)); err != nil {
			t.Fatalf("after %d of %d: %v", n, len(commands), err)
		}
		if diff := cmp.Diff(want, k.rules(t)); diff != "" {
			t.Fatalf("after %d of %d:\n%s", n, len(commands), diff)
		}
	}
	foreign := "-A OUTPUT -d 10.9.9.9/32 -p tcp -j ACCEPT"
	if output, err := k.iptables(strings.Fields(foreign)...); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	other := someRedirection(k)
	other.ExcludeUIDs, other.ConsulDNS = []uint32{6}, true
	if err := os.WriteFile(filepath.Join(k.root, "etc/resolv.conf"), []byte("nameserver 10.0.0.2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.apply(other); err != nil {
			t.Fatal(err)
		}
	}
	got := k.rules(t)
	if strings.Contains(got, "--uid-owner 5 ") || !strings.Contains(got, "--uid-owner 6 ") || strings.Count(got, foreign) != 1 || strings.Count(got, "-A OUTPUT") != 4 {
		t.Errorf("other rules:\n%s", got)
	}
	resolver, err := os.ReadFile(filepath.Join(k.root, "etc/resolv.conf"))
	if err != nil || string(resolver) != "nameserver 127.0.0.1\nnameserver 10.0.0.2\n" {
		t.Errorf("resolv.conf: %q, %v", resolver, err)
	}
	if err := k.apply(someRedirection(k)); err != nil {
		t.Fatal(err)
	}
	if output, err := k.iptables(strings.Fields("-D" + strings.TrimPrefix(foreign, "-A"))...); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if diff := cmp.Diff(want, k.rules(t)); diff != "" {
		t.Errorf("back again:\n%s", diff)
	}
}

// TestConsulIsAskedForNames has Consul's DNS where consul-dataplane and a client
// agent have it.
func TestConsulIsAskedForNames(t *testing.T) {
	k := (&world{VPC: netns.Start(t, gateway)}).newTask(t, "10.0.1.5", "")
	t.Setenv("PATH", "/usr/sbin") // of the task's root
	consul, err := tools.Consul()
	if err != nil {
		t.Fatal(err)
	}
	start(t, k.Namespace, exec.Command(consul, "agent", "-dev", "-bind", "127.0.0.1", "-hcl", "disable_update_check = true", "-log-level", "warn"))
	resolver := filepath.Join(k.root, "etc/resolv.conf")
	if err := os.WriteFile(resolver, []byte("nameserver 10.0.0.2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := lookup(k.Namespace, "127.0.0.1:53", "consul.service.consul"); err == nil {
		t.Error("there is something at 127.0.0.1:53 without rules")
	}
	redirection := someRedirection(k)
	redirection.ConsulDNS = true
	if err := k.apply(redirection); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Consul answers", func() error {
		addresses, err := lookup(k.Namespace, "127.0.0.1:53", "consul.service.consul")
		if err == nil && !slices.Equal(addresses, []string{"127.0.0.1"}) {
			err = fmt.Errorf("it says %s", addresses)
		}
		return err
	})
}
