package meshtask

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// settingsBefore are those that an earlier expansion wrote into the definition,
// and how they stand there; nil where there was none, or they can't be read.
func (e *expansion) settingsBefore() (settings, written *yaml.Node) {
	initial := e.definition.find(initContainer)
	if initial == nil {
		return nil, nil
	}
	var found *yaml.Node
	e.each(e.get(initial.node, "Environment"), "", func(item *yaml.Node, _ string, optional bool) {
		if !optional && e.key(e.get(item, "Name")) == config.Variable {
			found = e.get(item, "Value")
		}
	})
	settings = e.printed(found)
	if _, _, isFunction := e.function(settings); isFunction || !isMap(settings) {
		return nil, found
	}
	return settings, found
}

// dynamic is a reference that CloudFormation looks up, at any place of a text.
var dynamic = regexp.MustCompile(`\{\{resolve:[^{}]*\}\}`)

// printed reads what a writer printed, with functions where it put variables; nil
// where that isn't known.
func (e *expansion) printed(value *yaml.Node) *yaml.Node {
	if value == nil || e.isNoValue(value) {
		return value
	}
	if _, yes, no, ok := e.branches(value); ok {
		_, argument, _ := e.function(value)
		branches := flow(bare(argument.Content[0]))
		for _, branch := range []*yaml.Node{yes, no} {
			inner := e.printed(branch)
			if inner == nil {
				return nil
			}
			branches.Content = append(branches.Content, inner)
		}
		return mapping(field{"Fn::If", branches})
	}
	var own *yaml.Node // variables of Fn::Sub
	name, argument, isFunction := e.function(value)
	if isFunction && name != "Fn::Sub" {
		return nil
	}
	if isFunction {
		if value = argument; isList(argument) && len(argument.Content) == 2 {
			value, own = argument.Content[0], argument.Content[1]
		}
	}
	if value.Kind != yaml.ScalarNode {
		return nil
	}
	// Marks are in the place of what is no JSON while that is read.
	p := parts{own: own}
	written := value.Value
	if isFunction {
		written = variable.ReplaceAllStringFunc(written, p.mark)
	}
	if e.form == CloudFormation {
		written = dynamic.ReplaceAllStringFunc(written, p.mark)
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(written), &document); err != nil || len(document.Content) != 1 {
		return nil
	}
	settings, err := plain(document.Content[0])
	if err != nil {
		return nil
	}
	return e.restored(settings, &p)
}

// parts are what marks stand for.
type parts struct {
	found []string
	own   *yaml.Node
}

var mark = regexp.MustCompile("\uE000([0-9]+)\uE001")

func (p *parts) mark(found string) string {
	p.found = append(p.found, found)
	return fmt.Sprintf("\uE000%d\uE001", len(p.found)-1)
}

func (p *parts) of(mark string) string {
	at, err := strconv.Atoi(strings.Trim(mark, "\uE000\uE001"))
	if err != nil || at >= len(p.found) {
		return mark
	}
	return p.found[at]
}

// restored is a value with what its marks stand for.
func (e *expansion) restored(node *yaml.Node, p *parts) *yaml.Node {
	for i, item := range node.Content {
		node.Content[i] = e.restored(item, p)
	}
	if node.Kind != yaml.ScalarNode || !mark.MatchString(node.Value) {
		return node
	}
	if whole := p.of(node.Value); whole != node.Value && strings.HasPrefix(whole, "${") {
		if name := strings.TrimSpace(whole[2 : len(whole)-1]); !strings.HasPrefix(name, "!") {
			return e.variableBefore(name, p.own)
		}
	}
	template := mark.ReplaceAllStringFunc(node.Value, p.of)
	isKnown := true
	found := substitute(template, func(string) string {
		isKnown = false
		return ""
	})
	switch {
	case isKnown:
		return text(found)
	case p.own != nil:
		return mapping(field{"Fn::Sub", flow(text(template), clone(p.own))})
	}
	return mapping(field{"Fn::Sub", text(template)})
}

// variableBefore is what a variable of Fn::Sub was printed for.
func (e *expansion) variableBefore(name string, own *yaml.Node) *yaml.Node {
	value := get(own, name)
	switch {
	case value == nil && strings.Contains(name, "."):
		return mapping(field{"Fn::GetAtt", text(name)})
	case value == nil:
		return mapping(field{"Ref", text(name)})
	}
	if _, _, _, ok := e.branches(value); ok { // they are printed each
		if printed := e.printed(value); printed != nil {
			return printed
		}
	}
	return bare(value)
}

