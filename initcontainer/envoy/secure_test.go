package envoy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/pki"
	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/config"
	"ecsmesh/shared/consul"
)

// patience is for one thing to happen in Envoy or Consul.
const patience = 30 * time.Second

// TestEnvoyFollowsServersWithTLSAndACLs has Envoy get its configuration with
// the token on the volume, whichever that is when a stream begins.
func TestEnvoyFollowsServersWithTLSAndACLs(t *testing.T) {
	cluster := consultest.StartSecureCluster(t, 1)
	server := cluster.Servers[0]
	first, second := newToken(t, server, "api"), newToken(t, server, "api")

	s := secureSidecar(t, server)
	register(t, server, s)
	s = fill(t, s, server.Addr, consultest.GRPCTLSPort, first.SecretID)
	e := startEnvoy(t, s)
	e.await(t, "Envoy to be ready", e.ready)

	// A token that is replaced while the stream is open is for the next one.
	s.giveToken(t, second.SecretID)
	if _, err := server.Client.ACL().TokenDelete(first.AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	cluster.Restart(t)
	register(t, server, s, api.Upstream{DestinationName: "db", LocalBindAddress: s.Proxy.AdminBindAddress, LocalBindPort: 5432})
	e.await(t, "Envoy to follow with the second token", func() bool { return strings.Contains(e.get("/listeners"), "db:") })
	if without := e.count("cluster.consul_servers.credential_injector.failed"); without != 0 {
		t.Errorf("%d streams had no token", without)
	}
	for what, text := range map[string]string{"log": e.log.String(), "admin interface": e.get("/config_dump?include_eds")} {
		if strings.Contains(text, first.SecretID) || strings.Contains(text, second.SecretID) {
			t.Errorf("a token is in Envoy's %s", what)
		}
	}
}

// TestEnvoyGetsNothing has Envoy and the servers not trust each other. A
// statistic of Envoy counts its attempts, and its log says why they fail. To who
// has a token but not the rights, Consul says nothing at all.
func TestEnvoyGetsNothing(t *testing.T) {
	server := consultest.StartSecure(t)
	token := newToken(t, server, "api").SecretID
	trusted := secureSidecar(t, server)
	register(t, server, trusted)
	const (
		untrusted = "CERTIFICATE_VERIFY_FAILED"
		closed    = "gRPC config stream to consul_servers closed"
		streams   = "cluster.consul_servers.upstream_rq_total"
	)
	for name, test := range map[string]struct {
		change    func(*Sidecar)
		token     string
		statistic string
		log       string
	}{
		"from servers of another CA":      {func(s *Sidecar) { s.TLS = &consul.TLS{CA: newCA(t), ServerName: s.TLS.ServerName} }, token, "cluster.consul_servers.ssl.fail_verify_error", untrusted},
		"from servers of another name":    {func(s *Sidecar) { s.TLS = &consul.TLS{CA: s.TLS.CA, ServerName: "server.dc2.consul"} }, token, "cluster.consul_servers.ssl.fail_verify_san", untrusted},
		"without TLS":                     {func(s *Sidecar) { s.TLS = nil }, token, "cluster.consul_servers.upstream_cx_destroy_with_active_rq", closed},
		"without a token":                 {func(s *Sidecar) { s.Token = false }, "", streams, ""},
		"with a token nobody issued":      {nil, "11111111-2222-3333-4444-555555555555", streams, "ACL not found"},
		"with a token of another service": {nil, newToken(t, server, "other").SecretID, streams, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := trusted
			s.Proxy.AdminBindAddress = freeAddr().String()
			if test.change != nil {
				test.change(&s)
			}
			e := startEnvoy(t, fill(t, s, server.Addr, consultest.GRPCTLSPort, test.token))
			e.await(t, test.statistic, func() bool { return e.count(test.statistic) > 0 })
			e.await(t, "its log to say why", func() bool { return strings.Contains(e.log.String(), test.log) })

			// In the time in which another gets all, it gets nothing.
			another := startEnvoy(t, fill(t, trusted, server.Addr, consultest.GRPCTLSPort, token))
			another.await(t, "an Envoy that is trusted to be ready", another.ready)
			if !strings.Contains(another.get("/listeners"), "public_listener") {
				t.Error("an Envoy that is trusted has no listener of Consul's")
			}
			if e.ready() || strings.Contains(e.get("/listeners"), "public_listener") {
				t.Errorf("Envoy has something of Consul's:\n%s", e.get("/listeners"))
			}
			if test.token != "" && strings.Contains(e.log.String(), test.token) {
				t.Error("the token is in Envoy's log")
			}
		})
	}
}

