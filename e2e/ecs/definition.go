package ecs

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// TaskDefinition is the part of an ECS task definition that has a meaning on
// one host, in the JSON that ECS's DescribeTaskDefinition returns. What is
// not here (log drivers, sizes, tags, …) is accepted and has no effect.
type TaskDefinition struct {
	ARN                     string                `json:"taskDefinitionArn"`
	Family                  string                `json:"family"`
	Revision                int                   `json:"revision"`
	TaskRoleARN             string                `json:"taskRoleArn,omitempty"`
	ExecutionRoleARN        string                `json:"executionRoleArn,omitempty"`
	NetworkMode             string                `json:"networkMode,omitempty"`
	CPU                     string                `json:"cpu,omitempty"`
	Memory                  string                `json:"memory,omitempty"`
	Volumes                 []Volume              `json:"volumes,omitempty"`
	Containers              []ContainerDefinition `json:"containerDefinitions"`
	RequiresCompatibilities []string              `json:"requiresCompatibilities,omitempty"`
}

// Volume is a folder that the containers of one task share.
type Volume struct {
	Name string `json:"name"`
}

// ContainerDefinition describes one container of a task.
type ContainerDefinition struct {
	Name         string        `json:"name"`
	Image        string        `json:"image"`
	EntryPoint   []string      `json:"entryPoint,omitempty"`
	Command      []string      `json:"command,omitempty"`
	Environment  []KeyValue    `json:"environment,omitempty"`
	Secrets      []Secret      `json:"secrets,omitempty"`
	DependsOn    []Dependency  `json:"dependsOn,omitempty"`
	HealthCheck  *HealthCheck  `json:"healthCheck,omitempty"`
	Essential    *bool         `json:"essential,omitempty"`    // ECS's default: true
	StartTimeout int           `json:"startTimeout,omitempty"` // seconds; 0: unset
	StopTimeout  int           `json:"stopTimeout,omitempty"`  // seconds; 0: unset
	MountPoints  []MountPoint  `json:"mountPoints,omitempty"`
	PortMappings []PortMapping `json:"portMappings,omitempty"`
}

// KeyValue is one environment variable.
type KeyValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Secret is an environment variable whose value is elsewhere: the ARN of a
// secret in Secrets Manager or of an SSM parameter.
type Secret struct {
	Name      string `json:"name"`
	ValueFrom string `json:"valueFrom"`
}

// Dependency makes a container wait for another one. When the task stops the
// order is reversed.
type Dependency struct {
	Container string    `json:"containerName"`
	Condition Condition `json:"condition"`
}

// Condition is the state of another container that a container waits for.
type Condition string

// The conditions of a Dependency.
const (
	ConditionStart    Condition = "START"    // it runs, or ran
	ConditionComplete Condition = "COMPLETE" // it exited
	ConditionSuccess  Condition = "SUCCESS"  // it exited with 0
	ConditionHealthy  Condition = "HEALTHY"  // its health check passes
)

// HealthCheck is a container's health check. Durations are in seconds; 0
// stands for ECS's default.
type HealthCheck struct {
	Command     []string `json:"command"` // ["CMD", arg…] or ["CMD-SHELL", line]
	Interval    int      `json:"interval,omitempty"`
	Timeout     int      `json:"timeout,omitempty"`
	Retries     int      `json:"retries,omitempty"`
	StartPeriod int      `json:"startPeriod,omitempty"`
}

// MountPoint puts a volume into a container's file system.
type MountPoint struct {
	Volume string `json:"sourceVolume"`
	Path   string `json:"containerPath"`
}

// PortMapping is a port that a container listens on. With awsvpc nothing is
// mapped: it is documentation, and so it is here.
type PortMapping struct {
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol,omitempty"`
}

// ECS's defaults.
const (
	defaultHealthInterval = 30 * time.Second
	defaultHealthTimeout  = 5 * time.Second
	defaultHealthRetries  = 3
	defaultStartTimeout   = 3 * time.Minute
	defaultStopTimeout    = 30 * time.Second
)

