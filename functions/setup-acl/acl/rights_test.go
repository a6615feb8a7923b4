package acl

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/emulator"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// errHidden stands for an answer without something that is there.
var errHidden = errors.New("it is hidden")

func sees(is bool, err error) error {
	if err == nil && !is {
		return errHidden
	}
	return err
}

// peerings is only tried by those who may: Consul itself tries for seconds to
// have another answer than a denial.
const peerings = "read the peerings"

// deeds are what a token may be good for. Each can be done again.
var deeds = map[string]func(*api.Client) error{
	"register a node of a task":     func(c *api.Client) error { return registerNode(c, "ecs-2b") },
	"register a node of a server":   func(c *api.Client) error { return registerNode(c, "server-2b") },
	"deregister a node of a task":   func(c *api.Client) error { return deregisterNode(c, "ecs-gone") },
	"deregister a node of a server": func(c *api.Client) error { return deregisterNode(c, "server-gone") },
	"register web":                  func(c *api.Client) error { return registerService(c, "web") },
	"register web's sidecar":        func(c *api.Client) error { return registerService(c, "web-sidecar-proxy") },
	"register ledger":               func(c *api.Client) error { return registerService(c, "ledger") },
	"register mesh-gw":              func(c *api.Client) error { return registerService(c, "mesh-gw") },
	"register api-gw":               func(c *api.Client) error { return registerService(c, "api-gw") },
	"register terminating-gw":       func(c *api.Client) error { return registerService(c, "terminating-gw") },
	"read all nodes": func(c *api.Client) error {
		nodes, _, err := c.Catalog().Nodes(nil)
		return sees(slices.ContainsFunc(nodes, func(n *api.Node) bool { return n.Node == "db-1" }), err)
	},
	"read all services": func(c *api.Client) error {
		services, _, err := c.Catalog().Services(nil)
		return sees(services["db"] != nil, err)
	},
	"read a key": func(c *api.Client) error {
		_, _, err := c.KV().Get("a", nil)
		return err
	},
	"write a key": func(c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: "a", Value: []byte("b")}, nil)
		return err
	},
	"read all tokens": func(c *api.Client) error {
		_, _, err := c.ACL().TokenList(nil)
		return err
	},
	"make a token": func(c *api.Client) error {
		_, _, err := c.ACL().TokenCreate(&api.ACLToken{}, nil)
		return err
	},
	"make a policy": func(c *api.Client) error {
		_, _, err := c.ACL().PolicyCreate(&api.ACLPolicy{Name: "mine", Rules: `acl = "write"`}, nil)
		return err
	},
	"change web's intentions": func(c *api.Client) error {
		return set(c, &api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "web",
			Sources: []*api.SourceIntention{{Name: "*", Action: api.IntentionActionAllow}}})
	},
	"change ledger's intentions": func(c *api.Client) error {
		return set(c, &api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "ledger",
			Sources: []*api.SourceIntention{{Name: "*", Action: api.IntentionActionAllow}}})
	},
	"change ledger's defaults": func(c *api.Client) error {
		return set(c, &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "ledger", Protocol: "http"})
	},
	"shift ledger's traffic": func(c *api.Client) error {
		return errors.Join(
			set(c, &api.ServiceResolverConfigEntry{Kind: api.ServiceResolver, Name: "ledger"}),
			set(c, &api.ServiceSplitterConfigEntry{Kind: api.ServiceSplitter, Name: "ledger", Splits: []api.ServiceSplit{{Weight: 100}}}))
	},
	"shift stock's traffic": func(c *api.Client) error {
		return set(c, &api.ServiceResolverConfigEntry{Kind: api.ServiceResolver, Name: "stock"})
	},
	"change the defaults of all proxies": func(c *api.Client) error {
		return set(c, &api.ProxyConfigEntry{Kind: api.ProxyDefaults, Name: api.ProxyConfigGlobal})
	},
	"read the gateways' routes": func(c *api.Client) error {
		routes, _, err := c.ConfigEntries().List(api.TCPRoute, nil)
		return sees(len(routes) > 0, err)
	},
	peerings: func(c *api.Client) error {
		_, _, err := c.Peerings().List(context.Background(), nil)
		return err
	},
	"make a peering": func(c *api.Client) error {
		_, _, err := c.Peerings().GenerateToken(context.Background(), api.PeeringGenerateTokenRequest{PeerName: "other"}, nil)
		return err
	},
	"change how Consul is operated": func(c *api.Client) error {
		_, err := c.Operator().AutopilotGetConfiguration(nil)
		return err
	},
	"replace the mesh's certificate authority": func(c *api.Client) error {
		config, _, err := c.Connect().CAGetConfig(nil)
		if err == nil {
			_, err = c.Connect().CASetConfig(config, nil)
		}
		return err
	},
	"read a server's configuration": func(c *api.Client) error {
		_, err := c.Agent().Self()
		return err
	},
	"force an agent to leave": func(c *api.Client) error {
		err := c.Agent().ForceLeavePrune("ecs-none")
		var answer api.StatusError
		if errors.As(err, &answer) && strings.Contains(answer.Body, "No node found") {
			return nil // it was not denied
		}
		return err
	},
	"have a server read its configuration again": func(c *api.Client) error { return c.Agent().Reload() },
	"fire an event": func(c *api.Client) error {
		_, _, err := c.Event().Fire(&api.UserEvent{Name: "a"}, nil)
		return err
	},
}

