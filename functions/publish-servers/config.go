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

// Validate leaves alone how Consul is reached where ECS names the servers:
// Consul isn't asked then.
func (c config) Validate() error {
	if !c.Seeded() {
		return c.Config.Validate()
	}
	return errors.Join(c.Config.Validate(), c.Settings.Validate())
}
