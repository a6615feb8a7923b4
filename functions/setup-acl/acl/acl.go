// Package acl makes what the mesh needs in Consul's ACL system, and takes it
// away again: auth methods by which tasks and functions log in with their IAM
// roles, and binding rules, roles and policies that say what each may do.
//
// All of it is told by its description to be a certain stack's. Only such is
// ever changed or removed; what others have made under the same name is an
// error. Everything may be interrupted anywhere, and is put right by doing it
// again.
package acl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/hashicorp/consul/api"
)

// servers reach Consul with a token that may write ACLs; see consul.Servers.
type servers interface {
	Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error
}

// ACL is what a stack has in Consul's ACL system. It serves one caller at a time.
type ACL struct {
	servers servers
	stack   Stack
	log     *slog.Logger
	has     found
}

// Open reads what Consul has. It fails where the token may not read that, and so
// could change nothing either.
func Open(ctx context.Context, servers servers, stack Stack, log *slog.Logger) (*ACL, error) {
	a := &ACL{servers: servers, stack: stack, log: log, has: found{}}
	for _, kind := range kinds() {
		err := servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
			a.has[kind], err = list(ctx, client, kind)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read Consul's ACLs: %w", err)
		}
	}
	return a, nil
}

// Make has Consul have what the settings, which are valid, ask for, and no more
// of this stack's: what they no longer ask for is removed. Nothing is changed
// where something of the wanted names was made by others.
func (a *ACL) Make(ctx context.Context, settings Settings) error {
	wished := wanted(settings, a.stack)
	if err := refuse(wished, a.has, a.stack); err != nil {
		return err
	}
	for _, w := range wished {
		if err := a.grant(ctx, w); err != nil {
			return fmt.Errorf("make %s: %w", w, err)
		}
	}
	a.log.InfoContext(ctx, "made what the mesh needs in Consul's ACL system", "objects", len(wished))
	return a.clear(ctx, wished)
}

// Remove takes away all that the stack has made. Tokens of those who logged in
// by its auth methods end with these.
func (a *ACL) Remove(ctx context.Context) error { return a.clear(ctx, nil) }

// grant makes one object. An attempt whose answer was lost may have made it, so
// each looks first.
func (a *ACL) grant(ctx context.Context, w wish) error {
	var other error
	err := a.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		has, err := list(ctx, client, w.kind)
		if err != nil {
			return err
		}
		if o := w.other(has, a.stack); o != nil {
			other = w.refusal(*o)
			return nil // no other server knows better
		}
		var same *object
		if i := slices.IndexFunc(has, func(o object) bool { return w.grants(w.kind, o) }); i >= 0 {
			same = &has[i]
		}
		return w.put(client.ACL(), same, (&api.WriteOptions{}).WithContext(ctx))
	})
	return errors.Join(err, other)
}

// clear removes what the stack has made and nobody wishes for.
func (a *ACL) clear(ctx context.Context, wished []wish) error {
	remove, kept := leftovers(wished, a.has, a.stack)
	for _, r := range remove {
		if err := a.remove(ctx, r); err != nil {
			return fmt.Errorf("remove %s %s: %w", r.kind.name, r.name, err)
		}
		a.log.InfoContext(ctx, "removed from Consul's ACL system", "what", r.kind.name, "name", r.name)
	}
	for _, method := range kept {
		a.log.WarnContext(ctx, "an auth method stays, since others have added binding rules to it", "name", method.name)
	}
	return nil
}

// remove removes one object, if it is still there.
func (a *ACL) remove(ctx context.Context, r removal) error {
	return a.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		has, err := list(ctx, client, r.kind)
		if err != nil || !slices.ContainsFunc(has, func(o object) bool { return o.id == r.id && a.stack.made(o.description) }) {
			return err
		}
		_, err = r.kind.delete(client.ACL(), r.id, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

// list reads all objects of a kind, as they are now.
func list(ctx context.Context, client *api.Client, kind *kind) ([]object, error) {
	return kind.list(client.ACL(), (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
}
