package main

import (
	"errors"
	"fmt"
	"strconv"

	"ecsmesh/shared/access"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/function"
	"ecsmesh/shared/publisher"
)

// config is the function's environment; see environment.Parse.
type config struct {
	publisher.Config
	access.Settings
	function.Logging
	dryrun.Switch
	ForceLeave        bool    `env:"FORCE_LEAVE" envDefault:"false" want:"true or false"`                      // see catalog.Catalog
	MaxDeletedTasks   uint    `env:"SWEEP_MAX_DELETED_TASKS" envDefault:"10" want:"a whole number, 0 or more"` // in one run
	MaxDeletedPercent percent `env:"SWEEP_MAX_DELETED_PERCENT" envDefault:"30" want:"a whole number from 0 to 100"`
}

// Validate finds what no variable is to blame for alone.
func (c config) Validate() error { return errors.Join(c.Config.Validate(), c.Settings.Validate()) }

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
