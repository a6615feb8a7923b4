package consul

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// TLS says by what Consul's servers are known. It holds no secret, and is kept
// on the shared volume of a task as JSON.
type TLS struct {
	CA string // one certificate or more, in PEM: whoever issued the servers'

	// ServerName is the name that a server's certificate must have; "" takes
	// the names of the servers of any datacenter: server.<datacenter>.consul.
	ServerName string `json:",omitempty"`
}

// Certificates returns the certificates in a text of PEM, and nothing else of it:
// they go where everybody can read them. It refuses a text with none, or with a
// private key, which is better not where it was found.
func Certificates(text string) (string, error) {
	var certificates []byte
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return "", errors.New("it holds a private key; want certificates alone")
		}
		if _, err := x509.ParseCertificate(block.Bytes); block.Type == "CERTIFICATE" && err == nil {
			certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
	}
	if len(certificates) == 0 {
		return "", errors.New("it holds no certificate in PEM")
	}
	return string(certificates), nil
}

// Config is how a client of the servers speaks TLS to them; nil for servers
// without.
func (t *TLS) Config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(t.CA)) {
		return nil, errors.New("the CA holds no certificate in PEM")
	}
	if t.ServerName != "" {
		return &tls.Config{RootCAs: roots, ServerName: t.ServerName, MinVersion: tls.VersionTLS12}, nil
	}
	return &tls.Config{
		// The package verifies one name, which isn't known before a server was
		// asked for its datacenter. VerifyConnection does all that is left out.
		InsecureSkipVerify: true, //nolint:gosec // see above
		MinVersion:         tls.VersionTLS12,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyServer(state.PeerCertificates, roots)
		},
	}, nil
}

// verifyServer holds for a certificate of a Consul server, of whichever
// datacenter. A client agent's, of the same CA, is client.<datacenter>.consul.
// Its errors are those of the package tls.
func verifyServer(chain []*x509.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		between.AddCert(certificate)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}
	}
	for _, name := range chain[0].DNSNames {
		if isServerName(name) {
			return nil
		}
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: fmt.Errorf(
		"it is for %q, want server.<datacenter>.consul, or the name that tlsServerName gives", chain[0].DNSNames)}
}

// ServerName is the name in the certificates of a datacenter's servers.
func ServerName(datacenter string) string { return "server." + datacenter + ".consul" }

func isServerName(name string) bool {
	labels := strings.Split(name, ".")
	return len(labels) == 3 && labels[0] == "server" && labels[1] != "" && labels[1] != "*" && labels[2] == "consul"
}

// Untrusted tells whether a server could not prove that it is one, or doesn't
// speak TLS.
func Untrusted(err error) bool {
	var unverified *tls.CertificateVerificationError
	return errors.As(err, &unverified) || errors.Is(err, http.ErrSchemeMismatch)
}
