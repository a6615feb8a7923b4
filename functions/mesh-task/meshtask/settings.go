package meshtask

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// complete adds to a block's settings what it leaves to the defaults, and the
// containers whose health is the service's.
func (e *expansion) complete() {
	e.completeServers()
	e.completeLogin()
	if client := e.section(e.block.settings, "consulClient"); e.block.topology == config.ClientAgent && e.isElsewhere() && client != nil && get(client, "uid") == nil {
		set(client, "uid", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: meshUser}) // root, who writes there, would take it for that of Consul's image
		e.setting("consulClient", client)
	}
	if given := get(e.block.settings, "healthSyncContainers"); e.block.isGateway || given != nil {
		e.checkSynced(given)
		return
	}
	checks := map[string]bool{}
	e.each(get(get(e.block.settings, "service"), "checks"), "", func(item *yaml.Node, _ string, _ bool) {
		checks[e.key(get(item, "name"))] = true
	})
	synced := flow()
	for _, c := range e.waiting {
		switch {
		case !e.definition.essential(c) || !e.definition.hasOwnCheck(c):
		case checks[c.key]:
			e.report.note("The health of the container %s is not told to Consul, since a check of the service has the same name.", c.name)
		case e.definition.mayLackCheck(c):
			e.report.note("The health of the container %s is not told to Consul, since it hasn't always a health check; where it has none, ECS doesn't wait until Consul sends requests to the task.", c.name)
		case c.optional:
			e.report.note("The health of the container %s is not told to Consul, since it isn't always there: name it in healthSyncContainers, if it shall be.", c.name)
		default:
			synced.Content = append(synced.Content, bare(e.get(c.node, "Name")))
		}
	}
	if len(synced.Content) > 0 {
		e.setting("healthSyncContainers", synced)
		if len(checks) == 0 {
			e.tellUnchecked(synced)
		}
	}
}

// tellUnchecked notes where nothing looks at the service's port: the health of
// containers takes the place of the check of it, and they are others than the one
// that has it.
func (e *expansion) tellUnchecked(synced *yaml.Node) {
	port, known := e.integer(get(get(e.block.settings, "service"), "port"))
	if !known || port == 0 {
		return
	}
	var has, stand []string
	for _, c := range e.waiting {
		mapped := false
		e.each(e.get(c.node, "PortMappings"), "", func(item *yaml.Node, _ string, _ bool) {
			first, last := e.definition.mapped(item)
			mapped = mapped || first != 0 && first <= port && port <= last
		})
		isSynced := slices.ContainsFunc(synced.Content, func(item *yaml.Node) bool { return e.key(item) == c.key })
		switch {
		case mapped && isSynced:
			return
		case mapped:
			has = append(has, c.name)
		case isSynced:
			stand = append(stand, c.name)
		}
	}
	if len(has) > 0 {
		e.report.note("Nothing looks at the service's port %d, which %s has: the service's health is that of %s. Give %s a health check, or the service checks.",
			port, strings.Join(has, ", "), strings.Join(stand, ", "), strings.Join(has, ", "))
	}
}

// checkSynced refuses containers whose health would never be told, or not before
// that of another which waits for theirs.
func (e *expansion) checkSynced(given *yaml.Node) {
	first := ""
	e.each(given, "EcsMesh.healthSyncContainers", func(item *yaml.Node, path string, _ bool) {
		c := e.definition.find(e.key(item))
		_, known := e.text(item)
		switch {
		case c == nil:
			if known && !slices.ContainsFunc(e.definition.containers, func(c *container) bool { return !c.known }) && !slices.Contains(ourNames(e.block.topology), e.key(item)) {
				e.report.fault(path, show(item), "want the name of a container that has a health check: "+e.applicationNames())
			}
		case e.definition.mayLackCheck(c):
			e.report.fault(path, show(item), "remove it, or give the container a health check under every condition: it is never healthy without")
		case c.ours || e.definition.hasOwnCheck(c):
		case !slices.Contains(e.waiting, c) || !e.definition.essential(c) || e.definition.switchesOff(c):
			e.report.fault(path, show(item), "remove it, or give the container a health check: it is never healthy without")
		case first != "":
			e.report.fault(path, show(item), "remove it, or give the container a health check of its own: with that of ecsmesh it waits for "+first+", and that for it")
		default:
			first = c.name
		}
	})
}

