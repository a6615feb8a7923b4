package main

import (
	"ecsmesh/shared/access"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/function"
)

// config is the function's environment; see environment.Parse.
type config struct {
	access.Settings
	function.Logging
	dryrun.Switch
	ServersParameter string `env:"SERVERS_PARAMETER,required,notEmpty"`                 // name of the SSM parameter
	ForceLeave       bool   `env:"FORCE_LEAVE" envDefault:"false" want:"true or false"` // see catalog.Catalog
}
