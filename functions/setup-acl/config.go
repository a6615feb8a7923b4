package main

import (
	"errors"

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
}

// Validate leaves all faults to check: a function that doesn't start can't tell
// CloudFormation why.
func (c config) Validate() error { return nil }

// check finds what no variable is to blame for alone.
func (c config) check() error { return errors.Join(c.Config.Validate(), c.Settings.Validate()) }
