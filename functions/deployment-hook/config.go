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
	ServersParameter string   `env:"SERVERS_PARAMETER,required,notEmpty"`                                                      // name of the SSM parameter
	LimitMinutes     uint16   `env:"DEPLOYMENT_HOOK_LIMIT_MINUTES" envDefault:"30" want:"a number of minutes from 0 to 65535"` // see hook.Hook
	Services         []string `env:"DEPLOYMENT_HOOK_SERVICES" want:"names of services, separated by commas"`                   // see hook.Hook
}

// LogsPlan keeps the plan out of a deployed function's answer: ECS reads it, and
// rolls back for what it doesn't take for one.
func (c config) LogsPlan() bool { return !c.Local }
