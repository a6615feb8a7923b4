package ecs

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Task is a task as DescribeTasks returns it.
type Task struct {
	Attachments          []Attachment `json:"attachments"`
	AvailabilityZone     string       `json:"availabilityZone"`
	ClusterARN           string       `json:"clusterArn"`
	Connectivity         string       `json:"connectivity,omitempty"`
	ConnectivityAt       Time         `json:"connectivityAt,omitzero"`
	ContainerInstanceARN string       `json:"containerInstanceArn,omitempty"`
	Containers           []Container  `json:"containers"`
	CPU                  string       `json:"cpu,omitempty"`
	CreatedAt            Time         `json:"createdAt,omitzero"`
	DesiredStatus        Status       `json:"desiredStatus"`
	EnableExecuteCommand bool         `json:"enableExecuteCommand"`
	ExecutionStoppedAt   Time         `json:"executionStoppedAt,omitzero"`
	Group                string       `json:"group"`
	HealthStatus         Health       `json:"healthStatus,omitempty"`
	LastStatus           Status       `json:"lastStatus"`
	LaunchType           string       `json:"launchType"`
	Memory               string       `json:"memory,omitempty"`
	Overrides            Overrides    `json:"overrides"`
	PlatformVersion      string       `json:"platformVersion,omitempty"`
	PullStartedAt        Time         `json:"pullStartedAt,omitzero"`
	PullStoppedAt        Time         `json:"pullStoppedAt,omitzero"`
	StartedAt            Time         `json:"startedAt,omitzero"`
	StartedBy            string       `json:"startedBy,omitempty"`
	StopCode             StopCode     `json:"stopCode,omitempty"`
	StoppedAt            Time         `json:"stoppedAt,omitzero"`
	StoppedReason        string       `json:"stoppedReason,omitempty"`
	StoppingAt           Time         `json:"stoppingAt,omitzero"`
	TaskARN              string       `json:"taskArn"`
	TaskDefinitionARN    string       `json:"taskDefinitionArn"`
	Version              int          `json:"version"`
}

// Container is a container of a Task.
type Container struct {
	ContainerARN      string             `json:"containerArn"`
	CPU               string             `json:"cpu"`
	ExitCode          *int               `json:"exitCode,omitempty"`
	HealthStatus      Health             `json:"healthStatus,omitempty"`
	Image             string             `json:"image"`
	LastStatus        Status             `json:"lastStatus"`
	Name              string             `json:"name"`
	NetworkInterfaces []NetworkInterface `json:"networkInterfaces"`
	Reason            string             `json:"reason,omitempty"`
	RuntimeID         string             `json:"runtimeId,omitempty"`
	TaskARN           string             `json:"taskArn"`

	// When it started and exited, which the API does not say.
	StartedAt, FinishedAt time.Time `json:"-"`
}

// NetworkInterface is the task's network interface, as a container sees it.
type NetworkInterface struct {
	AttachmentID       string `json:"attachmentId"`
	PrivateIPv4Address string `json:"privateIpv4Address"`
}

// Attachment is a network interface of a task.
type Attachment struct {
	ID      string     `json:"id"`
	Type    string     `json:"type"`
	Status  string     `json:"status"`
	Details []KeyValue `json:"details"`
}

// Overrides names the containers of a task; nothing is overridden.
type Overrides struct {
	ContainerOverrides []ContainerOverride `json:"containerOverrides"`
}

// ContainerOverride is empty but for the name.
type ContainerOverride struct {
	Name string `json:"name"`
}

// Time is a moment in the API's JSON: seconds since 1970, with decimals.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(t.UnixMilli())/1000, 'f', 3, 64), nil
}

// ID is the last part of the task's ARN.
func (t Task) ID() string { return t.TaskARN[strings.LastIndexByte(t.TaskARN, '/')+1:] }

// Address is the task's address.
func (t Task) Address() netip.Addr {
	for _, a := range t.Attachments {
		for _, d := range a.Details {
			if d.Name == "privateIPv4Address" {
				return netip.MustParseAddr(d.Value)
			}
		}
	}
	return netip.Addr{}
}

