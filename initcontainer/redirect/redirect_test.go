package redirect

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/sdk/iptables"

	"ecsmesh/initcontainer/config"
)

var some = Redirection{
	TransparentProxy: config.TransparentProxy{
		ExcludeInboundPorts: []int{81}, ExcludeOutboundPorts: []int{25},
		ExcludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}, ExcludeUIDs: []uint32{7}, ConsulDNS: true,
	},
	Address:   netip.MustParseAddr("10.0.1.5"),
	EnvoyUser: 101,
	Proxy: config.Proxy{PublicListenerPort: 20001, HealthCheckPort: 22001, AdminBindPort: 19001, Envoy: config.EnvoySettings{
		PrometheusBindAddr: netip.MustParseAddrPort("0.0.0.0:9102"), StatsBindAddr: netip.MustParseAddrPort("0.0.0.0:9103"),
	}, Expose: config.Expose{Paths: []config.ExposePath{{ListenerPort: 9104, Path: "/health", LocalPathPort: 8080, Protocol: "http"}}}},
}

// TestTransaction is for what the kernel is asked, in one step. What comes of it
// is tested in namespaces, where that needs root.
func TestTransaction(t *testing.T) {
	rules := &rules{}
	if err := iptables.Setup(some.layout(rules), false); err != nil {
		t.Fatal(err)
	}
	got := rules.transaction(strings.Split(`-P OUTPUT ACCEPT
-N CONSUL_PROXY_OUTPUT
-N OTHER
-A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
-A OUTPUT -p tcp -j OTHER
-A CONSUL_PROXY_OUTPUT -j CONSUL_PROXY_REDIRECT`, "\n"))
	want := `*nat
:CONSUL_PROXY_INBOUND - [0:0]
:CONSUL_PROXY_IN_REDIRECT - [0:0]
:CONSUL_PROXY_OUTPUT - [0:0]
:CONSUL_PROXY_REDIRECT - [0:0]
:CONSUL_DNS_REDIRECT - [0:0]
-D OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
-A CONSUL_PROXY_REDIRECT -p tcp -j REDIRECT --to-port 15001
-A CONSUL_DNS_REDIRECT -p udp -d 127.0.0.1 --dport 53 -j DNAT --to-destination 127.0.0.1:8600
-A CONSUL_DNS_REDIRECT -p tcp -d 127.0.0.1 --dport 53 -j DNAT --to-destination 127.0.0.1:8600
-A OUTPUT -p udp -d 127.0.0.1 --dport 53 -j CONSUL_DNS_REDIRECT
-A OUTPUT -p tcp -d 127.0.0.1 --dport 53 -j CONSUL_DNS_REDIRECT
-A OUTPUT -p tcp -j CONSUL_PROXY_OUTPUT
-A CONSUL_PROXY_OUTPUT -m owner --uid-owner 101 -j RETURN
-A CONSUL_PROXY_OUTPUT -d 127.0.0.1/32 -j RETURN
-A CONSUL_PROXY_OUTPUT -j CONSUL_PROXY_REDIRECT
-I CONSUL_PROXY_OUTPUT -p tcp --dport 25 -j RETURN
-I CONSUL_PROXY_OUTPUT -d 169.254.0.0/16 -j RETURN
-I CONSUL_PROXY_OUTPUT -d 10.0.1.5/32 -j RETURN
-I CONSUL_PROXY_OUTPUT -d 10.9.0.0/16 -j RETURN
-I CONSUL_PROXY_OUTPUT -m owner --uid-owner 7 -j RETURN
-A CONSUL_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-port 20001
-A PREROUTING -p tcp -j CONSUL_PROXY_INBOUND
-A CONSUL_PROXY_INBOUND -p tcp -j CONSUL_PROXY_IN_REDIRECT
-I CONSUL_PROXY_INBOUND -p tcp --dport 22001 -j RETURN
-I CONSUL_PROXY_INBOUND -p tcp --dport 19001 -j RETURN
-I CONSUL_PROXY_INBOUND -p tcp --dport 81 -j RETURN
-I CONSUL_PROXY_INBOUND -p tcp --dport 9102 -j RETURN
-I CONSUL_PROXY_INBOUND -p tcp --dport 9103 -j RETURN
-I CONSUL_PROXY_INBOUND -p tcp --dport 9104 -j RETURN
COMMIT
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConsulComesFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	for before, want := range map[string]string{
		"":                                  "nameserver 127.0.0.1\n",
		"search a\nnameserver 10.0.0.2\n":   "nameserver 127.0.0.1\nsearch a\nnameserver 10.0.0.2\n",
		"nameserver 127.0.0.1\noptions x\n": "nameserver 127.0.0.1\noptions x\n",
	} {
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := askConsulFirst(path, "127.0.0.1"); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("%q became %q, %v", before, got, err)
			}
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	if askConsulFirst(none, "127.0.0.1") == nil || writable(none) == nil {
		t.Error("a file that is not there is no error")
	}
}

// TestTheConsulClientIsLeftAlone: where it gets its configuration from must not
// wait for Envoy.
func TestTheConsulClientIsLeftAlone(t *testing.T) {
	with := some
	with.Client = &config.ConsulClient{Address: "127.0.0.2", DNSPort: 8601, SerfPort: 8311}
	rules := &rules{}
	if err := iptables.Setup(with.layout(rules), false); err != nil {
		t.Fatal(err)
	}
	got := rules.transaction(nil)
	for _, want := range []string{
		"-I CONSUL_PROXY_INBOUND -p tcp --dport 8311 -j RETURN",
		"-I CONSUL_PROXY_OUTPUT -p tcp --dport 8311 -j RETURN",
		"-I CONSUL_PROXY_OUTPUT -p tcp --dport 8300 -j RETURN",
		"-A CONSUL_DNS_REDIRECT -p udp -d 127.0.0.2 --dport 53 -j DNAT --to-destination 127.0.0.2:8601",
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("there is no %s in\n%s", want, got)
		}
	}
}
