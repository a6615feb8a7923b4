package owntask

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ecsmesh/e2e/ecs"
	"ecsmesh/initcontainer/config"
)

// Host is what the lab has for a task.
type Host struct {
	// Images that are programs of the lab. Application is fake-service's stand-in,
	// and Shell is none but the host's own programs.
	Init, Envoy, Consul, Dataplane, Application, Shell string

	ServersParameter string // in the lab's SSM
	GossipKey        string // of the lab's Consul

	// Secret has the values of secrets that a Program gets, by their variables'
	// names.
	Secret func(variable string) string
}

// Program is what runs in place of the application's image.
type Program struct {
	// Command is a line for a shell, in which {address} and {port} stand for what
	// the service has to listen on.
	Command string
	Dir     string // in which it runs
}

// volumePath is where containers see the volume of ecsmesh in the lab, which
// replaces that path wherever it stands: /ecsmesh would also be in names of SSM
// parameters.
const volumePath = "/mesh"

// labRole takes the place of a role that a definition doesn't have.
const labRole = "arn:aws:iam::000000000000:role/lab"

// stayAlive and exitWell are what containers do that are there for others.
var (
	stayAlive = []string{"/bin/sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"}
	exitWell  = []string{"/bin/sh", "-c", "exit 0"}
)

// On is the task's definition on a host, at an address of the task's own, and a
// line for each thing that is replaced there. Program may be nil: a stand-in
// then serves the service's port.
func (t *Task) On(host Host, address netip.Addr, program *Program) (ecs.TaskDefinition, []string, error) {
	raw, err := json.Marshal(t.Definition)
	if err != nil {
		return ecs.TaskDefinition{}, nil, fmt.Errorf("copy the task definition %s: %w", t.Definition.Family, err)
	}
	a := adaption{Task: t, host: host, address: address.String(), port: PortHere(t.Port), program: program}
	if err := json.Unmarshal(raw, &a.def); err != nil {
		return ecs.TaskDefinition{}, nil, fmt.Errorf("copy the task definition %s: %w", t.Definition.Family, err)
	}
	if err := a.configure(); err != nil {
		return ecs.TaskDefinition{}, nil, fmt.Errorf("adapt the task definition %s: %w", t.Definition.Family, err)
	}
	for i := range a.def.Containers {
		c := &a.def.Containers[i]
		switch {
		case ours(c.Name):
			a.ours(c)
		case c.Name == t.Container && program != nil:
			a.run(c)
		case c.Name == t.Container && t.Port != 0:
			a.standIn(c)
		default:
			a.keepCompany(c)
		}
		a.moveVolume(c)
	}
	a.def.NetworkMode = "awsvpc"
	if a.def.TaskRoleARN == "" {
		a.def.TaskRoleARN = labRole
		a.say("taskRoleArn, which is missing", "a role of the lab's; on AWS ecsmesh-init can do nothing without one")
	}
	return a.def, a.replaced, nil
}

// adaption is a definition on its way to a host.
type adaption struct {
	*Task
	host     Host
	address  string
	port     int // the service's, on this host
	program  *Program
	volume   string // where the definition has the volume of ecsmesh
	def      ecs.TaskDefinition
	replaced []string
}

func (a *adaption) say(what, by string) {
	a.replaced = append(a.replaced, fmt.Sprintf("%-32s %s", what, by))
}

// title is a container and the image that is replaced, without its registry.
func title(c *ecs.ContainerDefinition) string { return c.Name + " (" + path.Base(c.Image) + ")" }

// ours is a container that ecsmesh added: all of it is real.
func (a *adaption) ours(c *ecs.ContainerDefinition) {
	c.Image = map[string]string{
		initContainer: a.host.Init, discoverContainer: a.host.Init, envoyContainer: a.host.Envoy,
		clientContainer: a.host.Consul, dataplaneContainer: a.host.Dataplane,
	}[c.Name]
	// A token is of no use to a Consul without ACLs; its gossip is encrypted.
	c.Secrets = nil
	if c.Name == discoverContainer {
		set(c, ecs.KeyValue{Name: config.GossipKeyVariable, Value: a.host.GossipKey})
	}
}

