package access

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/parameter"
)

const (
	// caReadTime bounds one reading of the CA: an SSM that hangs must leave time
	// for the CA that is known.
	caReadTime = 5 * time.Second

	// caPause is how long a CA that was just read isn't read again, however
	// little it vouches for: SSM's rate is shared by the whole account.
	caPause = 30 * time.Second
)

// authority is the CA of the servers' certificates, or several, as PEM.
type authority struct {
	pem       string // "" before the first reading
	parameter string // "": pem is what the environment holds
	ssm       parameter.Getter
	now       func() time.Time
	log       *slog.Logger

	readAt  time.Time
	doubted bool
}

// read reads the CA where it isn't known yet, or is in doubt. One that is known
// stays when the parameter can't be read.
func (a *authority) read(ctx context.Context) error {
	if a.parameter == "" || a.pem != "" && !a.doubted {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, caReadTime)
	defer cancel()
	a.readAt, a.doubted = a.now().Round(0), false // see Published.read about the clock
	pem, err := parameter.Read(ctx, a.ssm, a.parameter)
	if err == nil {
		if pem, err = consul.Certificates(pem); err != nil {
			err = fmt.Errorf("read SSM parameter %s: %w", a.parameter, err)
		}
	}
	switch {
	case err == nil:
		a.pem = pem
	case a.pem == "":
		return fmt.Errorf("read the CA of the Consul servers (CONSUL_CACERT_PARAMETER): %w", err)
	default:
		a.log.WarnContext(ctx, "the CA of the Consul servers stays as it is", "error", err)
	}
	return nil
}

// doubt has the CA read again, and tells whether that may bring another one.
func (a *authority) doubt() bool {
	a.doubted = a.parameter != "" && a.now().Sub(a.readAt) >= caPause
	return a.doubted
}

// variable is where the CA comes from.
func (a *authority) variable() string {
	if a.parameter == "" {
		return "CONSUL_CACERT_PEM"
	}
	return "CONSUL_CACERT_PARAMETER"
}

// isUntrusted tells whether a server has a certificate that the CA doesn't vouch
// for, or of another name.
func isUntrusted(err error) bool {
	var untrusted *tls.CertificateVerificationError
	return errors.As(err, &untrusted)
}
