// Package login gets ACL tokens from Consul for an AWS role: it is the client of
// Consul's auth method of type aws-iam.
//
// The client signs a request to AWS STS that asks who it is, and with
// IncludeEntity one to IAM that asks for its role, and gives both to Consul
// instead of sending them. Consul sends them, and so learns from AWS itself whose
// credentials signed them. Neither the credentials nor a long-lived secret leave
// the task or function.
package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/awsapi"
)

// Method is what a login needs to know. It holds no secret, and is kept on the
// shared volume of a task as JSON.
type Method struct {
	AuthMethod string // its name in Consul

	// IncludeEntity adds the role's path and tags, for auth methods with
	// EnableIAMEntityDetails. The role has to be allowed to read itself, by
	// iam:GetRole.
	IncludeEntity bool `json:",omitempty"`

	Meta       map[string]string `json:",omitempty"` // becomes part of the token's description
	Region     string            `json:",omitempty"` // whose STS is asked; "" is the environment's
	Datacenter string            `json:",omitempty"` // Consul's, of the auth method; "" is the server's own

	// STSEndpoint is the URL of STS; "" is AWS's for the Region.
	STSEndpoint string `json:",omitempty"`

	// ServerIDHeaderValue names the Consul cluster that the login is for, where
	// the auth method wants that: another cluster can't be logged into with it.
	ServerIDHeaderValue string `json:",omitempty"`
}

// Token is an ACL token.
type Token struct {
	Secret     string
	AccessorID string
	Created    time.Time // by this host's clock
	Expires    time.Time // the same; zero: never
}

// RenewAt is when it is time for the next token: at half of this one's life, so
// that an outage of Consul may last as long as the other half. Zero: never.
func (t Token) RenewAt() time.Time {
	if t.Expires.IsZero() {
		return time.Time{}
	}
	return t.Created.Add(t.Expires.Sub(t.Created) / 2)
}

// Login logs in with one method.
type Login struct {
	method Method
	signer *signer
}

// New prepares a login with the credentials, and where the method says nothing
// else, in the Region of an AWS configuration.
func New(config aws.Config, method Method) *Login {
	return &Login{method, newSigner(config, method)}
}

// Login makes one attempt at one server, signed anew: AWS takes a signature for
// 15 minutes only, and Consul may take long to come back. A refusal, by Consul or
// by AWS, is an api.StatusError of 403.
func (l *Login) Login(ctx context.Context, consul *api.Client) (Token, error) {
	token, err := l.attempt(ctx, consul)
	if err != nil {
		return Token{}, fmt.Errorf("log in by the auth method %s: %w", l.method.AuthMethod, err)
	}
	return token, nil
}

func (l *Login) attempt(ctx context.Context, consul *api.Client) (Token, error) {
	credentials, err := awsapi.Credentials(ctx, l.signer.sdk)
	if err != nil {
		return Token{}, err
	}
	signed, err := l.signer.sign(ctx, credentials)
	if err != nil {
		return Token{}, err
	}
	bearer, err := json.Marshal(signed)
	if err != nil {
		return Token{}, err
	}
	begun := time.Now()
	given, err := l.method.present(ctx, consul, bearer)
	if err != nil {
		return Token{}, refusal(err, credentials)
	}
	token := Token{Secret: given.SecretID, AccessorID: given.AccessorID, Created: begun}
	if given.ExpirationTime != nil {
		// Consul's clock may differ from ours; how long the token lives doesn't.
		token.Expires = begun.Add(given.ExpirationTime.Sub(given.CreateTime))
	}
	return token, nil
}

// present gives signed requests to Consul.
func (m Method) present(ctx context.Context, consul *api.Client, bearer []byte) (*api.ACLToken, error) {
	token, _, err := consul.ACL().Login(&api.ACLLoginParams{
		AuthMethod: m.AuthMethod, BearerToken: string(bearer), Meta: m.Meta,
	}, (&api.WriteOptions{Datacenter: m.Datacenter}).WithContext(ctx))
	return token, err
}

// Logout ends a token that Login returned. Ending one that has ended already is
// no error.
func Logout(ctx context.Context, consul *api.Client, secret string) error {
	_, err := consul.ACL().Logout((&api.WriteOptions{Token: secret}).WithContext(ctx))
	if err != nil && !unknown(err) {
		return fmt.Errorf("log out of Consul: %w", err)
	}
	return nil
}

// refusal puts Consul's answer to a login into words, and its status right:
// Consul answers 500 also where it has understood a login and refused it. AWS's
// part of the answer may repeat the request, credentials and all.
func refusal(err error, credentials aws.Credentials) error {
	var answer api.StatusError
	switch {
	case !errors.As(err, &answer):
		return err
	case unknown(err):
		answer.Body = noMethod
	case answer.Code == http.StatusForbidden:
		answer.Body = "no binding rule gives this role anything: " + answer.Body
	case answer.Code == http.StatusInternalServerError && refused(answer.Body):
		answer.Code = http.StatusForbidden
	}
	if credentials.SessionToken != "" {
		answer.Body = strings.ReplaceAll(answer.Body, credentials.SessionToken, "(session token)")
	}
	return answer
}

// noMethod stands for Consul's "ACL not found", which is its word for unknown
// tokens as well.
const noMethod = "Consul has no such auth method"

// MethodUnknown tells whether a login failed for a name that no auth method has.
func MethodUnknown(err error) bool {
	var answer api.StatusError
	return errors.As(err, &answer) && answer.Body == noMethod
}

// unknown recognises what Consul says of a token, or auth method, that it
// doesn't have.
func unknown(err error) bool {
	var answer api.StatusError
	return errors.As(err, &answer) && answer.Code == http.StatusForbidden && strings.Contains(answer.Body, "ACL not found")
}

// refused recognises, by Consul's words, an answer that another attempt won't
// change. What isn't among them is tried again.
func refused(body string) bool {
	_, rest, _ := strings.Cut(body, "<Code>")
	if code, _, _ := strings.Cut(rest, "</Code>"); awsapi.Throttles(code) {
		return false
	}
	for _, words := range []string{
		"is not trusted",          // none of the bound principals
		"unrecognized ",           // neither a role nor a user
		"unique id mismatch",      // the role isn't the caller's own
		"missing header",          // no entity details, or no server ID, where the method wants them
		"header wasn't signed",    // the server ID was added later
		"expected \"",             // another cluster's server ID
		"invalid STS hostname",    // where Consul doesn't send a request
		"invalid IAM hostname",    //
		"received error code 400", // AWS doesn't take the signature
		"received error code 403", // nor lets the role read itself
	} {
		if strings.Contains(body, words) {
			return true
		}
	}
	return false
}