// run has the user's program in the application's container.
func (a *adaption) run(c *ecs.ContainerDefinition) {
	fill := strings.NewReplacer("{address}", a.address, "{port}", fmt.Sprint(a.port))
	line := fmt.Sprintf("cd %s && exec env %s", quote(a.program.Dir), fill.Replace(a.program.Command))
	wrapper := entrypointWrapper(slices.Concat(c.EntryPoint, c.Command))
	a.say(title(c), a.program.Command)
	c.Image, c.EntryPoint, c.Command = a.host.Shell, slices.Concat(wrapper, []string{"/bin/sh", "-c", line}), nil
	a.localise(c)
	listen := []ecs.KeyValue{{Name: "LISTEN_ADDR", Value: fmt.Sprintf("%s:%d", a.address, a.port)}}
	for _, v := range []ecs.KeyValue{{Name: "HOST", Value: a.address}, {Name: "PORT", Value: fmt.Sprint(a.port)}} {
		if !slices.ContainsFunc(c.Environment, func(has ecs.KeyValue) bool { return has.Name == v.Name }) {
			listen = append(listen, v)
		}
	}
	if a.port != 0 {
		set(c, listen...)
	}
	for _, secret := range c.Secrets {
		set(c, ecs.KeyValue{Name: secret.Name, Value: a.host.Secret(secret.Name)})
		a.say("its secret "+secret.Name, "that of your environment, or else a text to fill the place")
	}
	c.Secrets = nil
	// A mount's path is replaced wherever it stands, and must not be where the
	// program itself is.
	c.MountPoints = slices.DeleteFunc(c.MountPoints, func(m ecs.MountPoint) bool {
		inTheWay := m.Path != a.volume && strings.Contains(line, strings.TrimRight(m.Path, "/")+"/")
		if inTheWay {
			a.say("its volume at "+m.Path, "your own folder of that name")
		}
		return inTheWay
	})
	a.healthCheck(c, true)
}

// standIn answers in the application's name, and calls all of its upstreams.
func (a *adaption) standIn(c *ecs.ContainerDefinition) {
	listen := ecs.KeyValue{Name: "LISTEN_ADDR", Value: fmt.Sprintf("%s:%d", a.address, a.port)}
	if path.Base(imageName(c.Image)) == path.Base(a.host.Application) {
		a.say(title(c), "the lab's own fake-service, which has the same variables")
		a.localise(c)
		set(c, listen)
	} else {
		a.say(title(c), fmt.Sprintf("a stand-in that answers HTTP at port %d; PROGRAM='./my-server' runs yours", a.port))
		var upstreams []string
		for _, port := range a.ports {
			upstreams = append(upstreams, fmt.Sprintf("http://%s:%d", a.address, port))
		}
		set(c, listen,
			ecs.KeyValue{Name: "NAME", Value: a.Service},
			ecs.KeyValue{Name: "MESSAGE", Value: fmt.Sprintf("stand-in for container %s (%s) of task %s", c.Name, c.Image, a.def.Family)},
			ecs.KeyValue{Name: "UPSTREAM_URIS", Value: strings.Join(upstreams, ",")})
	}
	c.Image, c.EntryPoint, c.Command, c.Secrets = a.host.Application, nil, nil, nil
	a.dropMounts(c)
	a.healthCheck(c, false)
}

// keepCompany is a container that nobody calls: a log router, a migration.
func (a *adaption) keepCompany(c *ecs.ContainerDefinition) {
	command, what := stayAlive, "a stand-in that stays alive and does nothing"
	for _, other := range a.def.Containers {
		for _, d := range other.DependsOn {
			if d.Container == c.Name && (d.Condition == ecs.ConditionSuccess || d.Condition == ecs.ConditionComplete) {
				command, what = exitWell, "a stand-in that exits with 0, which "+other.Name+" waits for"
			}
		}
	}
	a.say(title(c), what)
	c.Image, c.EntryPoint, c.Command, c.Secrets = a.host.Shell, command, nil, nil
	a.dropMounts(c)
	a.healthCheck(c, false)
}

