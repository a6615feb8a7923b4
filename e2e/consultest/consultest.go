// Package consultest runs real Consul servers for a test: single ones, and
// clusters of several, open to all or with TLS and ACLs.
//
// Each server has a loopback address of its own (Linux answers on all of
// 127.0.0.0/8), so every one listens on Consul's usual ports and tests of any
// number of packages may run side by side.
package consultest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/tools"
)

// The usual ports of servers without TLS.
const (
	HTTPPort = 8500
	GRPCPort = 8502
)

const (
	// startTimeout is generous: a server takes about a second, and several
	// on two busy cores take a few.
	startTimeout = time.Minute
	stopTimeout  = 5 * time.Second

	// attemptTimeout bounds one look whether a server is ready.
	attemptTimeout = 3 * time.Second

	pollInterval = 20 * time.Millisecond

	// logTail is how much of the server's log a failed test prints.
	logTail = 16 << 10
)

// Server is a running Consul server with the service mesh on.
type Server struct {
	// Addr is the address it listens on, with HTTPPort and GRPCPort, or with
	// Security with HTTPSPort and GRPCTLSPort.
	Addr netip.Addr
	// Client talks to its HTTP interface, and may do everything.
	Client *api.Client
	// Security is nil for a server without TLS and ACLs.
	*Security

	args   []string // of the consul program
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	log    *logBuffer
}

// Start runs a server that is its own one-member cluster, with everything in
// memory, waits until it serves the catalog and signs certificates, and stops
// it when the test ends. A test that failed shows the end of the server's log.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, nil)
}

// StartPeer is Start for a server that others can peer with, for which it has
// the port GRPCTLSPort as well.
func StartPeer(t testing.TB) *Server {
	t.Helper()
	return start(t, nil, "-hcl", fmt.Sprintf("ports { grpc_tls = %d }", GRPCTLSPort))
}

func start(t testing.TB, security *Security, args ...string) *Server {
	t.Helper()
	s := newServer(t, freeAddr(t), security, append([]string{"-dev"}, args...)...)
	s.run(t)
	await(t, s, s.ready)
	return s
}

// Stop kills the server; connections to its address are refused from then on.
// Stopping it again does nothing.
func (s *Server) Stop() {
	s.signal(syscall.SIGKILL)
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
	}
}

// PID is the process of the server that runs, or ran last.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Freeze stops the server from answering while it still accepts connections,
// as a machine out of memory does. Stop ends a frozen server too. It returns
// when the server has come to a stop, which takes a moment on a busy machine.
func (s *Server) Freeze() {
	s.signal(syscall.SIGSTOP)
	for end := time.Now().Add(stopTimeout); time.Now().Before(end) && !s.frozen(); {
		time.Sleep(time.Millisecond)
	}
}

// frozen tells whether every thread of the server has stopped.
func (s *Server) frozen() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return true // there is no server
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		// After the name, which is in parentheses, comes the state: T is stopped.
		if err == nil && !bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T")) {
			return false
		}
	}
	return true
}

// Unfreeze lets a frozen server go on.
func (s *Server) Unfreeze() { s.signal(syscall.SIGCONT) }

// Restart stops the server and runs it again at the same address, and returns
// when it serves the catalog, for which a cluster needs most of its servers. A
// server of Start's comes back empty, one of a cluster as it was.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	s.run(t)
	await(t, s, s.ready)
}

