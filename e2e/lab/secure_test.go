package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// tokenTTL is the shortest that Consul takes. Tasks renew their tokens at half
// of it.
const tokenTTL = time.Minute

// secure is a mesh with TLS, ACLs that deny by default, and IAM's policies
// enforced.
type secure struct {
	*lab.Lab
	web  ecs.Task
	apis []ecs.Task

	// A task that was stopped first of all, when, and its token.
	stopped  time.Time
	accessed string
}

func startSecure(t *testing.T) *secure {
	t.Helper()
	l, _ := startWithServers(t, lab.Options{
		Secure:     true,
		Second:     2 * second, // a login takes longer than most of what a health check does
		Parameters: map[string]string{"TaskTokenTtlMinutes": "1"},
	})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	must(t, l.Allow(t.Context(), "web", "api", api.IntentionActionAllow))
	s := &secure{Lab: l}
	s.web, s.apis = startMesh(t, l, 3)
	return s
}

// token is the ACL token that a task has.
func (s *secure) token(t *testing.T, task ecs.Task) string {
	t.Helper()
	secret, err := s.Token(task)
	must(t, err)
	return secret
}

// as is Consul with a task's token.
func (s *secure) as(t *testing.T, task ecs.Task) *api.Client {
	t.Helper()
	client, err := s.ConsulAs(s.token(t, task))
	must(t, err)
	return client
}

func (s *secure) consul(t *testing.T) *api.Client {
	t.Helper()
	client, err := s.Consul()
	must(t, err)
	return client
}

// TestSecureMesh has one mesh go through all that befalls it where nobody is
// trusted.
func TestSecureMesh(t *testing.T) {
	t.Parallel()
	s := startSecure(t)
	inTurn(t,
		step{"a task stops", s.stopOne},
		step{"a task's token does no more than it must", s.tokenIsLimited},
		step{"a function's role does no more than it must", s.rolesAreLimited},
		step{"what a stolen token does is put right", s.stolenToken},
		step{"a token that was revoked is replaced", s.revoked},
		step{"a mesh whose tokens a snapshot lost goes on", s.restored},
		step{"a token outlives its task by its life at most", s.outlived},
		step{"an intention of deny stops traffic", s.intentions},
		step{"no secret is where others can read it", s.secretsStaySecret},
	)
}

// intentions are Consul's, on whose word the Envoys let each other in. A
// connection that is open keeps the rules that it began with until Envoy has
// drained it, so the steps that count failures come before.
func (s *secure) intentions(t *testing.T) {
	awaitAnswers := func(want bool) {
		must(t, lab.Await(t.Context(), fmt.Sprintf("requests that pass: %v", want), func(ctx context.Context) error {
			load := lab.StartLoad(ctx, s.web, 50)
			time.Sleep(200 * time.Millisecond)
			requests := load.Stop()
			if failed := len(lab.Failures(requests)); len(requests) == 0 || want && failed > 0 || !want && failed < len(requests) {
				return fmt.Errorf("%d of %d failed", failed, len(requests))
			}
			return nil
		}))
	}
	awaitAnswers(true)
	must(t, s.Allow(t.Context(), "web", "api", api.IntentionActionDeny))
	awaitAnswers(false)
	must(t, s.Allow(t.Context(), "web", "api", api.IntentionActionAllow))
	awaitAnswers(true)
}

// tokenIsLimited tries with a task's token what only others may do.
func (s *secure) tokenIsLimited(t *testing.T) {
	task := s.as(t, s.web)
	node := mesh.NodeName(s.web.ID())
	register := func(node, service string) error {
		_, err := task.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: s.web.Address().String(), SkipNodeUpdate: node == mesh.NodeName(s.web.ID()),
			Service: &api.AgentService{ID: service + "-stolen", Service: service, Port: 1},
		}, nil)
		return err
	}
	denied := map[string]func() error{
		"register another service":          func() error { return register(node, "payments") },
		"register another sidecar":          func() error { return register(node, "api-sidecar-proxy") },
		"touch a node that is not a task's": func() error { return register("server-1", "web") },
		"delete a server's node": func() error {
			_, err := task.Catalog().Deregister(&api.CatalogDeregistration{Node: "consul-" + s.leader(t)}, nil)
			return err
		},
		"read a key":  func() error { _, _, err := task.KV().Get("any", nil); return err },
		"write a key": func() error { _, err := task.KV().Put(&api.KVPair{Key: "any"}, nil); return err },
		"list tokens": func() error { _, _, err := task.ACL().TokenList(nil); return err },
		"read another token": func() error {
			_, _, err := task.ACL().TokenRead(s.accessor(t, s.apis[0]), nil)
			return err
		},
		"make a token": func() error {
			_, _, err := task.ACL().TokenCreate(&api.ACLToken{ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "web"}}}, nil)
			return err
		},
		"make a policy": func() error {
			_, _, err := task.ACL().PolicyCreate(&api.ACLPolicy{Name: "mine", Rules: `operator = "write"`}, nil)
			return err
		},
		"change who may call another service": func() error {
			_, _, err := task.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
				Kind: api.ServiceIntentions, Name: "api", Sources: []*api.SourceIntention{{Name: "*", Action: api.IntentionActionAllow}},
			}, nil)
			return err
		},
		"change who may call its own service": func() error {
			_, _, err := task.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
				Kind: api.ServiceIntentions, Name: "web", Sources: []*api.SourceIntention{{Name: "*", Action: api.IntentionActionAllow}},
			}, nil)
			return err
		},
		"change another service's defaults": func() error {
			_, _, err := task.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "api", Protocol: "tcp"}, nil)
			return err
		},
		"get another service's certificate": func() error { _, _, err := task.Agent().ConnectCALeaf("api", nil); return err },
		"change the servers":                func() error { _, err := task.Operator().RaftGetConfiguration(nil); return err },
	}
	for what, try := range denied {
		var refused api.StatusError
		if err := try(); !errors.As(err, &refused) || refused.Code != http.StatusForbidden {
			t.Errorf("a task may %s: %v", what, err)
		}
	}
	anonymous, err := s.ConsulAs("")
	must(t, err)
	if nodes, _, err := anonymous.Catalog().Nodes(nil); err == nil && len(nodes) > 0 {
		t.Errorf("without a token %d nodes show", len(nodes))
	}
}

