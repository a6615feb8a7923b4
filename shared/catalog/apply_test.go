package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
)

// counting counts the requests that go to the servers, and can cut them off.
type counting struct {
	servers
	calls   int
	cutOff  error
	answers int // before cutOff
}

func (c *counting) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	c.calls++
	if c.cutOff != nil && c.calls > c.answers {
		return c.cutOff
	}
	return c.servers.Do(ctx, attempt)
}

// newCatalog returns the catalog of a real Consul, and a count of its requests.
func newCatalog(t *testing.T, addr netip.Addr, port int) (*Catalog, *counting) {
	t.Helper()
	reached, err := consul.NewServers([]netip.Addr{addr}, consul.Options{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	requests := &counting{servers: reached}
	return New(requests), requests
}

// within bounds what a test waits for when something is wrong.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// register enters a task as the init container does: a node with a service, its
// sidecar, and a check of each, passing.
func register(t *testing.T, client *api.Client, taskID string) string {
	t.Helper()
	node := mesh.NodeName(taskID)
	serviceID := mesh.ServiceID("api", taskID)
	proxyID := mesh.ProxyID(serviceID)
	for _, registration := range []*api.CatalogRegistration{
		{
			Node: node, Address: "10.0.12.87", NodeMeta: map[string]string{mesh.MetaSyntheticNode: "true"},
			Service: &api.AgentService{ID: serviceID, Service: "api", Port: 9090},
			Checks:  api.HealthChecks{{Node: node, CheckID: mesh.CheckID(serviceID, "http"), Name: "http", Status: api.HealthPassing, ServiceID: serviceID}},
		},
		{
			Node: node, Address: "10.0.12.87", SkipNodeUpdate: true,
			Service: &api.AgentService{
				ID: proxyID, Service: mesh.ProxyService("api"), Kind: api.ServiceKindConnectProxy, Port: 20000,
				Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "api", DestinationServiceID: serviceID},
			},
			Checks: api.HealthChecks{{Node: node, CheckID: mesh.EnvoyCheckID(proxyID), Name: "envoy", Status: api.HealthPassing, ServiceID: proxyID}},
		},
	} {
		if _, err := client.Catalog().Register(registration, nil); err != nil {
			t.Fatalf("register %s: %v", node, err)
		}
	}
	return node
}

func drain(node string) Change {
	return Change{Node: node, Action: Drain, Reason: "UserInitiated: Task stopped by user"}
}

func remove(node string) Change { return Change{Node: node, Action: Delete} }

func checksOf(t *testing.T, client *api.Client, node string) api.HealthChecks {
	t.Helper()
	checks, _, err := client.Health().Node(node, nil)
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

// nodesOf are the tasks' nodes.
func nodesOf(t *testing.T, client *api.Client) []string {
	t.Helper()
	found, _, err := client.Catalog().Nodes(&api.QueryOptions{Filter: `Node matches "^ecs-"`})
	if err != nil {
		t.Fatal(err)
	}
	nodes := []string{}
	for _, node := range found {
		nodes = append(nodes, node.Node)
	}
	return nodes
}

// takesTraffic tells whether the mesh sends to the api service's instances.
func takesTraffic(t *testing.T, client *api.Client) bool {
	t.Helper()
	instances, _, err := client.Health().Connect("api", "", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return len(instances) > 0
}

func expectResults(t *testing.T, want, got []Result) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestDrainOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	node := register(t, server.Client, "1a")
	if !takesTraffic(t, server.Client) {
		t.Fatal("the task takes no traffic before the drain")
	}

	expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{drain(node)}))
	if takesTraffic(t, server.Client) {
		t.Error("the task still takes traffic")
	}
	checks := checksOf(t, server.Client, node)
	var lifecycle *api.HealthCheck
	for _, check := range checks {
		if check.CheckID == mesh.LifecycleCheckID {
			lifecycle = check
		}
	}
	if lifecycle == nil || len(checks) != 3 {
		t.Fatalf("the node has the checks %v, want %s beside its own two", checks, mesh.LifecycleCheckID)
	}
	want := &api.HealthCheck{
		Node: node, CheckID: "ecsmesh-lifecycle", Name: "ECS task lifecycle", Status: "critical",
		Notes:  "ECS is stopping this task, so the mesh sends it no new work. Its node goes once it has stopped.",
		Output: "UserInitiated: Task stopped by user", ServiceTags: []string{},
	}
	if diff := cmp.Diff(want, lifecycle, cmpopts.IgnoreFields(api.HealthCheck{}, "CreateIndex", "ModifyIndex")); diff != "" {
		t.Errorf("check (-want +got):\n%s", diff)
	}
	if requests.calls != 1 {
		t.Errorf("it took %d requests, want 1", requests.calls)
	}

	t.Run("again", func(t *testing.T) {
		expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{drain(node)}))
		if diff := cmp.Diff(checks, checksOf(t, server.Client, node)); diff != "" {
			t.Errorf("a repeated drain changed something, which wakes all watchers (-before +after):\n%s", diff)
		}
	})
	t.Run("of a task that is gone", func(t *testing.T) {
		expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{remove(node)}))
		expectResults(t, []Result{{Missing: true}}, catalog.Apply(t.Context(), []Change{drain(node)}))
		if nodes := nodesOf(t, server.Client); len(nodes) != 0 {
			t.Errorf("a late drain brought back %v", nodes)
		}
	})
}

func TestDeleteOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	gone, stays := register(t, server.Client, "1a"), register(t, server.Client, "2b")

	for range 2 { // delivered twice
		expectResults(t, []Result{{}}, catalog.Apply(t.Context(), []Change{remove(gone)}))
		if diff := cmp.Diff([]string{stays}, nodesOf(t, server.Client)); diff != "" {
			t.Errorf("nodes (-want +got):\n%s", diff)
		}
	}
	instances, _, err := server.Client.Catalog().Service("api", "", nil)
	if err != nil || len(instances) != 1 {
		t.Errorf("%d instances of the service are left (%v), want 1", len(instances), err)
	}
	if checks := checksOf(t, server.Client, gone); len(checks) != 0 {
		t.Errorf("the node left checks behind: %v", checks)
	}
	if requests.calls != 2 {
		t.Errorf("it took %d requests, want 2", requests.calls)
	}
}

// Nodes that are not there must not cost the others, however many they are.
func TestApplyManyOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)

	// Two full transactions and a bit: of each ten tasks two are not
	// registered, four are to drain, four are gone.
	var (
		changes            []Change
		want               []Result
		drained, untouched int
	)
	for n := range 2*maxOperations + 20 {
		id := fmt.Sprintf("%032x", n)
		switch node := mesh.NodeName(id); {
		case n%10 == 0:
			changes, want = append(changes, drain(node)), append(want, Result{Missing: true})
		case n%10 == 1:
			changes, want = append(changes, remove(node)), append(want, Result{})
		case n%10 < 6:
			changes, want = append(changes, drain(register(t, server.Client, id))), append(want, Result{})
			drained++
		default:
			changes, want = append(changes, remove(register(t, server.Client, id))), append(want, Result{})
		}
	}
	bystander := register(t, server.Client, "b")
	untouched++

	expectResults(t, want, catalog.Apply(within(t, 20*time.Second), changes))
	if requests.calls != 2*3+1 {
		t.Errorf("it took %d requests, want for each of 2 transactions with drains the first try, the second, and a look-up of nodes, and 1 for deletes alone", requests.calls)
	}
	if nodes := nodesOf(t, server.Client); len(nodes) != drained+untouched {
		t.Errorf("%d nodes are left, want %d", len(nodes), drained+untouched)
	}
	critical, _, err := server.Client.Health().State(api.HealthCritical, nil)
	if err != nil || len(critical) != drained {
		t.Errorf("%d nodes are drained (%v), want %d", len(critical), err, drained)
	}
	for _, check := range critical {
		if check.Node == bystander {
			t.Errorf("%s was drained though nobody asked", bystander)
		}
	}
}

func TestDrainOfATransactionFullOfStrangersOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	var (
		changes []Change
		want    []Result
	)
	for n := range maxOperations {
		changes = append(changes, drain(mesh.NodeName(fmt.Sprintf("%032x", n))))
		want = append(want, Result{Missing: true})
	}
	expectResults(t, want, catalog.Apply(within(t, 20*time.Second), changes))
	if requests.calls != 2 {
		t.Errorf("it took %d requests, want 2", requests.calls)
	}
}

// The worst that a stop reason can be must fit a full transaction.
func TestDrainWithTheLongestReasonsOnConsul(t *testing.T) {
	server := consultest.Start(t)
	catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
	var changes []Change
	for n := range maxOperations {
		c := drain(mesh.NodeName(fmt.Sprintf("%032x", n)))
		c.Reason = strings.Repeat("\x01", 5000) // six bytes each in JSON
		if _, err := server.Client.Catalog().Register(&api.CatalogRegistration{Node: c.Node, Address: "10.0.0.1"}, nil); err != nil {
			t.Fatal(err)
		}
		changes = append(changes, c)
	}
	expectResults(t, make([]Result, maxOperations), catalog.Apply(within(t, 20*time.Second), changes))
}

