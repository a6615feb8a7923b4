package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/lockdown"
	"ecsmesh/initcontainer/envoy"
)

// Names in a secure lab.
const (
	CAParameter      = "/ecsmesh/consul-ca"
	ManagementSecret = "consul-management-token"
	serverID         = "ecsmesh-lab" // what logins are signed for
	serverName       = "server." + lockdown.Datacenter + ".consul"
)

// security is a locked-down Consul, with what AWS and tasks have of it.
type security struct {
	*lockdown.Lockdown
	transport   *http.Transport            // of who trusts the servers
	certificate string                     // the servers', with its key
	given       map[string]aws.Credentials // to tasks, by their IDs

	tokenARN, certificateARN string // in Secrets Manager
}

func newSecurity(dir string) (*security, error) {
	locked, err := lockdown.New(dir)
	if err != nil {
		return nil, err
	}
	certificate, err := locked.ServerCertificate()
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(locked.CA))
	return &security{
		Lockdown:    locked,
		certificate: certificate,
		transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS12},
			IdleConnTimeout: time.Minute,
		},
		given: map[string]aws.Credentials{},
	}, nil
}

// publishSecurity puts into AWS what the stacks refer to.
func (l *Lab) publishSecurity(ctx context.Context) error {
	_, err := ssm.NewFromConfig(l.Emulator.Config()).PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(CAParameter), Value: aws.String(l.security.CA), Type: types.ParameterTypeString,
	})
	if err != nil {
		return fmt.Errorf("publish the CA: %w", err)
	}
	// A file has an end of a line, and so the secret that is made of it.
	if l.security.tokenARN, err = l.keepSecret(ctx, ManagementSecret, l.security.Token+"\n"); err != nil {
		return err
	}
	l.security.certificateARN, err = l.keepSecret(ctx, "consul-server-certificate", l.security.certificate)
	return err
}

// setUpACL has the stack make what tasks and functions need to log in. Only now
// is there a Consul in which it can.
func (l *Lab) setUpACL(ctx context.Context) error {
	return l.deployStack(ctx, l.template(), map[string]string{
		"ConsulManagementTokenSecretArn": l.security.tokenARN,
		"TaskRoleArns":                   "arn:aws:iam::" + emulator.AccountID + ":role/*",
		"LoginServerId":                  serverID,
		"StsEndpoint":                    l.Emulator.URL(),
		"IamEndpoint":                    l.Emulator.URL(),
	})
}

// roleCredentials are what a task gets of its role.
func (l *Lab) roleCredentials(ctx context.Context, role, session string) (ecs.Credentials, error) {
	given, err := l.Emulator.AssumeRole(ctx, emulator.ECSTasks, role, session)
	l.mu.Lock()
	l.security.given[session] = given
	l.mu.Unlock()
	return ecs.Credentials{
		AccessKeyID: given.AccessKeyID, SecretAccessKey: given.SecretAccessKey, Token: given.SessionToken, Expiration: given.Expires,
	}, err
}

// Allow has Consul let one service call another, or with deny, no more: where
// its ACLs deny by default, so do its intentions.
func (l *Lab) Allow(ctx context.Context, from, to string, action api.IntentionAction) error {
	consul, err := l.Consul()
	if err != nil {
		return err
	}
	entry := &api.ServiceIntentionsConfigEntry{
		Kind: api.ServiceIntentions, Name: to, Sources: []*api.SourceIntention{{Name: from, Action: action}},
	}
	if _, _, err := consul.ConfigEntries().Set(entry, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("set the intention of %s to call %s: %w", from, to, err)
	}
	return nil
}

// Token is the ACL token that a task has now, in Envoy's file.
func (l *Lab) Token(task ecs.Task) (secret string, err error) {
	content, err := os.ReadFile(filepath.Join(l.ECS.TaskDir(task), "volumes", "ecsmesh", "consul-token.json"))
	if err == nil {
		secret, err = envoy.Secret(content)
	}
	if err != nil {
		return "", fmt.Errorf("read the token of %s: %w", task.Summary(), err)
	}
	return secret, nil
}

// Revoke takes away the token that a task has.
func (l *Lab) Revoke(ctx context.Context, task ecs.Task) error {
	secret, err := l.Token(task)
	if err != nil {
		return err
	}
	held, err := l.ConsulAs(secret)
	if err != nil {
		return err
	}
	token, _, err := held.ACL().TokenReadSelf((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("revoke the token of %s: %w", task.Summary(), err)
	}
	consul, err := l.Consul()
	if err != nil {
		return err
	}
	if _, err := consul.ACL().TokenDelete(token.AccessorID, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("revoke the token of %s: %w", task.Summary(), err)
	}
	return nil
}

// ManagementTokenFile is where the token is that may do everything.
func (l *Lab) ManagementTokenFile() string { return l.security.TokenFile() }

// Secrets are all that nobody but its holder may see, by what they are: the
// lab's own, the tokens that Consul has given out, and tasks' AWS credentials.
func (l *Lab) Secrets(ctx context.Context) (map[string]string, error) {
	consul, err := l.Consul()
	if err != nil {
		return nil, err
	}
	gossip, err := l.secret(ctx, "", l.gossipKey())
	if err != nil {
		return nil, err
	}
	_, key, _ := strings.Cut(l.security.certificate, "-----BEGIN PRIVATE KEY-----\n")
	secrets := map[string]string{"the management token": l.security.Token, "the gossip key": gossip, "the servers' key": key}
	l.mu.Lock()
	for session, given := range l.security.given {
		secrets["the secret key of "+session], secrets["the session token of "+session] = given.SecretAccessKey, given.SessionToken
	}
	l.mu.Unlock()
	tokens, _, err := consul.ACL().TokenList((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("list Consul's tokens: %w", err)
	}
	for _, token := range tokens {
		whole, _, err := consul.ACL().TokenRead(token.AccessorID, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return nil, fmt.Errorf("read Consul's tokens: %w", err)
		}
		if whole.SecretID != "anonymous" {
			secrets["the token "+token.AccessorID] = whole.SecretID
		}
	}
	return secrets, nil
}
