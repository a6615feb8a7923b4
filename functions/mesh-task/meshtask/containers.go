package meshtask

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// Numbers of a mesh task's containers.
const (
	longestStart   = 120   // seconds until ECS gives a task up
	sooner         = 10    // seconds before that, at which ecsmesh-init itself does and says why
	envoyStop      = 5     // seconds; it stops after the application and has nothing left to do
	clientStop     = 20    // seconds in which it tells the others that it leaves
	openFiles      = 65536 // two for each connection
	meshUser       = "101" // of Envoy's official image
	root           = "0"
	readinessEvery = 5 // seconds
	// What a container is given where the task has no memory of its own, in MiB.
	initMemory, envoyMemory, clientMemory, dataplaneMemory = 32, 128, 128, 192
)

// allButChown are the capabilities that a container has by default, without the
// one for giving files away. Fargate lets nobody drop all and add that.
var allButChown = []string{
	"AUDIT_WRITE", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// wanted is a container of ours as it should be. What is fixed is so whatever
// somebody set there; the rest is only where nobody did.
type wanted struct {
	name    string
	image   *yaml.Node
	isFixed bool // the image

	fixed    []field // names as CloudFormation has them
	standard []field

	configured  bool    // it has ECSMESH_CONFIG
	environment []field // beside that
	dependsOn   []field // names of containers and conditions
	mount       string  // the volume
	ports       []*yaml.Node
	protocols   []string // of ports
	check       bool
	memory      int // MiB
}

// build makes a container of ours, from what is there of it.
func (e *expansion) build(w wanted) *yaml.Node {
	found := e.definition.find(w.name)
	node := mapping()
	var kept []string
	if found != nil {
		node = found.node
		kept = e.kept(node, w)
	}
	e.set(node, "Name", text(w.name))
	if e.get(node, "Image") == nil || w.isFixed {
		e.set(node, "Image", w.image)
	}
	for _, f := range w.fixed {
		e.set(node, f.name, f.value)
	}
	if essential, known := e.boolean(e.get(node, "Essential")); !slices.ContainsFunc(w.fixed, func(f field) bool { return f.name == "Essential" }) && known && !essential {
		e.set(node, "Essential", boolean(true))
	}
	for _, f := range w.standard {
		if e.get(node, f.name) == nil {
			e.set(node, f.name, f.value)
		}
	}
	if w.name == initContainer || w.name == discoverContainer {
		seconds, known := e.integer(e.get(node, "StartTimeout"))
		if !known || seconds <= sooner {
			seconds = longestStart
		}
		command := "register"
		if w.name == discoverContainer {
			command = discoverContainer
		}
		e.set(node, "Command", flow(texts(command, "-timeout", strconv.Itoa(seconds-sooner)+"s")...))
	}
	for _, f := range w.dependsOn {
		e.depend(node, f.name, f.value.Value)
	}
	if w.check {
		e.setCheck(node, "check")
	}
	if w.configured {
		w.environment = append([]field{{config.Variable, e.document()}}, w.environment...)
	}
	for _, f := range w.environment {
		e.put(node, "Environment", "Name", text(f.name), e.field("Name", text(f.name)), e.field("Value", f.value))
	}
	for i, port := range w.ports {
		e.mapPort(node, port, w.protocols[i])
	}
	if w.mount != "" {
		e.put(node, "MountPoints", "SourceVolume", text(w.mount), e.field("SourceVolume", text(w.mount)), e.field("ContainerPath", e.bootstrapDir()))
	}
	if logs := e.logConfiguration(); logs != nil && (e.get(node, "LogConfiguration") == nil || e.block.logConfiguration != nil) {
		e.waitNoMore(node, logs)
		e.set(node, "LogConfiguration", logs)
	}
	e.waitForRouters(node)
	if e.get(e.definition.node, "Memory") == nil && !e.isFargate && e.get(node, "Memory") == nil && e.get(node, "MemoryReservation") == nil {
		e.set(node, "MemoryReservation", number(w.memory))
		e.report.note("%s reserves %d MiB, since the task has no memory of its own.", w.name, w.memory)
	}
	e.tellKept(w.name, kept)
	return node
}

// put gives a list an item, in the place of the one with the same value of a
// field.
func (e *expansion) put(node *yaml.Node, list, name string, value *yaml.Node, fields ...field) {
	item := flowMap(fields...)
	if slices.ContainsFunc(fields, func(f field) bool { return hasLines(f.value) }) {
		item.Style = 0
	}
	found := false
	e.each(e.get(node, list), "", func(there *yaml.Node, _ string, _ bool) {
		if e.key(e.get(there, name)) == e.key(value) && isMap(there) {
			found = true
			for _, f := range fields {
				renew(there, f.name, clone(f.value))
			}
		}
	})
	if !found {
		e.add(node, list, item)
	}
}

// hasLines tells whether there is a text of several lines in a node.
func hasLines(node *yaml.Node) bool {
	return strings.Contains(node.Value, "\n") || slices.ContainsFunc(node.Content, hasLines)
}

// add puts an item at the end of a list, in both branches of one that depends on
// a condition.
func (e *expansion) add(node *yaml.Node, list string, item *yaml.Node) {
	path := e.at(list)
	for _, c := range e.definition.containers {
		if c.node == node {
			path = c.path + "." + path
		}
	}
	e.set(node, list, e.longer(e.get(node, list), path, item))
}

func (e *expansion) longer(list *yaml.Node, path string, item *yaml.Node) *yaml.Node {
	if list == nil || e.isNoValue(list) || isList(list) && len(list.Content) == 0 {
		style := yaml.FlowStyle
		if item.Style&yaml.FlowStyle == 0 {
			style = 0
		}
		return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: style, Content: []*yaml.Node{item}}
	}
	if _, yes, no, ok := e.branches(list); ok {
		_, argument, _ := e.function(list)
		items := []*yaml.Node{argument.Content[0], e.longer(yes, path, item), e.longer(no, path, clone(item))}
		if list.Kind == yaml.SequenceNode {
			list.Content = items
		} else {
			list.Content[1].Content = items
		}
		return list
	}
	if _, _, isFunction := e.function(list); isFunction || !isList(list) {
		e.report.fault(path, show(list), "want a list, since something is added to it")
		return list
	}
	list.Content = append(list.Content, item)
	return list
}

