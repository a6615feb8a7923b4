package ecs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Health is the outcome of health checks.
type Health string

// The states of a container's health check, and of a task's health.
const (
	HealthUnknown   Health = "UNKNOWN"
	HealthHealthy   Health = "HEALTHY"
	HealthUnhealthy Health = "UNHEALTHY"
)

// statusCreated is between the decision to start a container and its running:
// from there it can be stopped only once it runs. The API never shows it.
const statusCreated Status = "CREATED"

// container is one container of a task. What may change is guarded by the
// Fake's lock.
type container struct {
	task       *task
	def        *ContainerDefinition
	arn        string
	runtimeID  string
	metadataID string   // in the container's metadata URI
	secrets    []string // variables, fetched before the start

	status      Status
	process     *process // from RUNNING on
	exitCode    *int     // from the exit on
	reason      string   // why it didn't start, or was killed
	health      Health
	healthSince time.Time
	createdAt   time.Time
	startedAt   time.Time
	finishedAt  time.Time
}

func newContainer(t *task, def *ContainerDefinition) *container {
	runtimeID := t.id + "-" + fmt.Sprint(len(t.containers)+1)
	return &container{
		task:       t,
		def:        def,
		arn:        t.fake.arn("container/" + t.opts.Cluster + "/" + t.id + "/" + newUUID()),
		runtimeID:  runtimeID,
		metadataID: runtimeID,
		status:     StatusPending,
		health:     HealthUnknown,
	}
}

// runContainers runs every container from its start to its end and returns
// when all of them have ended.
func (t *task) runContainers() {
	var all sync.WaitGroup
	for _, c := range t.containers {
		all.Go(c.run)
	}
	all.Wait()
}

// run waits for the container's turn, runs it, and tells the task of its end.
func (c *container) run() {
	if !c.awaitTurn() {
		return
	}
	proc, err := c.start()
	if err != nil {
		c.task.update(func() {
			c.status, c.reason = StatusStopped, "CannotStartContainerError: "+err.Error()
			c.task.requestStop(StopCodeTaskFailedToStart, "Task failed to start")
		})
		return
	}
	c.task.update(func() {
		c.process, c.status, c.startedAt = proc, StatusRunning, time.Now()
	})

	var checks sync.WaitGroup
	if c.def.HealthCheck != nil {
		checks.Go(c.watchHealth)
	}
	code, _ := proc.run(c.task.fake.ctx)
	checks.Wait()
	c.task.update(func() {
		c.status, c.exitCode, c.finishedAt = StatusStopped, &code, time.Now()
		switch {
		case c.task.desiredStatus == StatusStopped:
		case c.def.essential():
			c.task.requestStop(StopCodeEssentialContainerExited, "Essential container in task exited")
		default:
			c.task.changedVersion()
		}
	})
}

// awaitTurn returns true when the container may start. It returns false when
// it never will: the task stops, or a dependency can't be met any more.
func (c *container) awaitTurn() bool {
	ctx := c.task.fake.ctx
	for _, dep := range c.def.DependsOn {
		if err := c.awaitDependency(ctx, dep); err != nil {
			c.task.update(func() {
				c.status = StatusStopped
				if c.task.desiredStatus == StatusRunning {
					c.reason = err.Error()
					c.task.requestStop(StopCodeTaskFailedToStart, "Task failed to start")
				}
			})
			return false
		}
	}
	start := false
	c.task.update(func() {
		if start = c.task.desiredStatus == StatusRunning && ctx.Err() == nil; start {
			c.status, c.createdAt = statusCreated, time.Now()
		} else {
			c.status = StatusStopped
		}
	})
	return start
}

var errTaskStops = errors.New("the task stops")

// awaitDependency waits until dep holds, for the startTimeout of the
// container that dep names, counted from that container's own start.
func (c *container) awaitDependency(ctx context.Context, dep Dependency) error {
	target := c.task.container(dep.Container)
	var outcome error
	settled := func() bool {
		switch {
		case c.task.desiredStatus == StatusStopped:
			outcome = errTaskStops
			return true
		case target.meets(dep.Condition):
			outcome = nil
			return true
		case target.status == StatusStopped:
			outcome = fmt.Errorf("DependencyError: container %s exited (%s) and can't be %s any more", dep.Container, target.exit(), dep.Condition)
			return true
		}
		return false
	}
	// A target that waits for others itself has not used any of its time.
	if err := c.task.await(ctx, func() bool { return settled() || target.status != StatusPending }); err != nil {
		return err
	}
	limit, cancel := context.WithTimeoutCause(ctx, c.task.fake.last(target.def.startTimeout()),
		fmt.Errorf("DependencyError: container %s is not %s after %s", dep.Container, dep.Condition, target.def.startTimeout()))
	defer cancel()
	if err := c.task.await(limit, settled); err != nil {
		return err
	}
	return outcome
}

// meets wants the lock held.
func (c *container) meets(condition Condition) bool {
	switch condition {
	case ConditionStart:
		return c.process != nil
	case ConditionComplete:
		return c.exitCode != nil
	case ConditionSuccess:
		return c.exitCode != nil && *c.exitCode == 0
	case ConditionHealthy:
		return c.status == StatusRunning && c.health == HealthHealthy
	}
	return false
}

