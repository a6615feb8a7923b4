package main

import (
	"log/slog"

	"ecsmesh/shared/publisher"
)

// config is the function's environment; see environment.Parse.
type config struct {
	publisher.Config
	LogLevel slog.Level `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
}
