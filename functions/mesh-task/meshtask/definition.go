package meshtask

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// Containers of a mesh task that are ecsmesh's.
const (
	initContainer      = "ecsmesh-init"
	envoyContainer     = "envoy"
	dataplaneContainer = "consul-dataplane"
	clientContainer    = "consul-client"
	discoverContainer  = "discover-servers"
)

// Volumes of a mesh task that are ecsmesh's.
const (
	meshVolume   = "ecsmesh"
	clientVolume = "consul-client"
)

// container is one of a definition, or a branch of one that CloudFormation may
// leave out.
type container struct {
	node     *yaml.Node
	path     string
	key      string // its name, or the function that gives it
	name     string // for who reads it
	known    bool   // the name is
	optional bool   // a condition decides about it
	ours     bool
}

// definition is a task definition with what it is needed for.
type definition struct {
	lookup
	report     *report
	node       *yaml.Node
	containers []*container
}

// at is the name of a property in the definition's form, for that which it has
// in CloudFormation.
func (l lookup) at(name string) string {
	if l.form == CloudFormation {
		return name
	}
	runes := []rune(name)
	runes[0] = unicode.ToLower(runes[0])
	return string(runes)
}

func (l lookup) get(node *yaml.Node, name string) *yaml.Node {
	value := get(node, l.at(name))
	if value != nil && l.isNoValue(value) {
		return nil
	}
	return value
}

func (l lookup) set(node *yaml.Node, name string, value *yaml.Node) { renew(node, l.at(name), value) }

// renew sets a field, and leaves it written as it is where it says the same.
func renew(node *yaml.Node, name string, value *yaml.Node) {
	if there := get(node, name); there == nil || compact(long(there)) != compact(long(value)) {
		set(node, name, value)
	}
}

func (l lookup) field(name string, value *yaml.Node) field { return field{l.at(name), value} }

// each calls do for every item of a list, and for both branches of one that
// depends on a condition.
func (l lookup) each(list *yaml.Node, path string, do func(item *yaml.Node, path string, optional bool)) {
	if list == nil {
		return
	}
	if _, yes, no, ok := l.branches(list); ok {
		l.each(yes, path, do)
		l.each(no, path, do)
		return
	}
	if _, _, isFunction := l.function(list); isFunction || !isList(list) {
		return // !Split has arguments, and no items
	}
	var one func(item *yaml.Node, path string, optional bool)
	one = func(item *yaml.Node, path string, optional bool) {
		if _, yes, no, ok := l.branches(item); ok {
			one(yes, path, true)
			one(no, path, true)
			return
		}
		if !l.isNoValue(item) {
			do(item, path, optional)
		}
	}
	for i, item := range list.Content {
		one(item, fmt.Sprintf("%s[%d]", path, i), false)
	}
}

const wantOneForm = "want the names of one form: those of CloudFormation begin with a capital letter, those of register-task-definition don't"