// forget takes back what an earlier expansion set and this one doesn't, because
// the block says something else now: capabilities, users, ports, and who waits
// for whom. What is otherwise than that expansion set it is somebody's own, and
// stays; only the capabilities that it added go from among others, too.
func (e *expansion) forget() {
	initial := e.definition.find(initContainer)
	e.wasExpanded = initial != nil && initial.ours && e.get(initial.node, "Image") != nil
	settings, written := e.settingsBefore()
	if settings == nil {
		if known, unknown := e.definition.variables(initial); e.wasExpanded && (known[config.Variable] != "" || unknown[config.Variable]) {
			e.report.note("The %s that %s had can't be read here, so what was set for it stays: take out by hand the ports, users, capabilities and dependencies that EcsMesh doesn't ask for.", config.Variable, initContainer)
		}
		return
	}
	e.tellLost(settings, written)
	earlier := &expansion{
		lookup: e.lookup, report: &report{}, defaults: e.defaults,
		block:      &block{settings: settings, topology: config.Direct, isGateway: get(settings, "gateway") != nil},
		definition: &definition{lookup: e.lookup, report: &report{}, node: mapping()},
	}
	if topology, _ := e.text(get(settings, "topology")); topology == config.ClientAgent || topology == config.Dataplane {
		earlier.block.topology = topology
	}
	now := e.wanted()
	for _, was := range earlier.wanted() {
		c := e.definition.find(was.name)
		at := slices.IndexFunc(now, func(w wanted) bool { return w.name == was.name })
		if c != nil && c.ours && at >= 0 {
			e.forgetIn(c.node, was, now[at])
		}
	}
	if was := proxyName(earlier.block.topology); was != proxyName(e.block.topology) && e.definition.find(was) == nil {
		for _, c := range e.definition.containers {
			e.drop(c.node, "DependsOn", func(item *yaml.Node) bool { return e.isDependency(item, was, "HEALTHY") })
		}
	}
	isMounted := func(c *container) bool { return e.definition.mount(c, clientVolume) != nil }
	if earlier.block.topology == config.ClientAgent && e.block.topology != config.ClientAgent && !slices.ContainsFunc(e.definition.containers, isMounted) {
		e.drop(e.definition.node, "Volumes", func(item *yaml.Node) bool {
			return same(item, mapping(e.field("Name", text(clientVolume)))) || same(item, mapping(e.field("Name", text(clientVolume)), e.field("Host", mapping())))
		})
	}
}

// tellLost notes what somebody wrote into the configuration by hand and the block
// doesn't say. What an expansion wrote there left the block since.
func (e *expansion) tellLost(settings, written *yaml.Node) {
	for _, dense := range []bool{false, true} {
		taken := map[string]bool{}
		names(settings, taken)
		w := writer{lookup: e.lookup, report: &report{}, short: e.short, dense: dense, where: e.block.where, taken: taken}
		if same(w.value(settings, configShape()), written) {
			return
		}
	}
	if lost := e.lost(settings, e.block.settings, ""); len(lost) > 0 {
		e.report.note("The %s of %s was written by hand, and is made of EcsMesh now: have there what shall stay of %s.", config.Variable, initContainer, strings.Join(lost, ", "))
	}
}

// lost are the paths of what one object has and another hasn't.
func (e *expansion) lost(was, now *yaml.Node, path string) []string {
	var lost []string
	for i := 0; i+1 < len(was.Content); i += 2 {
		name := was.Content[i].Value
		there, value := get(now, name), was.Content[i+1]
		_, _, isFunction := e.function(value)
		_, _, isFunctionNow := e.function(there)
		switch {
		case isNull(value):
		case there == nil:
			lost = append(lost, join(path, name))
		case isMap(value) && isMap(there) && !isFunction && !isFunctionNow:
			lost = append(lost, e.lost(value, there, join(path, name))...)
		}
	}
	return lost
}

func (e *expansion) forgetIn(node *yaml.Node, was, now wanted) {
	fields := now.fields()
	for name, value := range was.fields() {
		if there := e.get(node, name); there != nil && fields[name] != nil {
			e.follow(node, name, value, fields[name])
		}
	}
	for i, port := range was.ports {
		isMapped := false
		for j, mapped := range now.ports {
			isMapped = isMapped || e.equal(mapped, port) && now.protocols[j] == was.protocols[i]
		}
		if !isMapped {
			e.drop(node, "PortMappings", func(item *yaml.Node) bool { return e.isMapping(item, port, was.protocols[i]) })
		}
	}
	for _, f := range was.dependsOn {
		if !slices.ContainsFunc(now.dependsOn, func(other field) bool { return other.name == f.name }) {
			e.drop(node, "DependsOn", func(item *yaml.Node) bool { return e.isDependency(item, f.name, f.value.Value) })
		}
	}
}

// follow gives a field what it has now, where it is as it was, or else what is
// within it: each field of an object, and from a list goes what it has no more.
func (e *expansion) follow(node *yaml.Node, name string, was, now *yaml.Node) {
	there := get(node, e.at(name))
	_, _, isFunction := e.function(there)
	switch {
	case there == nil || now != nil && same(was, now):
	case same(there, was) && now == nil:
		without(node, e.at(name))
	case same(there, was):
		e.set(node, name, clone(now))
	case isFunction:
	case isMap(there) && isMap(was):
		for i := 0; i+1 < len(was.Content); i += 2 {
			inner := was.Content[i].Value
			e.follow(there, inner, was.Content[i+1], get(now, inner))
		}
	case name == e.at("Add") && isList(was):
		has := func(list, item *yaml.Node) bool {
			return isList(list) && slices.ContainsFunc(list.Content, func(other *yaml.Node) bool { return same(item, other) })
		}
		e.drop(node, "Add", func(item *yaml.Node) bool { return has(was, item) && !has(now, item) })
	}
}

