package acl

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"ecsmesh/shared/dryrun"

	"github.com/hashicorp/consul/api"
)

// Unread is what a stack has in a Consul that could not be asked: all or nothing.
// It is good for Foresee.
func Unread(stack Stack, log *slog.Logger) *ACL { return &ACL{stack: stack, log: log} }

// Foresee puts into a plan what Make does for settings that are valid, or Remove
// for none, with the requests for it. Its error is Make's, of something that is
// in the way.
func (a *ACL) Foresee(ctx context.Context, plan *dryrun.Plan, settings *Settings) error {
	var wished []wish
	if settings != nil {
		wished = wanted(*settings, a.stack)
	}
	if err := refuse(wished, a.has, a.stack); err != nil {
		return err
	}
	for _, w := range wished {
		step := dryrun.Step{Action: "make", What: w.String()}
		var same *object
		if i := slices.IndexFunc(a.has[w.kind], func(o object) bool { return w.grants(w.kind, o) }); i >= 0 {
			same, step.Action = &a.has[w.kind][i], "update"
		}
		plan.Would(ctx, step)
		err := plan.Consul().Do(ctx, func(ctx context.Context, client *api.Client) error {
			return w.put(client.ACL(), same, (&api.WriteOptions{}).WithContext(ctx))
		})
		if err != nil {
			return fmt.Errorf("plan %s: %w", w, err)
		}
	}
	if a.has == nil {
		plan.Would(ctx, dryrun.Step{Action: "remove", What: "all that is not wanted in Consul's ACL system whose description ends with: " + a.stack.mark()})
		return nil
	}
	remove, kept := leftovers(wished, a.has, a.stack)
	for _, r := range remove {
		plan.Would(ctx, dryrun.Step{Action: "remove", What: r.kind.name + " " + r.name})
		err := plan.Consul().Do(ctx, func(ctx context.Context, client *api.Client) error {
			_, err := r.kind.delete(client.ACL(), r.id, (&api.WriteOptions{}).WithContext(ctx))
			return err
		})
		if err != nil {
			return fmt.Errorf("plan to remove %s %s: %w", r.kind.name, r.name, err)
		}
	}
	for _, method := range kept {
		plan.Would(ctx, dryrun.Step{Action: "keep", What: "auth method " + method.name, Why: "others have added binding rules to it"})
	}
	return nil
}
