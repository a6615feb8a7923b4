package acl

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/golden"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// interrupted is a way to Consul on which the requests that change something
// fail after some have passed. It tries nothing twice.
type interrupted struct {
	client *api.Client
	next   http.RoundTripper
	passes int
	lost   bool // those that fail reach Consul, and only their answers are lost
}

var _ servers = (*interrupted)(nil)

// reach is a way to a server; nothing fails on it before interrupt.
func reach(t *testing.T, server *consultest.Server) *interrupted {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(server.CA))
	way := &interrupted{next: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, passes: 1 << 30}
	client, err := api.NewClient(&api.Config{
		Address:    netip.AddrPortFrom(server.Addr, consultest.HTTPSPort).String(),
		Scheme:     "https",
		Token:      server.Token,
		HttpClient: &http.Client{Transport: way},
	})
	if err != nil {
		t.Fatal(err)
	}
	way.client = client
	return way
}

func (w *interrupted) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	return attempt(ctx, w.client)
}

var errInterrupted = errors.New("interrupted")

func (w *interrupted) RoundTrip(request *http.Request) (*http.Response, error) {
	switch {
	case request.Method == http.MethodGet:
		return w.next.RoundTrip(request)
	case w.passes > 0:
		w.passes--
		return w.next.RoundTrip(request)
	case w.lost:
		answer, err := w.next.RoundTrip(request)
		if err == nil {
			answer.Body.Close()
		}
	}
	return nil, errInterrupted
}

func (w *interrupted) interrupt(after int, lost bool) { w.passes, w.lost = after, lost }
func (w *interrupted) mend()                          { w.passes = 1 << 30 }