// depend has a container wait for another.
func (e *expansion) depend(node *yaml.Node, on, condition string) {
	e.put(node, "DependsOn", "ContainerName", text(on), e.field("ContainerName", text(on)), e.field("Condition", text(condition)))
}

// mapPort maps a port, unless that is there.
func (e *expansion) mapPort(node, port *yaml.Node, protocol string) {
	found := false
	e.each(e.get(node, "PortMappings"), "", func(there *yaml.Node, _ string, _ bool) {
		given, known := e.text(e.get(there, "Protocol"))
		if e.key(e.get(there, "ContainerPort")) == e.key(port) && (given == protocol || !known && protocol == "tcp") {
			found = true
		}
	})
	if !found {
		e.add(node, "PortMappings", flowMap(e.field("ContainerPort", bare(port)), e.field("Protocol", text(protocol))))
	}
}

// setCheck gives a container ecsmesh's health check, and keeps of the one that
// it has what is not ours to say.
func (e *expansion) setCheck(node *yaml.Node, arguments ...string) {
	check := e.get(node, "HealthCheck")
	if _, _, isFunction := e.function(check); isFunction || !isMap(check) {
		check = mapping()
	}
	command := append([]*yaml.Node{text("CMD"), e.inDir("", "/bin/ecsmesh-init")}, texts(arguments...)...)
	var others []*yaml.Node
	if there := e.get(check, "Command"); isList(there) && e.definition.isMeshCommand(there.Content) {
		others = there.Content[3:] // those of another check are nothing to ours
	}
	if e.block.refreshInterval != nil {
		command = append(command, text("-refresh"), bare(e.block.refreshInterval))
	}
	for i := 0; i < len(others); i++ {
		switch flag := e.key(others[i]); {
		case slices.Contains(arguments, flag):
		case flag == "-refresh" && e.block.refreshInterval != nil:
			i++
		default:
			command = append(command, others[i])
		}
	}
	e.set(check, "Command", flow(command...))
	for _, f := range []struct {
		name  string
		value int
	}{{"Interval", readinessEvery}, {"Timeout", 5}, {"Retries", 5}, {"StartPeriod", 60}} {
		if e.get(check, f.name) == nil {
			e.set(check, f.name, number(f.value))
		}
	}
	e.set(node, "HealthCheck", check)
}

