package ecs

import (
	"net/http"
	"net/netip"
	"time"
)

// taskMetadata is what the task metadata endpoint, version 4, says of a task.
type taskMetadata struct {
	Cluster          string
	TaskARN          string
	Family           string
	Revision         string
	ServiceName      string `json:",omitempty"`
	DesiredStatus    Status
	KnownStatus      Status
	Limits           limits
	PullStartedAt    time.Time `json:",omitzero"`
	PullStoppedAt    time.Time `json:",omitzero"`
	AvailabilityZone string
	LaunchType       string
	VPCID            string `json:",omitempty"` // on EC2 only
	Containers       []containerMetadata
}

type limits struct {
	CPU    float64
	Memory int `json:",omitempty"`
}

// containerMetadata is what it says of a container.
type containerMetadata struct {
	DockerID      string `json:"DockerId"`
	Name          string
	DockerName    string
	Image         string
	ImageID       string
	Labels        map[string]string
	DesiredStatus Status
	KnownStatus   Status
	ExitCode      *int `json:",omitempty"`
	Limits        limits
	CreatedAt     time.Time `json:",omitzero"`
	StartedAt     time.Time `json:",omitzero"`
	FinishedAt    time.Time `json:",omitzero"`
	Type          string
	Health        *healthMetadata `json:",omitempty"`
	ContainerARN  string
	Networks      []networkMetadata
}

type healthMetadata struct {
	Status Health    `json:"status"`
	Since  time.Time `json:"statusSince,omitzero"`
}

type networkMetadata struct {
	NetworkMode              string
	IPv4Addresses            []string
	AttachmentIndex          int
	MACAddress               string
	IPv4SubnetCIDRBlock      string
	PrivateDNSName           string
	SubnetGatewayIpv4Address string //nolint:revive // the endpoint's spelling
}

func (f *Fake) serveTaskMetadata(w http.ResponseWriter, r *http.Request) {
	if f.disturbed(w, r, "TaskMetadata") {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containerByMetadataID(r.PathValue("container"))
	if c == nil {
		http.NotFound(w, r)
		return
	}
	answer(w, http.StatusOK, c.task.metadata())
}

func (f *Fake) serveContainerMetadata(w http.ResponseWriter, r *http.Request) {
	if f.disturbed(w, r, "TaskMetadata") {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containerByMetadataID(r.PathValue("container"))
	if c == nil {
		http.NotFound(w, r)
		return
	}
	answer(w, http.StatusOK, c.metadata())
}

// containerByMetadataID finds a container of a task that still runs: with the
// task, its endpoint goes. It wants the lock held.
func (f *Fake) containerByMetadataID(id string) *container {
	for _, t := range f.order {
		for _, c := range t.containers {
			if c.metadataID == id && t.lastStatus != StatusStopped {
				return c
			}
		}
	}
	return nil
}

// metadata wants the lock held.
func (t *task) metadata() taskMetadata {
	m := taskMetadata{
		Cluster:          t.clusterARN(),
		TaskARN:          t.arn,
		Family:           t.def.Family,
		Revision:         t.revision(),
		DesiredStatus:    t.desiredStatus,
		KnownStatus:      t.knownStatus(),
		Limits:           limits{CPU: 0.25, Memory: 512},
		PullStartedAt:    t.pullStartedAt,
		PullStoppedAt:    t.pullStoppedAt,
		AvailabilityZone: t.zone,
		LaunchType:       t.opts.LaunchType,
	}
	if service, ok := t.service(); ok {
		m.ServiceName = service
	}
	if t.opts.LaunchType == LaunchTypeEC2 {
		m.Cluster, m.VPCID = t.opts.Cluster, t.fake.opts.VPC
	}
	for _, c := range t.containers {
		// A container that has not been created yet is not listed.
		if !c.createdAt.IsZero() {
			m.Containers = append(m.Containers, c.metadata())
		}
	}
	return m
}

// knownStatus is the agent's view of the task, which knows fewer states than
// ECS. It wants the lock held.
func (t *task) knownStatus() Status {
	switch t.lastStatus {
	case StatusProvisioning, StatusPending:
		return "NONE"
	case StatusDeprovisioning, StatusStopped:
		return StatusStopped
	}
	return StatusRunning
}

// metadata wants the lock held.
func (c *container) metadata() containerMetadata {
	t := c.task
	subnet := netip.PrefixFrom(t.opts.Address, 24).Masked()
	m := containerMetadata{
		DockerID:      c.runtimeID,
		Name:          c.def.Name,
		DockerName:    c.def.Name,
		Image:         c.def.Image,
		DesiredStatus: t.desiredStatus,
		KnownStatus:   c.status,
		ExitCode:      c.exitCode,
		Limits:        limits{CPU: 2},
		CreatedAt:     c.createdAt,
		StartedAt:     c.startedAt,
		FinishedAt:    c.finishedAt,
		Type:          "NORMAL",
		ContainerARN:  c.arn,
		Labels: map[string]string{
			"com.amazonaws.ecs.cluster":                 t.clusterARN(),
			"com.amazonaws.ecs.container-name":          c.def.Name,
			"com.amazonaws.ecs.task-arn":                t.arn,
			"com.amazonaws.ecs.task-definition-family":  t.def.Family,
			"com.amazonaws.ecs.task-definition-version": t.revision(),
		},
		Networks: []networkMetadata{{
			NetworkMode:              "awsvpc",
			IPv4Addresses:            []string{t.opts.Address.String()},
			MACAddress:               t.mac(),
			IPv4SubnetCIDRBlock:      subnet.String(),
			PrivateDNSName:           t.hostname(),
			SubnetGatewayIpv4Address: subnet.Addr().Next().String() + "/24",
		}},
	}
	if c.def.HealthCheck != nil {
		m.Health = &healthMetadata{c.health, c.healthSince}
	}
	return m
}

// roleCredentials is the answer of the credentials endpoint.
type roleCredentials struct {
	RoleARN         string    `json:"RoleArn"`
	AccessKeyID     string    `json:"AccessKeyId"`
	SecretAccessKey string    `json:"SecretAccessKey"`
	Token           string    `json:"Token"`
	Expiration      time.Time `json:"Expiration"`
}

func (f *Fake) serveCredentials(w http.ResponseWriter, r *http.Request) {
	if f.disturbed(w, r, "Credentials") {
		return
	}
	var role, session string
	f.mu.Lock()
	for _, t := range f.order {
		if t.credentialID == r.PathValue("id") && t.lastStatus != StatusStopped {
			role, session = t.def.TaskRoleARN, t.id
		}
	}
	f.mu.Unlock()
	if role == "" {
		answer(w, http.StatusBadRequest, map[string]string{"code": "InvalidIdInRequest", "message": "CredentialsV2Request: ID not found"})
		return
	}
	creds, err := f.opts.Credentials(r.Context(), role, session)
	if err != nil {
		answer(w, http.StatusInternalServerError, map[string]string{"code": "InternalServerError", "message": err.Error()})
		return
	}
	answer(w, http.StatusOK, roleCredentials{role, creds.AccessKeyID, creds.SecretAccessKey, creds.Token, creds.Expiration})
}
