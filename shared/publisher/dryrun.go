package publisher

import (
	"context"

	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"
)

// planned is a Parameter Store that is read, and whose changes go into a plan.
type planned struct {
	*parameter.Store
	plan *dryrun.Plan
}

// PutList has the plan have what Store.PutList asks for.
func (p planned) PutList(ctx context.Context, name, value, description string) error {
	p.plan.Would(ctx, dryrun.Step{Action: "write", What: "SSM parameter " + name, Detail: value})
	p.plan.Send("SSM", "PutParameter", parameter.List(name, value, description))
	return nil
}

// foresee puts into the plan what Publish would do.
func (p *Publisher) foresee(ctx context.Context) error {
	home := "SSM parameter " + p.parameter.Name()
	reading, cancel := p.plan.Limit(ctx)
	servers, err := p.source.Servers(reading)
	cancel()
	if err != nil {
		p.plan.Unread(ctx, p.source.String(), err)
		p.plan.Would(ctx, dryrun.Step{Action: "write", What: home, Why: "to have the addresses of the Consul servers, as " + p.source.String() + " has them, where they changed"})
		return nil
	}
	if len(servers) == 0 {
		p.plan.Would(ctx, dryrun.Step{Action: "keep", What: home, Why: "no Consul server is usable, as " + p.source.String() + " has them"})
		return nil
	}
	reading, cancel = p.plan.Limit(ctx)
	published, err := p.current(reading)
	cancel()
	if err != nil {
		p.plan.Unread(ctx, home, err)
	}
	if serverlist.Equal(published, servers) {
		p.plan.Would(ctx, dryrun.Step{Action: "keep", What: home, Why: "it has the current servers", Detail: servers})
		return nil
	}
	return p.parameter.Write(ctx, servers)
}