func secureSidecar(t *testing.T, server *consultest.Server) Sidecar {
	t.Helper()
	s := sidecar(config.EnvoySettings{})
	s.Address = freeAddr()
	s.Proxy.AdminBindAddress = s.Address.String()
	s.TLS = &consul.TLS{CA: server.CA, ServerName: consul.ServerName(consultest.Datacenter)}
	s.Token = true
	return s
}

// freeAddr picks a loopback address for one Envoy, away from those of servers.
// That another has it at the same time is possible, at odds of one in thousands.
func freeAddr() netip.Addr {
	return netip.AddrFrom4([4]byte{127, 5, byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
}

func newCA(t *testing.T) string {
	t.Helper()
	authority, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	return authority.CA
}

func newToken(t *testing.T, server *consultest.Server, service string) *api.ACLToken {
	t.Helper()
	token, _, err := server.Client.ACL().TokenCreate(&api.ACLToken{ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: service}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func register(t *testing.T, server *consultest.Server, s Sidecar, upstreams ...api.Upstream) {
	t.Helper()
	id := strings.TrimSuffix(s.ProxyID, "-sidecar-proxy")
	for _, service := range []*api.AgentService{
		{ID: id, Service: s.Service, Port: 8080},
		{
			Kind: api.ServiceKindConnectProxy, ID: s.ProxyID, Service: s.Service + "-sidecar-proxy", Address: s.Address.String(), Port: s.Proxy.PublicListenerPort,
			Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: s.Service, DestinationServiceID: id, LocalServiceAddress: s.Proxy.LocalServiceAddress, LocalServicePort: 8080, Upstreams: upstreams},
		},
	} {
		_, err := server.Client.Catalog().Register(&api.CatalogRegistration{Node: s.NodeName, Address: s.Address.String(), Service: service}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// runningEnvoy is a real Envoy and its admin interface.
type runningEnvoy struct {
	admin  string
	log    *output
	exited chan struct{}
}

// startEnvoy runs Envoy with the bootstrap on the volume until the test ends.
func startEnvoy(t *testing.T, s Sidecar) *runningEnvoy {
	t.Helper()
	binary, err := tools.Envoy()
	if err != nil {
		t.Fatal(err)
	}
	e := &runningEnvoy{
		admin:  net.JoinHostPort(s.Proxy.AdminBindAddress, strconv.Itoa(s.Proxy.AdminBindPort)),
		log:    &output{},
		exited: make(chan struct{}),
	}
	command := exec.Command(binary, "-c", s.Volume.Bootstrap(), "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
	command.Stdout, command.Stderr = e.log, e.log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = command.Wait() // how it ended is in its log
		close(e.exited)
	}()
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-e.exited
		if t.Failed() {
			t.Logf("Envoy's log:\n%s", e.log)
		}
	})
	return e
}

// await waits until a condition holds.
func (e *runningEnvoy) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		select {
		case <-e.exited:
			t.Fatalf("waiting for %s: Envoy has ended", what)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("waiting for %s: not after %s", what, patience)
		}
	}
}

// get returns a page of the admin interface, "" while it isn't open.
func (e *runningEnvoy) get(path string) string {
	response, err := http.Get("http://" + e.admin + path)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	return string(content)
}

func (e *runningEnvoy) ready() bool { return strings.TrimSpace(e.get("/ready")) == "LIVE" }

// count is the value of a counter, 0 for one that isn't there yet.
func (e *runningEnvoy) count(counter string) uint64 {
	var stats struct {
		Stats []struct {
			Name  string `json:"name"`
			Value uint64 `json:"value"`
		} `json:"stats"`
	}
	_ = json.Unmarshal([]byte(e.get(fmt.Sprintf("/stats?format=json&type=Counters&filter=^%s$", counter))), &stats)
	for _, stat := range stats.Stats {
		if stat.Name == counter {
			return stat.Value
		}
	}
	return 0
}

// output keeps what a process writes while the test may read it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
