package meshtask

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// Form is how a task definition is written down.
type Form int

const (
	// CloudFormation has names such as ContainerDefinitions, and values may be
	// intrinsic functions: maps such as {Ref: X} or {Fn::Sub: …}, or short tags.
	CloudFormation Form = iota
	// API has names such as containerDefinitions, as the input of
	// register-task-definition and the output of describe-task-definition.
	API
)

// Defaults are what a block needn't say, since it is the same for all tasks of a
// stack. Empty texts leave it to the block, or to ecsmesh-init's own defaults.
type Defaults struct {
	InitImage      string // of ecsmesh-init; must come from here or from the block
	EnvoyImage     string // "" is DefaultEnvoyImage
	ConsulImage    string // of the topology client-agent; "" is DefaultConsulImage
	DataplaneImage string // of the topology dataplane; "" is DefaultDataplaneImage

	ServersParameter string // "" is /ecsmesh/consul-servers

	TLS           bool   // to the Consul servers
	CAParameter   string // SSM parameter with the CA of their certificates
	CASecretARN   string // the secret behind it, where it is one in Secrets Manager
	TLSServerName string

	Login         bool // to Consul, by the task's role
	LoginMethod   string
	LoginServerID string
	STSEndpoint   string
}

// Images that are taken where nobody names others: those of examples.
const (
	DefaultEnvoyImage     = "envoyproxy/envoy:v1.34.1"
	DefaultConsulImage    = "hashicorp/consul:1.21.5"
	DefaultDataplaneImage = "hashicorp/consul-dataplane:1.8.3"
)

// Statement is one of an IAM policy: what the task role has to allow.
type Statement struct {
	Sid    string // letters and digits, unique among those of a Result
	Action string
	// Resource are ARNs: strings, or in the form CloudFormation also intrinsic
	// functions as maps, such as {"Fn::Sub": "arn:${AWS::Partition}:…"}. In the
	// form API, REGION and ACCOUNT stand for what the definition doesn't tell.
	Resource []any
	// TaskRole is set where the role itself is the resource. Resource is empty
	// then, since whoever has the template knows the role's ARN.
	TaskRole  bool
	Condition map[string]any // nil is none
}

// Tag is one that the task role must have: with login, Consul reads from it as
// what a task may register.
type Tag struct {
	Key   string
	Value any // a string, or in the form CloudFormation also an intrinsic function as a map
}

// Result is what Expand found beside the task definition.
type Result struct {
	Statements []Statement // what the task role has to allow
	RoleTags   []Tag       // which tags it must have; none without login
	// RoleIsReady is the block's `taskRole: NONE`: whoever wrote it says that the
	// role allows the Statements and has the RoleTags.
	RoleIsReady bool
	Notes       []string // what whoever deploys it should know, a sentence each
}

// Expand turns a task definition's properties, in place, into those of a mesh
// task, as the block has it: the value of Metadata: EcsMesh. Doing so again
// changes nothing. parameters are the values of a template's parameters, to look
// at what a Ref gives; nil where they aren't known. The error has every fault,
// each with its path in the definition or in the block, and properties are as
// they were then.
func Expand(properties, block *yaml.Node, form Form, defaults Defaults, parameters map[string]any) (Result, error) {
	e := &expansion{lookup: lookup{form, parameters}, report: &report{}, defaults: defaults}
	expanded, err := e.expand(properties, block)
	if err != nil {
		return Result{}, err
	}
	if properties.Kind == yaml.DocumentNode {
		properties = properties.Content[0]
	}
	*properties = *expanded
	e.result.RoleIsReady, e.result.Notes = e.block.roleIsReady, e.report.notes
	return e.result, nil
}

// expansion is one definition on its way.
type expansion struct {
	lookup
	report     *report
	defaults   Defaults
	block      *block
	definition *definition
	result     Result

	short, dense bool // how the definition is written: functions as tags, everything in one line
	isFargate    bool
	wasExpanded  bool // before, with this block or another

	waiting     []*container // for Envoy
	environment map[string]string
	secret      map[string]bool // variables of the init container that aren't known
}

func (e *expansion) expand(properties, given *yaml.Node) (*yaml.Node, error) {
	node, err := e.input(properties, "the task definition", "want an object")
	if err != nil {
		return nil, err
	}
	said, err := e.input(given, "EcsMesh", wantBlock)
	if err != nil {
		return nil, err
	}
	e.short, e.dense = hasShortTags(node) || hasShortTags(said), node.Style&yaml.FlowStyle != 0
	e.block = readBlock(said, e.lookup, e.report)
	e.definition = readDefinition(node, e.lookup, e.report)
	if len(e.report.faults) > e.block.unknown {
		return nil, e.report.err() // what else would be said may not be true, unless a field was only left out
	}
	e.isFargate = e.definition.isFargate()
	e.definition.checkContainers(e.block.topology)
	e.environment, e.secret = e.definition.variables(e.definition.find(initContainer))
	known, secret := e.definition.variables(e.definition.find(discoverContainer))
	maps.Copy(e.environment, known)
	maps.Copy(e.secret, secret)
	e.chooseWaiting()
	e.complete()
	e.forget()
	e.checkImage()
	if !e.block.isGateway && isMap(get(e.block.settings, "service")) && get(get(e.block.settings, "service"), "port") == nil {
		e.report.fault(e.block.where("port"), "nothing", "want the port at which the application listens, or 0 where it listens at none; "+e.definition.mappedPorts())
		set(get(e.block.settings, "service"), "port", number(0)) // so that it is said once
	}
	cfg, unknown := readBack(e.block.settings, e.lookup, e.environment, e.secret, e.report, e.block.where)
	e.definition.check(e.block.topology, e.isTransparent())
	e.definition.checkPorts(cfg, unknown, e.block.where)
	e.checkName()
	e.role()
	if err := e.report.err(); err != nil {
		return nil, err
	}
	e.apply()
	return node, e.report.err()
}