// Container returns the container of that name, or the zero Container.
func (t Task) Container(name string) Container {
	i := slices.IndexFunc(t.Containers, func(c Container) bool { return c.Name == name })
	if i < 0 {
		return Container{}
	}
	return t.Containers[i]
}

// Running holds when the task is RUNNING: all of its containers have started.
func (t Task) Running() bool { return t.LastStatus == StatusRunning }

// Ready holds when the task runs and its health checks, if any, pass. It is
// when a rolling deployment counts on the task.
func (t Task) Ready() bool {
	return t.LastStatus == StatusRunning && t.DesiredStatus == StatusRunning &&
		(t.HealthStatus == HealthHealthy || !slices.ContainsFunc(t.Containers, func(c Container) bool { return c.HealthStatus != "" }))
}

// Stopped holds when the task has reached STOPPED.
func (t Task) Stopped() bool { return t.LastStatus == StatusStopped }

// Summary says in a line where the task stands.
func (t Task) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, wanted %s", t.LastStatus, t.DesiredStatus)
	if t.StoppedReason != "" {
		fmt.Fprintf(&b, ": %s", t.StoppedReason)
	}
	for _, c := range t.Containers {
		fmt.Fprintf(&b, "; %s %s", c.Name, c.LastStatus)
		if c.ExitCode != nil {
			fmt.Fprintf(&b, " with exit code %d", *c.ExitCode)
		}
		if c.HealthStatus != "" {
			fmt.Fprintf(&b, " and %s", c.HealthStatus)
		}
		if c.Reason != "" {
			fmt.Fprintf(&b, " (%s)", c.Reason)
		}
	}
	return b.String()
}

// describe wants the lock held.
func (t *task) describe() Task {
	d := Task{
		AvailabilityZone:   t.zone,
		ClusterARN:         t.clusterARN(),
		CPU:                t.def.CPU,
		CreatedAt:          Time{t.createdAt},
		DesiredStatus:      t.desiredStatus,
		ExecutionStoppedAt: Time{t.executionStoppedAt},
		Group:              t.opts.Group,
		HealthStatus:       t.health(),
		LastStatus:         t.lastStatus,
		LaunchType:         t.opts.LaunchType,
		Memory:             t.def.Memory,
		PullStartedAt:      Time{t.pullStartedAt},
		PullStoppedAt:      Time{t.pullStoppedAt},
		StartedAt:          Time{t.startedAt},
		StartedBy:          t.opts.StartedBy,
		StopCode:           t.stopCode,
		StoppedAt:          Time{t.stoppedAt},
		StoppedReason:      t.stoppedReason,
		StoppingAt:         Time{t.stoppingAt},
		TaskARN:            t.arn,
		TaskDefinitionARN:  t.definitionARN(),
		Version:            t.version,
		Attachments: []Attachment{{
			ID:     t.attachmentID,
			Type:   "ElasticNetworkInterface",
			Status: t.attachmentStatus(),
			Details: []KeyValue{
				{"subnetId", "subnet-0ec5" + t.zone[len(t.zone)-1:]},
				{"networkInterfaceId", "eni-" + t.id[:17]},
				{"macAddress", t.mac()},
				{"privateDnsName", t.hostname()},
				{"privateIPv4Address", t.opts.Address.String()},
			},
		}},
	}
	if t.opts.LaunchType == LaunchTypeFargate {
		d.PlatformVersion = "1.4.0"
	} else {
		d.ContainerInstanceARN = t.fake.arn("container-instance/" + t.opts.Cluster + "/" + t.id)
	}
	if !t.pullStartedAt.IsZero() {
		d.Connectivity, d.ConnectivityAt = "CONNECTED", Time{t.pullStartedAt}
	}
	for _, c := range t.containers {
		d.Containers = append(d.Containers, c.describe())
		d.Overrides.ContainerOverrides = append(d.Overrides.ContainerOverrides, ContainerOverride{c.def.Name})
	}
	return d
}

func (t *task) attachmentStatus() string {
	switch t.lastStatus {
	case StatusProvisioning:
		return "ATTACHING"
	case StatusDeprovisioning, StatusStopped:
		return "DELETED" // its details stay
	}
	return "ATTACHED"
}