// ours are the containers that ecsmesh adds, in the order in which they start.
func (e *expansion) ours() []*yaml.Node {
	if e.isTransparent() {
		e.addCapabilities(e.capabilities())
	}
	var nodes []*yaml.Node
	for _, w := range e.wanted() {
		nodes = append(nodes, e.build(w))
	}
	return nodes
}

// wanted is what the settings have these containers be.
func (e *expansion) wanted() []wanted {
	user := e.user("proxy")
	least := func(name string, capabilities ...string) []field {
		given := []field{e.field("Drop", flow(text("ALL")))}
		if name != envoyContainer && name != clientContainer && e.isElsewhere() && len(capabilities) == 0 {
			given[0] = e.field("Drop", flow(texts(allButChown...)...))
		}
		if len(capabilities) > 0 {
			given = append(given, e.field("Add", flow(texts(capabilities...)...)))
		}
		fields := []field{
			{"ReadonlyRootFilesystem", boolean(true)},
			{"LinuxParameters", flowMap(e.field("Capabilities", flowMap(given...)))},
		}
		if name == initContainer || name == discoverContainer {
			fields = append([]field{{"StartTimeout", number(longestStart)}}, fields...)
		}
		return fields
	}
	capabilities := e.capabilities()
	// prepares is a container that writes to a volume, and exits.
	prepares := func(name, volume string, user *yaml.Node) wanted {
		w := wanted{
			name: name, image: e.image(e.block.initImage, e.defaults.InitImage, ""), isFixed: e.says(e.block.initImage, e.defaults.InitImage),
			fixed:      []field{{"Essential", boolean(false)}},
			configured: true, mount: volume, memory: initMemory,
		}
		owner, given := field{"User", user}, []string(nil)
		if e.isElsewhere() {
			owner.value = text(root)
		}
		if name == initContainer && e.isTransparent() {
			owner.value, given = text(root), capabilities
		}
		w.standard = least(name, given...)
		if e.isElsewhere() && !e.isTransparent() { // an image of one's own may have the folder
			w.standard = append([]field{owner}, w.standard...)
		} else {
			w.fixed = append(w.fixed, owner)
		}
		return w
	}
	register := prepares(initContainer, meshVolume, user)
	if e.isTransparent() && e.redirectsDNS() {
		register.fixed = append(register.fixed, field{"ReadonlyRootFilesystem", boolean(false)})
	}
	proxy := wanted{
		name: envoyContainer, image: e.image(e.block.envoyImage, e.defaults.EnvoyImage, DefaultEnvoyImage), isFixed: e.says(e.block.envoyImage, e.defaults.EnvoyImage),
		fixed: []field{
			{"User", bare(user)},
			{"Command", flow(text("-c"), e.inDir("", "/envoy-bootstrap.json"), text("--disable-hot-restart"), text("--concurrency"), text("2"))},
		},
		dependsOn: []field{{initContainer, text("SUCCESS")}},
		mount:     meshVolume, check: true, memory: envoyMemory,
	}
	proxy.standard = append(least(envoyContainer),
		field{"StartTimeout", number(longestStart)},
		field{"StopTimeout", number(envoyStop)},
		field{"Ulimits", flow(flowMap(e.field("Name", text("nofile")), e.field("SoftLimit", number(openFiles)), e.field("HardLimit", number(openFiles))))})
	if !e.block.isGateway {
		port := get(get(e.block.settings, "proxy"), "publicListenerPort")
		if port == nil {
			port = number(config.DefaultPublicListenerPort)
		}
		proxy.ports, proxy.protocols = []*yaml.Node{port}, []string{"tcp"}
	}
	switch e.block.topology {
	case config.Dataplane:
		proxy.name = dataplaneContainer
		proxy.image = e.image(e.block.dataplaneImage, e.defaults.DataplaneImage, DefaultDataplaneImage)
		proxy.isFixed = e.says(e.block.dataplaneImage, e.defaults.DataplaneImage)
		proxy.fixed[1].value = flow(e.inDir("-config-file=", "/consul-dataplane.json"))
		proxy.environment = []field{{"TMPDIR", e.inDir("", "/state")}}
		proxy.memory = dataplaneMemory
	case config.ClientAgent:
		discover := prepares(discoverContainer, clientVolume, e.user("consulClient"))
		client := wanted{
			name: clientContainer, image: e.image(e.block.consulImage, e.defaults.ConsulImage, DefaultConsulImage), isFixed: e.says(e.block.consulImage, e.defaults.ConsulImage),
			fixed: []field{
				{"User", e.user("consulClient")},
				{"Command", flow(text("agent"), e.inDir("-data-dir=", "/consul-data"), e.inDir("-config-file=", "/consul-client.json"))},
			},
			standard:    append(least(clientContainer), field{"StopTimeout", number(clientStop)}),
			environment: []field{{"CONSUL_DISABLE_PERM_MGMT", text("true")}},
			dependsOn:   []field{{discoverContainer, text("SUCCESS")}},
			mount:       clientVolume, memory: clientMemory,
		}
		serf := get(get(e.block.settings, "consulClient"), "serfPort")
		if serf == nil {
			serf = number(config.DefaultSerfPort)
		}
		client.ports, client.protocols = []*yaml.Node{serf, serf}, []string{"tcp", "udp"}
		register.dependsOn = []field{{clientContainer, text("START")}}
		proxy.dependsOn = []field{{clientContainer, text("START")}, {initContainer, text("SUCCESS")}}
		return []wanted{discover, client, register, proxy}
	}
	return []wanted{register, proxy}
}

