package register

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/sethvargo/go-retry"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/token"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
	"ecsmesh/shared/parameter"
)

// consulRound is how long one list of servers is tried before it is read
// again: all of its servers may have been replaced meanwhile.
const consulRound = 5 * time.Second

// session is one registration, from the search for servers to the files.
type session struct {
	Registrar
	source     discovery.Source
	tls        interfaces
	tokens     token.Source
	registered registration.Registration
	address    netip.Addr

	// What was found out so far.
	servers    []netip.Addr
	token      login.Token
	datacenter string
}

// register finds servers and writes the registration to one of them, with a
// fresh list of servers each time that none of them answers.
func (s *session) register(ctx context.Context) error {
	list, err := s.source.Open(ctx)
	if err != nil {
		return err
	}
	pause := retry.WithJitterPercent(50, retry.WithCappedDuration(longestPause, retry.NewExponential(firstPause)))
	for {
		if s.servers, err = s.waitForServers(ctx, list); err != nil {
			return err
		}
		s.Log.Info("Consul servers found", "servers", s.servers)
		err = s.try(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		switch {
		case errors.Is(err, consul.ErrNoAnswer): // a new token may be on its way
		case consul.TokenUnknown(err) && s.tokens.Login != nil:
			s.token = login.Token{} // lost with a snapshot that was restored, or revoked
		case consul.Permanent(err):
			return err
		}
		s.Log.Warn("no Consul server took the registration; trying again", "error", err)
		wait, _ := pause.Next()
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// findToken finds the token that somebody else has made.
func (s *session) findToken(ctx context.Context, ssm parameter.API) (err error) {
	secret := string(s.Config.ConsulServers.Token)
	if name := s.tokens.Parameter; name != "" {
		if secret, err = s.readParameter(ctx, ssm, name); err != nil {
			return fmt.Errorf("read the ACL token: %w", err)
		}
	}
	s.token = login.Token{Secret: secret}
	return nil
}

// try logs in, where there is no token yet, and registers.
func (s *session) try(ctx context.Context) error {
	servers, err := consul.NewServers(s.servers, consul.Options{Port: s.Config.ConsulServers.HTTP.Port, TLS: s.tls.http, Tenancy: s.registered.Tenancy()})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, consulRound)
	defer cancel()
	if s.token.Secret == "" && s.tokens.Login != nil {
		if s.token, err = s.tokens.Get(ctx, servers); err != nil {
			return err
		}
		s.Log.Info("logged in to Consul", "accessor", s.token.AccessorID)
		if s.token.Expires.IsZero() {
			s.Log.Warn("the ACL token has no end: give the auth method a MaxTokenTTL", "method", s.tokens.Login.AuthMethod)
		}
	}
	servers.UseToken(s.token.Secret, s.token.Created)
	return s.write(ctx, servers)
}

func (s *session) write(ctx context.Context, servers *consul.Servers) error {
	err := servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		stale, err := s.registered.RemoveStale(ctx, client)
		for _, node := range stale {
			if node.Removed {
				s.Log.Info("removed what a dead task left at this task's address", "node", node.Node)
			} else {
				s.Log.Warn("another node has this task's address, and it is not known to be in the same VPC; it stays, and hides this task from the mesh if it is dead", "node", node.Node, "vpc", node.VPCID)
			}
		}
		if err != nil {
			return err
		}
		s.datacenter, err = s.registered.Write(ctx, client)
		return err
	})
	var denied api.StatusError
	switch {
	case errors.As(err, &denied) && denied.Code == http.StatusBadRequest && !s.registered.Tenancy().IsDefault():
		what := "service"
		if s.Config.Gateway != nil {
			what = "gateway"
		}
		return fmt.Errorf("%w; unless this is Consul Enterprise, remove %s.namespace and %s.partition", err, what, what)
	case denied.Code != http.StatusForbidden:
		return err
	case consul.TokenUnknown(err) && s.tokens.Login == nil:
		return fmt.Errorf("%w; Consul does not know the token of consulServers.tokenParameter, or of %s", err, config.TokenVariable)
	case consul.TokenUnknown(err):
		return err
	case s.token.Secret == "":
		return fmt.Errorf("%w; Consul wants an ACL token: set consulLogin.enabled", err)
	}
	return fmt.Errorf("%w; the token needs the service identity of %s, and node:write for nodes that begin with ecs-", err, s.registered.Instance().Service)
}
