package main

import "log/slog"

// sdkAttempts outlasts a burst of throttling: SSM's and ECS's limits are shared
// by the whole account. The invocation's time bounds them too.
const sdkAttempts = 8

// config is the function's environment; see environment.Parse.
type config struct {
	ServersParameter string     `env:"SERVERS_PARAMETER,required,notEmpty"`     // name of the SSM parameter
	Cluster          string     `env:"CONSUL_SERVER_CLUSTER,required,notEmpty"` // name or ARN
	Service          string     `env:"CONSUL_SERVER_SERVICE,required,notEmpty"` // name of the ECS service
	LogLevel         slog.Level `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
}
