package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ecsmesh/e2e/ecs"
)

// draw writes the picture of what has happened so far.
func (s *story) draw() error {
	var svg strings.Builder
	if err := s.compose().writeTo(&svg); err != nil {
		return fmt.Errorf("draw the picture: %w", err)
	}
	return write(s.picture, svg.String())
}

// write writes a picture. Two demos at once each leave a whole one.
func write(path, svg string) error {
	file, err := os.CreateTemp(filepath.Dir(path), "picture-")
	if err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	defer os.Remove(file.Name()) // gone after the rename
	_, err = file.WriteString(svg)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(file.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return nil
}

func (s *story) compose() *picture {
	now := time.Now()
	p := &picture{
		title:      "ECS tasks join and leave a Consul service mesh",
		length:     s.since(now),
		milestones: s.milestones,
	}
	p.lanes = append(p.lanes, s.parameterLane(now))
	for i, a := range s.servers {
		l := s.taskLane(a, now)
		l.gap = i == 0
		p.lanes = append(p.lanes, l)
	}
	for i, a := range s.cast {
		l := s.taskLane(a, now)
		l.gap = i == 0
		p.lanes = append(p.lanes, l)
	}
	failed := 0
	for _, r := range s.requests {
		d := dot{at: s.since(r.End()), failed: r.Err != nil}
		if r.API == s.apis[1].task.Address() {
			d.by = 1
		}
		if d.failed {
			failed++
		}
		p.requests = append(p.requests, d)
	}
	p.subtitle = fmt.Sprintf("Real Consul servers and Envoys, run as the containers of ECS tasks. %d requests from web-1 to api; %d failed, all while the catalog was empty.", len(s.requests), failed)

	mark := func(at time.Time, text string) milestone {
		return milestone{at: s.since(at), name: after(s.stop.asked, at), text: text}
	}
	p.zoom = zoom{
		title: fmt.Sprintf("The stop of %s, request by request", s.apis[0].name),
		from:  s.since(s.stop.asked) - time.Second,
		to:    s.since(s.stop.deregistered) + time.Second/2,
		zero:  s.since(s.stop.asked),
		rows:  []string{s.apis[0].name, s.apis[1].name},
		marks: []milestone{
			{at: s.since(s.stop.asked), text: "stop requested, SIGTERM"},
			mark(s.stop.drained, "drained: web-1's Envoy sends nothing there any more"),
			mark(s.stop.ended, "containers ended"),
			mark(s.stop.deregistered, "STOPPED, deregistered"),
		},
	}
	return p
}

// since is a moment of the story.
func (s *story) since(t time.Time) time.Duration { return t.Sub(s.out.start) }

func (s *story) parameterLane(now time.Time) lane {
	l := lane{name: "SSM parameter"}
	for i, pub := range s.publication {
		until := now
		if i+1 < len(s.publication) {
			until = s.publication[i+1].at
		}
		hosts := make([]string, len(pub.servers))
		for k, address := range pub.servers {
			hosts[k] = address.String()
		}
		labels := []string{strings.Join(hosts, ", "), fmt.Sprintf("%d servers", len(hosts))}
		l.spans = append(l.spans, span{s.since(pub.at), s.since(until), published, labels})
	}
	return l
}

// taskLane is a task's life. Moments that are not there yet end it.
func (s *story) taskLane(a *actor, now time.Time) lane {
	l := lane{name: a.name}
	alive := "serves"
	if a.registered.IsZero() {
		alive = a.task.Address().String() + " in the quorum"
	}
	from := a.task.CreatedAt.Time
	add := func(to time.Time, in phase, labels ...string) {
		if !to.IsZero() && to.After(from) {
			l.spans = append(l.spans, span{s.since(from), s.since(to), in, labels})
			from = to
		}
	}
	if !a.envoy.IsZero() {
		add(a.envoy, starting)
		add(a.started, proxying, "Envoy")
		add(a.passing, warming, "application")
	} else {
		add(a.passing, starting)
	}
	task, _ := s.lab.ECS.Task(a.task.TaskARN)
	if task.DesiredStatus == ecs.StatusStopped {
		add(task.StoppingAt.Time, serving, alive)
		if task.Stopped() {
			now = task.StoppedAt.Time
		}
		add(now, leaving, "leaves")
	} else {
		add(now, serving, alive)
	}
	return l
}
