package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/serverlist"
)

// maxRounds bounds how often the list is written in one invocation. More than
// two rounds need servers that change faster than ECS is read.
const maxRounds = 5

// serverTasks is the ECS service of the Consul servers.
type serverTasks interface {
	// Running returns all tasks that ECS wants to run, or an error.
	Running(context.Context) ([]task, error)
}

// parameter is where the list is kept.
type parameter interface {
	// Value returns serverlist.ErrNotPublished where there is none yet.
	Value(context.Context) (string, error)
	Write(context.Context, []netip.Addr) error
}

// publisher makes the parameter say what ECS says.
type publisher struct {
	tasks     serverTasks
	parameter parameter
	metrics   *metrics.Writer
	log       *slog.Logger
}

// Handle serves one invocation. What triggered it is a hint that something may
// have changed, no more: late, repeated and reordered events do no harm.
func (p *publisher) Handle(ctx context.Context, trigger json.RawMessage) error {
	work, cancel := invocation.WorkContext(ctx)
	defer cancel()
	log := p.log.With("trigger", triggerOf(trigger))
	err := p.publish(work, log)
	if err != nil {
		// Returned, it makes Lambda try again; what Lambda prints of it has
		// neither level nor trigger.
		log.ErrorContext(ctx, "publish servers", "error", err)
	}
	return err
}

// publish reads the servers and writes them, until there is nothing to write.
//
// So a write is always followed by a fresh read of ECS and, if that differs
// from the list, by another write. This keeps two writers from harm where no
// concurrency is reserved for the function: whichever writes last has then
// read ECS after its write and found the list to be true.
func (p *publisher) publish(ctx context.Context, log *slog.Logger) error {
	for range maxRounds {
		servers, err := p.usable(ctx, log)
		if err != nil {
			return err
		}
		if len(servers) == 0 {
			// The last list stays: old servers may come back, no server can't.
			log.ErrorContext(ctx, "no usable Consul server; the published list stays as it is")
			return p.metrics.Write(metrics.Count("NoUsableServer", 1))
		}
		published, err := p.current(ctx, log)
		if err != nil {
			return err
		}
		if serverlist.Format(published) == serverlist.Format(servers) {
			return nil
		}
		if err := p.parameter.Write(ctx, servers); err != nil {
			return err
		}
		log.InfoContext(ctx, "published servers", "servers", servers, "before", published)
		if err := p.metrics.Write(metrics.Count("ServersPublished", len(servers))); err != nil {
			return err
		}
	}
	return fmt.Errorf("publish servers: they changed again after each of %d writes", maxRounds)
}

// usable reads the service's tasks and returns the addresses of those that
// clients can count on.
func (p *publisher) usable(ctx context.Context, log *slog.Logger) ([]netip.Addr, error) {
	tasks, err := p.tasks.Running(ctx)
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	for _, t := range tasks {
		addr, err := serverAddr(t)
		if err != nil {
			log.InfoContext(ctx, "left out a server task", "taskArn", t.ARN, "reason", err)
			continue
		}
		servers = append(servers, addr)
	}
	return servers, nil
}

// current returns the published servers; none where none were published or
// where the value is not a list of addresses, which is then replaced.
func (p *publisher) current(ctx context.Context, log *slog.Logger) ([]netip.Addr, error) {
	value, err := p.parameter.Value(ctx)
	switch {
	case errors.Is(err, serverlist.ErrNotPublished):
		return nil, nil
	case err != nil:
		return nil, err
	}
	servers, err := serverlist.Parse(value)
	if err != nil {
		log.WarnContext(ctx, "the published list is unreadable and will be replaced", "value", value, "error", err)
		return nil, nil
	}
	return servers, nil
}

// triggerOf names what invoked the function, for the log: an event's ID, or
// "unknown".
func triggerOf(event json.RawMessage) string {
	var trigger struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(event, &trigger); err != nil || trigger.ID == "" {
		return "unknown"
	}
	return trigger.ID
}
