package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/caarlos0/env/v11"
)

// config is the function's environment.
type config struct {
	ServersParameter string     `env:"SERVERS_PARAMETER,required,notEmpty"` // name of the SSM parameter
	HTTPPort         uint16     `env:"CONSUL_HTTP_PORT" envDefault:"8500"`  // of every Consul server
	HTTPSSL          bool       `env:"CONSUL_HTTP_SSL" envDefault:"false"`
	LogLevel         slog.Level `env:"LOG_LEVEL" envDefault:"INFO"` // DEBUG, INFO, WARN or ERROR
}

// parseConfig reports all faults of the environment at once.
func parseConfig(environment map[string]string) (config, error) {
	var cfg config
	faults := []error{env.ParseWithOptions(&cfg, env.Options{Environment: environment})}
	if environment["CONSUL_HTTP_PORT"] != "" && cfg.HTTPPort == 0 {
		faults = append(faults, errors.New("CONSUL_HTTP_PORT must be a port from 1 to 65535"))
	}
	if cfg.HTTPSSL {
		faults = append(faults, errors.New(`CONSUL_HTTP_SSL must be "false": TLS to Consul is not supported yet`))
	}
	if err := errors.Join(faults...); err != nil {
		return config{}, fmt.Errorf("read configuration from the environment: %w", err)
	}
	return cfg, nil
}