// setting sets one at the top, in the order that ECSMESH_CONFIG has.
func (e *expansion) setting(name string, value *yaml.Node) {
	old := e.block.settings
	e.block.settings = mapping()
	for _, known := range order {
		if known == name {
			set(e.block.settings, name, value)
		} else if found := get(old, known); found != nil {
			set(e.block.settings, known, found)
		}
	}
}

// section is an object of the settings to add defaults to; nil where it is
// something else.
func (e *expansion) section(within *yaml.Node, name string) *yaml.Node {
	found := get(within, name)
	if found == nil {
		return mapping()
	}
	if _, _, isFunction := e.function(found); isFunction || !isMap(found) {
		return nil
	}
	return found
}

// unless adds a text to an object that doesn't have it.
func unless(object *yaml.Node, name, value string) {
	if value != "" && get(object, name) == nil {
		set(object, name, text(value))
	}
}

func (e *expansion) completeServers() {
	servers := e.section(e.block.settings, "consulServers")
	if servers == nil {
		return
	}
	if get(servers, "hosts") == nil {
		unless(servers, "parameter", or(e.defaults.ServersParameter, config.DefaultServersParameter))
	}
	if defaults := e.section(servers, "defaults"); defaults != nil {
		namesCA := get(defaults, "caCertFile") != nil || get(defaults, "caCertParameter") != nil
		if get(defaults, "tls") == nil {
			set(defaults, "tls", boolean(e.defaults.TLS || namesCA))
		}
		if tls, known := e.boolean(get(defaults, "tls")); tls || !known {
			if !namesCA && !e.hasVariable(config.CACertVariable) {
				unless(defaults, "caCertParameter", e.defaults.CAParameter)
			}
			unless(defaults, "tlsServerName", e.defaults.TLSServerName)
		}
		set(servers, "defaults", defaults)
	}
	e.setting("consulServers", servers)
}

func (e *expansion) hasVariable(name string) bool { return e.environment[name] != "" || e.secret[name] }

// completeLogin has the task log in as all of the stack's do, unless it has a
// token, or can't.
func (e *expansion) completeLogin() {
	d := e.defaults
	login := e.section(e.block.settings, "consulLogin")
	if login == nil {
		return
	}
	said := get(login, "enabled") != nil
	hasToken := get(get(e.block.settings, "consulServers"), "tokenParameter") != nil || e.hasVariable(config.TokenVariable)
	switch {
	case said:
	case !d.Login || hasToken:
		return
	case e.block.topology == config.Dataplane:
		e.report.note("The task doesn't log in to Consul, which the topology dataplane can't: with ACLs give it a token by consulServers.tokenParameter.")
		return
	default:
		set(login, "enabled", boolean(true))
	}
	if enabled, known := e.boolean(get(login, "enabled")); known && !enabled {
		return
	}
	unless(login, "method", d.LoginMethod)
	unless(login, "serverIdHeaderValue", d.LoginServerID)
	unless(login, "stsEndpoint", d.STSEndpoint)
	e.setting("consulLogin", login)
}

func or(value, standard string) string {
	if value != "" {
		return value
	}
	return standard
}

// bootstrapDir is where the containers see the volume.
func (e *expansion) bootstrapDir() *yaml.Node {
	if found := get(e.block.settings, "bootstrapDir"); found != nil {
		return bare(found)
	}
	return text(config.DefaultBootstrapDir)
}

// inDir is the path of a file on the volume, with something before it.
func (e *expansion) inDir(before, file string) *yaml.Node {
	dir := e.bootstrapDir()
	w := writer{lookup: e.lookup, report: e.report, short: e.short, where: e.block.where, taken: map[string]bool{}}
	name, argument, ok := e.function(dir)
	if !ok {
		return text(before + strings.TrimSuffix(dir.Value, "/") + file)
	}
	inner := strings.ReplaceAll(w.inline(dir, name, argument, "bootstrapDir"), open, "${!")
	return w.finish(strings.ReplaceAll(before, "${", open) + inner + file)
}
