// Package setup is the custom resource of the mesh's ACL in Consul: with the
// management token it makes there what the stack's parameters ask for.
package setup

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"

	"ecsmesh/functions/setup-acl/acl"
	"ecsmesh/functions/setup-acl/customresource"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/dryrun"
)

// access is how Consul is reached; see access.Access.
type access interface {
	UseToken(secret string)
	Use(ctx context.Context, addrs []netip.Addr, use func(*consul.Servers) error) error
}

// Setup is the resource, for one request.
type Setup struct {
	Secrets secrets
	Locate  func(context.Context) ([]netip.Addr, error) // finds some of Consul's servers
	Consul  access
	Log     *slog.Logger

	// Plan takes in what would be made, and then nothing is. nil: that is as the
	// resource's properties have it.
	Plan *dryrun.Plan
}

var _ customresource.Resource = (*Setup)(nil)

// Put makes what the properties ask for. The attributes are the names of the
// auth methods.
func (s *Setup) Put(ctx context.Context, request customresource.Request) (map[string]any, error) {
	stack, err := acl.ParseStack(request.StackID)
	if err != nil {
		return nil, err
	}
	properties, err := parseProperties(request.Properties)
	if err != nil {
		return nil, err
	}
	settings, err := properties.settings()
	if err != nil {
		return nil, err
	}
	if plan := s.plan(properties.DryRun); plan != nil {
		err = s.foresee(ctx, plan, stack, properties.ManagementTokenSecretARN, &settings)
	} else {
		err = s.with(ctx, stack, properties.ManagementTokenSecretARN, func(acl *acl.ACL) error { return acl.Make(ctx, settings) })
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{"TasksAuthMethod": settings.TasksMethod, "FunctionsAuthMethod": settings.FunctionsMethod}, nil
}

// Delete removes what the stack has made. Where Consul can't be reached or lets
// nobody in, there is nothing to be done and perhaps no Consul any more: that is
// no error, or a stack could be deleted only as long as its Consul lives, and
// one whose creation failed for such a reason not at all. A failure after that
// is one: to delete again goes on where it ended.
func (s *Setup) Delete(ctx context.Context, request customresource.Request) (string, error) {
	stack, err := acl.ParseStack(request.StackID)
	if err != nil {
		return "", err
	}
	secret, dry, err := secretARN(request.Properties)
	if plan := s.plan(dry); plan != nil && err == nil {
		return "dry run: nothing was removed from Consul", s.foresee(ctx, plan, stack, secret, nil)
	}
	inside := false
	if err == nil {
		err = s.with(ctx, stack, secret, func(acl *acl.ACL) error {
			inside = true
			return acl.Remove(ctx)
		})
	}
	if err == nil || inside {
		return "", err
	}
	s.Log.WarnContext(ctx, "nothing was removed from Consul; what this stack made there says so in its description", "error", err)
	return fmt.Sprintf("nothing was removed from Consul: %s", err), nil
}

// with has done what is to be done with the ACL, which may be more than once.
func (s *Setup) with(ctx context.Context, stack acl.Stack, secret string, do func(*acl.ACL) error) error {
	token, err := managementToken(ctx, s.Secrets, secret)
	if err != nil {
		return err
	}
	addrs, err := s.Locate(ctx)
	if err != nil {
		return fmt.Errorf("find the Consul servers: %w", err)
	}
	s.Consul.UseToken(token)
	return s.Consul.Use(ctx, addrs, func(servers *consul.Servers) error {
		opened, err := acl.Open(ctx, servers, stack, s.Log)
		if err != nil {
			return err
		}
		return do(opened)
	})
}
