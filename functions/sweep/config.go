package main

import (
	"fmt"
	"log/slog"
	"strconv"

	"ecsmesh/shared/publisher"
)

// sdkAttempts outlasts a burst of throttling: SSM's and ECS's limits are shared
// by the whole account. The invocation's time bounds them too.
const sdkAttempts = 8

// config is the function's environment; see environment.Parse.
type config struct {
	publisher.Config
	MaxDeletedTasks   uint       `env:"SWEEP_MAX_DELETED_TASKS" envDefault:"10" want:"a whole number, 0 or more"` // in one run
	MaxDeletedPercent percent    `env:"SWEEP_MAX_DELETED_PERCENT" envDefault:"30" want:"a whole number from 0 to 100"`
	LogLevel          slog.Level `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
}

// percent is a part of a hundred.
type percent int

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *percent) UnmarshalText(text []byte) error {
	number, err := strconv.Atoi(string(text))
	if err == nil && (number < 0 || number > 100) {
		err = fmt.Errorf("%d is no part of a hundred", number)
	}
	*p = percent(number)
	return err
}
