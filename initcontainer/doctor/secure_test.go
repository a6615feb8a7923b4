package doctor

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/pki"
	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
)

const method = "tasks"

// secured is a task's configuration in a Consul with TLS and ACLs.
const secured = `"consulServers": {"defaults": {"tls": true}}, "consulLogin": {"enabled": true, "method": "tasks"},
	"proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"}, "service": {"name": "api", "port": 8080}`

// newSecureWorld has the roles that begin with "role-" log in, as setup-acl does.
func newSecureWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, consultest.StartSecure(t))
	acl := w.consul.Client.ACL()
	_, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "task", Rules: `node_prefix "ecs-" { policy = "write" }`}, nil)
	must(t, err)
	_, _, err = acl.RoleCreate(&api.ACLRole{Name: "task", Policies: []*api.ACLRolePolicyLink{{Name: "task"}}}, nil)
	must(t, err)
	_, _, err = acl.AuthMethodCreate(&api.ACLAuthMethod{Name: method, Type: "aws-iam", Config: map[string]any{
		"BoundIAMPrincipalARNs": []string{"arn:aws:iam::123456789012:role/role-*"}, "EnableIAMEntityDetails": true,
		"IAMEntityTags": []string{serviceTag}, "STSEndpoint": w.url, "IAMEndpoint": w.url,
	}, MaxTokenTTL: 3600e9}, nil)
	must(t, err)
	for _, rule := range []*api.ACLBindingRule{
		{AuthMethod: method, BindType: api.BindingRuleBindTypeService, BindName: "${entity_tags." + serviceTag + "}"},
		{AuthMethod: method, BindType: api.BindingRuleBindTypeRole, BindName: "task"},
	} {
		_, _, err := acl.BindingRuleCreate(rule, nil)
		must(t, err)
	}
	return w
}

func authority(t *testing.T) string {
	t.Helper()
	other, err := pki.New()
	must(t, err)
	return other.CA
}

// newSecureTask is one that knows the servers' CA.
func (w *world) newSecureTask(t *testing.T, fields string) *task {
	t.Helper()
	k := w.newTask(t, fields)
	k.env[config.CACertVariable] = w.consul.CA
	return k
}

// tokens are the accessors of those that logins have made.
func (w *world) tokens(t *testing.T) map[string]bool {
	t.Helper()
	list, _, err := w.consul.Client.ACL().TokenList(nil)
	must(t, err)
	all := map[string]bool{}
	for _, token := range list {
		all[token.AccessorID] = true
	}
	return all
}

// TestATaskThatMayNot has faults of TLS and of ACLs that stop the init container.
func TestATaskThatMayNot(t *testing.T) {
	w := newSecureWorld(t)
	weak, _, err := w.consul.Client.ACL().TokenCreate(&api.ACLToken{ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "api"}}}, nil)
	must(t, err)
	replace := func(old, by string) func(*testing.T, *task) {
		return func(_ *testing.T, k *task) { k.configure(strings.Replace(secured, old, by, 1)) }
	}
	as := func(role string) func(*testing.T, *task) {
		return func(t *testing.T, _ *task) { t.Setenv("AWS_ACCESS_KEY_ID", role) }
	}
	noLogin := `"enabled": false`
	for name, test := range map[string]struct {
		plant func(*testing.T, *task)
		want  Cause
		found string
	}{
		"another service's name":    {as("role-web"), OtherService, "it is for web, and the task's service is api"},
		"an unknown auth method":    {replace(`"tasks"`, `"nobody"`), MethodUnknown, "nobody"},
		"a role that is a stranger": {as("stranger"), LoginRefused, "not trusted"},
		"no login":                  {replace(`"enabled": true`, noLogin), TokenMissing, "service:write of api"},
		"a token with too few rights": {func(_ *testing.T, k *task) {
			k.env[config.TokenVariable] = weak.SecretID
			k.configure(strings.Replace(secured, `"enabled": true`, noLogin, 1))
		}, RightsMissing, "node:write"},
		"a token that is none": {func(_ *testing.T, k *task) {
			k.env[config.TokenVariable] = "11111111-2222-3333-4444-555555555555"
			k.configure(strings.Replace(secured, `"enabled": true`, noLogin, 1))
		}, TokenUnknown, config.TokenVariable},
		"a token's parameter that is missing": {func(_ *testing.T, k *task) {
			k.configure(strings.Replace(strings.Replace(secured, `"enabled": true`, noLogin, 1), `{"defaults"`, `{"tokenParameter": "/none", "defaults"`, 1))
		}, TokenUnreadable, "/none"},
		"another CA": {func(t *testing.T, k *task) { k.env[config.CACertVariable] = authority(t) }, CAWrong, "8501"},
		"no CA where it should be": {func(_ *testing.T, k *task) {
			delete(k.env, config.CACertVariable)
			k.configure(strings.Replace(secured, `{"tls": true}`, `{"tls": true, "caCertParameter": "/ca"}`, 1))
		}, CAUnread, "/ca"},
		"no CA in its parameter": {func(t *testing.T, k *task) {
			w.change(t, func() { w.parameters["/ca"] = "certificate" })
			delete(k.env, config.CACertVariable)
			k.configure(strings.Replace(secured, `{"tls": true}`, `{"tls": true, "caCertParameter": "/ca"}`, 1))
		}, CAUnread, "no certificate in PEM"},
		"a name that servers don't have": {replace(`{"tls": true}`, `{"tls": true, "tlsServerName": "server.dc2.consul"}`), ServerNameWrong, "server.dc2.consul"},
		"no TLS":                         {replace(`{"tls": true}`, `{"tls": false}, "http": {"port": 8501}, "grpc": {"port": 8503}`), TLSUnwanted, "plain HTTP"},
		"an xDS port with another CA":    {func(t *testing.T, k *task) { k.env[config.GRPCCACertVariable] = authority(t) }, CAWrong, "8503 (xDS)"},
		"nothing else":                   {func(*testing.T, *task) {}, StateMissing, "exit code 1"},
	} {
		t.Run(name, func(t *testing.T) {
			k := w.newSecureTask(t, secured)
			test.plant(t, k)
			k.set(func() { k.exitCode = "1" })
			before := w.tokens(t)
			k.expect(t, test.want, test.found)
			for accessor := range w.tokens(t) {
				if !before[accessor] {
					t.Errorf("the token %s is left", accessor)
				}
			}
		})
	}
}

