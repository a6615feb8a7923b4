package consultest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/pki"
)

// The usual ports of servers with TLS, which have no others.
const (
	HTTPSPort   = 8501
	GRPCTLSPort = 8503
)

// Datacenter is that of every server.
const Datacenter = "dc1"

// Security is what servers with TLS and ACLs have in common: they take no
// plaintext, and nothing without a token.
type Security struct {
	// CA is the certificate of who issued the servers', in PEM. They are
	// server.dc1.consul, localhost and the server's address.
	CA string
	// Token may do everything.
	Token string

	authority *pki.Authority
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
	authority, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	return &Security{CA: authority.CA, Token: newToken(), authority: authority}
}

// newToken is a random UUID, which is the form of Consul's tokens.
func newToken() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// configure writes the part of a server's configuration that is secret, and so
// no argument of a process, and returns the arguments that name it.
func (s *Security) configure(t testing.TB, addr netip.Addr) []string {
	t.Helper()
	certificate, err := s.authority.Server(Datacenter, addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"acl": object{
			"enabled":        true,
			"default_policy": "deny",
			"tokens":         object{"initial_management": s.Token, "agent": s.Token},
		},
		"tls": object{
			"defaults": object{
				"ca_file":   write("ca.pem", s.CA),
				"cert_file": write("server.pem", certificate.Certificate),
				"key_file":  write("server-key.pem", certificate.Key),
			},
			// Clients have tokens, servers have certificates.
			"internal_rpc": object{"verify_incoming": true, "verify_server_hostname": true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-config-file", write("secure.json", string(config))}
}
