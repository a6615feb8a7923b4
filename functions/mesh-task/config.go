package main

import (
	"errors"

	"ecsmesh/functions/mesh-task/expand"
	"ecsmesh/functions/mesh-task/meshtask"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/function"
)

// config is the function's environment; see environment.Parse. It is what all
// mesh tasks of the stack have in common. The function itself reaches nobody.
type config struct {
	InitImage  string `env:"INIT_IMAGE"`  // "": a block must name it
	EnvoyImage string `env:"ENVOY_IMAGE"` // "": meshtask's own

	ServersParameter string           `env:"SERVERS_PARAMETER"`
	HTTPPort         environment.Port `env:"CONSUL_HTTP_PORT" want:"a port from 1 to 65535"`
	HTTPSSL          bool             `env:"CONSUL_HTTP_SSL" envDefault:"false" want:"true or false"`
	CACertParameter  string           `env:"CONSUL_CACERT_PARAMETER"`
	CACertSecretARN  string           `env:"CONSUL_CACERT_SECRET_ARN"` // behind the parameter, or ""
	TLSServerName    string           `env:"CONSUL_TLS_SERVER_NAME"`
	Partition        string           `env:"CONSUL_PARTITION"`

	LoginMethod   string `env:"CONSUL_LOGIN_METHOD"` // of tasks; "": Consul has no ACLs
	LoginServerID string `env:"CONSUL_LOGIN_SERVER_ID"`
	STSEndpoint   string `env:"STS_ENDPOINT"`

	function.Logging
}

// Validate leaves all faults to check: of a function that doesn't start,
// CloudFormation only says that the macro failed without an error message.
func (c config) Validate() error { return nil }

// check finds what no variable is to blame for alone.
func (c config) check() error {
	if c.HTTPSSL && c.CACertParameter == "" {
		return errors.New("CONSUL_HTTP_SSL is true, so CONSUL_CACERT_PARAMETER must be set")
	}
	return nil
}

// usual is the port that ecsmesh-init takes where nobody names one.
func (c config) usual() environment.Port {
	if c.HTTPSSL {
		return 8501
	}
	return 8500
}

// input is the same as package expand has it.
func (c config) input() expand.Input {
	in := expand.Input{
		Partition: c.Partition,
		Defaults: meshtask.Defaults{
			InitImage: c.InitImage, EnvoyImage: c.EnvoyImage,
			ServersParameter: c.ServersParameter,
			TLS:              c.HTTPSSL, CAParameter: c.CACertParameter, CASecretARN: c.CACertSecretARN, TLSServerName: c.TLSServerName,
			Login: c.LoginMethod != "", LoginMethod: c.LoginMethod, LoginServerID: c.LoginServerID, STSEndpoint: c.STSEndpoint,
		},
	}
	if c.HTTPPort != 0 && c.HTTPPort != c.usual() {
		in.HTTPPort = int(c.HTTPPort)
	}
	return in
}
