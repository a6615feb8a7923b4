package lab

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/pki"
	"ecsmesh/initcontainer/envoy"
)

// Names in a secure lab.
const (
	CAParameter      = "/ecsmesh/consul-ca"
	ManagementSecret = "consul-management-token"
	serverID         = "ecsmesh-lab" // what logins are signed for
	datacenter       = "dc1"
)

const (
	httpsPort   = 8501
	grpcTLSPort = 8503
)

// security is what keeps others out of the lab's Consul: certificates for its
// servers, and a token that may do everything.
type security struct {
	authority *pki.Authority
	dir       string
	token     string
	gossip    string // the key of the servers' gossip
	secretARN string // of the token in Secrets Manager

	given map[string]aws.Credentials // to tasks, by their IDs

	transport *http.Transport // of who trusts the servers
}

func newSecurity(dir string) (*security, error) {
	authority, err := pki.New()
	if err != nil {
		return nil, err
	}
	s := &security{authority: authority, dir: dir, given: map[string]aws.Credentials{}, gossip: base64.StdEncoding.EncodeToString(random(32))}
	id := random(16)
	s.token = fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	s.transport = &http.Transport{TLSClientConfig: s.client(), IdleConnTimeout: time.Minute}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return s, s.write("ca.pem", authority.CA)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func (s *security) path(name string) string { return filepath.Join(s.dir, name) }

func (s *security) write(name, content string) error {
	return os.WriteFile(s.path(name), []byte(content), 0o600)
}

// configure writes the part of a server's configuration that is secret, and so
// none of its arguments, and returns the file.
func (s *security) configure(server netip.Addr) (path string, err error) {
	certificate, err := s.authority.Server(datacenter, server)
	if err != nil {
		return "", err
	}
	name := server.String()
	for file, content := range map[string]string{name + ".pem": certificate.Certificate, name + "-key.pem": certificate.Key, "token": s.token} {
		if err := s.write(file, content); err != nil {
			return "", err
		}
	}
	type object = map[string]any
	config, err := json.Marshal(object{
		"encrypt": s.gossip,
		"ports":   object{"http": -1, "https": httpsPort, "grpc": -1, "grpc_tls": grpcTLSPort},
		"acl": object{
			"enabled": true, "default_policy": "deny", "enable_token_persistence": true,
			"tokens": object{"initial_management": s.token, "agent": s.token},
		},
		// Consul gives certificates of its proxies, keys and all, out of a cache
		// to whoever asks there. Envoy asks elsewhere.
		"http_config": object{"block_endpoints": []string{"/v1/agent/connect/ca/leaf/"}},
		"tls": object{
			"defaults":     object{"ca_file": s.path("ca.pem"), "cert_file": s.path(name + ".pem"), "key_file": s.path(name + "-key.pem")},
			"internal_rpc": object{"verify_incoming": true, "verify_server_hostname": true},
		},
	})
	if err != nil {
		return "", err
	}
	return s.path(name + ".json"), s.write(name+".json", string(config))
}

func (s *security) client() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(s.authority.CA))
	return &tls.Config{RootCAs: roots, ServerName: "server." + datacenter + ".consul", MinVersion: tls.VersionTLS12}
}

// publish puts into AWS what the stacks refer to.
func (l *Lab) publishSecurity(ctx context.Context) error {
	_, err := ssm.NewFromConfig(l.Emulator.Config()).PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(CAParameter), Value: aws.String(l.security.authority.CA), Type: types.ParameterTypeString,
	})
	if err != nil {
		return fmt.Errorf("publish the CA: %w", err)
	}
	secret, err := secretsmanager.NewFromConfig(l.Emulator.Config()).CreateSecret(ctx, &secretsmanager.CreateSecretInput{
		Name: aws.String(ManagementSecret), SecretString: aws.String(l.security.token),
	})
	if err != nil {
		return fmt.Errorf("keep the management token: %w", err)
	}
	l.security.secretARN = aws.ToString(secret.ARN)
	return nil
}

// setUpACL has the stack make what tasks and functions need to log in. Only now
// is there a Consul in which it can.
func (l *Lab) setUpACL(ctx context.Context) error {
	return l.deployStack(ctx, map[string]string{
		"ConsulManagementTokenSecretArn": l.security.secretARN,
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
func (l *Lab) ManagementTokenFile() string { return l.security.path("token") }

// Secrets are all that nobody but its holder may see, by what they are: the
// lab's own, the tokens that Consul has given out, and tasks' AWS credentials.
func (l *Lab) Secrets(ctx context.Context) (map[string]string, error) {
	consul, err := l.Consul()
	if err != nil {
		return nil, err
	}
	secrets := map[string]string{"the management token": l.security.token, "the gossip key": l.security.gossip}
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
