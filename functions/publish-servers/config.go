package main

import (
	"fmt"
	"log/slog"

	"github.com/caarlos0/env/v11"
)

// sdkAttempts outlasts a burst of throttling: SSM's and ECS's limits are shared
// by the whole account. The invocation's time bounds them too.
const sdkAttempts = 8

// config is the function's environment.
type config struct {
	ServersParameter string     `env:"SERVERS_PARAMETER,required,notEmpty"`     // name of the SSM parameter
	Cluster          string     `env:"CONSUL_SERVER_CLUSTER,required,notEmpty"` // name or ARN
	Service          string     `env:"CONSUL_SERVER_SERVICE,required,notEmpty"` // name of the ECS service
	LogLevel         slog.Level `env:"LOG_LEVEL" envDefault:"INFO"`             // DEBUG, INFO, WARN or ERROR
}

// parseConfig reports all faults of the environment at once.
func parseConfig(environment map[string]string) (config, error) {
	cfg, err := env.ParseAsWithOptions[config](env.Options{Environment: environment})
	if err != nil {
		return config{}, fmt.Errorf("read configuration from the environment: %w", err)
	}
	return cfg, nil
}
