package register

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/resilience"
	"ecsmesh/initcontainer/taskmeta"
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
	sdk        aws.Config
	source     discovery.Source
	joins      discovery.Source // of the servers, where source is the task's agent
	tokens     token.Source
	task       taskmeta.Task
	address    netip.Addr
	registered registration.Registration

	// What was found out so far.
	parameters parameter.Getter
	tls        interfaces
	servers    []netip.Addr
	token      login.Token
	datacenter string
}

// until finds servers and does with them what try does, with a fresh list of
// servers each time that none of them answers.
func (s *session) until(ctx context.Context, try func(context.Context) error) error {
	list := s.source.With(s.sdk)
	pause := slowly()
	for {
		var err error
		if s.servers, err = s.waitForServers(ctx, list); err != nil {
			return err
		}
		s.Log.Info("Consul servers found", "servers", s.servers)
		err = try(ctx)
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
		s.Log.Warn("Consul did not answer as it should; trying again", "error", err)
		wait, _ := pause.Next()
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// findSecrets reads the CAs, and the token that somebody else has made.
func (s *session) findSecrets(ctx context.Context) error {
	s.parameters = parameter.NewStore(s.sdk)
	var err error
	if s.tls, err = s.readCAs(ctx, s.parameters); err != nil {
		return err
	}
	secret := string(s.Config.ConsulServers.Token)
	if name := s.tokens.Parameter; name != "" {
		if secret, err = s.readParameter(ctx, s.parameters, name); err != nil {
			return fmt.Errorf("read the ACL token: %w", err)
		}
	}
	s.token = login.Token{Secret: secret}
	return nil
}

// register logs in, where there is no token yet, and registers.
func (s *session) register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, consulRound)
	defer cancel()
	servers, err := s.logIn(ctx)
	if err != nil {
		return err
	}
	if s.Config.Topology == config.ClientAgent {
		return s.advise(s.writeToAgent(ctx, servers))
	}
	servers.UseToken(s.token.Secret, s.token.Created)
	return s.advise(s.write(ctx, servers))
}

// logIn gets a token, where there is none yet. The servers don't have it.
func (s *session) logIn(ctx context.Context) (*consul.Servers, error) {
	servers, err := consul.NewServers(s.servers, consul.Options{Port: s.Config.ConsulServers.HTTP.Port, TLS: s.tls.http, Tenancy: s.Config.Tenancy})
	if err != nil || s.token.Secret != "" || s.tokens.Login == nil {
		return servers, err
	}
	if s.token, err = s.tokens.Get(ctx, s.sdk, servers); err != nil {
		return nil, err
	}
	s.Log.Info("logged in to Consul", "accessor", s.token.AccessorID)
	if s.token.Expires.IsZero() {
		s.Log.Warn("the ACL token has no end: give the auth method a MaxTokenTTL", "method", s.tokens.Login.AuthMethod)
	}
	return servers, nil
}

func (s *session) removeStale(ctx context.Context, client *api.Client) error {
	stale, err := s.registered.RemoveStale(ctx, client)
	for _, node := range stale {
		if node.Removed {
			s.Log.Info("removed what a dead task left at this task's address", "node", node.Node)
		} else {
			s.Log.Warn("another node has this task's address, and it is not known to be in the same VPC; it stays, and hides this task from the mesh if it is dead", "node", node.Node, "vpc", node.VPCID)
		}
	}
	return err
}

// writeResilience comes before the registration: a task that can't start must
// not be in the catalog.
func (s *session) writeResilience(ctx context.Context, client *api.Client) error {
	wanted := s.Config.Service.OutlierDetection
	if wanted == nil {
		return nil
	}
	service := s.registered.Instance().Service
	changed, err := resilience.Write(ctx, client, service, *wanted)
	if changed {
		s.Log.Info("changed the service-defaults: outlier detection of the service's upstreams", "service", service)
	}
	return err
}

func (s *session) write(ctx context.Context, servers *consul.Servers) error {
	return servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		if err := s.writeResilience(ctx, client); err != nil {
			return err
		}
		if err := s.removeStale(ctx, client); err != nil {
			return err
		}
		s.datacenter, err = s.registered.Write(ctx, client)
		return err
	})
}

// unknownField is what Consul says of a field in a configuration entry that it
// doesn't know.
const unknownField = "invalid config key"

// advise says what to do about a refusal.
func (s *session) advise(err error) error {
	var denied api.StatusError
	switch {
	case !errors.As(err, &denied):
		return err
	case denied.Code == http.StatusBadRequest && strings.Contains(denied.Body, unknownField) && s.Config.Service.OutlierDetection != nil && len(s.Config.Service.OutlierDetection.Newer) > 0:
		return fmt.Errorf("%w; these servers are too old for what service.networkResilienceConfig.outlierDetection names: remove it, and use maxFailures", err)
	case denied.Code == http.StatusBadRequest && !s.Config.Tenancy.IsDefault():
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
