package consul

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
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

// Published are the Consul servers as they were last published. It is made for
// one invocation of a function at a time, as Lambda has it.
type Published struct {
	list  serverList
	port  int
	log   *slog.Logger
	now   func() time.Time
	trial time.Duration

	servers *Servers // nil before the first use
	addrs   []netip.Addr
	readAt  time.Time
}

// NewPublished returns the servers of a list, which all have the same HTTP port.
// The list is read when they are first needed.
func NewPublished(list serverList, port int, log *slog.Logger) *Published {
	return &Published{list: list, port: port, log: log, now: time.Now, trial: trialTime}
}

// Do is Servers.Do on the published servers. Where none of them answers, the
// list is read again first.
func (p *Published) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	if p.servers != nil && p.now().Sub(p.readAt) < listLifetime {
		trialCtx, cancel := context.WithTimeout(ctx, p.trial)
		defer cancel()
		err := p.servers.Do(trialCtx, attempt)
		if err == nil || Permanent(err) || ctx.Err() != nil {
			return err
		}
		p.log.WarnContext(ctx, "no Consul server of the kept list answered; reading the list again", "servers", p.addrs, "error", err)
	}
	if err := p.read(ctx); err != nil {
		if p.servers == nil {
			return err
		}
		p.log.WarnContext(ctx, "using the Consul servers known from before", "servers", p.addrs, "error", err)
	}
	return p.servers.Do(ctx, attempt)
}

// read reads the list; the connections stay where it hasn't changed.
func (p *Published) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	addrs, err := p.list.Read(ctx)
	if err != nil {
		return err
	}
	if p.servers == nil || !slices.Equal(addrs, p.addrs) {
		servers, err := NewServers(addrs, Options{Port: p.port})
		if err != nil {
			return err
		}
		p.servers, p.addrs = servers, addrs
	}
	// Without the monotonic clock, which may stand still while Lambda keeps the
	// function frozen.
	p.readAt = p.now().Round(0)
	return nil
}