// dropMounts leaves only the volume of ecsmesh: stand-ins have no use for others.
func (a *adaption) dropMounts(c *ecs.ContainerDefinition) {
	c.MountPoints = slices.DeleteFunc(c.MountPoints, func(m ecs.MountPoint) bool { return m.Path != a.volume })
}

// healthCheck keeps the one that is ecsmesh's own, and of a program also one that
// the host can run: what is in the image alone is not there.
func (a *adaption) healthCheck(c *ecs.ContainerDefinition, program bool) {
	if c.HealthCheck == nil || slices.ContainsFunc(c.HealthCheck.Command, func(arg string) bool { return strings.Contains(arg, a.volume+"/bin/ecsmesh-init") }) {
		return
	}
	if command := c.HealthCheck.Command; program && onHost(command) {
		for i := range command {
			command[i] = a.local(command[i])
		}
		return
	}
	a.say("its health check", "one that always passes; the service's own checks are real")
	c.HealthCheck.Command = []string{"CMD", "true"}
}

// localise puts the task's own address wherever the container says localhost.
func (a *adaption) localise(c *ecs.ContainerDefinition) {
	var changed []string
	for i := range c.Environment {
		v := &c.Environment[i]
		if local := a.local(v.Value); local != v.Value {
			v.Value = local
			changed = append(changed, v.Name)
		}
	}
	if len(changed) > 0 {
		a.say("its "+strings.Join(changed, ", "), "with the task's address in place of localhost: all tasks are on one host")
	}
}

// localhost stands alone or before a port or a path.
var localhost = regexp.MustCompile(`(^|[^A-Za-z0-9_.-])(localhost|127\.0\.0\.1|0\.0\.0\.0)($|[^A-Za-z0-9_.-])`)

func (a *adaption) local(text string) string {
	return localhost.ReplaceAllString(text, "${1}"+a.address+"${3}")
}

// moveVolume has the container see the volume of ecsmesh at volumePath.
func (a *adaption) moveVolume(c *ecs.ContainerDefinition) {
	at := regexp.MustCompile(`(^|[^A-Za-z0-9_./-])` + regexp.QuoteMeta(a.volume) + `(/|$)`)
	move := func(texts []string) {
		for i, text := range texts {
			texts[i] = at.ReplaceAllString(text, "${1}"+volumePath+"${2}")
		}
	}
	for i := range c.MountPoints {
		if c.MountPoints[i].Path == a.volume {
			c.MountPoints[i].Path = volumePath
		}
	}
	move(c.EntryPoint)
	move(c.Command)
	if c.HealthCheck != nil {
		move(c.HealthCheck.Command)
	}
	for i := range c.Environment {
		if v := &c.Environment[i]; ours(c.Name) && !isConfiguration(v.Name) {
			v.Value = at.ReplaceAllString(v.Value, "${1}"+volumePath+"${2}")
		}
	}
}

// movedBy is far enough from the ports at which only root may listen.
const movedBy = 10000

// PortHere is the port at which a service is on this host: its own, unless the
// user may not listen there.
func PortHere(port int) int {
	if port > 0 && port < lowestPort() {
		return port + movedBy
	}
	return port
}

// lowestPort is the lowest at which this process may listen.
func lowestPort() int {
	if os.Geteuid() == 0 {
		return 1
	}
	const usual = 1024
	content, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return usual
	}
	if lowest, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
		return lowest
	}
	return usual
}

// entrypointWrapper is the part of a command line up to the application's own,
// where it is wrapped by ecsmesh-init entrypoint.
func entrypointWrapper(line []string) []string {
	end := slices.Index(line, "--")
	if len(line) > 1 && path.Base(line[0]) == initContainer && line[1] == "entrypoint" && end > 0 {
		return slices.Clone(line[:end+1])
	}
	return nil
}

// imageName is an image without its tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// set gives a container variables, which take the place of those of their names.
func set(c *ecs.ContainerDefinition, variables ...ecs.KeyValue) {
	for _, v := range variables {
		c.Environment = slices.DeleteFunc(c.Environment, func(has ecs.KeyValue) bool { return has.Name == v.Name })
	}
	c.Environment = append(c.Environment, variables...)
}

func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