func TestConsulGone(t *testing.T) {
	server := consultest.Start(t)
	catalog, _ := newCatalog(t, server.Addr, consultest.HTTPPort)
	server.Stop()
	for i, result := range catalog.Apply(within(t, 3*time.Second), []Change{remove("ecs-1a"), drain("ecs-2b")}) {
		if result.Missing || !errors.Is(result.Err, context.DeadlineExceeded) || !strings.Contains(result.Err.Error(), "connection refused") {
			t.Errorf("change %d: got %+v, want an error that says what happened", i, result)
		}
	}
}

func TestConsulGoneBetweenTransactions(t *testing.T) {
	server := consultest.Start(t)
	catalog, requests := newCatalog(t, server.Addr, consultest.HTTPPort)
	requests.answers, requests.cutOff = 1, errors.New("no Consul server answered")
	var (
		changes []Change
		want    []Result
	)
	for n := range maxOperations + 5 {
		changes = append(changes, remove(mesh.NodeName(fmt.Sprintf("%032x", n))))
		if n < maxOperations {
			want = append(want, Result{}) // done, and not to come again
		} else {
			want = append(want, Result{Err: requests.cutOff})
		}
	}
	expectResults(t, want, catalog.Apply(t.Context(), changes))
}

// answer is what a stand-in for Consul says.
type answer struct {
	status int
	body   string
}

func refusals(what string, indexes ...int) answer {
	var errors []string
	for _, index := range indexes {
		errors = append(errors, fmt.Sprintf(`{"OpIndex":%d,"What":%q}`, index, what))
	}
	return answer{http.StatusConflict, `{"Results":null,"Errors":[` + strings.Join(errors, ",") + `]}`}
}

// standIn is a Consul that answers what no healthy one can be made to. The last
// transaction's answer stands for all that follow.
type standIn struct {
	transactions []answer
	lookUp       answer // of a transaction that only reads
	nodes        answer
	hidden       bool

	sizes []int // operations a transaction that writes
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reply := s.nodes
	if r.URL.Path == "/v1/txn" {
		var operations api.TxnOps
		if err := json.NewDecoder(r.Body).Decode(&operations); err != nil {
			reply = answer{http.StatusBadRequest, err.Error()}
		} else if node := operations[0].Node; node != nil && node.Verb == api.NodeGet {
			reply = s.lookUp
		} else {
			reply = s.transactions[min(len(s.sizes), len(s.transactions)-1)]
			s.sizes = append(s.sizes, len(operations))
		}
	} else if !r.URL.Query().Has("consistent") {
		reply = answer{http.StatusBadRequest, "a read that may be stale"}
	}
	w.Header().Set("X-Consul-LastContact", "0")
	if s.hidden {
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	}
	w.WriteHeader(reply.status)
	fmt.Fprint(w, reply.body)
}

func (s *standIn) start(t *testing.T) *Catalog {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	catalog, _ := newCatalog(t, netip.MustParseAddr(host), number)
	return catalog
}

