package ecs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Status is the state of a task or a container.
type Status string

// The states that a task goes through, in their order. Desired is only
// RUNNING or STOPPED. Containers are PENDING, RUNNING or STOPPED.
const (
	StatusProvisioning   Status = "PROVISIONING"
	StatusPending        Status = "PENDING"
	StatusActivating     Status = "ACTIVATING"
	StatusRunning        Status = "RUNNING"
	StatusDeactivating   Status = "DEACTIVATING"
	StatusStopping       Status = "STOPPING"
	StatusDeprovisioning Status = "DEPROVISIONING"
	StatusStopped        Status = "STOPPED"
)

// StopCode says who or what stopped a task.
type StopCode string

// The stop codes that occur here.
const (
	StopCodeUserInitiated             StopCode = "UserInitiated"
	StopCodeServiceSchedulerInitiated StopCode = "ServiceSchedulerInitiated"
	StopCodeEssentialContainerExited  StopCode = "EssentialContainerExited"
	StopCodeTaskFailedToStart         StopCode = "TaskFailedToStart"
)

// The launch types.
const (
	LaunchTypeFargate = "FARGATE"
	LaunchTypeEC2     = "EC2"
)

// task is one task. What may change is guarded by the Fake's lock; methods
// say when they want it held.
type task struct {
	fake         *Fake
	def          TaskDefinition
	opts         TaskOptions
	id           string
	arn          string
	zone         string
	attachmentID string
	credentialID string
	dir          string
	containers   []*container
	stop         chan struct{} // closed when a stop is requested
	events       chan Event

	changed       chan struct{} // closed, and replaced, at every change
	lastStatus    Status
	desiredStatus Status
	version       int
	stopCode      StopCode
	stoppedReason string

	createdAt, pullStartedAt, pullStoppedAt, startedAt    time.Time
	stoppingAt, executionStoppedAt, stoppedAt, lastUpdate time.Time
}

func newTask(f *Fake, def TaskDefinition, opts TaskOptions) (*task, error) {
	id := newID()
	t := &task{
		fake:          f,
		def:           def,
		opts:          opts,
		id:            id,
		arn:           f.arn("task/" + opts.Cluster + "/" + id),
		attachmentID:  newUUID(),
		credentialID:  newUUID(),
		dir:           filepath.Join(f.opts.Dir, def.Family+"-"+id[:8]),
		stop:          make(chan struct{}),
		changed:       make(chan struct{}),
		desiredStatus: StatusRunning,
		createdAt:     time.Now(),
		// Each of the eight states is one event, and so is a container's
		// exit: the channel never blocks who sends.
		events: make(chan Event, 8+len(def.Containers)),
	}
	t.zone = f.opts.Region + string("abc"[int(id[0])%3])
	for i := range t.def.Containers {
		t.containers = append(t.containers, newContainer(t, &t.def.Containers[i]))
	}
	for _, v := range def.Volumes {
		if err := os.MkdirAll(filepath.Join(t.volumes(), v.Name), 0o755); err != nil {
			return nil, fmt.Errorf("create volume %s: %w", v.Name, err)
		}
	}
	if err := os.MkdirAll(t.dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the folder of task %s: %w", id, err)
	}
	return t, nil
}

func (t *task) volumes() string { return filepath.Join(t.dir, "volumes") }

// removeVolumes ends the task's storage with the task. What can't be removed
// goes with the lab's folder.
func (t *task) removeVolumes() { _ = os.RemoveAll(t.volumes()) }