func registerNode(c *api.Client, node string) error {
	// Consul takes from anybody what it has already.
	_, err := c.Catalog().Register(&api.CatalogRegistration{Node: node, Address: "10.0.0.2", NodeMeta: map[string]string{"try": rand.Text()}}, nil)
	return err
}

func deregisterNode(c *api.Client, node string) error {
	_, err := c.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil)
	return err
}

func registerService(c *api.Client, name string) error {
	_, err := c.Catalog().Register(&api.CatalogRegistration{Node: "ecs-1a", Address: "10.0.0.1", SkipNodeUpdate: true,
		Service: &api.AgentService{ID: name + "-1a", Service: name, Meta: map[string]string{"try": rand.Text()}}}, nil)
	return err
}

func set(c *api.Client, entry api.ConfigEntry) error {
	_, _, err := c.ConfigEntries().Set(entry, nil)
	return err
}

// done is what a client may do, of which some is expected.
func done(t *testing.T, c *api.Client, expected []string) []string {
	t.Helper()
	var did []string
	for _, deed := range slices.Sorted(maps.Keys(deeds)) {
		if deed == peerings && !slices.Contains(expected, deed) {
			continue
		}
		err := deeds[deed](c)
		var answer api.StatusError
		switch {
		case err == nil:
			did = append(did, deed)
		case errors.Is(err, errHidden), errors.As(err, &answer) && strings.Contains(answer.Body, "Permission denied"):
		default:
			t.Errorf("%s: %v", deed, err)
		}
	}
	return did
}