func (c *container) describe() Container {
	status := c.status
	if status == statusCreated {
		status = StatusPending
	}
	d := Container{
		ContainerARN: c.arn,
		CPU:          "0",
		ExitCode:     c.exitCode,
		Image:        c.def.Image,
		LastStatus:   status,
		Name:         c.def.Name,
		Reason:       c.reason,
		TaskARN:      c.task.arn,
		StartedAt:    c.startedAt,
		FinishedAt:   c.finishedAt,
		NetworkInterfaces: []NetworkInterface{{
			AttachmentID:       c.task.attachmentID,
			PrivateIPv4Address: c.task.opts.Address.String(),
		}},
	}
	if c.def.HealthCheck != nil {
		d.HealthStatus = c.health
	}
	if status != StatusPending {
		d.RuntimeID = c.runtimeID
	}
	return d
}

// Event is an "ECS Task State Change".
type Event struct {
	Task     Task            // the task at that moment
	Envelope json.RawMessage // the event as EventBridge delivers it
}

// envelope is EventBridge's frame around an event.
type envelope struct {
	Version    string   `json:"version"`
	ID         string   `json:"id"`
	DetailType string   `json:"detail-type"`
	Source     string   `json:"source"`
	Account    string   `json:"account"`
	Time       string   `json:"time"`
	Region     string   `json:"region"`
	Resources  []string `json:"resources"`
	Detail     detail   `json:"detail"`
}

// detail is a task as events carry it: that of the API, but with the fields
// below in another form. (Fields of a struct hide those of one embedded in it
// that have the same JSON name.)
type detail struct {
	Task
	Attachments        []Attachment `json:"attachments"`
	ConnectivityAt     isoTime      `json:"connectivityAt,omitzero"`
	CreatedAt          isoTime      `json:"createdAt,omitzero"`
	ExecutionStoppedAt isoTime      `json:"executionStoppedAt,omitzero"`
	HealthStatus       Health       `json:"healthStatus,omitempty"` // not in events
	PullStartedAt      isoTime      `json:"pullStartedAt,omitzero"`
	PullStoppedAt      isoTime      `json:"pullStoppedAt,omitzero"`
	StartedAt          isoTime      `json:"startedAt,omitzero"`
	StoppedAt          isoTime      `json:"stoppedAt,omitzero"`
	StoppingAt         isoTime      `json:"stoppingAt,omitzero"`
	UpdatedAt          isoTime      `json:"updatedAt,omitzero"`
}

// isoTime is a moment in an event's JSON: 2006-01-02T15:04:05.000Z.
type isoTime struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t isoTime) MarshalJSON() ([]byte, error) {
	return []byte(t.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// event wants the lock held.
func (t *task) event() Event {
	d := t.describe()
	inner := detail{
		Task:               d,
		ConnectivityAt:     isoTime(d.ConnectivityAt),
		CreatedAt:          isoTime(d.CreatedAt),
		ExecutionStoppedAt: isoTime(d.ExecutionStoppedAt),
		PullStartedAt:      isoTime(d.PullStartedAt),
		PullStoppedAt:      isoTime(d.PullStoppedAt),
		StartedAt:          isoTime(d.StartedAt),
		StoppedAt:          isoTime(d.StoppedAt),
		StoppingAt:         isoTime(d.StoppingAt),
		UpdatedAt:          isoTime{t.lastUpdate},
	}
	inner.Attachments = slices.Clone(d.Attachments)
	for i := range inner.Attachments {
		inner.Attachments[i].Type = "eni" // as it is called here
	}
	inner.Containers = slices.Clone(d.Containers)
	for i := range inner.Containers {
		inner.Containers[i].HealthStatus = ""
	}
	body, err := json.Marshal(envelope{
		Version:    "0",
		ID:         newUUID(),
		DetailType: "ECS Task State Change",
		Source:     "aws.ecs",
		Account:    t.fake.opts.Account,
		Time:       t.lastUpdate.UTC().Format(time.RFC3339),
		Region:     t.fake.opts.Region,
		Resources:  []string{t.arn},
		Detail:     inner,
	})
	if err != nil {
		// Strings, numbers and times: there is nothing that JSON can't hold.
		body = nil
	}
	return Event{Task: d, Envelope: body}
}