// TestATaskWithATokenInTheMesh has faults that befall a running task in a Consul
// that denies by default, with a real Envoy.
func TestATaskWithATokenInTheMesh(t *testing.T) {
	w := newSecureWorld(t)
	addInstance(t, w, "payments", api.HealthPassing)
	k := w.newSecureTask(t, strings.Replace(secured, `"proxy": {`, `"proxy": {"upstreams": [{"destinationName": "payments", "localBindAddress": "OWN", "localBindPort": 9001}], `, 1))
	k.begin(t)
	k.leave()
	delete(k.env, config.CACertVariable)
	secret, _, err := check.HeldToken(k.volume)
	must(t, err)

	t.Run("an intention is missing", func(t *testing.T) { k.expect(t, UpstreamForbidden, "from api to payments") })
	_, _, err = w.consul.Client.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "payments",
		Sources: []*api.SourceIntention{{Name: "api", Action: api.IntentionActionAllow}}}, nil)
	must(t, err)
	t.Run("nothing is wrong, and no secret shows", func(t *testing.T) {
		report := k.expect(t, none)
		var text bytes.Buffer
		must(t, report.WriteText(&text))
		must(t, report.WriteJSON(&text))
		for _, hidden := range []string{secret, "secret-key"} {
			if strings.Contains(text.String(), hidden) {
				t.Errorf("a secret is in:\n%s", &text)
			}
		}
		if report.State != OK || !strings.Contains(text.String(), "for the service api, with role task") {
			t.Errorf("it is %s:\n%s", report.State, &text)
		}
	})
	t.Run("the token is not renewed", func(t *testing.T) {
		state, err := check.ReadTask(k.volume)
		must(t, err)
		kept := state
		token := *state.Token
		token.RenewAt = token.RenewAt.Add(-2 * 3600e9)
		state.Token = &token
		must(t, k.volume.WriteJSON(k.volume.Task(), state))
		k.expect(t, TokenNotRenewed, "ago")
		t.Setenv("AWS_ACCESS_KEY_ID", "stranger")
		k.expect(t, LoginRefused, "not trusted") // and that is why
		must(t, k.volume.WriteJSON(k.volume.Task(), kept))
	})
	t.Run("the token is deleted", func(t *testing.T) {
		held, _, err := w.consul.As(t, secret).ACL().TokenReadSelf(nil)
		must(t, err)
		_, err = w.consul.Client.ACL().TokenDelete(held.AccessorID, nil)
		must(t, err)
		before := w.tokens(t)
		k.expect(t, TokenUnknown, "check renews it")
		if after := w.tokens(t); len(after) != len(before) {
			t.Errorf("%d tokens are left, of %d", len(after), len(before))
		}
		eventually(t, "check to get another one", func() error {
			if err := k.check(t); err != nil {
				return err
			}
			held, _, err := check.HeldToken(k.volume)
			if err == nil && held == secret {
				err = errors.New("it is the same")
			}
			return err
		})
		k.soon(t, none)
	})
	t.Run("… and nobody may log in any more", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "stranger")
		secret, _, err := check.HeldToken(k.volume)
		must(t, err)
		held, _, err := w.consul.As(t, secret).ACL().TokenReadSelf(nil)
		must(t, err)
		_, err = w.consul.Client.ACL().TokenDelete(held.AccessorID, nil)
		must(t, err)
		k.expect(t, LoginRefused, "not trusted")
	})
	t.Run("the token's file is gone", func(t *testing.T) {
		must(t, os.Remove(k.volume.LiveToken()))
		k.expect(t, TokenUnreadable, "consul-token.json")
	})
}