// run takes the task from PROVISIONING to STOPPED.
func (t *task) run() {
	defer close(t.events)

	t.update(func() {
		// Images are there already.
		t.pullStartedAt, t.pullStoppedAt = time.Now(), time.Now()
		t.advance(StatusPending)
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		t.runContainers()
	}()

	// Like ECS's agent, call the task RUNNING once every container runs or
	// has run. That is when the last one of the start order has started.
	_ = t.await(t.fake.ctx, func() bool {
		started := !slices.ContainsFunc(t.containers, func(c *container) bool {
			return c.status != StatusRunning && c.status != StatusStopped
		})
		if started && t.desiredStatus == StatusRunning {
			t.startedAt = time.Now()
			t.advance(StatusActivating)
			t.advance(StatusRunning)
		}
		return started || t.desiredStatus == StatusStopped
	})

	select {
	case <-t.stop:
	case <-t.fake.ctx.Done():
		<-ended
		t.removeVolumes()
		return
	}
	t.update(func() {
		t.advance(StatusDeactivating)
		t.advance(StatusStopping)
	})
	t.stopContainers()
	<-ended
	t.update(func() {
		t.executionStoppedAt = time.Now()
		t.advance(StatusDeprovisioning)
	})
	select {
	case <-time.After(t.fake.opts.Deprovisioning):
	case <-t.fake.ctx.Done():
	}
	t.removeVolumes()
	t.update(func() {
		t.stoppedAt = time.Now()
		t.advance(StatusStopped)
	})
}

// emit hands the events on, in their order, at the pace of who takes them.
func (t *task) emit() {
	for event := range t.events {
		if t.fake.ctx.Err() == nil {
			t.fake.opts.Events(t.fake.ctx, event)
		}
	}
}

// advance moves the task to a state and emits the event. It wants the lock
// held.
func (t *task) advance(to Status) {
	t.lastStatus = to
	t.changedVersion()
}

// changedVersion counts a change and emits its event. It wants the lock held.
func (t *task) changedVersion() {
	t.version++
	t.lastUpdate = time.Now()
	t.events <- t.event()
	t.wake()
}

// requestStop makes STOPPED the desired state, for the first reason that
// comes. It wants the lock held.
func (t *task) requestStop(code StopCode, reason string) {
	if t.desiredStatus == StatusStopped {
		return
	}
	t.desiredStatus = StatusStopped
	t.stopCode, t.stoppedReason, t.stoppingAt = code, reason, time.Now()
	close(t.stop)
	t.wake()
}

// update changes the task's state under the lock.
func (t *task) update(change func()) {
	t.fake.mu.Lock()
	defer t.fake.mu.Unlock()
	change()
	t.wake()
}

// wake lets everyone look again who waits for a change. It wants the lock
// held.
func (t *task) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// await returns as soon as ready holds, which is called with the lock held.
func (t *task) await(ctx context.Context, ready func() bool) error {
	for {
		t.fake.mu.Lock()
		done, changed := ready(), t.changed
		t.fake.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.fake.ctx.Done():
			return errClosed
		}
	}
}

func (t *task) container(name string) *container {
	for _, c := range t.containers {
		if c.def.Name == name {
			return c
		}
	}
	return nil // not in a validated definition
}

// health is the task's health: that of its essential containers that have a
// health check. It wants the lock held.
func (t *task) health() Health {
	seen := map[Health]bool{}
	for _, c := range t.containers {
		if c.def.essential() && c.def.HealthCheck != nil {
			seen[c.health] = true
		}
	}
	switch {
	case seen[HealthUnhealthy]:
		return HealthUnhealthy
	case seen[HealthHealthy] && !seen[HealthUnknown]:
		return HealthHealthy
	}
	return HealthUnknown
}

// environment is what ECS adds to a container's own environment. AWS_REGION
// and AWS_DEFAULT_REGION come from Fargate alone; on EC2 a program finds its
// Region in the task's ARN.
func (t *task) environment(c *container) []string {
	env := []string{
		"HOSTNAME=" + t.hostname(),
		"ECS_CONTAINER_METADATA_URI_V4=" + t.fake.url + "/v4/" + c.metadataID,
		"AWS_EXECUTION_ENV=AWS_ECS_" + t.opts.LaunchType,
	}
	if t.opts.LaunchType == LaunchTypeFargate {
		env = append(env, "AWS_REGION="+t.fake.opts.Region, "AWS_DEFAULT_REGION="+t.fake.opts.Region)
	}
	if t.def.TaskRoleARN != "" {
		env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+t.fake.url+"/v2/credentials/"+t.credentialID)
	}
	for name, value := range t.fake.opts.Environment {
		env = append(env, name+"="+value)
	}
	return env
}

// hostname is the name that awsvpc gives: ip-10-0-1-2.ec2.internal.
func (t *task) hostname() string {
	b := t.opts.Address.As4()
	return fmt.Sprintf("ip-%d-%d-%d-%d.ec2.internal", b[0], b[1], b[2], b[3])
}

// mac derives a locally administered address from the IP address.
func (t *task) mac() string {
	b := t.opts.Address.As4()
	return fmt.Sprintf("0a:ec:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

func (t *task) clusterARN() string { return t.fake.arn("cluster/" + t.opts.Cluster) }

// definitionARN is the definition's own, or one in its form.
func (t *task) definitionARN() string {
	if t.def.ARN != "" {
		return t.def.ARN
	}
	return t.fake.arn("task-definition/" + t.def.Family + ":" + t.revision())
}

func (t *task) revision() string { return strconv.Itoa(max(t.def.Revision, 1)) }