func open(t *testing.T, servers servers, stack Stack) *ACL {
	t.Helper()
	a, err := Open(t.Context(), servers, stack, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func build(t *testing.T, servers servers, stack Stack, settings Settings) {
	t.Helper()
	if err := open(t, servers, stack).Make(t.Context(), settings); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, servers servers, stack Stack) {
	t.Helper()
	if err := open(t, servers, stack).Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// content is all that Consul has, without what is built in and without IDs and
// indexes. What is linked is named.
type content struct {
	Policies []*api.ACLPolicy
	Roles    []*api.ACLRole
	Methods  []*api.ACLAuthMethod
	Rules    []*api.ACLBindingRule
}

func read(t *testing.T, client *api.Client) content {
	t.Helper()
	var c content
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	entries, _, err := client.ACL().PolicyList(nil)
	check(err)
	for _, entry := range entries {
		if entry.Name == "global-management" || strings.HasPrefix(entry.Name, "builtin/") {
			continue
		}
		policy, _, err := client.ACL().PolicyRead(entry.ID, nil)
		check(err)
		c.Policies = append(c.Policies, &api.ACLPolicy{Name: policy.Name, Description: policy.Description, Rules: policy.Rules})
	}
	slices.SortFunc(c.Policies, func(a, b *api.ACLPolicy) int { return cmp.Compare(a.Name, b.Name) })

	c.Roles, _, err = client.ACL().RoleList(nil)
	check(err)
	for _, role := range c.Roles {
		role.ID, role.Hash, role.CreateIndex, role.ModifyIndex = "", nil, 0, 0
		for _, link := range role.Policies {
			link.ID = ""
		}
	}
	slices.SortFunc(c.Roles, func(a, b *api.ACLRole) int { return cmp.Compare(a.Name, b.Name) })

	methods, _, err := client.ACL().AuthMethodList(nil)
	check(err)
	for _, entry := range methods {
		method, _, err := client.ACL().AuthMethodRead(entry.Name, nil)
		check(err)
		method.CreateIndex, method.ModifyIndex = 0, 0
		c.Methods = append(c.Methods, method)
	}
	slices.SortFunc(c.Methods, func(a, b *api.ACLAuthMethod) int { return cmp.Compare(a.Name, b.Name) })

	c.Rules, _, err = client.ACL().BindingRuleList("", nil)
	check(err)
	for _, rule := range c.Rules {
		rule.ID, rule.CreateIndex, rule.ModifyIndex = "", 0, 0
	}
	slices.SortFunc(c.Rules, func(a, b *api.ACLBindingRule) int { return cmp.Compare(a.Description, b.Description) })
	return c
}

func expect(t *testing.T, client *api.Client, what string, want content) {
	t.Helper()
	if diff := gocmp.Diff(want, read(t, client)); diff != "" {
		t.Errorf("%s, Consul differs (-want +got):\n%s", what, diff)
	}
}

// ids are those of everything, by name or description.
func ids(t *testing.T, servers *interrupted) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for kind, objects := range open(t, servers, Stack{}).has {
		for _, o := range objects {
			ids[kind.name+" "+o.name] = o.id
		}
	}
	return ids
}

func TestGoldenACLOnConsul(t *testing.T) {
	way := reach(t, consultest.StartSecure(t))
	expectGolden(t, way, settings(), "testdata/acl.json")
	with := settings()
	with.ClientAgents = true
	expectGolden(t, way, with, "testdata/acl-client-agents.json")
}

func expectGolden(t *testing.T, way *interrupted, settings Settings, path string) {
	t.Helper()
	build(t, way, stack(t, "aws", "eu-west-1", "ecsmesh"), settings)
	var got bytes.Buffer
	encoder := json.NewEncoder(&got)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(read(t, way.client)); err != nil {
		t.Fatal(err)
	}
	golden.Expect(t, path, got.Bytes())
}

func TestChangesOnConsul(t *testing.T) {
	way, stack := reach(t, consultest.StartSecure(t)), stack(t, "aws", "eu-west-1", "ecsmesh")
	nothing := read(t, way.client)
	build(t, way, stack, settings())
	first, firstIDs := read(t, way.client), ids(t, way)

	t.Run("the same again", func(t *testing.T) {
		build(t, way, stack, settings())
		expect(t, way.client, "made twice", first)
		if diff := gocmp.Diff(firstIDs, ids(t, way)); diff != "" {
			t.Errorf("something was made anew (-first +second):\n%s", diff)
		}
	})

	changed := settings()
	changed.TasksMethod, changed.TaskRoles, changed.TaskTokenTTL = "tasks", []string{account + "role/web"}, time.Minute
	changed.ServerID, changed.STSEndpoint = "", "https://sts.eu-west-1.amazonaws.com"
	changed.FunctionRoles = map[string]string{Sweep: account + "role/ecsmesh-SweepRole-9Z"}
	t.Run("an update is as good as a creation", func(t *testing.T) {
		build(t, way, stack, changed)
		updated := read(t, way.client)
		remove(t, way, stack)
		expect(t, way.client, "removed", nothing)
		build(t, way, stack, changed)
		expect(t, way.client, "made after it was removed", updated)
	})
	t.Run("and back", func(t *testing.T) {
		build(t, way, stack, settings())
		expect(t, way.client, "changed back", first)
	})
	t.Run("without functions", func(t *testing.T) {
		none := settings()
		none.FunctionRoles = nil
		build(t, way, stack, none)
		for _, method := range read(t, way.client).Methods {
			if method.Name == none.FunctionsMethod {
				t.Error("there is an auth method for functions")
			}
		}
		build(t, way, stack, settings())
	})
	t.Run("what was tampered with", func(t *testing.T) {
		acl := way.client.ACL()
		policy, _, err := acl.PolicyReadByName("ecsmesh-functions-sweep", nil)
		if err != nil {
			t.Fatal(err)
		}
		policy.Rules = `acl = "write"`
		if _, _, err := acl.PolicyUpdate(policy, nil); err != nil {
			t.Fatal(err)
		}
		rules, _, err := acl.BindingRuleList("ecsmesh-functions", nil)
		if err != nil {
			t.Fatal(err)
		}
		rules[0].Selector = ""
		if _, _, err := acl.BindingRuleUpdate(rules[0], nil); err != nil {
			t.Fatal(err)
		}
		build(t, way, stack, settings())
		expect(t, way.client, "made again", first)
	})
	t.Run("twice at once", func(t *testing.T) {
		rule := *first.Rules[0]
		if _, _, err := way.client.ACL().BindingRuleCreate(&rule, nil); err != nil {
			t.Fatal(err)
		}
		build(t, way, stack, settings())
		expect(t, way.client, "made again", first)
	})
}

// A terminating gateway needs policies for the services behind it, which only
// the user knows.
func TestWhatWasAddedToARoleStaysOnConsul(t *testing.T) {
	way, stack := reach(t, consultest.StartSecure(t)), stack(t, "aws", "eu-west-1", "ecsmesh")
	build(t, way, stack, settings())
	acl := way.client.ACL()
	if _, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "databases", Rules: `service "db" { policy = "write" }`}, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iam-ecs-service-token-terminating-gateway", "iam-ecs-service-token-mesh-gateway"} {
		role, _, err := acl.RoleReadByName(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		role.Policies = append(role.Policies, &api.ACLLink{Name: "databases"})
		role.ServiceIdentities = []*api.ACLServiceIdentity{{ServiceName: "ledger"}}
		if _, _, err := acl.RoleUpdate(role, nil); err != nil {
			t.Fatal(err)
		}
	}
	extended := read(t, way.client)
	build(t, way, stack, settings())
	expect(t, way.client, "made again", extended)
	remove(t, way, stack)
	if left := read(t, way.client); len(left.Policies) != 1 || left.Policies[0].Name != "databases" || len(left.Roles) != 0 {
		t.Errorf("after all was removed there are %d policies and %d roles, want the one policy of others", len(left.Policies), len(left.Roles))
	}
}

// Whichever change is the last one before Consul is gone, or the function: to
// make or remove the whole again ends as if nothing had been.
func TestInterruptionsOnConsul(t *testing.T) {
	way, stack := reach(t, consultest.StartSecure(t)), stack(t, "aws", "eu-west-1", "ecsmesh")
	nothing := read(t, way.client)
	build(t, way, stack, settings())
	all := read(t, way.client)
	remove(t, way, stack)
	for name, lost := range map[string]bool{"before the request": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			for changes := 0; ; changes++ {
				way.interrupt(changes, lost)
				failed := open(t, way, stack).Make(t.Context(), settings())
				if failed != nil && !errors.Is(failed, errInterrupted) {
					t.Fatal(failed)
				}
				way.interrupt(changes/2, lost) // some of what was made is gone again, some not
				if err := open(t, way, stack).Remove(t.Context()); err != nil && !errors.Is(err, errInterrupted) {
					t.Fatal(err)
				}
				way.mend()
				build(t, way, stack, settings())
				expect(t, way.client, "made again", all)

				way.interrupt(changes, lost)
				if err := open(t, way, stack).Remove(t.Context()); err != nil && !errors.Is(err, errInterrupted) {
					t.Fatal(err)
				}
				way.mend()
				remove(t, way, stack)
				expect(t, way.client, "removed again", nothing)
				if failed == nil {
					if want := len(all.Policies) + len(all.Roles) + len(all.Methods) + len(all.Rules); changes != want {
						t.Errorf("it took %d changes, want one for each of %d objects", changes, want)
					}
					return
				}
			}
		})
	}
}

