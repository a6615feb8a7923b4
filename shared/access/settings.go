package access

import (
	"cmp"
	"errors"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/environment"
)

const (
	plainPort = 8500
	tlsPort   = 8501
)

// Settings are the part of a function's environment that says how it gets into
// Consul. They are made to be embedded in the function's own; see
// environment.Parse.
type Settings struct {
	HTTPPort environment.Port `env:"CONSUL_HTTP_PORT" want:"a port from 1 to 65535"` // of every Consul server; see Port
	HTTPSSL  bool             `env:"CONSUL_HTTP_SSL" envDefault:"false" want:"true or false"`

	// The CA of the servers' certificates: itself, or the name of the SSM
	// parameter that holds it; see the package parameter.
	CACertPEM       string `env:"CONSUL_CACERT_PEM"`
	CACertParameter string `env:"CONSUL_CACERT_PARAMETER"`
	TLSServerName   string `env:"CONSUL_TLS_SERVER_NAME"` // see consul.TLS

	Partition string `env:"CONSUL_PARTITION"` // of Consul Enterprise, in which the tasks are; empty: the default one

	LoginMethod   string `env:"CONSUL_LOGIN_METHOD"`    // Consul's auth method; empty: Consul has no ACLs
	LoginServerID string `env:"CONSUL_LOGIN_SERVER_ID"` // see login.Method
}

// Port is the port of every server's HTTP interface.
func (s Settings) Port() int {
	if s.HTTPSSL {
		return int(cmp.Or(s.HTTPPort, tlsPort))
	}
	return int(cmp.Or(s.HTTPPort, plainPort))
}

// Validate finds settings that don't go together.
//
// A login without TLS is let through, with a warning at each start: labs do it.
func (s Settings) Validate() error {
	var faults []error
	fault := func(is bool, text string) {
		if is {
			faults = append(faults, errors.New(text))
		}
	}
	fault(s.HTTPSSL && s.CACertPEM == "" && s.CACertParameter == "",
		"CONSUL_HTTP_SSL is true, so CONSUL_CACERT_PEM or CONSUL_CACERT_PARAMETER must be set")
	fault(s.CACertPEM != "" && s.CACertParameter != "", "CONSUL_CACERT_PEM and CONSUL_CACERT_PARAMETER are set: set one of them")
	if _, err := consul.Certificates(s.CACertPEM); s.CACertPEM != "" && err != nil {
		fault(true, "CONSUL_CACERT_PEM is no CA: "+err.Error())
	}
	fault(!s.HTTPSSL && s.CACertPEM != "", "CONSUL_CACERT_PEM is set, so CONSUL_HTTP_SSL must be true")
	fault(!s.HTTPSSL && s.CACertParameter != "", "CONSUL_CACERT_PARAMETER is set, so CONSUL_HTTP_SSL must be true")
	fault(!s.HTTPSSL && s.TLSServerName != "", "CONSUL_TLS_SERVER_NAME is set, so CONSUL_HTTP_SSL must be true")
	fault(s.LoginServerID != "" && s.LoginMethod == "", "CONSUL_LOGIN_SERVER_ID is set, so CONSUL_LOGIN_METHOD must be too")
	return errors.Join(faults...)
}
