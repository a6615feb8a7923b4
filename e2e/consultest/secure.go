package consultest

import (
	"net/netip"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/lockdown"
)

// The usual ports of servers with TLS, which have no others.
const (
	HTTPSPort   = lockdown.HTTPSPort
	GRPCTLSPort = lockdown.GRPCTLSPort
)

// Datacenter is that of every server.
const Datacenter = lockdown.Datacenter

// Security is what servers with TLS and ACLs have in common: they take no
// plaintext, and nothing without a token.
type Security struct {
	// CA is the certificate of who issued the servers', in PEM. They are
	// server.dc1.consul, localhost and the server's address.
	CA string
	// Token may do everything.
	Token string

	lockdown *lockdown.Lockdown
}

// StartSecure runs a server as Start does, but with TLS and with ACLs that deny
// by default. Its Client has the Token, which is there when StartSecure returns.
func StartSecure(t testing.TB) *Server {
	t.Helper()
	return start(t, newSecurity(t))
}

// StartSecureCluster runs a cluster as StartCluster does, of servers such as
// StartSecure's.
func StartSecureCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	return startCluster(t, n, newSecurity(t))
}

// As is a client of the server with another token than Client's; "" is the
// anonymous one.
func (s *Server) As(t testing.TB, token string) *api.Client {
	t.Helper()
	client, err := newClient(s.Addr, s.Security, token)
	if err != nil {
		t.Fatalf("reach Consul at %s: %v", s.Addr, err)
	}
	return client
}

func newSecurity(t testing.TB) *Security {
	t.Helper()
	made, err := lockdown.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Security{CA: made.CA, Token: made.Token, lockdown: made}
}

// configure returns the arguments that lock a server down.
func (s *Security) configure(t testing.TB, addr netip.Addr) []string {
	t.Helper()
	path, err := s.lockdown.Configure(addr)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-config-file", path}
}