// user is who runs Envoy or the Consul client, and who wrote what only that may
// read: a number under uid in a part of the settings.
func (e *expansion) user(part string) *yaml.Node {
	uid := get(get(e.block.settings, part), "uid")
	if uid == nil {
		return text(meshUser)
	}
	if _, _, isFunction := e.function(uid); isFunction {
		return bare(uid)
	}
	return text(uid.Value)
}

// isTransparent tells whether the init container redirects the task's traffic.
func (e *expansion) isTransparent() bool {
	proxy := get(e.block.settings, "transparentProxy")
	if proxy == nil || e.block.isGateway {
		return false
	}
	enabled, known := e.boolean(get(proxy, "enabled"))
	return enabled || !known
}

// isElsewhere tells whether the volume is mounted where the image of ecsmesh-init
// declares none: it belongs to root there. Of what isn't known it looks at the
// text that it begins with.
func (e *expansion) isElsewhere() bool {
	given := e.bootstrapDir()
	dir, known := e.text(given)
	if known {
		return path.Clean(dir) != config.DefaultBootstrapDir
	}
	name, argument, _ := e.function(given)
	if name != "Fn::Sub" || argument.Kind != yaml.ScalarNode {
		return false
	}
	begin, _, _ := strings.Cut(argument.Value, "${")
	return !strings.HasPrefix(config.DefaultBootstrapDir, begin)
}

// capabilities are what ecsmesh-init needs to redirect the task's traffic, and to
// give the volume to Envoy's user.
func (e *expansion) capabilities() []string {
	needed := []string{"NET_ADMIN", "SETUID", "SETGID"}
	if uid, known := e.text(e.user("proxy")); e.isElsewhere() || !known || uid != meshUser {
		needed = append(needed, "CHOWN")
	}
	return needed
}

// redirectsDNS tells whether ecsmesh-init writes /etc/resolv.conf.
func (e *expansion) redirectsDNS() bool {
	dns := get(get(get(e.block.settings, "transparentProxy"), "consulDNS"), "enabled")
	enabled, known := e.boolean(dns)
	return enabled || dns != nil && !known
}

// addCapabilities gives the init container what iptables needs, where somebody
// set its capabilities.
func (e *expansion) addCapabilities(capabilities []string) {
	found := e.definition.find(initContainer)
	if found == nil {
		return
	}
	parameters := e.get(found.node, "LinuxParameters")
	if parameters == nil {
		return
	}
	given := e.get(parameters, "Capabilities")
	if given == nil {
		e.set(parameters, "Capabilities", flowMap(e.field("Drop", flow(text("ALL"))), e.field("Add", flow(texts(capabilities...)...))))
		return
	}
	for _, capability := range capabilities {
		has := false
		e.each(e.get(given, "Add"), "", func(item *yaml.Node, _ string, _ bool) { has = has || e.key(item) == capability })
		if !has {
			e.add(given, "Add", text(capability))
		}
	}
}

func (e *expansion) says(given *yaml.Node, standard string) bool {
	return given != nil || standard != ""
}