// signal tells the process; one that is gone already needs no telling.
func (s *Server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

// newServer prepares a server that takes more arguments than its addresses,
// ends with the test, and then shows its log if the test failed.
func newServer(t testing.TB, addr netip.Addr, security *Security, args ...string) *Server {
	t.Helper()
	s := &Server{Addr: addr, Security: security, log: &logBuffer{}}
	token, ports := "", []string{"-hcl", fmt.Sprintf("ports { http = %d, grpc = %d, grpc_tls = -1 }", HTTPPort, GRPCPort)}
	if security != nil {
		token, ports = security.Token, security.configure(t, addr)
	}
	s.Client = s.As(t, token)
	s.args = append([]string{"agent",
		"-node", "server-" + addr.String(),
		"-bind", addr.String(), "-client", addr.String(),
		"-hcl", "ports { dns = -1, serf_wan = -1 }",
		"-hcl", "disable_update_check = true",
		// All of a test's tasks have one address towards Consul, which takes 200
		// connections of each.
		"-hcl", "limits { http_max_conns_per_client = 10000 }",
	}, append(ports, args...)...)
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("the log of Consul at %s ends:\n%s", addr, s.log.tail(logTail))
		}
	})
	return s
}

// newClient is a client of a server's HTTP interface.
func newClient(addr netip.Addr, security *Security, token string) (*api.Client, error) {
	if security == nil {
		return api.NewClient(&api.Config{Address: netip.AddrPortFrom(addr, HTTPPort).String(), Scheme: "http", Token: token})
	}
	return api.NewClient(&api.Config{
		Address:   netip.AddrPortFrom(addr, HTTPSPort).String(),
		Scheme:    "https",
		Token:     token,
		TLSConfig: api.TLSConfig{CAPem: []byte(security.CA)},
	})
}

// run starts the process.
func (s *Server) run(t testing.TB) {
	t.Helper()
	binary, err := tools.Consul()
	if err != nil {
		t.Fatalf("start Consul at %s: %v", s.Addr, err)
	}
	cmd, exited := exec.Command(binary, s.args...), make(chan struct{})
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	// A test binary that is killed or panics must not leave its server behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start Consul at %s: %v", s.Addr, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	s.cmd, s.exited = cmd, exited
}

// running tells whether the process is there, be it frozen.
func (s *Server) running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// await waits until the server fulfils a condition.
func await(t testing.TB, s *Server, condition func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	for {
		err := attempt(ctx, condition)
		if err == nil {
			return
		}
		select {
		case <-s.exited:
			t.Fatalf("start Consul at %s: it ended before it was ready", s.Addr)
		case <-ctx.Done():
			t.Fatalf("start Consul at %s: not ready after %s: %v", s.Addr, startTimeout, err)
		case <-time.After(pollInterval):
		}
	}
}

// attempt bounds a condition: a server passes questions on to the leader that it
// knows, which may be frozen, and waits.
func attempt(ctx context.Context, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return condition(ctx)
}

// ready holds once the leader has registered itself and its certificate
// authority has a root: both happen some time after HTTP answers.
func (s *Server) ready(ctx context.Context) error {
	opts := (&api.QueryOptions{}).WithContext(ctx)
	instances, _, err := s.Client.Catalog().Service("consul", "", opts)
	if err != nil {
		return err
	}
	if len(instances) == 0 {
		return errors.New("the leader has not registered itself")
	}
	roots, _, err := s.Client.Connect().CARoots(opts)
	if err != nil {
		return err
	}
	if roots.ActiveRootID == "" {
		return errors.New("the certificate authority has no root")
	}
	return nil
}

// freeAddr picks a loopback address at random whose ports are free. Two picks
// of the same one at the same moment are possible, at odds of one in millions.
func freeAddr(t testing.TB) netip.Addr {
	t.Helper()
	var last error
	for range 10 {
		addr := netip.AddrFrom4([4]byte{127, byte(64 + rand.IntN(128)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
		listener, err := net.Listen("tcp", net.JoinHostPort(addr.String(), strconv.Itoa(HTTPPort)))
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			t.Fatalf("find a free loopback address: %v", err)
		}
		return addr
	}
	t.Fatalf("find a free loopback address: %v", last)
	return netip.Addr{}
}

// logBuffer keeps what the server writes while the test may read it.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buf.Bytes()
	return string(b[max(0, len(b)-n):])
}