// What others made under the names that the stack wants.
func TestOthersAreLeftAloneOnConsul(t *testing.T) {
	way, ours := reach(t, consultest.StartSecure(t)), stack(t, "aws", "eu-west-1", "ecsmesh")
	acl := way.client.ACL()
	create := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "ecsmesh-functions-sweep", Description: "mine", Rules: `operator = "read"`}, nil)
	create(err)
	_, _, err = acl.RoleCreate(&api.ACLRole{Name: "iam-ecs-service-token-Task"}, nil)
	create(err)
	_, _, err = acl.AuthMethodCreate(&api.ACLAuthMethod{
		Name: "iam-ecs-service-token", Type: "aws-iam", Description: "AWS IAM auth method for ECS service tokens",
		Config: map[string]any{"BoundIAMPrincipalARNs": []string{account + "role/web"}},
	}, nil)
	create(err)
	_, _, err = acl.BindingRuleCreate(&api.ACLBindingRule{AuthMethod: "iam-ecs-service-token", BindType: api.BindingRuleBindTypeService, BindName: "web"}, nil)
	create(err)
	before := read(t, way.client)

	err = open(t, way, ours).Make(t.Context(), settings())
	for _, want := range []string{
		`policy ecsmesh-functions-sweep is there already, and this stack has not made it (its description is "mine")`,
		`role iam-ecs-service-token-task is there already, and this stack has not made it (its description is "")`,
		`auth method iam-ecs-service-token is there already, and this stack has not made it (its description is "AWS IAM auth method for ECS service tokens")`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	expect(t, way.client, "refused", before)
	remove(t, way, ours)
	expect(t, way.client, "removed", before)

	t.Run("beside", func(t *testing.T) {
		beside := settings()
		beside.TasksMethod, beside.FunctionsMethod = "tasks", "functions"
		build(t, way, ours, beside)
		remove(t, way, ours)
		expect(t, way.client, "made under other names and removed", before)
	})
	t.Run("that come in between", func(t *testing.T) {
		beside := settings()
		beside.TasksMethod, beside.FunctionsMethod = "tasks", "functions"
		opened := open(t, way, ours)
		role, _, err := acl.RoleCreate(&api.ACLRole{Name: "functions-sweep"}, nil)
		create(err)
		if err := opened.Make(t.Context(), beside); err == nil || !strings.Contains(err.Error(), "make role functions-sweep: role functions-sweep is there already") {
			t.Errorf("got %v, want a refusal", err)
		}
		remove(t, way, ours)
		_, err = acl.RoleDelete(role.ID, nil)
		create(err)
		expect(t, way.client, "removed", before)
	})
}