func (s *secure) leader(t *testing.T) string {
	t.Helper()
	leader, err := s.Leader()
	must(t, err)
	return leader.Address().String()
}

// accessor is the public name of the token that a task has, once Consul knows it.
func (s *secure) accessor(t *testing.T, task ecs.Task) (name string) {
	t.Helper()
	must(t, lab.Await(t.Context(), "a token that Consul knows", func(ctx context.Context) error {
		token, _, err := s.as(t, task).ACL().TokenReadSelf((&api.QueryOptions{}).WithContext(ctx))
		if err == nil {
			name = token.AccessorID
		}
		return err
	}))
	return name
}

// stolenToken does with web's token to api's tasks what Consul lets it.
func (s *secure) stolenToken(t *testing.T) {
	stolen, victim := s.as(t, s.web), s.apis[0]
	node := mesh.NodeName(victim.ID())
	for what, attack := range map[string]func() error{
		"another task's node is deleted": func() error {
			_, err := stolen.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil)
			return err
		},
		"another task's check is flipped": func() error {
			checks, _, err := s.consul(t).Health().Node(node, nil)
			if err != nil {
				return err
			}
			var ops api.TxnOps
			for _, check := range checks {
				if check.ServiceName == "api-sidecar-proxy" {
					// Consul believes whose check it is.
					ops = append(ops, &api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
						Node: node, CheckID: check.CheckID, Name: check.Name, ServiceID: check.ServiceID, ServiceName: "web", Status: api.HealthCritical,
					}}})
				}
			}
			ok, _, _, err := stolen.Txn().Txn(ops, nil)
			if err == nil && !ok {
				err = errors.New("the transaction was rolled back")
			}
			return err
		},
		"another task is drained": func() error {
			ok, _, _, err := stolen.Txn().Txn(api.TxnOps{{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
				Node: node, CheckID: mesh.LifecycleCheckID, Name: mesh.LifecycleCheckName, Status: api.HealthCritical,
			}}}}, nil)
			if err == nil && !ok {
				err = errors.New("the transaction was rolled back")
			}
			if err == nil {
				err = s.Sweep(t.Context(), "") // as its schedule does every five minutes
			}
			return err
		},
	} {
		begun := time.Now()
		if err := attack(); err != nil {
			t.Errorf("%s: Consul refuses that by now; the threat model says otherwise: %v", what, err)
			continue
		}
		must(t, s.WaitPassing(t.Context(), "api", s.apis...))
		must(t, s.WaitEndpoints(t.Context(), s.web, "api", s.apis...))
		t.Logf("%s: put right within %s", what, time.Since(begun).Round(100*time.Millisecond))
	}
}

// revoked takes the tokens of all tasks away while requests flow.
func (s *secure) revoked(t *testing.T) {
	load := lab.StartLoad(t.Context(), s.web, 50)
	before := map[string]string{}
	for _, task := range s.all() {
		before[task.TaskARN] = s.token(t, task)
		must(t, s.Revoke(t.Context(), task))
	}
	s.awaitOtherTokens(t, before)
	// What Envoy gets from Consul goes on, by streams with the new tokens.
	extra := launch(t, s.API)
	must(t, s.WaitPassing(t.Context(), "api", append(slices.Clone(s.apis), extra)...))
	must(t, s.WaitEndpoints(t.Context(), s.web, "api", append(slices.Clone(s.apis), extra)...))
	s.apis = append(s.apis, extra)
	noFailures(t, load.Stop())
}

func (s *secure) all() []ecs.Task { return append(slices.Clone(s.apis), s.web) }

func (s *secure) awaitOtherTokens(t *testing.T, before map[string]string) {
	t.Helper()
	must(t, lab.Await(t.Context(), "other tokens", func(context.Context) error {
		for _, task := range s.all() {
			if s.token(t, task) == before[task.TaskARN] {
				return fmt.Errorf("%s still has the one from before", task.Summary())
			}
		}
		return nil
	}))
}

