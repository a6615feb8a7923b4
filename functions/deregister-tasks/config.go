package main

import (
	"log/slog"

	"ecsmesh/shared/environment"
)

// config is the function's environment; see environment.Parse.
type config struct {
	ServersParameter string            `env:"SERVERS_PARAMETER,required,notEmpty"`                              // name of the SSM parameter
	HTTPPort         environment.Port  `env:"CONSUL_HTTP_PORT" envDefault:"8500" want:"a port from 1 to 65535"` // of every Consul server
	HTTPSSL          environment.NoTLS `env:"CONSUL_HTTP_SSL" envDefault:"false" want:"false: TLS to Consul is not supported yet"`
	LogLevel         slog.Level        `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
}