func (c *container) exit() string {
	if c.exitCode == nil {
		return "it never ran"
	}
	return fmt.Sprintf("code %d", *c.exitCode)
}

// start starts the container's program.
func (c *container) start() (*process, error) {
	image, ok := c.task.fake.opts.Images[c.def.Image]
	if !ok {
		return nil, fmt.Errorf("image %s is not known here", c.def.Image)
	}
	mounts := mountsOf(c.def.MountPoints, c.task.volumes())
	// As in Docker: an entry point of one's own leaves the image's command
	// out, too.
	entrypoint, command := image.Entrypoint, image.Command
	if len(c.def.EntryPoint) > 0 {
		entrypoint, command = c.def.EntryPoint, nil
	}
	if len(c.def.Command) > 0 {
		command = c.def.Command
	}
	args := slices.Concat(rebaseAll(entrypoint, mounts), rebaseAll(command, mounts))
	if len(args) == 0 {
		return nil, errors.New("no command specified")
	}
	for _, secret := range c.def.Secrets {
		value, err := c.task.fake.opts.Secret(c.task.fake.ctx, c.task.def.ExecutionRoleARN, secret.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("fetch secret %s: %w", secret.Name, err)
		}
		c.secrets = append(c.secrets, secret.Name+"="+value)
	}
	return c.launch(args, c.def.Name+".log")
}

// launch runs a command line in the container.
func (c *container) launch(args []string, logName string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(c.task.dir, logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	return program{args: args, env: c.environment(), dir: c.task.dir}.start(c.task.fake.launcher, log)
}

// environment holds what Docker and ECS add and the container's own, which
// wins, with its secrets: health checks have them, too.
func (c *container) environment() []string {
	path := c.task.fake.opts.Images[c.def.Image].Path
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env := append([]string{"PATH=" + path}, c.task.environment(c)...)
	mounts := mountsOf(c.def.MountPoints, c.task.volumes())
	for _, v := range c.def.Environment {
		env = append(env, v.Name+"="+rebase(v.Value, mounts))
	}
	return append(env, c.secrets...)
}

// watchHealth runs the health check until the container exits: the first time
// one interval after the start, then one interval after each run's end.
// Failures within the start period don't count, nor do they after it before
// there are as many in a row as there are retries; one success is enough.
func (c *container) watchHealth() {
	check := c.def.HealthCheck
	for failures := 0; ; {
		select {
		case <-c.process.exited:
			return
		case <-c.task.fake.ctx.Done():
			return
		case <-time.After(c.task.fake.last(check.interval())):
		}
		begun := time.Now()
		healthy := c.checkHealth()
		switch {
		case healthy:
			failures = 0
			c.setHealth(HealthHealthy)
		case c.health == HealthUnknown && begun.Sub(c.startedAt) < c.task.fake.last(check.startPeriod()):
		default:
			if failures++; failures >= check.retries() {
				c.setHealth(HealthUnhealthy)
			}
		}
	}
}

// checkHealth runs the health check once, at most for its timeout and for the
// container's life.
func (c *container) checkHealth() bool {
	ctx, cancel := context.WithTimeout(c.task.fake.ctx, c.task.fake.last(c.def.HealthCheck.timeout()))
	defer cancel()
	go func() {
		select {
		case <-c.process.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	args := rebaseAll(c.def.HealthCheck.Command[1:], mountsOf(c.def.MountPoints, c.task.volumes()))
	if c.def.HealthCheck.Command[0] == "CMD-SHELL" {
		args = append([]string{"/bin/sh", "-c"}, args...)
	}
	proc, err := c.launch(args, c.def.Name+".health.log")
	if err != nil {
		return false
	}
	code, err := proc.run(ctx)
	return err == nil && code == 0
}

// setHealth is no change of the task to ECS: no event, no new version.
func (c *container) setHealth(to Health) {
	c.task.update(func() {
		if c.health != to {
			c.health, c.healthSince = to, time.Now()
		}
	})
}

// stopContainers ends what still runs, in the reverse of the start order: a
// container goes when no container that depends on it is left.
func (t *task) stopContainers() {
	var all sync.WaitGroup
	for _, c := range t.containers {
		all.Go(c.stop)
	}
	all.Wait()
}

func (c *container) stop() {
	ctx := c.task.fake.ctx
	err := c.task.await(ctx, func() bool {
		for _, other := range c.task.containers {
			dependent := slices.ContainsFunc(other.def.DependsOn, func(d Dependency) bool { return d.Container == c.def.Name })
			if dependent && other.status != StatusStopped {
				return false
			}
		}
		return c.status == StatusRunning || c.status == StatusStopped
	})
	if err != nil || c.process == nil {
		return
	}
	select {
	case <-c.process.exited:
		return
	default:
		c.process.terminate()
	}
	select {
	case <-c.process.exited:
	case <-ctx.Done():
	case <-time.After(c.task.fake.last(c.def.stopTimeout())):
		c.process.kill()
	}
}