func seconds(n int, otherwise time.Duration) time.Duration {
	if n == 0 {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

func (c *ContainerDefinition) essential() bool { return c.Essential == nil || *c.Essential }

func (c *ContainerDefinition) startTimeout() time.Duration {
	return seconds(c.StartTimeout, defaultStartTimeout)
}

func (c *ContainerDefinition) stopTimeout() time.Duration {
	return seconds(c.StopTimeout, defaultStopTimeout)
}

func (h *HealthCheck) interval() time.Duration    { return seconds(h.Interval, defaultHealthInterval) }
func (h *HealthCheck) timeout() time.Duration     { return seconds(h.Timeout, defaultHealthTimeout) }
func (h *HealthCheck) startPeriod() time.Duration { return seconds(h.StartPeriod, 0) }

func (h *HealthCheck) retries() int {
	if h.Retries == 0 {
		return defaultHealthRetries
	}
	return h.Retries
}

// Validate reports everything for which ECS would refuse the definition for
// Fargate, and everything that this package can't run.
func (d *TaskDefinition) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if d.Family == "" {
		fault("family: missing")
	}
	if d.NetworkMode != "" && d.NetworkMode != "awsvpc" {
		fault("networkMode: %q, but only awsvpc gives a task an address of its own", d.NetworkMode)
	}
	if !slices.ContainsFunc(d.Containers, func(c ContainerDefinition) bool { return c.essential() }) {
		fault("containerDefinitions: at least one container must be essential")
	}
	for i := range d.Containers {
		c := &d.Containers[i]
		at := fmt.Sprintf("containerDefinitions[%s]", c.Name)
		if c.Name == "" || d.container(c.Name) != c {
			fault("%s: the name must be there and occur once", at)
		}
		if c.Image == "" {
			fault("%s.image: missing", at)
		}
		for _, secret := range c.Secrets {
			taken := func(v KeyValue) bool { return v.Name == secret.Name }
			if secret.Name == "" || secret.ValueFrom == "" || slices.ContainsFunc(c.Environment, taken) {
				fault("%s.secrets: %q needs a valueFrom, and a name that no other variable has", at, secret.Name)
			}
		}
		if len(c.Secrets) > 0 && d.ExecutionRoleARN == "" {
			fault("%s.secrets: they need an executionRoleArn, which fetches them", at)
		}
		if c.StartTimeout != 0 && (c.StartTimeout < 2 || c.StartTimeout > 120) {
			fault("%s.startTimeout: %d, want 2 to 120 seconds", at, c.StartTimeout)
		}
		if c.StopTimeout != 0 && (c.StopTimeout < 2 || c.StopTimeout > 120) {
			fault("%s.stopTimeout: %d, want 2 to 120 seconds", at, c.StopTimeout)
		}
		if c.HealthCheck != nil {
			if err := c.HealthCheck.validate(); err != nil {
				fault("%s.healthCheck: %w", at, err)
			}
		}
		for _, m := range c.MountPoints {
			if !slices.ContainsFunc(d.Volumes, func(v Volume) bool { return v.Name == m.Volume }) {
				fault("%s.mountPoints: no volume %q", at, m.Volume)
			}
		}
		for _, dep := range c.DependsOn {
			if err := d.validateDependency(dep); err != nil {
				fault("%s.dependsOn: %w", at, err)
			}
		}
	}
	if len(faults) == 0 && d.cyclic() {
		fault("dependsOn: the containers wait for each other in a circle")
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("validate task definition %s: %w", d.Family, err)
	}
	return nil
}

func (d *TaskDefinition) validateDependency(dep Dependency) error {
	target := d.container(dep.Container)
	if target == nil {
		return fmt.Errorf("no container %q", dep.Container)
	}
	switch dep.Condition {
	case ConditionStart:
	case ConditionComplete, ConditionSuccess:
		if target.essential() {
			return fmt.Errorf("%s of the essential container %q: its exit would stop the task", dep.Condition, dep.Container)
		}
	case ConditionHealthy:
		if target.HealthCheck == nil {
			return fmt.Errorf("HEALTHY of %q, which has no health check", dep.Container)
		}
	default:
		return fmt.Errorf("condition %q of %q, want START, COMPLETE, SUCCESS or HEALTHY", dep.Condition, dep.Container)
	}
	return nil
}

func (h *HealthCheck) validate() error {
	var faults []error
	if len(h.Command) < 2 || (h.Command[0] != "CMD" && h.Command[0] != "CMD-SHELL") {
		faults = append(faults, fmt.Errorf("command %q, want CMD or CMD-SHELL and what to run", h.Command))
	}
	for _, field := range []struct {
		name               string
		value, least, most int
	}{
		{"interval", h.Interval, 5, 300},
		{"timeout", h.Timeout, 2, 60},
		{"retries", h.Retries, 1, 10},
		{"startPeriod", h.StartPeriod, 0, 300},
	} {
		if field.value != 0 && (field.value < field.least || field.value > field.most) {
			faults = append(faults, fmt.Errorf("%s: %d, want %d to %d", field.name, field.value, field.least, field.most))
		}
	}
	return errors.Join(faults...)
}

func (d *TaskDefinition) container(name string) *ContainerDefinition {
	i := slices.IndexFunc(d.Containers, func(c ContainerDefinition) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &d.Containers[i]
}

// cyclic takes away containers that wait for nothing that is left, until
// nothing changes: what then remains waits for itself.
func (d *TaskDefinition) cyclic() bool {
	left := slices.Clone(d.Containers)
	for {
		rest := slices.DeleteFunc(slices.Clone(left), func(c ContainerDefinition) bool {
			return !slices.ContainsFunc(c.DependsOn, func(dep Dependency) bool {
				return slices.ContainsFunc(left, func(o ContainerDefinition) bool { return o.Name == dep.Container })
			})
		})
		if len(rest) == len(left) {
			return len(rest) > 0
		}
		left = rest
	}
}