func TestAnotherStackOnConsul(t *testing.T) {
	way, ours, other := reach(t, consultest.StartSecure(t)), stack(t, "aws", "eu-west-1", "ecsmesh"), stack(t, "aws", "eu-west-2", "ecsmesh")
	build(t, way, ours, settings())
	before := read(t, way.client)
	if err := open(t, way, other).Make(t.Context(), settings()); err == nil || !strings.Contains(err.Error(), ours.mark()) {
		t.Errorf("got %v, want it to name the stack %q", err, ours.mark())
	}
	beside := settings()
	beside.TasksMethod, beside.FunctionsMethod = "tasks-2", "functions-2"
	build(t, way, other, beside)
	remove(t, way, other)
	expect(t, way.client, "the other stack was there", before)
}

// An auth method can't go without its binding rules.
func TestOthersRulesKeepAnAuthMethodOnConsul(t *testing.T) {
	way, stack := reach(t, consultest.StartSecure(t)), stack(t, "aws", "eu-west-1", "ecsmesh")
	build(t, way, stack, settings())
	all := read(t, way.client)
	theirs := api.ACLBindingRule{AuthMethod: "iam-ecs-service-token", BindType: api.BindingRuleBindTypeRole, BindName: "theirs", Description: "theirs"}
	if _, _, err := way.client.ACL().BindingRuleCreate(&theirs, nil); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	opened, err := Open(t.Context(), way, stack, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := read(t, way.client)
	if len(left.Rules) != 1 || left.Rules[0].Description != "theirs" || len(left.Methods) != 1 || len(left.Roles)+len(left.Policies) != 0 {
		t.Errorf("left are %d binding rules, %d auth methods and %d roles and policies, want the rule of others and its method", len(left.Rules), len(left.Methods), len(left.Roles)+len(left.Policies))
	}
	if !strings.Contains(log.String(), "an auth method stays") {
		t.Errorf("the log doesn't say so:\n%s", log.String())
	}
	build(t, way, stack, settings())
	with := read(t, way.client)
	with.Rules = slices.DeleteFunc(with.Rules, func(r *api.ACLBindingRule) bool { return r.Description == "theirs" })
	if diff := gocmp.Diff(all, with); diff != "" {
		t.Errorf("made again, it differs (-want +got):\n%s", diff)
	}
}

func TestATokenThatMayNotOnConsul(t *testing.T) {
	server := consultest.StartSecure(t)
	token := func(rules string) string {
		policy, _, err := server.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "a-policy", Rules: rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := server.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return token.SecretID
	}
	for name, test := range map[string]struct{ token, want string }{
		"unknown":    {"6b1ad0e6-74a4-4ad8-9b3e-0f2f3a9b0c11", "read Consul's ACLs: Unexpected response code: 403 (ACL not found)"},
		"reads only": {token(`acl = "read"`), "make policy iam-ecs-service-token-task: Unexpected response code: 403 (Permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			way := reach(t, server)
			way.client = server.As(t, test.token)
			opened, err := Open(t.Context(), way, stack(t, "aws", "eu-west-1", "ecsmesh"), slog.New(slog.DiscardHandler))
			if err == nil {
				err = opened.Make(t.Context(), settings())
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
