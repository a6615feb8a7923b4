// Package lockdown keeps others out of a test's Consul: TLS with certificates of
// an authority of its own, ACLs that deny by default, a token that may do
// everything, and encrypted gossip.
package lockdown

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"ecsmesh/e2e/pki"
)

// Where locked-down servers are: on Consul's usual ports with TLS, and no others.
const (
	Datacenter  = "dc1"
	HTTPSPort   = 8501
	GRPCTLSPort = 8503
)

// Lockdown is what the servers of one cluster have in common.
type Lockdown struct {
	CA     string // the certificate of who issued the servers', in PEM
	Token  string // may do everything
	Gossip string // the key of the servers' gossip

	authority *pki.Authority
	dir       string
}

// New makes secrets and keeps them in a folder, each in a file of its own that
// only its owner reads.
func New(dir string) (*Lockdown, error) {
	authority, err := pki.New()
	if err != nil {
		return nil, err
	}
	id := random(16) // a UUID, which is the form of Consul's tokens
	l := &Lockdown{
		CA:        authority.CA,
		Token:     fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		Gossip:    base64.StdEncoding.EncodeToString(random(32)),
		authority: authority,
		dir:       dir,
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := write(l.TokenFile(), l.Token); err != nil {
		return nil, err
	}
	return l, write(l.CAFile(), l.CA)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func write(path, content string) error { return os.WriteFile(path, []byte(content), 0o600) }

// CAFile holds CA.
func (l *Lockdown) CAFile() string { return filepath.Join(l.dir, "ca.pem") }

// TokenFile holds Token.
func (l *Lockdown) TokenFile() string { return filepath.Join(l.dir, "token") }

// ConfigureAgent writes what lets a client agent in, who may do everything, and
// returns the file.
func (l *Lockdown) ConfigureAgent(agent netip.Addr) (path string, err error) {
	type object = map[string]any
	config, err := json.Marshal(object{
		"encrypt":      l.Gossip,
		"auto_encrypt": object{"tls": true},
		"acl":          object{"enabled": true, "tokens": object{"agent": l.Token, "default": l.Token}},
		"tls": object{
			"defaults":     object{"ca_file": l.CAFile(), "verify_outgoing": true},
			"internal_rpc": object{"verify_server_hostname": true},
		},
	})
	if err != nil {
		return "", err
	}
	path = filepath.Join(l.dir, "agent-"+agent.String()+".json")
	return path, write(path, string(config))
}

// ServerCertificate issues one that any of the servers may have, since it is
// known by its name alone, with its key after it, both in PEM.
func (l *Lockdown) ServerCertificate() (string, error) {
	issued, err := l.authority.Server(Datacenter)
	return issued.Certificate + issued.Key, err
}

// Configure writes a server's certificate, and the part of its configuration
// that is secret and so none of its arguments, and returns the latter's file.
func (l *Lockdown) Configure(server netip.Addr) (path string, err error) {
	certificate, err := l.authority.Server(Datacenter, server)
	if err != nil {
		return "", err
	}
	base := filepath.Join(l.dir, server.String())
	type object = map[string]any
	config, err := json.Marshal(object{
		"encrypt": l.Gossip,
		"ports":   object{"http": -1, "https": HTTPSPort, "grpc": -1, "grpc_tls": GRPCTLSPort},
		// Client agents get their certificates from the servers.
		"auto_encrypt": object{"allow_tls": true},
		// Consul gives certificates of its proxies, keys and all, out of a cache
		// to whoever asks there. Envoy asks elsewhere.
		"http_config": object{"block_endpoints": []string{"/v1/agent/connect/ca/leaf/"}},
		"acl": object{
			"enabled": true, "default_policy": "deny", "enable_token_persistence": true,
			"tokens": object{"initial_management": l.Token, "agent": l.Token},
		},
		"tls": object{
			"defaults": object{"ca_file": l.CAFile(), "cert_file": base + ".pem", "key_file": base + "-key.pem"},
			// Clients have tokens, servers have certificates.
			"internal_rpc": object{"verify_incoming": true, "verify_server_hostname": true},
		},
	})
	if err != nil {
		return "", err
	}
	for file, content := range map[string]string{
		base + ".pem": certificate.Certificate, base + "-key.pem": certificate.Key, base + ".json": string(config),
	} {
		if err := write(file, content); err != nil {
			return "", err
		}
	}
	return base + ".json", nil
}