// input is a node to work on, which must be a map; want says so.
func (e *expansion) input(node *yaml.Node, what, want string) (*yaml.Node, error) {
	if node != nil && node.Kind == yaml.DocumentNode && len(node.Content) == 1 {
		node = node.Content[0]
	}
	if isNull(node) {
		return nil, Fault{what, "nothing", want}
	}
	twin, err := plain(node)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if !isMap(twin) {
		return nil, Fault{what, show(twin), want}
	}
	if field := twice(twin, ""); field != "" {
		return nil, Fault{field, "the field twice in " + what, "keep one of them"}
	}
	if e.form == API && hasShortTags(twin) {
		return nil, Fault{what, "a function of CloudFormation", "want values alone: the API of ECS knows no functions"}
	}
	return twin, nil
}

// checkImage refuses to guess the one image that is everybody's own.
func (e *expansion) checkImage() {
	if e.says(e.block.initImage, e.defaults.InitImage) {
		return
	}
	for _, c := range e.definition.containers {
		if c.ours && c.key == initContainer && e.get(c.node, "Image") != nil {
			return
		}
	}
	e.report.fault("EcsMesh.initImage", "nothing", "want the image of ecsmesh-init (make image), for instance in your ECR registry")
}

// apply changes the definition.
func (e *expansion) apply() {
	d := e.definition
	for _, c := range e.waiting {
		e.attach(c)
	}
	ours := e.ours()
	list := e.get(d.node, "ContainerDefinitions")
	list.Content = append(e.missing(ours), list.Content...)
	if len(ours) > 0 && list.Style&yaml.FlowStyle != 0 && !e.dense {
		list.Style = 0
	}
	volumes := []string{meshVolume}
	if e.block.topology == config.ClientAgent {
		volumes = append(volumes, clientVolume)
	}
	for _, name := range volumes {
		found := false
		e.each(e.get(d.node, "Volumes"), "", func(item *yaml.Node, _ string, _ bool) { found = found || e.key(e.get(item, "Name")) == name })
		if !found {
			e.add(d.node, "Volumes", flowMap(e.field("Name", text(name))))
		}
	}
	e.tell()
	e.tellWaiting()
	e.checkCycles(readDefinition(d.node, e.lookup, e.report).containers)
}

// missing are those of our containers that the definition doesn't have yet.
func (e *expansion) missing(ours []*yaml.Node) []*yaml.Node {
	var missing []*yaml.Node
	for _, node := range ours {
		if !slices.ContainsFunc(e.definition.containers, func(c *container) bool { return c.node == node }) {
			missing = append(missing, node)
		}
	}
	return missing
}

// tell notes what nobody would guess.
func (e *expansion) tell() {
	d := e.definition
	if e.logConfiguration() == nil {
		e.report.note("ecsmesh's containers have no log configuration, since neither the application nor EcsMesh.logConfiguration has one: when a task doesn't start, the log of ecsmesh-init says why.")
	}
	if port, known := e.integer(get(get(e.block.settings, "service"), "port")); known && port != 0 {
		mapped, is := false, false
		for _, c := range e.waiting {
			e.each(e.get(c.node, "PortMappings"), "", func(item *yaml.Node, _ string, _ bool) {
				first, last := d.mapped(item)
				mapped = true
				is = is || first == 0 || first <= port && port <= last
			})
		}
		if mapped && !is {
			e.report.note("The service's port %d is none of those that are mapped: %s.", port, d.mappedPorts())
		}
	}
	user := e.get(readDefinition(d.node, e.lookup, e.report).find(initContainer).node, "User")
	switch name, known := e.text(user); {
	case !e.isElsewhere():
		if _, known := e.text(e.bootstrapDir()); !known {
			e.report.note("bootstrapDir isn't known here: at another than %s, the image of ecsmesh-init has to declare it as that of user %s, or it can't write there.", config.DefaultBootstrapDir, meshUser)
		}
	case !known || name != root:
		e.report.note("ecsmesh-init runs as user %s, as its User has it, so its image has to declare %s as that user's; without User and LinuxParameters it runs as root, whom the volume belongs to.", e.name(user), e.name(e.bootstrapDir()))
	default:
		e.report.note("ecsmesh-init runs as root, since the volume belongs to root at bootstrapDir; at %s it belongs to user %s.", config.DefaultBootstrapDir, meshUser)
	}
	for _, part := range []string{"proxy", "consulClient"} {
		if uid, known := e.text(e.user(part)); known && uid != meshUser && !e.isElsewhere() && (part != "proxy" || !e.isTransparent()) {
			e.report.note("The volume belongs to user %s at %s, so with %s.uid %s the image of ecsmesh-init has to declare it as that user's, or bootstrapDir has to be another.", meshUser, config.DefaultBootstrapDir, part, uid)
		}
	}
	if !e.isTransparent() {
		return
	}
	for _, c := range d.containers {
		if !c.ours && !slices.Contains(e.waiting, c) {
			e.report.note("%s doesn't wait for Envoy, through which its traffic goes once ecsmesh-init has run: until Envoy is up it reaches nobody; transparentProxy.excludeUIDs leaves a user's traffic alone.", c.name)
		}
	}
}
