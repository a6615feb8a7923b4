// Package pki makes the certificates of Consul servers for a test: a certificate
// authority, and what it issues. Nothing of it outlives the test.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// validity is longer than any test, and begins before now, since clocks differ.
const (
	validity = 24 * time.Hour
	backdate = time.Hour
)

// Authority issues certificates.
type Authority struct {
	CA string // its own certificate, in PEM

	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Certificate is one that an Authority issued, with its key, both in PEM.
type Certificate struct{ Certificate, Key string }

// New makes an authority. Each is another, whatever its name.
func New() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "Consul CA of a test"},
		NotBefore:             time.Now().Add(-backdate),
		NotAfter:              time.Now().Add(validity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	return &Authority{encode("CERTIFICATE", der), certificate, key}, nil
}

// Server issues the certificate of a Consul server, for the name that Consul and
// its clients expect, and for where it can be reached on this host.
func (a *Authority) Server(datacenter string, addrs ...netip.Addr) (Certificate, error) {
	return a.Issue([]string{"server." + datacenter + ".consul", "localhost"}, addrs...)
}

// Issue issues a certificate for any names and addresses. Consul servers use it
// as clients, too, of one another.
func (a *Authority) Issue(names []string, addrs ...netip.Addr) (Certificate, error) {
	certificate, err := a.issue(names, addrs)
	if err != nil {
		return Certificate{}, fmt.Errorf("issue a certificate for %v: %w", names, err)
	}
	return certificate, nil
}

func (a *Authority) issue(names []string, addrs []netip.Addr) (Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: names[0]},
		NotBefore:    a.certificate.NotBefore,
		NotAfter:     a.certificate.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:     names,
	}
	for _, addr := range addrs {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return Certificate{}, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{encode("CERTIFICATE", der), encode("PRIVATE KEY", secret)}, nil
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