func TestRefusals(t *testing.T) {
	const applied = `{"Results":null,"Errors":null}`
	changes := []Change{drain("ecs-a"), drain("ecs-b"), remove("ecs-c")}
	for name, test := range map[string]struct {
		consul standIn
		want   []string // of each change: "" for done, "missing", or what its error says
		sizes  []int
	}{
		"a node that is there": {
			standIn{transactions: []answer{refusals("disk on fire", 0, 1), {200, applied}}, lookUp: refusals("doesn't exist", 0)},
			[]string{"missing", "drain node ecs-b: Consul refused: disk on fire", ""},
			[]int{3, 1},
		},
		"a delete": {
			standIn{transactions: []answer{refusals("disk on fire", 2), {200, applied}}},
			[]string{"", "", "delete node ecs-c: Consul refused: disk on fire"},
			[]int{3, 2},
		},
		"one after the other": {
			standIn{transactions: []answer{refusals("gone", 0), refusals("gone", 0), {200, applied}}, lookUp: refusals("doesn't exist", 0, 1)},
			[]string{"missing", "missing", ""},
			[]int{3, 2, 1},
		},
		"everything": {
			standIn{transactions: []answer{refusals("no", 0, 1, 2)}, lookUp: refusals("doesn't exist", 0)},
			[]string{"missing", "drain node ecs-b: Consul refused: no", "delete node ecs-c: Consul refused: no"},
			[]int{3},
		},
		"a look-up that is refused": {
			standIn{transactions: []answer{refusals("no", 0), {200, applied}}, lookUp: answer{403, "Permission denied"}},
			[]string{"unknown whether the node exists: look nodes up", "", ""},
			[]int{3, 2},
		},
		"hidden from the look-up": {
			standIn{transactions: []answer{refusals("no", 0, 1), {200, applied}}, lookUp: answer{200, applied}},
			[]string{"drain node ecs-a: Consul refused: no", "drain node ecs-b: Consul refused: no", ""},
			[]int{3, 1},
		},
		"no permission for some, which are hidden": {
			standIn{transactions: []answer{refusals("Permission denied: lacks 'node:write'", 0, 2), {200, applied}}},
			[]string{"drain node ecs-a: Consul refused: Permission denied", "", "delete node ecs-c: Consul refused: Permission denied"},
			[]int{3, 1},
		},
		"no permission":        {standIn{transactions: []answer{{403, "Permission denied"}}}, []string{"403 (Permission denied)", "403", "403"}, []int{3}},
		"too large":            {standIn{transactions: []answer{{413, "Request body too large"}}}, []string{"413", "413", "413"}, []int{3}},
		"malformed":            {standIn{transactions: []answer{{400, "Failed to parse body"}}}, []string{"400", "400", "400"}, []int{3}},
		"a conflict of others": {standIn{transactions: []answer{{409, "Conflict"}}}, []string{"409 (Conflict)", "409", "409"}, []int{3}},
		"of an unknown index":  {standIn{transactions: []answer{refusals("no", 3, -1)}}, []string{"409", "409", "409"}, []int{3}},
	} {
		t.Run(name, func(t *testing.T) {
			catalog := test.consul.start(t)
			for i, result := range catalog.Apply(within(t, 5*time.Second), changes) {
				got := ""
				switch {
				case result.Err != nil:
					got = result.Err.Error()
				case result.Missing:
					got = "missing"
				}
				if (test.want[i] == "") != (got == "") || !strings.Contains(got, test.want[i]) {
					t.Errorf("%s: got %q, want %q", changes[i].Node, got, test.want[i])
				}
			}
			if diff := cmp.Diff(test.sizes, test.consul.sizes); diff != "" {
				t.Errorf("operations a transaction (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusalsThatNeverEndAreBounded(t *testing.T) {
	consul := standIn{transactions: []answer{refusals("no", 0)}, lookUp: refusals("doesn't exist", 0, 1, 2, 3)}
	catalog := consul.start(t)
	var changes []Change
	for n := range 20 {
		changes = append(changes, drain(fmt.Sprintf("ecs-%d", n)))
	}
	failed := 0
	for _, result := range catalog.Apply(within(t, 5*time.Second), changes) {
		if result.Err != nil {
			failed++
		}
	}
	if len(consul.sizes) != maxRounds || failed != 20-(maxRounds-1) {
		t.Errorf("%d tries and %d failures, want %d and %d", len(consul.sizes), failed, maxRounds, 20-(maxRounds-1))
	}
}

func TestPassingTroubleIsTriedAgain(t *testing.T) {
	consul := standIn{transactions: []answer{{500, "No cluster leader"}, {429, "rate limit"}, {200, `{}`}}}
	expectResults(t, []Result{{}}, consul.start(t).Apply(within(t, 5*time.Second), []Change{remove("ecs-a")}))
}

func TestShorten(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", maxOutput)} {
		if got := shorten(text, maxOutput); got != text {
			t.Errorf("changed %d bytes into %q", len(text), got)
		}
	}
	for _, text := range []string{strings.Repeat("x", maxOutput+1), strings.Repeat("é", maxOutput), "x" + strings.Repeat("é", maxOutput), strings.Repeat("🛑", maxOutput)} {
		got := shorten(text, maxOutput)
		kept, marked := strings.CutSuffix(got, "…")
		if len(got) > maxOutput || len(got) < maxOutput-utf8.UTFMax || !utf8.ValidString(got) || !marked || !strings.HasPrefix(text, kept) {
			t.Errorf("%.8s…: got %d bytes: %q", text, len(got), got)
		}
	}
}

// An output says why, and then where to see more; the one never at the cost of
// all of the other.
func TestOutput(t *testing.T) {
	const task, link = "arn:aws:ecs:eu-west-1:123456789012:task/apps/0a", "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/apps/tasks/0a?region=eu-west-1"
	long := strings.Repeat("x", 2*maxOutput)
	for name, test := range map[string]struct {
		change Change
		want   string
	}{
		"usual":                      {Change{Task: task, Reason: "UserInitiated"}, "UserInitiated\n" + link},
		"a long reason":              {Change{Task: task, Reason: long}, long[:maxOutput-len(link)-1-len("…")] + "…\n" + link},
		"a task of an unknown place": {Change{Reason: "UserInitiated"}, "UserInitiated"},
		"a long link":                {Change{Task: strings.Replace(task, "apps", strings.Repeat("a", 255), 1), Reason: "UserInitiated"}, "UserInitiated"},
	} {
		if got := output(test.change); got != test.want || len(got) > maxOutput {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
