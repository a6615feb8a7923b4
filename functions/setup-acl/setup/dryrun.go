package setup

import (
	"context"

	"ecsmesh/functions/setup-acl/acl"
	"ecsmesh/shared/dryrun"
)

// plan is where to put what would be done, in a dry run: of the function, or of
// the stack, which a property says. A stack waits for its answer all the same.
func (s *Setup) plan(property string) *dryrun.Plan {
	if s.Plan == nil && property == string(dryrun.On) {
		return dryrun.New(s.Log)
	}
	return s.Plan
}

// foresee puts into the plan what would be made for the settings; for none, what
// would be removed.
func (s *Setup) foresee(ctx context.Context, plan *dryrun.Plan, stack acl.Stack, secret string, settings *acl.Settings) error {
	reading, cancel := plan.Limit(ctx)
	defer cancel()
	has := acl.Unread(stack, s.Log)
	err := s.with(reading, stack, secret, func(opened *acl.ACL) error {
		has = opened
		return nil
	})
	if err != nil {
		plan.Unread(ctx, "what Consul's ACL system has", err)
	}
	return has.Foresee(ctx, plan, settings)
}