// fields are what a container of ours has by name; what is fixed wins.
func (w wanted) fields() map[string]*yaml.Node {
	all := map[string]*yaml.Node{}
	for _, f := range slices.Concat(w.standard, w.fixed) {
		all[f.name] = f.value
	}
	return all
}

// drop takes items out of a list, and the list where nothing is left of it.
func (e *expansion) drop(node *yaml.Node, name string, is func(item *yaml.Node) bool) {
	list := e.get(node, name)
	if _, _, isFunction := e.function(list); isFunction || !isList(list) || !slices.ContainsFunc(list.Content, is) {
		return
	}
	list.Content = slices.DeleteFunc(list.Content, is)
	if len(list.Content) == 0 {
		without(node, e.at(name))
	}
}

func (e *expansion) isDependency(item *yaml.Node, on, condition string) bool {
	return isMap(item) && e.key(e.get(item, "ContainerName")) == on && e.key(e.get(item, "Condition")) == condition
}

// isMapping tells whether a port is mapped as we do it, or as ECS describes that.
func (e *expansion) isMapping(item, port *yaml.Node, protocol string) bool {
	if !isMap(item) || !e.equal(e.get(item, "ContainerPort"), port) {
		return false
	}
	for i := 0; i+1 < len(item.Content); i += 2 {
		switch value := item.Content[i+1]; item.Content[i].Value {
		case e.at("ContainerPort"):
		case e.at("Protocol"):
			if e.key(value) != protocol {
				return false
			}
		case e.at("HostPort"):
			if !e.equal(value, port) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// same tells whether two values say the same, where ECS describes a list that
// isn't there as an empty one.
func same(a, b *yaml.Node) bool { return compact(pruned(long(a))) == compact(pruned(long(b))) }

func pruned(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			if items, isItems := inner.([]any); inner == nil || isItems && len(items) == 0 {
				delete(v, name)
			} else {
				v[name] = pruned(inner)
			}
		}
	case []any:
		for i, inner := range v {
			v[i] = pruned(inner)
		}
	case bool, json.Number:
		return fmt.Sprint(v) // CloudFormation takes "120" for 120
	}
	return value
}

// equal tells whether two values are the same once they are looked up.
func (e *expansion) equal(a, b *yaml.Node) bool { return e.key(a) == e.key(b) || same(a, b) }

// kept is what a container of ours has that no earlier settings tell of, and that
// this expansion would have otherwise.
func (e *expansion) kept(node *yaml.Node, w wanted) []string {
	var kept []string
	if there := e.get(node, "Image"); there != nil && !w.isFixed && !same(there, w.image) {
		kept = append(kept, e.at("Image"))
	}
	if there := e.get(node, "LogConfiguration"); there != nil && e.block.logConfiguration == nil {
		if logs := e.logConfiguration(); logs == nil || !same(there, logs) {
			kept = append(kept, e.at("LogConfiguration"))
		}
	}
	if w.check {
		kept = append(kept, e.keptRefresh(node)...)
	}
	return kept
}

// keptRefresh is the interval in a health check of ours that the block doesn't say.
func (e *expansion) keptRefresh(node *yaml.Node) []string {
	command := e.get(e.get(node, "HealthCheck"), "Command")
	if e.block.refreshInterval != nil || !isList(command) || !slices.ContainsFunc(command.Content, func(item *yaml.Node) bool { return e.key(item) == "-refresh" }) {
		return nil
	}
	return []string{"-refresh of its health check"}
}

// tellKept notes what an earlier block may have said, or somebody set by hand:
// there is no telling, so it stays.
func (e *expansion) tellKept(name string, kept []string) {
	if e.wasExpanded && len(kept) > 0 {
		e.report.note("%s keeps the %s that it has, which may be somebody's own: take out by hand what EcsMesh said before and doesn't say any more.", name, strings.Join(kept, " and the "))
	}
}

// tellWaiting notes which containers wait for Envoy though nothing says so now.
func (e *expansion) tellWaiting() {
	if !e.wasExpanded {
		return
	}
	for _, c := range e.definition.containers {
		if !c.ours && !slices.Contains(e.waiting, c) && e.definition.mount(c, meshVolume) != nil && e.definition.dependsOn(c, proxyName(e.block.topology)) {
			e.report.note("%s waits for %s as before, though it isn't among the containers that have to: take its DependsOn, its health check and its mount of ecsmesh out by hand, or name it in containers.",
				c.name, proxyName(e.block.topology))
		}
	}
}
