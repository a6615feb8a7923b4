package meshtask

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// What the field taskRole may be.
const (
	roleAdd  = "ADD"  // whoever has the template adds what the role needs
	roleNone = "NONE" // the role has it
)

// block is what was said of a task definition in Metadata: EcsMesh.
type block struct {
	settings *yaml.Node // what is for ECSMESH_CONFIG, by the names there

	topology  string
	isGateway bool

	containers *yaml.Node // names of those that wait for Envoy; nil is the default

	initImage, envoyImage, consulImage, dataplaneImage *yaml.Node // nil is the default

	logConfiguration *yaml.Node // nil is the application's
	refreshInterval  *yaml.Node // nil is ecsmesh-init's own
	roleIsReady      bool

	moved []move // fields that have another place in the settings

	unknown int // fields that nobody knows, each of which is reported
}

// move is that the path to of the settings is the path from of the block.
type move struct{ to, from string }

// where is a path of the settings as the block has it.
func (b *block) where(path string) string {
	for _, m := range b.moved {
		if rest, ok := strings.CutPrefix(path, m.to); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			path = m.from + rest
			break
		}
	}
	return strings.TrimSuffix("EcsMesh."+path, ".")
}

// ownFields are the block's beside those of ECSMESH_CONFIG.
var ownFields = []string{
	"port", "upstreams", "checks", "containers", "initImage", "envoyImage", "consulImage", "dataplaneImage",
	"logConfiguration", "refreshInterval", "taskRole",
}

// order is that of the settings in ECSMESH_CONFIG.
var order = []string{
	"$schema", "topology", "bootstrapDir", "logLevel", "consulServers", "consulClient", "consulLogin",
	"service", "gateway", "proxy", "dataplane", "transparentProxy", "healthSyncContainers", "controller",
}

const wantBlock = "want an object with at least the service's name and the port of its application: {service: web, port: 8080}"

// readBlock reads what stands in a block, and what is wrong with it by itself.
func readBlock(node *yaml.Node, look lookup, report *report) *block {
	b := &block{settings: mapping(), topology: config.Direct}
	if _, _, isFunction := look.function(node); isFunction || !isMap(node) {
		report.fault("EcsMesh", show(node), wantBlock)
		return b
	}
	given := map[string]*yaml.Node{}
	fields, _ := schemaRoot()["properties"].(map[string]any)
	known := append(slices.Sorted(maps.Keys(fields)), ownFields...)
	slices.Sort(known)
	for i := 0; i+1 < len(node.Content); i += 2 {
		name := node.Content[i].Value
		if !slices.Contains(known, name) {
			report.fault("EcsMesh."+name, "an unknown field", "remove it, or use one of "+strings.Join(known, ", "))
			b.unknown++
		}
		if value := node.Content[i+1]; !isNull(value) && !look.isNoValue(value) {
			given[name] = value
		}
	}
	settings := map[string]*yaml.Node{}
	for _, name := range order {
		if given[name] != nil {
			settings[name] = bare(given[name])
		}
	}
	b.isGateway = given["gateway"] != nil
	b.readService(given, settings, look, report)
	b.readUpstreams(given["upstreams"], settings, look, report)
	b.readTaskFields(given, look, report)
	for _, name := range order {
		if settings[name] != nil {
			set(b.settings, name, settings[name])
		}
	}
	return b
}

// readService puts the service together, which has a short form.
func (b *block) readService(given, settings map[string]*yaml.Node, look lookup, report *report) {
	short := map[string]*yaml.Node{"port": given["port"], "checks": given["checks"]}
	service := settings["service"]
	_, _, isFunction := look.function(service)
	switch {
	case b.isGateway:
		for _, name := range []string{"port", "checks", "upstreams"} {
			if given[name] != nil {
				report.fault("EcsMesh."+name, show(given[name]), "remove it: a gateway has no application; where it listens is gateway.lanAddress.port")
			}
		}
		return
	case service == nil && short["port"] == nil && short["checks"] == nil:
		service = mapping() // what is missing is said by who reads it
	case service == nil:
		service = mapping()
	case isFunction || service.Kind == yaml.ScalarNode:
		service = mapping(field{"name", service})
		b.moved = append(b.moved, move{"service.name", "service"})
	case !isMap(service):
		report.fault("EcsMesh.service", show(service), "want the service's name, or an object with it")
		return
	}
	for _, name := range []string{"port", "checks"} {
		switch value := short[name]; {
		case value == nil:
		case get(service, name) != nil:
			report.fault("EcsMesh."+name, show(value), "service."+name+" says it as well; keep one of them")
		default:
			set(service, name, bare(value))
			b.moved = append(b.moved, move{"service." + name, name})
		}
	}
	settings["service"] = service
}

// readUpstreams puts the upstreams where they belong, from a list as there or
// from a short map of names and ports.
func (b *block) readUpstreams(upstreams *yaml.Node, settings map[string]*yaml.Node, look lookup, report *report) {
	if upstreams == nil || b.isGateway {
		return
	}
	proxy := settings["proxy"]
	if proxy == nil {
		proxy = mapping()
	}
	_, _, isFunction := look.function(proxy)
	switch {
	case isFunction || !isMap(proxy):
		report.fault("EcsMesh.upstreams", show(upstreams), "proxy is no object that they could be put into; write them there")
		return
	case get(proxy, "upstreams") != nil:
		report.fault("EcsMesh.upstreams", show(upstreams), "proxy.upstreams says it as well; keep one of them")
		return
	}
	list := b.longUpstreams(bare(upstreams), look, true)
	b.moved = append(b.moved, move{"proxy.upstreams", "upstreams"})
	set(proxy, "upstreams", list)
	settings["proxy"] = proxy
}

