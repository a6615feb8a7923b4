package owntask

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"strings"

	"ecsmesh/e2e/ecs"
	"ecsmesh/initcontainer/config"
)

func isConfiguration(variable string) bool {
	return variable == config.Variable || variable == config.LegacyVariable
}

// Configure changes the configuration of a mesh task, in each container that has
// it.
func Configure(def *ecs.TaskDefinition, change func(document map[string]any)) error {
	for i := range def.Containers {
		for k := range def.Containers[i].Environment {
			v := &def.Containers[i].Environment[k]
			if !isConfiguration(v.Name) {
				continue
			}
			var document map[string]any
			if err := json.Unmarshal([]byte(v.Value), &document); err != nil {
				return fmt.Errorf("read %s of container %s: %w", v.Name, def.Containers[i].Name, err)
			}
			change(document)
			changed, err := json.Marshal(document)
			if err != nil {
				return fmt.Errorf("write %s of container %s: %w", v.Name, def.Containers[i].Name, err)
			}
			v.Value = string(changed)
		}
	}
	return nil
}

// configure sets in the configuration what is the lab's to say: what is
// host-wide, where the lab's Consul is, and that it is one of the Community
// Edition without peers.
func (a *adaption) configure() error {
	said := false // of the first container that has it; client-agent has two
	return Configure(&a.def, func(document map[string]any) {
		say := func(what, by string) {
			if !said {
				a.say(what, by)
			}
		}
		a.volume = config.DefaultBootstrapDir
		if dir, ok := document["bootstrapDir"].(string); ok {
			a.volume = strings.TrimRight(dir, "/")
		}
		document["bootstrapDir"] = volumePath
		if login, _ := document["consulLogin"].(map[string]any); login["enabled"] == true || elsewhere(document["consulServers"]) {
			say("consulServers, consulLogin", "the lab's Consul, which has neither TLS nor ACLs")
		}
		delete(document, "consulLogin")
		document["consulServers"] = map[string]any{"parameter": a.host.ServersParameter, "defaults": map[string]any{"tls": false}}
		if client, ok := document["consulClient"].(map[string]any); ok {
			for _, field := range []string{"datacenter", "autoEncrypt", "gossipKeyParameter", "serfPort"} {
				delete(client, field)
			}
		}
		if document["topology"] == config.ClientAgent {
			section(document, "consulClient")["address"] = a.address
		}
		a.configureProxy(section(document, "proxy"), say)
		for _, part := range []string{"service", "gateway"} {
			entry, ok := document[part].(map[string]any)
			if !ok {
				continue
			}
			if remove(entry, "namespace", "partition") {
				say("namespace, partition", "none: this Consul is the Community Edition")
			}
			a.configureChecks(entry, say)
			delete(entry, "wanAddress")
			if lan, ok := entry["lanAddress"].(map[string]any); ok {
				delete(lan, "address")
			}
		}
		for key, value := range document {
			document[key] = a.localTexts(value)
		}
		said = true
	})
}

func (a *adaption) configureProxy(proxy map[string]any, say func(what, by string)) {
	proxy["adminBindAddress"] = a.address
	if remove(proxy, "adminBindPort", "publicListenerPort", "healthCheckPort", "uid") {
		say("ports and user of Envoy", "the usual ones")
	}
	if a.Gateway != "" {
		return
	}
	proxy["localServiceAddress"] = a.address
	upstreams, _ := proxy["upstreams"].([]any)
	for _, each := range upstreams {
		upstream, ok := each.(map[string]any)
		if !ok {
			continue
		}
		if upstream["localBindSocketPath"] == nil {
			upstream["localBindAddress"] = a.address
		}
		if remove(upstream, "destinationNamespace", "destinationPartition", "destinationPeer", "datacenter", "meshGateway") {
			say(fmt.Sprintf("upstream %v", upstream["destinationName"]), "in this datacenter, which is all that there is")
		}
	}
}

// configureChecks has a stand-in asked only what it can answer, HTTP at the
// service's port, and moves a port at which the user may not listen.
func (a *adaption) configureChecks(service map[string]any, say func(what, by string)) {
	if port, ok := service["port"].(float64); ok && int(port) != a.port {
		service["port"] = a.port
		say(fmt.Sprintf("port %d", int(port)), fmt.Sprintf("%d: only root may listen below %d here", a.port, lowestPort()))
	}
	checks, _ := service["checks"].([]any)
	if a.program != nil && a.port == a.Port {
		return
	}
	for i, each := range checks {
		check, _ := each.(map[string]any)
		if at, err := url.Parse(fmt.Sprint(check["http"])); err == nil && at.Scheme == "http" && at.Port() == fmt.Sprint(a.port) {
			continue
		}
		if check["tcp"] == nil {
			say(fmt.Sprintf("check %v", check["name"]), "one of the port")
		}
		checks[i] = map[string]any{"name": check["name"], "tcp": fmt.Sprintf("%s:%d", a.address, a.port)}
	}
}

// localTexts puts the task's own address wherever a value says localhost.
func (a *adaption) localTexts(value any) any {
	switch value := value.(type) {
	case string:
		return a.local(value)
	case map[string]any:
		for k, v := range value {
			value[k] = a.localTexts(v)
		}
	case []any:
		for i, v := range value {
			value[i] = a.localTexts(v)
		}
	}
	return value
}

func section(document map[string]any, name string) map[string]any {
	part, ok := document[name].(map[string]any)
	if !ok {
		part = map[string]any{}
		document[name] = part
	}
	return part
}

// elsewhere says whether consulServers are others than a lab's: at addresses of
// their own, or with TLS.
func elsewhere(consulServers any) bool {
	fields, _ := consulServers.(map[string]any)
	for _, part := range []string{"defaults", "http", "grpc"} {
		if interfaceOf, _ := fields[part].(map[string]any); interfaceOf["tls"] == true {
			return true
		}
	}
	return fields["hosts"] != nil
}

// remove says whether any of the fields was there.
func remove(object map[string]any, fields ...string) bool {
	found := false
	for _, field := range fields {
		found = found || object[field] != nil
		delete(object, field)
	}
	return found
}

// onHost says whether the first program of a health check is on this host.
func onHost(command []string) bool {
	if len(command) < 2 {
		return false
	}
	words := strings.Fields(command[1])
	if len(words) == 0 {
		return false
	}
	_, err := exec.LookPath(words[0])
	return err == nil
}