// restored gives Consul a snapshot of the time before the tasks' tokens, while
// requests flow.
func (s *secure) restored(t *testing.T) {
	before := map[string]string{}
	for _, task := range s.all() {
		before[task.TaskARN] = s.token(t, task)
	}
	snapshot, _, err := s.consul(t).Snapshot().Save(nil)
	must(t, err)
	defer snapshot.Close()
	var content bytes.Buffer
	_, err = content.ReadFrom(snapshot)
	must(t, err)
	// Two logins later, none of the tokens that tasks have is in the snapshot.
	s.awaitOtherTokens(t, before)
	for _, task := range s.all() {
		s.accessor(t, task)
		must(t, s.Revoke(t.Context(), task))
	}
	load := lab.StartLoad(t.Context(), s.web, 50)
	must(t, s.consul(t).Snapshot().Restore(nil, &content))
	must(t, s.WaitLeader(t.Context()))
	must(t, s.WaitPassing(t.Context(), "api", s.apis...))
	must(t, s.WaitPassing(t.Context(), "web", s.web))
	must(t, s.WaitEndpoints(t.Context(), s.web, "api", s.apis...))
	for _, task := range s.all() {
		s.accessor(t, task)
	}
	noFailures(t, load.Stop())
}

// stopOne stops a task whose token nobody looks after from then on.
func (s *secure) stopOne(t *testing.T) {
	last := len(s.apis) - 1
	s.accessed = s.accessor(t, s.apis[last])
	must(t, s.API.Stop(s.apis[last].TaskARN))
	_, err := s.WaitTask(t.Context(), s.apis[last], ecs.Task.Stopped)
	must(t, err)
	must(t, s.WaitDeregistered(t.Context(), s.apis[last])) // by a function that has logged in
	s.apis, s.stopped = s.apis[:last], time.Now()
}

// outlived waits for that token to end. Consul sweeps tokens up every few seconds.
func (s *secure) outlived(t *testing.T) {
	for {
		token, _, err := s.consul(t).ACL().TokenRead(s.accessed, nil)
		over := time.Since(s.stopped)
		if err != nil {
			if !strings.Contains(err.Error(), "ACL not found") {
				t.Fatal(err)
			}
			t.Logf("%s after its task, the token is gone; its life was %s", over.Round(time.Second), tokenTTL)
			return
		}
		if token.ExpirationTime == nil || token.ExpirationTime.After(s.stopped.Add(tokenTTL)) {
			t.Fatalf("the token of a task that stopped at %v lives until %v", s.stopped, token.ExpirationTime)
		}
		if over > 2*tokenTTL {
			t.Fatalf("%s after its task, the token %s is still there", over, s.accessed)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// secretsStaySecret looks for every secret in all that the lab has written, in
// the arguments of its processes and in Consul's catalog.
func (s *secure) secretsStaySecret(t *testing.T) {
	secrets, err := s.Secrets(t.Context())
	must(t, err)
	for _, task := range s.all() {
		secrets["the token of "+task.ID()] = s.token(t, task)
	}
	if len(secrets) < 5 {
		t.Fatalf("there are only %d secrets to look for", len(secrets))
	}
	files := 0
	find := func(where string, content []byte) {
		for what, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s is in %s", what, where)
			}
		}
	}
	must(t, filepath.WalkDir(s.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == "consul-data" {
			if info, err := entry.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("others may look into %s: %v", path, info.Mode())
			}
			return filepath.SkipDir // a Consul client's
		}
		if err != nil || !entry.Type().IsRegular() {
			return ignoreGone(err)
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreGone(err)
		}
		if private := info.Mode().Perm()&0o077 == 0; private && holdsSecrets(s.Dir, path) {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return ignoreGone(err)
		}
		files++
		find(fmt.Sprintf("%s (%v)", path, info.Mode()), content)
		return nil
	}))
	if files < 30 {
		t.Errorf("only %d files were looked at", files)
	}
	arguments, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range arguments {
		if content, err := os.ReadFile(path); err == nil {
			find(path, content)
		}
	}
	consul := s.consul(t)
	nodes, err := s.MeshNodes(t.Context())
	must(t, err)
	for _, node := range nodes {
		for _, path := range []string{"/v1/catalog/node/" + node, "/v1/health/node/" + node} {
			var answer any
			_, err := consul.Raw().Query(path, &answer, nil)
			must(t, err)
			content, err := json.Marshal(answer)
			must(t, err)
			find(path, content)
		}
	}
}

// holdsSecrets tells which files are there to hold secrets: what the lab gave
// Consul and AWS, the servers' own, and the tasks' tokens.
func holdsSecrets(dir, path string) bool {
	for _, of := range []string{filepath.Join(dir, "consul") + "/", filepath.Join(dir, "aws", "state") + "/"} {
		if strings.HasPrefix(path, of) {
			return true
		}
	}
	name := filepath.Base(path)
	return strings.Contains(path, "/volumes/data/") || name == "consul-token.json" || name == "consul-client.json"
}

// ignoreGone has tasks that end meanwhile take their files with them.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
