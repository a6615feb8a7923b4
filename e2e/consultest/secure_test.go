package consultest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"syscall"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/pki"
)

func TestASecureServerTakesNoPlaintext(t *testing.T) {
	s := StartSecure(t)
	for _, port := range []uint16{HTTPPort, GRPCPort} {
		at := netip.AddrPortFrom(s.Addr, port).String()
		if _, err := http.Get("http://" + at); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v, want connection refused", at, err)
		}
	}
	response, err := http.Get("http://" + netip.AddrPortFrom(s.Addr, HTTPSPort).String() + "/v1/status/leader")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusBadRequest {
		t.Errorf("plaintext to the TLS port: %s, want 400", response.Status)
	}
}

func TestASecureServersCertificate(t *testing.T) {
	s := StartSecure(t)
	stranger, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	var misnamed x509.HostnameError
	for _, port := range []uint16{HTTPSPort, GRPCTLSPort} {
		at := netip.AddrPortFrom(s.Addr, port).String()
		for _, name := range []string{"server.dc1.consul", "localhost", s.Addr.String()} {
			if err := handshake(t, at, s.CA, name); err != nil {
				t.Errorf("%s as %s: %v", at, name, err)
			}
		}
		if err := handshake(t, at, s.CA, "server.dc2.consul"); !errors.As(err, &misnamed) {
			t.Errorf("%s as another datacenter's: %v", at, err)
		}
		if err := handshake(t, at, stranger.CA, "server.dc1.consul"); !errors.As(err, &unknown) {
			t.Errorf("%s of another authority: %v", at, err)
		}
	}
}

func TestASecureServerDeniesByDefault(t *testing.T) {
	s := StartSecure(t)
	register(t, s)
	if !registered(t, s) {
		t.Error("the node that was registered with the token is missing")
	}
	node := &api.CatalogRegistration{Node: "ecs-2", Address: "10.0.0.2"}
	for name, token := range map[string]string{"no token": "", "a token that isn't there": "11111111-2222-3333-4444-555555555555"} {
		_, err := s.As(t, token).Catalog().Register(node, nil)
		var refused api.StatusError
		if !errors.As(err, &refused) || refused.Code != http.StatusForbidden {
			t.Errorf("%s: %v, want 403", name, err)
		}
	}
}

func TestASecureClusterIsOne(t *testing.T) {
	c := StartSecureCluster(t, 3)
	register(t, c.Leader(t))
	c.Join(t, 2)
	c.Servers[0].Stop()
	c.Restart(t)
	for _, s := range c.Servers {
		if !registered(t, s) {
			t.Errorf("%s doesn't have the node", s.Addr)
		}
	}
}

func handshake(t *testing.T, at, ca, name string) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		t.Fatalf("no certificate in %q", ca)
	}
	connection, err := tls.Dial("tcp", at, &tls.Config{RootCAs: roots, ServerName: name})
	if err != nil {
		return err
	}
	return connection.Close()
}
