package config

import (
	"strings"
)

// Expose opens paths of the application to who is not in the mesh: Envoy asks
// for no certificate there, and no intention counts.
type Expose struct {
	Checks bool // those that a Consul agent runs
	Paths  []ExposePath
}

// ExposePath is one path of the application at a port of Envoy's.
type ExposePath struct {
	ListenerPort  int // on the task's address
	Path          string
	LocalPathPort int
	Protocol      string // http or http2
}

// notInNames is what Consul leaves out of the name of a path's listener.
var notInNames = pattern(`[^A-Za-z0-9]+`)

func readExpose(proxy *document, topology string) Expose {
	d := proxy.section("expose")
	expose := Expose{Checks: d.boolean("checks", false)}
	if expose.Checks && topology != ClientAgent {
		d.report.warnings = append(d.report.warnings, d.at("checks")+" has no effect: the checks are run inside the task, and need no way in")
	}
	names := map[string]string{}
	for _, item := range d.objects("paths", `{"path": "/metrics", "listenerPort": 20200, "localPathPort": 8080}`) {
		exposed := readExposePath(item)
		name := notInNames().ReplaceAllString(exposed.Path, "")
		if earlier := names[name]; earlier != "" {
			item.fault("path", show(exposed.Path), "want a path with other letters and digits than "+earlier+" has: Consul names its listener by them, and Envoy takes no name twice")
		}
		names[name] = item.at("path")
		expose.Paths = append(expose.Paths, exposed)
	}
	d.end()
	return expose
}

func readExposePath(d *document) ExposePath {
	exposed := ExposePath{
		ListenerPort:  d.port("listenerPort", 0),
		Path:          d.text("path", ""),
		LocalPathPort: d.port("localPathPort", 0),
		Protocol:      d.oneOf("protocol", "http", "http", "http2"),
	}
	if !strings.HasPrefix(exposed.Path, "/") {
		d.fault("path", show(exposed.Path), "want the path to expose, such as /metrics")
	}
	if !d.has("listenerPort") {
		d.fault("listenerPort", "nothing", "want the port at which Envoy takes requests for the path")
	}
	if !d.has("localPathPort") {
		d.fault("localPathPort", "nothing", "want the application's port that answers them")
	}
	d.end()
	return exposed
}
