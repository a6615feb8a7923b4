// Package access gets a Lambda function into Consul: over TLS, to servers that
// its CA vouches for, and with an ACL token that lives no longer than it is of
// use. A function has no secret of its own; its role gets it in.
package access

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
	"ecsmesh/shared/parameter"
)

// Access is a function's way into one Consul cluster. It is made for one
// invocation at a time, as Lambda has it.
type Access struct {
	settings Settings
	ca       authority
	tokens   tokens

	// The servers that were used last, kept for their connections.
	servers *consul.Servers
	addrs   []netip.Addr
	pem     string // of their CA
}

// New returns the way that valid settings describe. Nothing is read and nobody
// asked before it is used.
func New(settings Settings, sdk aws.Config, log *slog.Logger) *Access {
	a := &Access{
		settings: settings,
		ca:       authority{pem: settings.CACertPEM, parameter: settings.CACertParameter, ssm: parameter.NewStore(sdk), now: time.Now, log: log},
		tokens:   tokens{now: time.Now, log: log},
	}
	if settings.LoginMethod != "" {
		a.tokens.login = login.New(sdk, login.Method{AuthMethod: settings.LoginMethod, ServerIDHeaderValue: settings.LoginServerID})
		if !settings.HTTPSSL {
			log.Warn("ACL tokens cross the network in clear: CONSUL_LOGIN_METHOD is set, and CONSUL_HTTP_SSL is not true")
		}
	}
	return a
}

// UseToken has requests carry a token that the caller has, in place of one that
// a login gives.
func (a *Access) UseToken(secret string) { a.tokens.give(secret) }

// Port is the port of every server's HTTP interface.
func (a *Access) Port() int { return a.settings.Port() }

// Use has the servers at these addresses used with the function's token. Use
// must be safe to repeat: it comes a second time after an error that a new token
// or a new CA may put right. Its error is use's, or that no token was to be had.
func (a *Access) Use(ctx context.Context, addrs []netip.Addr, use func(*consul.Servers) error) error {
	again, err := a.try(ctx, addrs, use)
	if again && ctx.Err() == nil {
		_, err = a.try(ctx, addrs, use)
	}
	if isUntrusted(err) {
		err = fmt.Errorf("%w; %s says which CA is trusted, CONSUL_TLS_SERVER_NAME for which name", err, a.ca.variable())
	}
	return err
}

// try tells whether another try may go better.
func (a *Access) try(ctx context.Context, addrs []netip.Addr, use func(*consul.Servers) error) (again bool, err error) {
	servers, err := a.reach(ctx, addrs)
	if err != nil {
		return false, err
	}
	if err := a.tokens.authorize(ctx, servers); err != nil {
		return isUntrusted(err) && a.ca.doubt(), err
	}
	err = use(servers)
	switch {
	case err == nil:
		a.tokens.settle()
	case isUntrusted(err):
		return a.ca.doubt(), err
	case consul.TokenUnknown(err):
		return a.tokens.lose(), err
	}
	return false, err
}

// reach keeps the connections while addresses and CA stay as they are.
func (a *Access) reach(ctx context.Context, addrs []netip.Addr) (*consul.Servers, error) {
	options := consul.Options{Port: a.Port(), Tenancy: consul.Tenancy{Partition: a.settings.Partition}}
	if a.settings.HTTPSSL {
		if err := a.ca.read(ctx); err != nil {
			return nil, err
		}
		options.TLS = &consul.TLS{CA: a.ca.pem, ServerName: a.settings.TLSServerName}
	}
	if a.servers == nil || a.pem != a.ca.pem || !slices.Equal(a.addrs, addrs) {
		servers, err := consul.NewServers(addrs, options)
		if err != nil {
			return nil, err
		}
		a.servers, a.addrs, a.pem = servers, slices.Clone(addrs), a.ca.pem
	}
	return a.servers, nil
}
