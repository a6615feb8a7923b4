// Package token says where a task has its ACL token from: a login with the
// task's role, or a parameter in which somebody keeps one.
package token

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
	"ecsmesh/shared/parameter"
)

// Source is where tokens come from, for the whole life of a task. It has no
// secret in it, and is kept on the shared volume as JSON. The zero value is no
// source at all.
type Source struct {
	Login     *login.Method `json:",omitempty"` // a login for each token
	Parameter string        `json:",omitempty"` // name of an SSM parameter that holds one
	Region    string        // of both, where the environment doesn't name one
}

// Exists tells whether there is a source.
func (s Source) Exists() bool { return s.Login != nil || s.Parameter != "" }

// Get returns a token. Servers are asked for a login only, each attempt of which
// is signed anew.
func (s Source) Get(ctx context.Context, sdk aws.Config, servers *consul.Servers) (login.Token, error) {
	if s.Login != nil {
		return s.logIn(ctx, sdk, servers)
	}
	secret, err := parameter.Read(ctx, parameter.NewStore(sdk), s.Parameter)
	if err != nil {
		return login.Token{}, err
	}
	return login.Token{Secret: secret}, nil
}

func (s Source) logIn(ctx context.Context, sdk aws.Config, servers *consul.Servers) (token login.Token, err error) {
	client := login.New(sdk, *s.Login)
	err = servers.Do(ctx, func(ctx context.Context, consul *api.Client) error {
		token, err = client.Login(ctx, consul)
		return err
	})
	var refused api.StatusError
	if errors.As(err, &refused) {
		err = fmt.Errorf("%w; is the task's role among those that the auth method lets in, with the tag that names its service?", err)
	}
	return token, err
}
