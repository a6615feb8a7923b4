// Package functiontest runs a function's handler among what it has in
// production: an AWS that allows what the function's role may, and a Consul
// server with TLS and ACLs that deny by default, which lets that role log in.
package functiontest

import (
	"bytes"
	_ "embed"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/emulator"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/function"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
)

// ServersParameter is the list of Consul servers in SSM, with the one that there is.
const ServersParameter = "/ecsmesh/consul-servers"

// AuthMethod is Consul's, and lets the role in.
const AuthMethod = "functions"

const (
	caParameter = "/ecsmesh/consul-ca"
	serverID    = "here"
	tokenTTL    = 15 * time.Minute
)

//go:embed role.yaml
var role []byte

// World is what surrounds a function.
type World struct {
	Consul    *consultest.Server
	AWS       aws.Config        // of the account's root user
	Variables map[string]string // the function's environment
	Log       *bytes.Buffer     // what it logs, from level DEBUG on
	Plan      *dryrun.Plan      // of a handler whose environment has it run dry

	role aws.Config
}

// Start has Consul give the function's role a token with these ACL rules. ecs is
// the URL of what answers for ECS; "": the emulator.
func Start(t testing.TB, rules, ecs string) *World {
	t.Helper()
	cloud, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), EnforceIAM: true, ECSEndpoint: ecs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Stop(); err != nil {
			t.Error(err)
		}
	})
	template := filepath.Join(t.TempDir(), "role.yaml")
	if err := os.WriteFile(template, role, 0o600); err != nil {
		t.Fatal(err)
	}
	outputs, err := cloud.Deploy(t.Context(), "function", template, nil, map[string]string{"ServersParameter": ServersParameter, "CAParameter": caParameter})
	if err != nil {
		t.Fatal(err)
	}
	session, err := cloud.AssumeRole(t.Context(), emulator.Lambda, outputs["Role"], "function")
	if err != nil {
		t.Fatal(err)
	}
	w := &World{
		Consul: consultest.StartSecure(t),
		AWS:    cloud.Config(),
		Variables: map[string]string{
			"SERVERS_PARAMETER":       ServersParameter,
			"CONSUL_HTTP_SSL":         "true",
			"CONSUL_CACERT_PARAMETER": caParameter,
			"CONSUL_LOGIN_METHOD":     AuthMethod,
			"CONSUL_LOGIN_SERVER_ID":  serverID,
		},
		Log:  &bytes.Buffer{},
		role: cloud.ConfigAs(session),
	}
	w.Publish(t, ServersParameter, w.Consul.Addr.String())
	w.Publish(t, caParameter, w.Consul.CA)
	w.letIn(t, outputs["Role"], cloud.URL(), rules)
	return w
}

// Publish sets a parameter.
func (w *World) Publish(t testing.TB, name, value string) {
	t.Helper()
	_, err := ssm.NewFromConfig(w.AWS).PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: &name, Value: &value, Type: types.ParameterTypeString, Overwrite: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *World) letIn(t testing.TB, role, sts, rules string) {
	t.Helper()
	acl := w.Consul.Client.ACL()
	_, _, err := acl.AuthMethodCreate(&api.ACLAuthMethod{Name: AuthMethod, Type: "aws-iam", MaxTokenTTL: tokenTTL, Config: map[string]any{
		"BoundIAMPrincipalARNs": []string{role}, "ServerIDHeaderValue": serverID, "STSEndpoint": sts,
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "function", Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := acl.RoleCreate(&api.ACLRole{Name: "function", Policies: []*api.ACLLink{{ID: policy.ID}}}, nil); err != nil {
		t.Fatal(err)
	}
	rule := &api.ACLBindingRule{AuthMethod: AuthMethod, BindType: api.BindingRuleBindTypeRole, BindName: "function"}
	if _, _, err := acl.BindingRuleCreate(rule, nil); err != nil {
		t.Fatal(err)
	}
}

// Tokens are those that live of what the function has logged in for.
func (w *World) Tokens(t testing.TB) []*api.ACLTokenListEntry {
	t.Helper()
	tokens, _, err := w.Consul.Client.ACL().TokenListFiltered(api.ACLTokenFilterOptions{AuthMethod: AuthMethod}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// Handler is the function's, from its environment on, as function.Start has it.
// When the test ends, no token that lives may be in the function's log.
func Handler[C function.Config, H any](t testing.TB, w *World, wire func(C, function.Runtime) H) H {
	t.Helper()
	config, err := environment.Parse[C](w.Variables)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, token := range w.Tokens(t) {
			if strings.Contains(w.Log.String(), token.SecretID) {
				t.Errorf("the token %s is in the function's log", token.AccessorID)
			}
		}
	})
	log := invocation.NewLogger(w.Log, slog.LevelDebug)
	if changing, ok := any(config).(interface{ Dry() bool }); ok && changing.Dry() {
		w.Plan = dryrun.New(log)
	}
	return wire(config, function.Runtime{
		SDK:     w.role,
		Log:     log,
		Metrics: metrics.NewWriter(io.Discard, "function"),
		Plan:    w.Plan,
	})
}
