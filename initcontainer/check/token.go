package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

const (
	// renewAttempt bounds one login at one server, which asks AWS who the task
	// is, perhaps on another continent, before it answers.
	renewAttempt = 2500 * time.Millisecond

	// renewPause is what passes, at least, between two logins. It doubles while
	// they fail: one that took too long may have made a token all the same.
	renewPause   = 15 * time.Second
	longestRenew = 4 * time.Minute
)

// authorize gives this run's requests the task's token, or a new one where the
// one that the task has can't be read any more.
func (s *synchronization) authorize(ctx context.Context) error {
	if s.task.Token == nil {
		return nil
	}
	secret, since, held := s.heldToken()
	if s.upkeep.TokenKnown {
		since = time.Time{}
	}
	switch {
	case held == nil:
		s.servers.UseToken(secret, since)
		return nil
	case errors.Is(held, fs.ErrPermission):
		return fmt.Errorf("read the task's ACL token: %w; it belongs to Envoy's user, which proxy.uid names", held)
	case !s.mayRenew():
		return held
	}
	return s.renew(ctx)
}

// renewInTime renews the token while the one that the task has still does.
func (s *synchronization) renewInTime(ctx context.Context) {
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end.Add(-s.consulShare()/4))
		defer cancel()
	}
	if err := s.renew(ctx); err != nil {
		s.Log.Warn("the ACL token is not renewed", "error", err)
	}
}

// heldToken reads the token where Envoy has it from, and since when it is there.
func (s *synchronization) heldToken() (secret string, since time.Time, err error) {
	path := s.Volume.LiveToken()
	content, err := os.ReadFile(path)
	if err != nil {
		return "", time.Time{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", time.Time{}, err
	}
	secret, err = envoy.Secret(content)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read %s: %w", path, err)
	}
	return secret, info.ModTime(), nil
}

// noteTokenKnown remembers that Consul took the token.
func (s *synchronization) noteTokenKnown() {
	if s.task.Token != nil && !s.upkeep.TokenKnown {
		next := s.upkeep
		next.TokenKnown = true
		s.keep(next)
	}
}

// renewDue tells whether half of the token's life is over.
func (s *synchronization) renewDue() bool {
	if s.task.Token == nil {
		return false
	}
	at := s.task.Token.RenewAt
	if s.upkeep.Renewed {
		at = s.upkeep.RenewAt
	}
	return !at.IsZero() && !s.Now().Before(at) && s.mayRenew()
}

// mayRenew tells whether there is a source to ask for a token, and the last
// time is long enough ago.
func (s *synchronization) mayRenew() bool {
	pause := max(min(renewPause, s.Refresh), s.upkeep.RenewPause)
	return s.task.Token != nil && s.task.Token.Source.Exists() && s.Now().Sub(s.upkeep.RenewTriedAt) >= pause
}

// renew gets another token, for Envoy and for this run's requests.
func (s *synchronization) renew(ctx context.Context) error {
	if err := s.note(s.upkeep.renewing(s.Now(), s.Refresh)); err != nil {
		return fmt.Errorf("renew the ACL token: %w", err)
	}
	servers, err := consul.NewServers(s.current(), consul.Options{Port: s.task.HTTPPort, TLS: s.task.TLS, AttemptTimeout: renewAttempt, Tenancy: s.task.Registration.Tenancy()})
	if err != nil {
		return fmt.Errorf("renew the ACL token: %w", err)
	}
	sdk, err := discovery.AWS(s.task.Token.Source.Region)
	if err != nil {
		return fmt.Errorf("renew the ACL token: %w", err)
	}
	got, err := s.task.Token.Source.Get(ctx, sdk, servers)
	if err != nil {
		return fmt.Errorf("renew the ACL token: %w", err)
	}
	if held, _, err := s.heldToken(); err == nil && held == got.Secret {
		return fmt.Errorf("renew the ACL token: SSM parameter %s still holds the one that the task has", s.task.Token.Source.Parameter)
	}
	content, err := envoy.Token(got.Secret)
	if err != nil {
		return fmt.Errorf("renew the ACL token: %w", err)
	}
	user, err := volume.OwnerOf(s.Volume.LiveToken())
	if err != nil {
		user = os.Geteuid()
	}
	if s.task.Agent != nil {
		next := s.upkeep
		next.AgentBehind = true
		if err := s.note(next); err != nil {
			return fmt.Errorf("renew the ACL token: %w", err)
		}
	}
	if err := s.Volume.WritePrivate(s.Volume.LiveToken(), content, user); err != nil {
		return fmt.Errorf("renew the ACL token: %w", err)
	}
	s.servers.UseToken(got.Secret, time.Now())
	s.Log.Info("the ACL token was renewed", "accessor", got.AccessorID)
	s.keep(s.upkeep.renewed(s.Now(), got.RenewAt()))
	if s.task.Agent != nil {
		return s.writeToAgent(ctx) // the next runs try again
	}
	return nil
}
