// Package publisher keeps the published list of Consul servers true: it reads
// who the servers are, from ECS or from Consul itself, and writes their
// addresses to the SSM parameter that everything else reads.
package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/serverlist"
)

// maxRounds bounds how often the list is written in one go. More than two
// rounds need servers that change faster than they are read.
const maxRounds = 5

// source knows the Consul servers.
type source interface {
	// Servers returns the addresses of all servers that clients can count on,
	// which may be none, or an error: a part would pass for the whole.
	Servers(context.Context) ([]netip.Addr, error)
	fmt.Stringer
}

// list is where the servers are published.
type list interface {
	// Value returns serverlist.ErrNotPublished where there is none yet.
	Value(context.Context) (string, error)
	Write(context.Context, []netip.Addr) error
	Name() string
}

// Publisher makes the parameter say what the source says. It serves one caller
// at a time.
type Publisher struct {
	source    source
	parameter list
	metrics   *metrics.Writer
	log       *slog.Logger
	plan      *dryrun.Plan // of a dry run, in which parameter writes nothing; else nil
}

// Publish reads the servers and writes them, until there is nothing to write.
// It is safe to repeat, and does nothing where nothing changed. When no server
// is usable, the last list stays, and that is no error.
//
// A write is always followed by a fresh read of the source and, if that differs
// from the list, by another write. This keeps several writers from harm:
// whichever writes last has then read the source after its write and found the
// list to be true.
func (p *Publisher) Publish(ctx context.Context) error {
	if p.plan != nil {
		return p.foresee(ctx)
	}
	for range maxRounds {
		servers, err := p.source.Servers(ctx)
		if err != nil {
			return err
		}
		if len(servers) == 0 {
			// Old servers may come back, no server can't.
			p.log.ErrorContext(ctx, "no usable Consul server; the published list stays as it is")
			return p.metrics.Write(ctx, metrics.Count("NoUsableServer", 1))
		}
		published, err := p.current(ctx)
		if err != nil {
			return err
		}
		if serverlist.Equal(published, servers) {
			return nil
		}
		if err := p.parameter.Write(ctx, servers); err != nil {
			return err
		}
		p.log.InfoContext(ctx, "published servers", "servers", servers, "before", published)
		if err := p.metrics.Write(ctx, metrics.Count("ServersPublished", len(servers))); err != nil {
			return err
		}
	}
	return fmt.Errorf("publish servers: they changed again after each of %d writes", maxRounds)
}

// current returns the published servers; none where none were published or
// where the value is not a list of addresses, which is then replaced.
func (p *Publisher) current(ctx context.Context) ([]netip.Addr, error) {
	value, err := p.parameter.Value(ctx)
	switch {
	case errors.Is(err, serverlist.ErrNotPublished):
		return nil, nil
	case err != nil:
		return nil, err
	}
	servers, err := serverlist.Parse(value)
	if err != nil {
		p.log.WarnContext(ctx, "the published list is unreadable and will be replaced", "value", value, "error", err)
		return nil, nil
	}
	return servers, nil
}
