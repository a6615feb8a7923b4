package main

import (
	"errors"
	"log/slog"
	"strconv"
)

// config is the function's environment; see environment.Parse.
type config struct {
	ServersParameter string     `env:"SERVERS_PARAMETER,required,notEmpty"`                              // name of the SSM parameter
	HTTPPort         port       `env:"CONSUL_HTTP_PORT" envDefault:"8500" want:"a port from 1 to 65535"` // of every Consul server
	HTTPSSL          noTLS      `env:"CONSUL_HTTP_SSL" envDefault:"false" want:"false: TLS to Consul is not supported yet"`
	LogLevel         slog.Level `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
}

// port is a TCP port.
type port uint16

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *port) UnmarshalText(text []byte) error {
	number, err := strconv.ParseUint(string(text), 10, 16)
	if err == nil && number == 0 {
		err = errors.New("0 is no port")
	}
	*p = port(number)
	return err
}

// noTLS is a switch that must be off.
type noTLS bool

// UnmarshalText implements encoding.TextUnmarshaler.
func (n *noTLS) UnmarshalText(text []byte) error {
	on, err := strconv.ParseBool(string(text))
	if err == nil && on {
		err = errors.New("not supported")
	}
	*n = noTLS(on)
	return err
}