// readDefinition finds the containers.
func readDefinition(node *yaml.Node, look lookup, report *report) *definition {
	d := &definition{lookup: look, report: report, node: node}
	list := d.get(node, "ContainerDefinitions")
	other := lookup{form: 1 - look.form}.at("ContainerDefinitions")
	_, _, isFunction := look.function(list)
	switch {
	case list == nil && get(node, other) != nil:
		report.fault(look.at("ContainerDefinitions"), "nothing, and "+other, wantOneForm)
	case list == nil:
		d.set(node, "ContainerDefinitions", &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"})
	case isFunction || !isList(list):
		report.fault(look.at("ContainerDefinitions"), show(list), "want a list, whose items may be intrinsic functions: containers are added to it")
	}
	d.each(list, look.at("ContainerDefinitions"), func(item *yaml.Node, path string, optional bool) {
		if _, _, isFunction := look.function(item); isFunction || !isMap(item) {
			report.fault(path, show(item), "want a container definition, or Fn::If with container definitions")
			return
		}
		name := d.get(item, "Name")
		if other := (lookup{form: 1 - look.form}).at("Name"); name == nil && get(item, other) != nil {
			report.fault(path+"."+look.at("Name"), other, wantOneForm)
		} else if name == nil {
			report.fault(path+"."+look.at("Name"), "nothing", "want the container's name")
		}
		_, known := look.text(name)
		d.containers = append(d.containers, &container{
			node: item, path: path, key: look.key(name), name: look.name(name), known: known, optional: optional,
		})
	})
	seen := map[string]*container{}
	for _, c := range d.containers {
		earlier := seen[c.key]
		if earlier == nil {
			seen[c.key] = c
			continue
		}
		// Two under conditions may be there in turns.
		if c.key != "" && (!c.optional || !earlier.optional) {
			report.fault(c.path+"."+look.at("Name"), strconv.Quote(c.name), "want a name of its own: "+earlier.path+" has the same")
		}
	}
	return d
}

func (d *definition) find(name string) *container {
	for _, c := range d.containers {
		if c.key == name {
			return c
		}
	}
	return nil
}

// essential is what ECS takes a container for.
func (d *definition) essential(c *container) bool {
	value, known := d.boolean(d.get(c.node, "Essential"))
	return value || !known
}

// variables are those of a container's environment that are known, and those
// that are there and aren't.
func (d *definition) variables(c *container) (known map[string]string, unknown map[string]bool) {
	known, unknown = map[string]string{}, map[string]bool{}
	if c == nil {
		return known, unknown
	}
	d.each(d.get(c.node, "Environment"), "", func(item *yaml.Node, _ string, optional bool) {
		name := d.key(d.get(item, "Name"))
		if value, ok := d.text(d.get(item, "Value")); ok && !optional {
			known[name] = value
		} else {
			unknown[name] = true
		}
	})
	d.each(d.get(c.node, "Secrets"), "", func(item *yaml.Node, _ string, _ bool) {
		unknown[d.key(d.get(item, "Name"))] = true
	})
	return known, unknown
}

// dependsOn tells whether a container waits for another of a name.
func (d *definition) dependsOn(c *container, name string) bool {
	found := false
	d.each(d.get(c.node, "DependsOn"), "", func(item *yaml.Node, _ string, _ bool) {
		found = found || d.key(d.get(item, "ContainerName")) == name
	})
	return found
}

// isOurs tells whether a container that has a name of ours is ours: it was added
// before, or has no image and is here only to have something set beside.
func (d *definition) isOurs(c *container) bool {
	if d.get(c.node, "Image") == nil {
		return true
	}
	known, unknown := d.variables(c)
	configured := known[config.Variable] != "" || unknown[config.Variable] || known[config.LegacyVariable] != "" || unknown[config.LegacyVariable]
	switch c.key {
	case initContainer, discoverContainer:
		return configured
	case clientContainer:
		return d.dependsOn(c, discoverContainer)
	}
	return d.dependsOn(c, initContainer)
}

// ourNames are the containers of a topology.
func ourNames(topology string) []string {
	switch topology {
	case config.ClientAgent:
		return []string{discoverContainer, clientContainer, initContainer, envoyContainer}
	case config.Dataplane:
		return []string{initContainer, dataplaneContainer}
	}
	return []string{initContainer, envoyContainer}
}

// proxyName is the container that runs Envoy.
func proxyName(topology string) string {
	names := ourNames(topology)
	return names[len(names)-1]
}

const seeMigration = "docs/migration.md says how to move"

// checkContainers finds ours, and refuses others of their names and those of
// consul-ecs.
func (d *definition) checkContainers(topology string) {
	wanted := ourNames(topology)
	for _, c := range d.containers {
		image, _ := d.text(d.get(c.node, "Image"))
		name := c.path + "." + d.at("Name")
		isName := slices.Contains([]string{initContainer, envoyContainer, dataplaneContainer, clientContainer, discoverContainer}, c.key)
		ours := isName && d.isOurs(c)
		switch {
		case ours && slices.Contains(wanted, c.key):
			if c.optional {
				d.report.fault(c.path, strconv.Quote(c.name)+" under a condition", "want it without one: a mesh task always has it")
			}
			c.ours = true
			d.checkVariables(c)
		case ours:
			d.report.fault(name, strconv.Quote(c.name), "remove this container: the topology "+topology+" has none of that name")
		case strings.HasPrefix(c.key, "consul-ecs-") || strings.Contains(image, "/consul-ecs:") || strings.Contains(image, "consul-dataplane") || c.key == dataplaneContainer:
			d.report.fault(name, strconv.Quote(c.name)+" of consul-ecs", "remove this container and what belongs to it: ecsmesh does its work; "+seeMigration)
		case strings.Contains(image, "appmesh-envoy"):
			d.report.fault(name, strconv.Quote(c.name)+" with the Envoy of App Mesh", "remove this container: a task has one Envoy, and Consul's mesh needs another one")
		case slices.Contains(wanted, c.key):
			d.report.fault(name, strconv.Quote(c.name), "want another name for this container: ecsmesh adds one that has to be called so; or without an Image it is that one, with what you set")
		}
		if !isName && d.get(c.node, "Image") == nil {
			d.report.fault(c.path+"."+d.at("Image"), "nothing", "want the image of "+c.name+"; only a container of ecsmesh's may be without, to have something set in it: "+strings.Join(wanted, ", "))
		}
		if first := d.first(c.node, "EntryPoint"); !c.ours && strings.Contains(first, "consul-ecs") {
			d.report.fault(c.path+"."+d.at("EntryPoint"), strconv.Quote(first), "want ecsmesh-init entrypoint in its place; "+seeMigration)
		}
	}
}

// checkVariables refuses what would be in the way of the configuration.
func (d *definition) checkVariables(c *container) {
	for _, list := range []string{"Environment", "Secrets"} {
		d.each(d.get(c.node, list), c.path+"."+d.at(list), func(item *yaml.Node, path string, _ bool) {
			name := d.key(d.get(item, "Name"))
			if name == config.LegacyVariable || name == config.Variable && list == "Secrets" {
				d.report.fault(path, name, "remove it, and have its fields in EcsMesh: "+config.Variable+" is made of that")
			}
		})
	}
}

// first is the first text of a list, where it is known.
func (d *definition) first(node *yaml.Node, name string) string {
	list := d.get(node, name)
	if !isList(list) || len(list.Content) == 0 {
		return ""
	}
	found, _ := d.text(list.Content[0])
	return found
}

// isFargate tells whether the definition is for Fargate, too.
func (d *definition) isFargate() bool { return d.isFor("FARGATE") }

func (d *definition) isFor(compatibility string) bool {
	found := false
	d.each(d.get(d.node, "RequiresCompatibilities"), "", func(item *yaml.Node, _ string, _ bool) {
		value, _ := d.text(item)
		found = found || strings.EqualFold(value, compatibility)
	})
	return found
}

// longestStop is Fargate's, in seconds.
const longestStop = 120

// mostContainers is how many ECS lets a task have.
const mostContainers = 10

// check refuses what can't work in a mesh task, or what ECS would refuse once
// it is one.
func (d *definition) check(topology string, transparent bool) {
	d.checkTask(transparent)
	d.checkNumber(topology)
	for _, c := range d.containers {
		for _, name := range []string{"StopTimeout", "StartTimeout"} {
			if seconds, known := d.integer(d.get(c.node, name)); known && seconds > longestStop && d.isFargate() {
				d.report.fault(c.path+"."+d.at(name), strconv.Itoa(seconds), fmt.Sprintf("want %d seconds at most: Fargate takes no more", longestStop))
			}
		}
		if seconds, known := d.integer(d.get(c.node, "StartTimeout")); known && seconds <= sooner && c.ours && (c.key == initContainer || c.key == discoverContainer) {
			d.report.fault(c.path+"."+d.at("StartTimeout"), strconv.Itoa(seconds), fmt.Sprintf("want more than %d seconds: %s gives up so much sooner than ECS, and says why", sooner, c.name))
		}
		if enabled, _ := d.boolean(d.get(d.get(c.node, "RestartPolicy"), "Enabled")); enabled && (c.key == initContainer || c.key == discoverContainer) && c.ours {
			d.report.fault(c.path+"."+d.at("RestartPolicy"), "one for "+c.name, "remove it: this container exits when its work is done")
		}
		d.checkNetwork(c)
		d.checkHealthCheck(c)
		d.checkDependencies(c, ourNames(topology))
	}
	d.checkMemory()
	d.checkVolume()
}

func (d *definition) checkTask(transparent bool) {
	mode := d.get(d.node, "NetworkMode")
	found, known := d.text(mode)
	const because = "want awsvpc: a task of the mesh has an address of its own"
	switch {
	case mode == nil:
		d.report.fault(d.at("NetworkMode"), "nothing, which is bridge", because+". Its service needs a NetworkConfiguration then")
	case !known:
		d.report.note("%s isn't known here, and has to be awsvpc.", d.at("NetworkMode"))
	case found == "host":
		d.report.fault(d.at("NetworkMode"), `"host"`, because+", and here its Envoy's ports would be the host's")
	case found != "awsvpc":
		d.report.fault(d.at("NetworkMode"), strconv.Quote(found), because)
	}
	if d.isFor("EXTERNAL") {
		d.report.fault(d.at("RequiresCompatibilities"), "EXTERNAL", "remove it: ECS Anywhere has no awsvpc network")
	}
	if transparent && d.isFargate() {
		d.report.fault(d.at("RequiresCompatibilities"), "FARGATE", "want EC2 alone: transparentProxy needs NET_ADMIN, which Fargate lets no container have; or use upstreams in place of transparentProxy")
	}
	platform := d.get(d.node, "RuntimePlatform")
	if family, _ := d.text(d.get(platform, "OperatingSystemFamily")); strings.HasPrefix(strings.ToUpper(family), "WINDOWS") {
		d.report.fault(d.at("RuntimePlatform")+"."+d.at("OperatingSystemFamily"), strconv.Quote(family), "want LINUX: Envoy's image and ecsmesh-init are for Linux")
	}
	if cpu, _ := d.text(d.get(platform, "CpuArchitecture")); strings.EqualFold(cpu, "ARM64") {
		d.report.note("The task is for ARM64: the image of ecsmesh-init must be, too (make image PLATFORM=linux/arm64).")
	}
	if proxy := d.get(d.node, "ProxyConfiguration"); proxy != nil {
		d.report.fault(d.at("ProxyConfiguration"), "the configuration of App Mesh's proxy", "remove it, and App Mesh's Envoy: a task has one Envoy")
	}
	if mode, _ := d.text(d.get(d.node, "PidMode")); mode != "" {
		d.report.note("With %s %s, processes of the other containers see those of Envoy; root there may read its token.", d.at("PidMode"), mode)
	}
}

// checkNumber refuses more containers than ECS lets a task have.
func (d *definition) checkNumber(topology string) {
	ours := ourNames(topology)
	number := len(ours)
	for _, c := range d.containers {
		if !c.ours && !c.optional {
			number++
		}
	}
	if number > mostContainers {
		d.report.fault(d.at("ContainerDefinitions"), fmt.Sprintf("%d containers, with %s", number, strings.Join(ours, " and ")), fmt.Sprintf("want %d at most: ECS refuses more", mostContainers))
	}
}

// checkNetwork refuses what a container has from another network mode, and ECS
// doesn't take with awsvpc.
func (d *definition) checkNetwork(c *container) {
	if links := d.get(c.node, "Links"); isList(links) && len(links.Content) > 0 {
		d.report.fault(c.path+"."+d.at("Links"), "links of "+c.name, "remove them: with awsvpc the containers of a task reach each other at 127.0.0.1")
	}
	if hosts := d.get(c.node, "ExtraHosts"); isList(hosts) && len(hosts.Content) > 0 {
		d.report.fault(c.path+"."+d.at("ExtraHosts"), "hosts of "+c.name, "remove them: ECS takes none with awsvpc")
	}
	if name := d.get(c.node, "Hostname"); name != nil && d.key(name) != "" {
		d.report.fault(c.path+"."+d.at("Hostname"), show(name), "remove it: ECS takes none with awsvpc")
	}
	d.each(d.get(c.node, "PortMappings"), c.path+"."+d.at("PortMappings"), func(item *yaml.Node, path string, _ bool) {
		host, known := d.integer(d.get(item, "HostPort"))
		port, portKnown := d.integer(d.get(item, "ContainerPort"))
		if known && portKnown && host != 0 && host != port {
			d.report.fault(path+"."+d.at("HostPort"), strconv.Itoa(host), fmt.Sprintf("want %d as for %s, or none: with awsvpc a task has its ports to itself", port, d.at("ContainerPort")))
		}
	})
}

// checkHealthCheck refuses a container's health check that ECS refuses.
func (d *definition) checkHealthCheck(c *container) {
	for _, check := range d.outcomes(d.get(c.node, "HealthCheck")) {
		path := c.path + "." + d.at("HealthCheck")
		if _, _, isFunction := d.function(check); isFunction || !isMap(check) {
			continue
		}
		for _, f := range []struct {
			name        string
			least, most int
		}{{"Interval", 5, 300}, {"Timeout", 2, 60}, {"Retries", 1, 10}, {"StartPeriod", 0, 300}} {
			if value, known := d.integer(d.get(check, f.name)); known && (value < f.least || value > f.most) {
				d.report.fault(path+"."+d.at(f.name), strconv.Itoa(value), fmt.Sprintf("want %d to %d: ECS takes no other", f.least, f.most))
			}
		}
		command := d.get(check, "Command")
		_, _, isFunction := d.function(command)
		switch first := d.first(check, "Command"); {
		case isFunction || isList(command) && len(command.Content) > 0 && (first == "" || slices.Contains([]string{"CMD", "CMD-SHELL", "NONE"}, first)):
		case command == nil && c.ours: // it is set
		default:
			d.report.fault(path+"."+d.at("Command"), show(command), "want a list that begins with CMD, CMD-SHELL or NONE")
		}
	}
}

// checkDependencies refuses what ECS refuses, and what would wait for ever. To
// come are containers that will be there.
func (d *definition) checkDependencies(c *container, toCome []string) {
	path := c.path + "." + d.at("DependsOn")
	d.each(d.get(c.node, "DependsOn"), path, func(item *yaml.Node, path string, _ bool) {
		node := d.get(item, "ContainerName")
		_, known := d.text(node)
		condition, _ := d.text(d.get(item, "Condition"))
		on := d.find(d.key(node))
		if all := []string{"START", "COMPLETE", "SUCCESS", "HEALTHY"}; condition != "" && !slices.Contains(all, condition) {
			d.report.fault(path+"."+d.at("Condition"), strconv.Quote(condition), "want one of "+strings.Join(all, ", "))
			return
		}
		if slices.Contains(toCome, d.key(node)) {
			d.checkDependencyOnOurs(d.key(node), condition, path+"."+d.at("Condition"))
		}
		switch {
		case on == nil:
			allKnown := known && !slices.ContainsFunc(d.containers, func(c *container) bool { return !c.known })
			if allKnown && !slices.Contains(toCome, d.key(node)) {
				d.report.fault(path+"."+d.at("ContainerName"), d.name(node), "want the name of a container of this definition")
			}
		case on.ours:
		case (condition == "SUCCESS" || condition == "COMPLETE") && d.essential(on):
			d.report.fault(path+"."+d.at("Condition"), condition+" of "+on.name+", which is essential", "want that container to have Essential false: ECS lets nothing wait for the end of one whose end is the task's")
		case condition == "HEALTHY" && !d.hasOwnCheck(on):
			d.report.fault(path+"."+d.at("Condition"), "HEALTHY of "+on.name+", which has no health check of its own", "give it one, or want START: with that of ecsmesh it is healthy only once the whole service is, which may need "+c.name)
		}
	})
}

// checkDependencyOnOurs refuses what no container of ours ever is.
func (d *definition) checkDependencyOnOurs(name, condition, path string) {
	exits := name == initContainer || name == discoverContainer
	ends := condition == "SUCCESS" || condition == "COMPLETE"
	switch {
	case exits && condition == "HEALTHY":
		d.report.fault(path, "HEALTHY of "+name, "want SUCCESS: that container exits when its work is done, and has no health check")
	case !exits && ends:
		d.report.fault(path, condition+" of "+name, "want HEALTHY or START: that container runs as long as the task, and ECS lets nothing wait for the end of one whose end is the task's")
	case name == clientContainer && condition == "HEALTHY":
		d.report.fault(path, "HEALTHY of "+name, "want START: that container has no health check")
	}
}

// checkCommand is the command of a container's health check.
func (d *definition) checkCommand(c *container) []*yaml.Node {
	command := d.get(d.get(c.node, "HealthCheck"), "Command")
	if !isList(command) {
		return nil
	}
	return command.Content
}

// isMeshCheck tells whether a health check is ecsmesh's.
func (d *definition) isMeshCheck(c *container) bool { return d.isMeshCommand(d.checkCommand(c)) }

func (d *definition) isMeshCommand(command []*yaml.Node) bool {
	return len(command) >= 3 && strings.HasSuffix(d.tail(command[1]), "/bin/ecsmesh-init") && d.key(command[2]) == "check"
}

// tail is what a text ends with, which is known of a Fn::Sub and a Fn::Join, too.
func (d *definition) tail(node *yaml.Node) string {
	name, argument, ok := d.function(node)
	switch {
	case !ok:
		return node.Value
	case name == "Fn::Sub" && isList(argument) && len(argument.Content) > 0: // with variables of its own
		return argument.Content[0].Value
	case name == "Fn::Sub":
		return argument.Value
	case name == "Fn::Join" && isList(argument) && len(argument.Content) == 2 && isList(argument.Content[1]):
		tail := ""
		for _, item := range argument.Content[1].Content {
			tail += argument.Content[0].Value + d.tail(item)
		}
		return tail
	}
	return ""
}

// switchesOff tells whether a health check says that there is none.
func (d *definition) switchesOff(c *container) bool {
	command := d.checkCommand(c)
	return len(command) == 1 && d.key(command[0]) == "NONE"
}

// hasOwnCheck tells whether a container has a health check that is its own.
func (d *definition) hasOwnCheck(c *container) bool {
	return d.get(c.node, "HealthCheck") != nil && !d.isMeshCheck(c) && !d.switchesOff(c)
}

// mayLackCheck tells whether a container has a health check under some
// conditions alone.
func (d *definition) mayLackCheck(c *container) bool {
	check := d.get(c.node, "HealthCheck")
	if _, _, _, ok := d.branches(check); !ok {
		return false
	}
	return d.anyBranch(check, func(branch *yaml.Node) bool {
		return d.isNoValue(branch) || isMap(branch) && d.first(branch, "Command") == "NONE"
	})
}

// checkMemory refuses what ECS refuses, and tells where nothing is left for
// Envoy.
func (d *definition) checkMemory() {
	d.checkShare("Memory", "MiB", func(c *container) (int, bool) {
		if reserved, known := d.integer(d.get(c.node, "MemoryReservation")); known {
			return reserved, true
		}
		return d.integer(d.get(c.node, "Memory"))
	})
	d.checkShare("Cpu", "units", func(c *container) (int, bool) { return d.integer(d.get(c.node, "Cpu")) })
	total, known := d.size("Memory")
	for _, c := range d.containers {
		if limit, ok := d.integer(d.get(c.node, "Memory")); ok && known && limit > total {
			d.report.fault(c.path+"."+d.at("Memory"), strconv.Itoa(limit), fmt.Sprintf("want less than the task's %d MiB, which Envoy has a part of", total))
		}
	}
}

func (d *definition) checkShare(name, unit string, share func(*container) (int, bool)) {
	total, known := d.size(name)
	if !known {
		return
	}
	sum := 0
	for _, c := range d.containers {
		if part, ok := share(c); ok && !c.optional {
			sum += part
		}
	}
	switch {
	case sum > total:
		d.report.fault(d.at(name), fmt.Sprintf("%d %s for the task and %d for its containers together", total, unit, sum), "want more for the task, or less for them: ECS refuses it")
	case sum == total:
		d.report.note("The containers have all of the task's %s, %d %s: want more for the task, or less for them, since Envoy has what they leave.", d.at(name), total, unit)
	}
}

// size is the task's CPU in units or its memory in MiB.
func (d *definition) size(name string) (int, bool) {
	found, known := d.text(d.get(d.node, name))
	if !known {
		return 0, false
	}
	found = strings.ToLower(strings.ReplaceAll(found, " ", ""))
	for _, suffix := range []string{"vcpu", "gb"} {
		if amount, ok := strings.CutSuffix(found, suffix); ok {
			value, err := strconv.ParseFloat(amount, 64)
			return int(value * 1024), err == nil
		}
	}
	value, err := strconv.Atoi(found)
	return value, err == nil
}

// checkVolume refuses a volume of another kind, or of somebody else, under our
// name.
func (d *definition) checkVolume() {
	expanded := slices.ContainsFunc(d.containers, func(c *container) bool { return c.ours })
	d.each(d.get(d.node, "Volumes"), d.at("Volumes"), func(item *yaml.Node, path string, optional bool) {
		name := d.key(d.get(item, "Name"))
		if name != meshVolume && (name != clientVolume || d.find(clientContainer) == nil) {
			return
		}
		plain := !optional
		for i := 0; isMap(item) && i+1 < len(item.Content); i += 2 {
			value := item.Content[i+1]
			empty := isNull(value) || isMap(value) && len(value.Content) == 0 || value.Value == "false"
			plain = plain && (item.Content[i].Value == d.at("Name") || empty)
		}
		mounted := slices.ContainsFunc(d.containers, func(c *container) bool { return d.mount(c, name) != nil })
		if !plain || mounted && !expanded {
			d.report.fault(path+"."+d.at("Name"), strconv.Quote(name), "want another name for this volume: ecsmesh has one that is called so, empty and shared by the task's containers alone")
		}
	})
}

// mount is where a container has a volume.
func (d *definition) mount(c *container, volume string) *yaml.Node {
	var found *yaml.Node
	d.each(d.get(c.node, "MountPoints"), "", func(item *yaml.Node, _ string, _ bool) {
		if d.key(d.get(item, "SourceVolume")) == volume {
			found = item
		}
	})
	return found
}

// checkPorts refuses ports that the containers map and ecsmesh's listen on.
func (d *definition) checkPorts(cfg config.Config, unknown []string, where func(string) string) {
	for _, c := range d.containers {
		if c.ours {
			continue
		}
		d.each(d.get(c.node, "PortMappings"), c.path+"."+d.at("PortMappings"), func(item *yaml.Node, path string, _ bool) {
			first, last := d.mapped(item)
			for _, l := range cfg.Listeners() {
				if l.Field == "service.port" || l.Port == 0 || l.Port < first || l.Port > last || slices.Contains(unknown, l.Field) {
					continue
				}
				d.report.fault(path, fmt.Sprintf("port %d of %s", l.Port, c.name), "want another one here or there: the containers of a task share its ports, and "+where(l.Field)+" has the same")
			}
		})
	}
}

// mapped are the ports that a mapping is of.
func (d *definition) mapped(item *yaml.Node) (first, last int) {
	if span, ok := d.text(d.get(item, "ContainerPortRange")); ok {
		from, to, _ := strings.Cut(span, "-")
		first, _ = strconv.Atoi(strings.TrimSpace(from))
		last, _ = strconv.Atoi(strings.TrimSpace(to))
		return first, last
	}
	port, _ := d.integer(d.get(item, "ContainerPort"))
	return port, port
}

// mappedPorts are those of the application's containers, for who looks for one.
func (d *definition) mappedPorts() string {
	var found []string
	for _, c := range d.containers {
		if c.ours {
			continue
		}
		d.each(d.get(c.node, "PortMappings"), "", func(item *yaml.Node, _ string, _ bool) {
			port := d.name(d.get(item, "ContainerPort"))
			if span := d.get(item, "ContainerPortRange"); span != nil {
				port = d.name(span)
			}
			found = append(found, port+" ("+c.name+")")
		})
	}
	if len(found) == 0 {
		return "the containers map none"
	}
	return "the containers map " + strings.Join(found, ", ")
}