// longUpstreams is the list of upstreams that a short map stands for, in each
// branch of a choice. Only where there is no choice do faults name them by it.
func (b *block) longUpstreams(upstreams *yaml.Node, look lookup, sole bool) *yaml.Node {
	if _, yes, no, ok := look.branches(upstreams); ok {
		_, argument, _ := look.function(upstreams)
		items := []*yaml.Node{argument.Content[0], b.longUpstreams(yes, look, false), b.longUpstreams(no, look, false)}
		if upstreams.Kind == yaml.SequenceNode {
			upstreams.Content = items
		} else {
			upstreams.Content[1].Content = items
		}
		return upstreams
	}
	if _, _, isFunction := look.function(upstreams); isFunction || !isMap(upstreams) {
		return upstreams
	}
	list := flow()
	list.Style = 0
	for i := 0; i+1 < len(upstreams.Content); i += 2 {
		name, value := upstreams.Content[i].Value, upstreams.Content[i+1]
		upstream := mapping(field{"destinationName", text(name)})
		at := fmt.Sprintf("proxy.upstreams[%d]", len(list.Content))
		if _, _, isFunction := look.function(value); isMap(value) && !isFunction {
			upstream.Content = append(upstream.Content, value.Content...)
		} else {
			set(upstream, "localBindPort", value)
			if sole {
				b.moved = append(b.moved, move{at + ".localBindPort", "upstreams." + name})
			}
		}
		if sole {
			b.moved = append(b.moved, move{at, "upstreams." + name})
		}
		list.Content = append(list.Content, upstream)
	}
	return list
}

// leastRefresh is the least that ecsmesh-init check -refresh takes.
const leastRefresh = time.Second

// logFields are those of a container's log configuration.
var logFields = []string{"LogDriver", "Options", "SecretOptions"}

// readLogConfiguration reads one in either form's names.
func (b *block) readLogConfiguration(value *yaml.Node, look lookup, report *report) {
	if value == nil {
		return
	}
	if !isMap(value) {
		report.fault("EcsMesh.logConfiguration", show(value), "want an object as a container's log configuration")
		return
	}
	b.logConfiguration = bare(value)
	if _, _, isFunction := look.function(value); isFunction {
		return
	}
	driver := false
	for i := 0; i+1 < len(value.Content); i += 2 {
		name := value.Content[i].Value
		driver = driver || strings.EqualFold(name, "LogDriver") && !isNull(value.Content[i+1])
		if !slices.ContainsFunc(logFields, func(known string) bool { return strings.EqualFold(known, name) }) {
			report.fault("EcsMesh.logConfiguration."+name, "an unknown field", "remove it, or use one of "+strings.Join(logFields, ", "))
		}
	}
	if !driver {
		report.fault("EcsMesh.logConfiguration."+look.at("LogDriver"), "nothing", "want the driver, such as awslogs")
	}
}

// readTaskFields reads what is about the task definition itself.
func (b *block) readTaskFields(given map[string]*yaml.Node, look lookup, report *report) {
	if topology := given["topology"]; topology != nil {
		found, known := look.text(topology)
		all := []string{config.Direct, config.ClientAgent, config.Dataplane}
		if b.topology = found; !known || !slices.Contains(all, found) {
			report.fault("EcsMesh.topology", show(topology), "want one of "+strings.Join(all, ", ")+": which containers there are depends on it")
			b.topology = config.Direct
		}
	}
	for _, f := range []struct {
		name string
		into **yaml.Node
	}{
		{"initImage", &b.initImage}, {"envoyImage", &b.envoyImage}, {"consulImage", &b.consulImage},
		{"dataplaneImage", &b.dataplaneImage}, {"refreshInterval", &b.refreshInterval},
	} {
		name := f.name
		value := given[name]
		if value == nil {
			continue
		}
		if _, _, isFunction := look.function(value); !isFunction && (value.Kind != yaml.ScalarNode || value.Value == "") {
			report.fault("EcsMesh."+name, show(value), "want a text, such as "+map[bool]string{true: "1m", false: DefaultEnvoyImage}[name == "refreshInterval"])
			continue
		}
		*f.into = bare(value)
	}
	if found, known := look.text(b.refreshInterval); known {
		if interval, err := time.ParseDuration(found); err != nil || interval < leastRefresh {
			report.fault("EcsMesh.refreshInterval", show(b.refreshInterval), fmt.Sprintf("want a time such as 30s or 1m, %s at the least", leastRefresh))
		}
	}
	b.readLogConfiguration(given["logConfiguration"], look, report)
	if value := given["taskRole"]; value != nil {
		found, _ := look.text(value)
		if b.roleIsReady = found == roleNone; found != roleAdd && found != roleNone {
			report.fault("EcsMesh.taskRole", show(value), "want ADD, or NONE where the role allows what is needed and has the tags")
		}
	}
	if value := given["containers"]; value != nil {
		if _, _, isFunction := look.function(value); isFunction || !isList(value) {
			report.fault("EcsMesh.containers", show(value), "want a list of the names of the containers that wait for Envoy")
		} else {
			b.containers = value
		}
	}
}
