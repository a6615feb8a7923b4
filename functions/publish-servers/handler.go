package main

import (
	"context"
	"encoding/json"
	"log/slog"

	"ecsmesh/shared/invocation"
	"ecsmesh/shared/taskevent"
)

// servers are the Consul servers and their list; see publisher.Publisher.
type servers interface {
	Publish(context.Context) error
}

// handler publishes the servers whenever it is invoked.
type handler struct {
	servers servers
	log     *slog.Logger
}

// Handle serves one invocation. What triggered it is a hint that something may
// have changed, no more: late, repeated and reordered events do no harm.
func (h *handler) Handle(ctx context.Context, trigger json.RawMessage) error {
	ctx = invocation.AboutEvent(ctx, trigger)
	work, cancel := invocation.WorkContext(ctx)
	defer cancel()
	log := h.log
	if _, task := taskevent.Identify(trigger); task != "" {
		log = log.With(invocation.TaskID, task)
	}
	log.InfoContext(ctx, "publishing the servers")
	err := h.servers.Publish(work)
	if err != nil {
		// Returned, it makes Lambda try again; what Lambda prints of it has
		// neither level nor event.
		log.ErrorContext(ctx, "publish servers", "error", err)
	}
	return err
}
