package config

import (
	"encoding/json"
	"time"
)

// OutlierDetection has Envoy leave out instances of the service's upstreams that
// failed, for a while. It is in Consul's configuration, for all of the service.
type OutlierDetection struct {
	Interval                time.Duration
	MaxFailures             int
	EnforcingConsecutive5xx int           // percent
	MaxEjectionPercent      int           // of an upstream's instances
	BaseEjectionTime        time.Duration // 0 is Envoy's own

	// Newer is what only newer Consul servers know, by its name there. Others
	// refuse it.
	Newer map[string]int
}

// newerOutlierFields are what consul-ecs has since 0.10.
var newerOutlierFields = []struct {
	name, consul string
	most         int
}{
	{"consecutive5xx", "Consecutive5xx", 1<<31 - 1},
	{"consecutiveGatewayFailure", "ConsecutiveGatewayFailure", 1<<31 - 1},
	{"enforcingConsecutiveGatewayFailure", "EnforcingConsecutiveGatewayFailure", 100},
}

// Of consul-ecs.
const defaultOutlierInterval = time.Second

// readResilience returns nil where nothing is to be written: what an earlier
// version of the service wrote stays.
func readResilience(service *document) *OutlierDetection {
	d := service.object("networkResilienceConfig")
	if d == nil {
		return nil
	}
	enabled := d.boolean("enabled", false)
	settings := d.section("outlierDetection")
	found := &OutlierDetection{
		Interval:                settings.nanoseconds("interval", defaultOutlierInterval),
		MaxFailures:             settings.integer("maxFailures", 1, 1, 1<<31-1),
		EnforcingConsecutive5xx: settings.integer("enforcingConsecutive5xx", 100, 0, 100),
		MaxEjectionPercent:      settings.integer("maxEjectionPercent", 100, 0, 100),
		BaseEjectionTime:        settings.nanoseconds("baseEjectionTime", 0),
	}
	for _, field := range newerOutlierFields {
		if value := settings.integer(field.name, -1, 0, field.most); value >= 0 {
			if found.Newer == nil {
				found.Newer = map[string]int{}
			}
			found.Newer[field.consul] = value
		}
	}
	settings.end()
	d.end()
	if !enabled {
		if !d.has("enabled") {
			d.report.warnings = append(d.report.warnings, d.path+" has no effect: set its enabled to true")
		}
		return nil
	}
	return found
}

// nanoseconds reads a duration as consul-ecs has it, as a number, or as others
// have it.
func (d *document) nanoseconds(name string, standard time.Duration) time.Duration {
	const longest = 24 * time.Hour
	if _, number := d.fields[name].(json.Number); number {
		return time.Duration(d.integer(name, int(standard), int(time.Millisecond), int(longest)))
	}
	return d.duration(name, standard, longest)
}
