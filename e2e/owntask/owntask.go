// Package owntask makes of a user's own task definition, expanded to that of a
// mesh task, what the lab can run on one host. The lab's examples have
// parameters for what is host-wide there; a definition that was written for ECS
// has none, so this package sets in it what those parameters would, and lets
// programs of the host stand in for the images that are not at hand. It says
// what it replaced.
package owntask

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ecsmesh/e2e/ecs"
	"ecsmesh/initcontainer/config"
)

// Containers that ecsmesh adds to a task definition.
const (
	initContainer      = "ecsmesh-init"
	discoverContainer  = "discover-servers"
	envoyContainer     = "envoy"
	clientContainer    = "consul-client"
	dataplaneContainer = "consul-dataplane"
)

// Task is a task definition of a mesh task, with all values known.
type Task struct {
	Definition ecs.TaskDefinition
	Service    string // its name in Consul, or the gateway's
	Gateway    string // its kind, if it is one
	Port       int    // the service's; 0 where it only calls others
	Upstreams  []string
	Container  string // the application's, which serves Port; "" of a gateway

	ports []int // at which the application reaches its upstreams
}

// Read reads a task definition in ECS's JSON, with names in lower or upper camel
// case: what DescribeTaskDefinition returns, or the input of
// RegisterTaskDefinition.
func Read(raw []byte) (*Task, error) {
	var document any
	if err := json.Unmarshal(raw, &document); err != nil {
		return nil, fmt.Errorf("read the task definition: %w", err)
	}
	typed, err := json.Marshal(coerce(document, ""))
	if err != nil {
		return nil, fmt.Errorf("read the task definition: %w", err)
	}
	t := &Task{}
	if err := json.Unmarshal(typed, &t.Definition); err != nil {
		return nil, fmt.Errorf("read the task definition: %w", err)
	}
	if t.Definition.Family == "" {
		return nil, errors.New("read the task definition: family: it has none, and ECS gives a name only to what CloudFormation makes")
	}
	if err := t.readConfiguration(); err != nil {
		return nil, fmt.Errorf("read the task definition %s: %w", t.Definition.Family, err)
	}
	t.Container = t.servingContainer()
	return t, nil
}

// coerce gives scalars the type that ECS's API has for them: CloudFormation takes
// texts for numbers, and numbers for texts.
func coerce(value any, key string) any {
	switch value := value.(type) {
	case map[string]any:
		for k, v := range value {
			value[k] = coerce(v, strings.ToLower(k))
		}
	case []any:
		for i, v := range value {
			value[i] = coerce(v, key)
		}
	case string:
		switch key {
		case "interval", "timeout", "retries", "startperiod", "starttimeout", "stoptimeout", "containerport":
			if n, err := strconv.Atoi(value); err == nil {
				return n
			}
		case "essential":
			if b, err := strconv.ParseBool(value); err == nil {
				return b
			}
		}
	case float64, bool:
		switch key {
		case "value", "command", "entrypoint", "cpu", "memory":
			return fmt.Sprint(value)
		}
	}
	return value
}

// readConfiguration finds out what the task is in the mesh, as ecsmesh-init
// does.
func (t *Task) readConfiguration() error {
	init := find(t.Definition.Containers, initContainer)
	if init == nil {
		return fmt.Errorf("it has no container %s", initContainer)
	}
	cfg, err := config.Read(func(name string) string {
		for _, v := range init.Environment {
			if v.Name == name {
				return v.Value
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	t.Service, t.Port = cfg.Service.Name, cfg.Service.Port
	if cfg.Gateway != nil {
		t.Service, t.Gateway = cfg.Gateway.Name, cfg.Gateway.Kind
	}
	if t.Service == "" {
		t.Service = strings.ToLower(t.Definition.Family)
	}
	for _, upstream := range cfg.Proxy.Upstreams {
		t.Upstreams = append(t.Upstreams, upstream.DestinationName)
		if upstream.LocalBindPort != 0 {
			t.ports = append(t.ports, upstream.LocalBindPort)
		}
	}
	if cfg.TransparentProxy != nil {
		return errors.New("transparentProxy needs a network of the task's own, which the lab on one host doesn't have: try it with upstreams in its place")
	}
	return nil
}

// servingContainer is the one that maps the service's port, else the first
// essential one that waits for Envoy.
func (t *Task) servingContainer() string {
	if t.Gateway != "" {
		return ""
	}
	own := slices.DeleteFunc(slices.Clone(t.Definition.Containers), func(c ecs.ContainerDefinition) bool { return ours(c.Name) })
	for _, c := range own {
		if slices.ContainsFunc(c.PortMappings, func(p ecs.PortMapping) bool { return p.ContainerPort == t.Port }) {
			return c.Name
		}
	}
	for _, c := range own {
		waits := slices.ContainsFunc(c.DependsOn, func(d ecs.Dependency) bool { return d.Container == envoyContainer || d.Container == dataplaneContainer })
		if waits && (c.Essential == nil || *c.Essential) {
			return c.Name
		}
	}
	return ""
}

func ours(name string) bool {
	return slices.Contains([]string{initContainer, discoverContainer, envoyContainer, clientContainer, dataplaneContainer}, name)
}

func find(containers []ecs.ContainerDefinition, name string) *ecs.ContainerDefinition {
	for i := range containers {
		if containers[i].Name == name {
			return &containers[i]
		}
	}
	return nil
}
