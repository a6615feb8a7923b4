package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
)

const (
	// tokenUse is how long a warm function uses a token, at most. Half of the
	// token's life is less where that life is short. Then it is replaced and
	// logged out: a function isn't told when Lambda ends it, and what it has
	// then lives on until Consul ends it.
	tokenUse = 5 * time.Minute

	// renewTime bounds the login of a function whose token would still do.
	renewTime = 5 * time.Second

	// renewPause is how long such a token does, after a login that went wrong.
	renewPause = time.Minute

	logoutTime = 2 * time.Second
)

// tokens are the function's ACL tokens: one at a time.
type tokens struct {
	login *login.Login // nil: there are none, or one that was given
	now   func() time.Time
	log   *slog.Logger

	held token
}

type token struct {
	secret string    // "": none
	issued time.Time // zero: long ago, so that every server knows it
	until  time.Time // when it is replaced
	end    time.Time // when Consul ends it; zero: never
}

func (t *tokens) give(secret string) { t.login, t.held = nil, token{secret: secret} }

// authorize has the servers' requests carry a token, which is a new one if it
// is time for that.
func (t *tokens) authorize(ctx context.Context, servers *consul.Servers) error {
	if t.login != nil && !t.now().Before(t.held.until) {
		if err := t.replace(ctx, servers); err != nil {
			return err
		}
	}
	servers.UseToken(t.held.secret, t.held.issued)
	return nil
}

// replace logs in, and then out with the token from before. That one stays
// while it does and the login goes wrong.
func (t *tokens) replace(ctx context.Context, servers *consul.Servers) error {
	fallback := t.held.secret != "" && (t.held.end.IsZero() || t.now().Before(t.held.end))
	limit := ctx
	if fallback {
		var cancel context.CancelFunc
		limit, cancel = context.WithTimeout(ctx, renewTime)
		defer cancel()
	}
	fresh, err := t.logIn(limit, servers)
	if err != nil && fallback {
		t.held.until = t.now().Add(renewPause).Round(0)
		t.log.WarnContext(ctx, "the ACL token stays as it is", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if t.held.secret != "" {
		t.logOut(ctx, servers)
	}
	t.held = fresh
	return nil
}

// logIn reads clocks without their monotonic part, which may stand still while
// Lambda keeps the function frozen.
func (t *tokens) logIn(ctx context.Context, servers *consul.Servers) (token, error) {
	begun := t.now().Round(0)
	servers.UseToken("", time.Time{})
	var got login.Token
	err := servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		got, err = t.login.Login(ctx, client)
		return err
	})
	var refused api.StatusError
	if errors.As(err, &refused) && consul.Permanent(err) {
		err = fmt.Errorf("%w; does the auth method that CONSUL_LOGIN_METHOD names let the function's role in, and want the server ID that CONSUL_LOGIN_SERVER_ID has?", err)
	}
	if err != nil {
		return token{}, err
	}
	t.log.DebugContext(ctx, "logged in to Consul", "accessor", got.AccessorID, "expires", got.Expires)
	fresh := token{secret: got.Secret, issued: t.now().Round(0), until: begun.Add(tokenUse)}
	if !got.Expires.IsZero() {
		life := got.Expires.Sub(got.Created)
		fresh.until = begun.Add(min(tokenUse, life/2))
		fresh.end = begun.Add(life)
	}
	return fresh, nil
}

// logOut ends the held token. Consul does so too, only later, where that goes
// wrong.
func (t *tokens) logOut(ctx context.Context, servers *consul.Servers) {
	ctx, cancel := context.WithTimeout(ctx, logoutTime)
	defer cancel()
	err := servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		return login.Logout(ctx, client, t.held.secret)
	})
	if err != nil {
		t.log.DebugContext(ctx, "the old ACL token stays until it ends by itself", "error", err)
	}
}

// settle marks the held token as known. A server that doesn't know it from now
// on isn't waited for: a new token is had faster.
func (t *tokens) settle() { t.held.issued = time.Time{} }

// lose has the next use log in, where that is possible, since Consul doesn't
// know the held token. That one is logged out all the same: it may be only one
// server that doesn't know it.
func (t *tokens) lose() bool {
	if t.login == nil {
		return false
	}
	now := t.now().Round(0)
	t.held.until, t.held.end = now, now
	return true
}
