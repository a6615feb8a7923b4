package ecs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Execute runs a command in a container that runs, as ECS Exec does, and returns
// what it printed. Unlike ECS it tells the command's exit code.
func (f *Fake) Execute(ctx context.Context, arn, container string, command ...string) (output string, exitCode int, err error) {
	output, exitCode, err = f.execute(ctx, arn, container, command)
	if err != nil {
		return "", 0, fmt.Errorf("execute a command in container %s of task %s: %w", container, arn, err)
	}
	return output, exitCode, nil
}

func (f *Fake) execute(ctx context.Context, arn, container string, command []string) (output string, exitCode int, err error) {
	c := f.running(arn, container)
	if c == nil {
		return "", 0, errors.New("it does not run")
	}
	name := container + ".exec.log"
	path := filepath.Join(c.task.dir, name)
	if err := os.RemoveAll(path); err != nil {
		return "", 0, err
	}
	proc, err := c.launch(rebaseAll(command, mountsOf(c.def.MountPoints, c.task.volumes())), name)
	if err != nil {
		return "", 0, err
	}
	if exitCode, err = proc.run(ctx); err != nil {
		return "", 0, err
	}
	content, err := os.ReadFile(path)
	return string(content), exitCode, err
}

func (f *Fake) running(arn, name string) *container {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.byARN[arn]
	if t == nil {
		return nil
	}
	if c := t.container(name); c != nil && c.status == StatusRunning {
		return c
	}
	return nil
}