func (e *expansion) image(given *yaml.Node, standard, last string) *yaml.Node {
	if given != nil {
		return bare(given)
	}
	return text(or(standard, last))
}

// document is ECSMESH_CONFIG's.
func (e *expansion) document() *yaml.Node {
	taken := map[string]bool{}
	names(e.block.settings, taken)
	w := writer{lookup: e.lookup, report: e.report, short: e.short, dense: e.dense, where: e.block.where, taken: taken}
	return w.value(e.block.settings, configShape())
}

// logConfiguration is the application's, or the one that was given.
func (e *expansion) logConfiguration() *yaml.Node {
	if e.block.logConfiguration != nil {
		return e.cased(bare(e.block.logConfiguration))
	}
	for _, c := range e.waiting {
		logs := e.get(c.node, "LogConfiguration")
		if logs == nil {
			continue
		}
		logs = bare(logs)
		if options := e.get(logs, "Options"); isMap(options) {
			// They say how the application's messages begin, and Envoy's don't.
			without(options, "awslogs-multiline-pattern", "awslogs-datetime-format")
		}
		return logs
	}
	return nil
}

func without(node *yaml.Node, names ...string) {
	for i := 0; i+1 < len(node.Content); {
		if slices.Contains(names, node.Content[i].Value) {
			node.Content = append(node.Content[:i:i], node.Content[i+2:]...)
		} else {
			i += 2
		}
	}
}

// cased gives the names of a log configuration the form of the definition.
func (e *expansion) cased(logs *yaml.Node) *yaml.Node {
	for i := 0; i+1 < len(logs.Content); i += 2 {
		for _, name := range logFields {
			if strings.EqualFold(logs.Content[i].Value, name) {
				logs.Content[i].Value = e.at(name)
			}
		}
	}
	return logs
}

// routers are the containers that FireLens sends logs through.
func (d *definition) routers() []*container {
	return slices.DeleteFunc(slices.Clone(d.containers), func(c *container) bool { return d.get(c.node, "FirelensConfiguration") == nil })
}

// waitForRouters has a container of ours start after what it logs through.
func (e *expansion) waitForRouters(node *yaml.Node) {
	logs := e.get(node, "LogConfiguration")
	if driver, known := e.text(e.get(logs, "LogDriver")); logs == nil || known && driver != "awsfirelens" {
		return
	}
	for _, router := range e.definition.routers() {
		found := false
		e.each(e.get(node, "DependsOn"), "", func(item *yaml.Node, _ string, _ bool) {
			found = found || e.key(e.get(item, "ContainerName")) == router.key
		})
		if !found && !router.optional {
			e.add(node, "DependsOn", flowMap(e.field("ContainerName", bare(e.get(router.node, "Name"))), e.field("Condition", text("START"))))
		}
	}
}

// waitNoMore takes back that a container of ours waits for what it logged through,
// where it has other logs now.
func (e *expansion) waitNoMore(node, logs *yaml.Node) {
	was, _ := e.text(e.get(e.get(node, "LogConfiguration"), "LogDriver"))
	is, known := e.text(e.get(logs, "LogDriver"))
	if was != "awsfirelens" || !known || is == was {
		return
	}
	for _, router := range e.definition.routers() {
		e.drop(node, "DependsOn", func(item *yaml.Node) bool { return e.isDependency(item, router.key, "START") })
	}
}

// isTelemetry tells by its image whether a container collects what others tell:
// it has to be there before them, and its health is not the service's.
func isTelemetry(image string) bool {
	for _, name := range []string{
		"xray/aws-xray-daemon", "amazon/aws-xray-daemon", "cloudwatch-agent", "aws-otel-collector", "opentelemetry-collector",
		"datadog/agent", "aws-for-fluent-bit", "fluent/fluent-bit", "fluentd", "newrelic/nri-ecs", "newrelic/infrastructure",
	} {
		if strings.Contains(image, name) {
			return true
		}
	}
	return false
}

