package main

import (
	"context"
	"encoding/json"
	"log/slog"

	"ecsmesh/shared/invocation"
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
	work, cancel := invocation.WorkContext(ctx)
	defer cancel()
	id := triggerOf(trigger)
	h.log.InfoContext(ctx, "publishing the servers", "trigger", id)
	err := h.servers.Publish(work)
	if err != nil {
		// Returned, it makes Lambda try again; what Lambda prints of it has
		// neither level nor trigger.
		h.log.ErrorContext(ctx, "publish servers", "trigger", id, "error", err)
	}
	return err
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
