// Package consultest runs a real Consul server for a test.
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
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/tools"
)

// Consul's usual ports, without TLS.
const (
	HTTPPort = 8500
	GRPCPort = 8502
)

const (
	// startTimeout is generous: a server takes about a second, and several
	// on two busy cores take a few.
	startTimeout = 30 * time.Second
	stopTimeout  = 5 * time.Second
	pollInterval = 20 * time.Millisecond

	// logTail is how much of the server's log a failed test prints.
	logTail = 16 << 10
)

// Server is a running Consul server that is its own one-member cluster, with
// the service mesh on and everything in memory.
type Server struct {
	// Addr is the address it listens on, with HTTPPort and GRPCPort.
	Addr netip.Addr
	// Client talks to its HTTP interface.
	Client *api.Client

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	log    *logBuffer
}

// Start runs a server, waits until it serves the catalog and signs
// certificates, and stops it when the test ends. A test that failed shows the
// end of the server's log.
func Start(t testing.TB) *Server {
	t.Helper()
	addr, err := freeAddr()
	if err != nil {
		t.Fatalf("start Consul: %v", err)
	}
	server, err := startAt(addr)
	if err != nil {
		t.Fatalf("start Consul at %s: %v", addr, err)
	}
	t.Cleanup(func() {
		server.Stop()
		if t.Failed() {
			t.Logf("the log of Consul at %s ends:\n%s", addr, server.log.tail(logTail))
		}
	})
	return server
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

// Freeze stops the server from answering while it still accepts connections,
// as a machine out of memory does. Stop ends a frozen server too.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Unfreeze lets a frozen server go on.
func (s *Server) Unfreeze() { s.signal(syscall.SIGCONT) }

// signal tells the process; one that is gone already needs no telling.
func (s *Server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

func startAt(addr netip.Addr) (*Server, error) {
	binary, err := tools.Consul()
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(&api.Config{
		Address: net.JoinHostPort(addr.String(), strconv.Itoa(HTTPPort)),
		Scheme:  "http",
	})
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: addr, Client: client, exited: make(chan struct{}), log: &logBuffer{}}
	s.cmd = exec.Command(binary, "agent", "-dev",
		"-node", "server-"+addr.String(),
		"-bind", addr.String(), "-client", addr.String(),
		"-hcl", fmt.Sprintf("ports { http = %d, grpc = %d, grpc_tls = -1, dns = -1, serf_wan = -1 }", HTTPPort, GRPCPort),
		"-hcl", "disable_update_check = true",
	)
	s.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	// A test binary that is killed or panics must not leave its server behind.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // how it ended is in its log
		close(s.exited)
	}()
	if err := s.awaitReady(); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w; its log ends:\n%s", err, s.log.tail(logTail))
	}
	return s, nil
}

func (s *Server) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return errors.New("it ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("not ready after %s: %w", startTimeout, err)
		case <-time.After(pollInterval):
		}
	}
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
func freeAddr() (netip.Addr, error) {
	var last error
	for range 10 {
		addr := netip.AddrFrom4([4]byte{127, byte(64 + rand.IntN(128)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
		listener, err := net.Listen("tcp", net.JoinHostPort(addr.String(), strconv.Itoa(HTTPPort)))
		if err != nil {
			last = err
			continue
		}
		return addr, listener.Close()
	}
	return netip.Addr{}, fmt.Errorf("find a free loopback address: %w", last)
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