// chooseWaiting finds the containers that start after Envoy.
func (e *expansion) chooseWaiting() {
	d := e.definition
	if e.block.containers != nil {
		for i, item := range e.block.containers.Content {
			at := fmt.Sprintf("EcsMesh.containers[%d]", i)
			key := e.key(item)
			found := 0
			for _, c := range d.containers {
				if c.key == key && !c.ours {
					e.waiting = append(e.waiting, c)
					found++
				}
			}
			if found == 0 {
				e.report.fault(at, show(item), "want the name of one of the application's containers: "+e.applicationNames())
			}
		}
		if len(e.block.containers.Content) == 0 && !e.block.isGateway {
			e.report.fault("EcsMesh.containers", "an empty list", "remove it, or name at least one that waits for Envoy: "+e.applicationNames())
		}
		for _, c := range e.waiting {
			if e.get(c.node, "FirelensConfiguration") != nil {
				e.report.fault("EcsMesh.containers", c.name+", a log router", "remove it: ecsmesh's own containers may log through it, and start after it")
			}
		}
		return
	}
	if e.block.isGateway {
		return
	}
	for _, c := range d.containers {
		image, _ := d.text(d.get(c.node, "Image"))
		switch {
		case c.ours || !d.essential(c) || d.get(c.node, "FirelensConfiguration") != nil:
		case isTelemetry(image):
			e.report.note("%s doesn't wait for Envoy, since %s collects what others tell; name it in containers, if it is the application.", c.name, image)
		default:
			e.waiting = append(e.waiting, c)
		}
	}
	if len(e.waiting) == 0 && len(e.report.faults) == 0 {
		e.report.fault(e.at("ContainerDefinitions"), "no essential container of an application", "want one, or say by EcsMesh.containers which wait for Envoy: "+e.applicationNames())
	}
}

func (e *expansion) applicationNames() string {
	var found []string
	for _, c := range e.definition.containers {
		if !c.ours {
			found = append(found, c.name)
		}
	}
	if len(found) == 0 {
		return "there is none"
	}
	return "there are " + strings.Join(found, ", ")
}

// attach has a container of the application start after Envoy, and be healthy
// only once Consul knows the service to be.
func (e *expansion) attach(c *container) {
	e.depend(c.node, proxyName(e.block.topology), "HEALTHY")
	switch {
	case e.definition.switchesOff(c):
		e.report.note("%s has its health check switched off, so ECS doesn't wait until Consul sends requests to the task.", c.name)
	case e.block.isGateway || !e.definition.essential(c) || e.definition.hasOwnCheck(c):
	default:
		e.tellKept(c.name, e.keptRefresh(c.node))
		e.setCheck(c.node, "check", "-until-passing")
	}
	if found := e.definition.mount(c, meshVolume); found != nil {
		e.set(found, "ContainerPath", e.bootstrapDir())
		return
	}
	e.checkMountPath(c)
	e.put(c.node, "MountPoints", "SourceVolume", text(meshVolume),
		e.field("SourceVolume", text(meshVolume)), e.field("ContainerPath", e.bootstrapDir()), e.field("ReadOnly", boolean(true)))
}

// checkMountPath refuses what is mounted where our volume goes.
func (e *expansion) checkMountPath(c *container) {
	dir := strings.TrimSuffix(e.key(e.bootstrapDir()), "/")
	e.each(e.get(c.node, "MountPoints"), c.path+"."+e.at("MountPoints"), func(item *yaml.Node, path string, _ bool) {
		// Below it, too: nothing can be mounted in what is read-only.
		if at := e.get(item, "ContainerPath"); strings.HasPrefix(strings.TrimSuffix(e.key(at), "/")+"/", dir+"/") {
			e.report.fault(path+"."+e.at("ContainerPath"), show(at), "want another path, or another bootstrapDir: ecsmesh's volume is mounted there")
		}
	})
}

// checkCycles refuses containers that wait for each other.
func (e *expansion) checkCycles(containers []*container) {
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(key string, trail []string)
	visit = func(key string, trail []string) {
		if state[key] == done {
			return
		}
		if at := slices.Index(trail, key); at >= 0 {
			e.report.fault(e.at("ContainerDefinitions"), "containers that wait for each other: "+strings.Join(append(trail[at:], key), " → "),
				"want one of them not to: see DependsOn, and EcsMesh.containers for those that wait for Envoy")
			return
		}
		state[key] = visiting
		for _, c := range containers {
			if c.key != key {
				continue
			}
			e.each(e.get(c.node, "DependsOn"), "", func(item *yaml.Node, _ string, _ bool) {
				visit(e.key(e.get(item, "ContainerName")), append(slices.Clone(trail), key))
			})
		}
		state[key] = done
	}
	for _, c := range containers {
		visit(c.key, nil)
	}
}