// With AWS's part played by the emulator: who gets in, and what they may do.
func TestRightsOnConsul(t *testing.T) {
	server := consultest.StartSecure(t)
	cloud, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), EnforceIAM: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Stop(); err != nil {
			t.Error(err)
		}
	})
	const secondAccount, thirdAccount = "111122223333", "444455556666"
	roles := map[string]map[string]string{}
	for _, account := range []string{emulator.AccountID, secondAccount, thirdAccount} {
		if roles[account], err = cloud.In(account).Deploy(t.Context(), "roles", "testdata/roles.yaml", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	s := settings()
	s.TaskRoles = []string{"arn:aws:iam::" + emulator.AccountID + ":role/mesh/*", "arn:aws:iam::" + secondAccount + ":role/mesh/*"}
	s.FunctionRoles = map[string]string{}
	for function, output := range map[string]string{DeploymentHook: "DeploymentHook", DeregisterTasks: "DeregisterTasks", Sweep: "Sweep", PublishServers: "PublishServers"} {
		s.FunctionRoles[function] = roles[emulator.AccountID][output]
	}
	s.STSEndpoint, s.IAMEndpoint = cloud.URL(), cloud.URL()
	build(t, reach(t, server), stack(t, "aws", emulator.Region, "ecsmesh"), s)
	for _, err := range []error{
		registerNode(server.Client, "ecs-1a"),
		registerNode(server.Client, "db-1"),
		registerService(server.Client, "db"),
		set(server.Client, &api.TCPRouteConfigEntry{Kind: api.TCPRoute, Name: "route"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}

	task := []string{"deregister a node of a task", "read all nodes", "read all services", "register a node of a task"}
	with := func(more ...string) []string { return slices.Sorted(slices.Values(slices.Concat(task, more))) }
	for name, test := range map[string]struct {
		service, account, role, method string
		may                            []string // nil for who doesn't get in
	}{
		"a task": {emulator.ECSTasks, emulator.AccountID, "Web", s.TasksMethod,
			with("register web", "register web's sidecar")},
		"a task of another account": {emulator.ECSTasks, secondAccount, "Web", s.TasksMethod,
			with("register web", "register web's sidecar")},
		"a mesh gateway": {emulator.ECSTasks, emulator.AccountID, "MeshGateway", s.TasksMethod,
			with("register mesh-gw", "read the gateways' routes", peerings,
				"change the defaults of all proxies")}, // mesh:write has it, see gatewayRules
		"an API gateway": {emulator.ECSTasks, emulator.AccountID, "ApiGateway", s.TasksMethod,
			with("register api-gw", "read the gateways' routes")},
		"a terminating gateway": {emulator.ECSTasks, emulator.AccountID, "TerminatingGateway", s.TasksMethod,
			with("register terminating-gw")},
		"a gateway without a name": {emulator.ECSTasks, emulator.AccountID, "Nameless", s.TasksMethod,
			[]string{"change the defaults of all proxies", "deregister a node of a task", "read the gateways' routes", peerings, "register a node of a task"}},
		"a role without tags":           {emulator.ECSTasks, emulator.AccountID, "Untagged", s.TasksMethod, nil},
		"a role of another path":        {emulator.ECSTasks, emulator.AccountID, "Elsewhere", s.TasksMethod, nil},
		"a task of a strange account":   {emulator.ECSTasks, thirdAccount, "Web", s.TasksMethod, nil},
		"a task as a function":          {emulator.ECSTasks, emulator.AccountID, "Web", s.FunctionsMethod, nil},
		"a function as a task":          {emulator.Lambda, emulator.AccountID, "Sweep", s.TasksMethod, nil},
		"another function":              {emulator.Lambda, emulator.AccountID, "OtherFunction", s.FunctionsMethod, nil},
		"a function of another account": {emulator.Lambda, secondAccount, "Sweep", s.FunctionsMethod, nil},
		"deregister-tasks": {emulator.Lambda, emulator.AccountID, "DeregisterTasks", s.FunctionsMethod,
			[]string{"deregister a node of a task", "register a node of a task"}},
		"sweep": {emulator.Lambda, emulator.AccountID, "Sweep", s.FunctionsMethod, task},
		"publish-servers": {emulator.Lambda, emulator.AccountID, "PublishServers", s.FunctionsMethod,
			[]string{"read all nodes"}},
		// A service's splitter and resolver take the right to write the service, and
		// so its defaults and, on nodes that there are, its instances.
		"deployment-hook": {emulator.Lambda, emulator.AccountID, "DeploymentHook", s.FunctionsMethod,
			[]string{"change ledger's defaults", "read all services", "register ledger", "shift ledger's traffic"}},
	} {
		t.Run(name, func(t *testing.T) {
			credentials, err := cloud.In(test.account).AssumeRole(t.Context(), test.service, roles[test.account][test.role], "session")
			if err != nil {
				t.Fatal(err)
			}
			method := login.Method{AuthMethod: test.method, IncludeEntity: test.method == s.TasksMethod, ServerIDHeaderValue: s.ServerID}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			token, err := login.New(cloud.ConfigAs(credentials), method).Login(ctx, server.As(t, ""))
			if test.may == nil {
				if !consul.Permanent(err) {
					t.Fatalf("the login's end is %v, want a refusal", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(test.may, done(t, server.As(t, token.Secret), test.may)); diff != "" {
				t.Errorf("what it may do (-want +does):\n%s", diff)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		if did := done(t, server.As(t, ""), nil); len(did) > 0 {
			t.Errorf("may %s", did)
		}
	})
	t.Run("everything can be done", func(t *testing.T) {
		all := slices.Sorted(maps.Keys(deeds))
		if diff := gocmp.Diff(all, done(t, server.Client, all)); diff != "" {
			t.Errorf("(-want +done):\n%s", diff)
		}
	})
}

// Where tasks have Consul agents, some may do more.
func TestRightsWithClientAgentsOnConsul(t *testing.T) {
	server := consultest.StartSecure(t)
	s := settings()
	s.ClientAgents = true
	build(t, reach(t, server), stack(t, "aws", "eu-west-1", "ecsmesh"), s)
	for _, err := range []error{registerNode(server.Client, "ecs-1a"), registerNode(server.Client, "db-1"), registerService(server.Client, "db")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	nodes := []string{"deregister a node of a task", "register a node of a task"}
	forces := append([]string{"change how Consul is operated", "force an agent to leave", "replace the mesh's certificate authority"}, nodes...)
	for role, may := range map[string][]string{
		s.TasksMethod + "-task":                 nodes,
		s.FunctionsMethod + "-deregister-tasks": forces,
		s.FunctionsMethod + "-sweep":            append([]string{"read all nodes", "read all services"}, forces...),
		s.FunctionsMethod + "-publish-servers":  {"read all nodes"},
	} {
		token, _, err := server.Client.ACL().TokenCreate(&api.ACLToken{Roles: []*api.ACLTokenRoleLink{{Name: role}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(may)
		if diff := gocmp.Diff(may, done(t, server.As(t, token.SecretID), may)); diff != "" {
			t.Errorf("what %s may do (-want +does):\n%s", role, diff)
		}
	}
}

// A function works with its rules, and not with any one of them less.
func TestFunctionsNeedAllOfTheirRulesOnConsul(t *testing.T) {
	server := consultest.StartSecure(t)
	for function, work := range map[string]func(*testing.T, *consul.Servers) error{
		DeregisterTasks: func(t *testing.T, servers *consul.Servers) error { return drainAndDelete(t, server.Client, servers) },
		// What it needs in addition, for services whose traffic it shifts, is in
		// functions/deployment-hook.
		DeploymentHook: func(t *testing.T, servers *consul.Servers) error {
			registerTask(t, server.Client, "ecs-5e")
			_, err := catalog.New(servers).Registered(t.Context(), "ecs-5e")
			// The sweep's work is with all nodes that there are.
			if _, gone := server.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-5e"}, nil); gone != nil {
				t.Fatal(gone)
			}
			return err
		},
		PublishServers: func(t *testing.T, servers *consul.Servers) error {
			_, err := servers.Current(t.Context())
			return err
		},
		Sweep: func(t *testing.T, servers *consul.Servers) error {
			if _, err := servers.Current(t.Context()); err != nil {
				return err
			}
			return sweep(t, server.Client, servers)
		},
	} {
		rules := strings.SplitAfter(strings.TrimSuffix(functionRules[function], "\n"), "\n")
		if err := work(t, withRules(t, server, rules)); err != nil {
			t.Errorf("%s: %v", function, err)
		}
		for i, rule := range rules {
			if err := work(t, withRules(t, server, slices.Delete(slices.Clone(rules), i, i+1))); err == nil {
				t.Errorf("%s works without %s", function, rule)
			}
		}
	}
}

// withRules reaches a server with a token of certain rules.
func withRules(t *testing.T, server *consultest.Server, rules []string) *consul.Servers {
	t.Helper()
	policy, _, err := server.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: "trial", Rules: strings.Join(rules, "")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := server.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	policy.Name = "trial-" + policy.ID // the next one takes its name
	if _, _, err := server.Client.ACL().PolicyUpdate(policy, nil); err != nil {
		t.Fatal(err)
	}
	servers, err := consul.NewServers([]netip.Addr{server.Addr}, consul.Options{Port: consultest.HTTPSPort, TLS: &consul.TLS{CA: server.CA}})
	if err != nil {
		t.Fatal(err)
	}
	servers.UseToken(token.SecretID, time.Now())
	return servers
}

// registerTask registers what a task does, with a service that is critical.
func registerTask(t *testing.T, client *api.Client, node string) {
	t.Helper()
	_, err := client.Catalog().Register(&api.CatalogRegistration{
		Node: node, Address: "10.0.0.3", NodeMeta: map[string]string{"synthetic-node": "true"},
		Service: &api.AgentService{ID: "web-" + node, Service: "web"},
		Check:   &api.AgentCheck{Node: node, CheckID: "tcp", Name: "tcp", ServiceID: "web-" + node, Status: api.HealthCritical},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func drainAndDelete(t *testing.T, client *api.Client, servers *consul.Servers) error {
	t.Helper()
	registerTask(t, client, "ecs-3c")
	var faults []error
	for _, result := range catalog.New(servers).Apply(t.Context(), []catalog.Change{
		{Node: "ecs-3c", Action: catalog.Drain, Reason: "it stops"}, {Node: "ecs-missing", Action: catalog.Drain, Reason: "it stops"}, {Node: "ecs-gone", Action: catalog.Delete},
	}) {
		faults = append(faults, result.Err)
	}
	for _, result := range catalog.New(servers).Apply(t.Context(), []catalog.Change{{Node: "ecs-3c", Action: catalog.Delete}}) {
		faults = append(faults, result.Err)
	}
	return errors.Join(faults...)
}

func sweep(t *testing.T, client *api.Client, servers *consul.Servers) error {
	t.Helper()
	registerTask(t, client, "ecs-4d")
	c := catalog.New(servers)
	faults := []error{drainAndDelete(t, client, servers)}
	for _, result := range c.Apply(t.Context(), []catalog.Change{{Node: "ecs-4d", Action: catalog.Drain, Reason: "by mistake"}}) {
		faults = append(faults, result.Err)
	}
	nodes, err := c.Nodes(t.Context())
	faults = append(faults, err)
	for _, node := range nodes {
		for _, result := range c.Apply(t.Context(), []catalog.Change{{Node: node.Name, Action: catalog.Undrain, Index: node.DrainIndex}}) {
			faults = append(faults, result.Err)
		}
	}
	return errors.Join(faults...)
}
