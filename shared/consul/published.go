package consul

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// listLifetime is how long a warm function uses the list that it has read.
	// SSM's rate is shared by the whole account.
	listLifetime = time.Minute

	// trialTime is what the servers of a kept list get before the list is read
	// again: enough to get past one that hangs, with plenty left for new ones.
	trialTime = 4 * time.Second

	// readTime bounds one reading of the list: an SSM that hangs must leave
	// time for the servers known from before.
	readTime = 5 * time.Second
)

// serverList is where the addresses of the Consul servers are published.
type serverList interface {
	Read(context.Context) ([]netip.Addr, error)
}

// access is how the servers at some addresses are reached; see
// access.Access.Use.
type access interface {
	Use(ctx context.Context, addrs []netip.Addr, use func(*Servers) error) error
}

// Published are the Consul servers as they were last published. It is made for
// one invocation of a function at a time, as Lambda has it.
type Published struct {
	list   serverList
	access access
	log    *slog.Logger
	now    func() time.Time
	trial  time.Duration

	addrs  []netip.Addr // none before the first use
	readAt time.Time
}

// NewPublished returns the servers of a list, and the way to reach them. The
// list is read when they are first needed.
func NewPublished(list serverList, access access, log *slog.Logger) *Published {
	return &Published{list: list, access: access, log: log, now: time.Now, trial: trialTime}
}

// Do is Servers.Do on the published servers. Where none of them answers, or can
// be trusted, the list is read again first.
func (p *Published) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	if p.addrs != nil && p.now().Sub(p.readAt) < listLifetime {
		trialCtx, cancel := context.WithTimeout(ctx, p.trial)
		defer cancel()
		err := p.try(trialCtx, attempt)
		if err == nil || Permanent(err) && !Untrusted(err) || ctx.Err() != nil {
			return err
		}
		p.log.WarnContext(ctx, "no Consul server of the kept list answered; reading the list again", "servers", p.addrs, "error", err)
	}
	if err := p.read(ctx); err != nil {
		if p.addrs == nil {
			return err
		}
		p.log.WarnContext(ctx, "using the Consul servers known from before", "servers", p.addrs, "error", err)
	}
	return p.try(ctx, attempt)
}

func (p *Published) try(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	return p.access.Use(ctx, p.addrs, func(servers *Servers) error { return servers.Do(ctx, attempt) })
}

func (p *Published) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	addrs, err := p.list.Read(ctx)
	if err != nil {
		return err
	}
	// Without the monotonic clock, which may stand still while Lambda keeps the
	// function frozen.
	p.addrs, p.readAt = addrs, p.now().Round(0)
	return nil
}
