package check

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// tokenAgent stands in for the task's own agent: it has all of the task's checks,
// and knows one token.
type tokenAgent struct {
	vault      *vault
	known      atomic.Value // the one token that Consul knows
	down       atomic.Bool  // it takes no token
	has        atomic.Value // its own token
	registered atomic.Int32
}

func newTokenAgent(t *testing.T) *tokenAgent {
	t.Helper()
	a := &tokenAgent{vault: newVault(t)}
	a.known.Store(a.vault.holds(t))
	a.has.Store(a.vault.holds(t))
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.vault.task.Agent, a.vault.task.TLS = &Agent{}, nil
	a.vault.pointAt(t, server)
	return a
}

func (a *tokenAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("X-Consul-Token") != a.known.Load():
		http.Error(w, "ACL not found", http.StatusForbidden)
	case r.URL.Path == "/v1/agent/checks":
		checks := map[string]*api.AgentCheck{}
		for _, check := range a.vault.task.Registration.Checks() {
			checks[check.CheckID] = &api.AgentCheck{CheckID: check.CheckID, Status: api.HealthPassing}
		}
		_ = json.NewEncoder(w).Encode(checks)
	case r.URL.Path == "/v1/status/leader":
		_, _ = io.WriteString(w, `"10.0.0.1:8300"`)
	case path.Dir(r.URL.Path) == "/v1/agent/token" && a.down.Load():
		http.Error(w, "not now", http.StatusInternalServerError)
	case path.Dir(r.URL.Path) == "/v1/agent/token":
		var given api.AgentToken
		_ = json.NewDecoder(r.Body).Decode(&given)
		a.has.Store(given.Token)
	case r.URL.Path == "/v1/agent/service/register":
		a.registered.Add(1)
	}
}

// TestTheConsulClientGetsTheRenewedTokenLater has it fail, or the run be killed,
// after Envoy has got another token, of which the source has no more.
func TestTheConsulClientGetsTheRenewedTokenLater(t *testing.T) {
	a := newTokenAgent(t)
	v := a.vault
	v.again(t)
	next := v.issue(t)
	a.known.Store(next)
	a.down.Store(true)
	v.clock = v.clock.Add(time.Hour)
	v.again(t)
	if v.holds(t) != next || a.has.Load() == next {
		t.Fatalf("Envoy has the new token: %t; the Consul client: %t\n%s", v.holds(t) == next, a.has.Load() == next, v.log)
	}
	a.down.Store(false)
	v.clock = v.clock.Add(5 * time.Second)
	v.again(t)
	if a.has.Load() != next || a.registered.Load() != 2 {
		t.Errorf("the Consul client has the new token: %t, and %d registrations\n%s", a.has.Load() == next, a.registered.Load(), v.log)
	}
	v.clock = v.clock.Add(5 * time.Second)
	v.again(t)
	if a.registered.Load() != 2 || v.reads.Load() != 1 {
		t.Errorf("there are %d registrations, %d reads of the token\n%s", a.registered.Load(), v.reads.Load(), v.log)
	}
	if _, err := os.Stat(v.run.Volume.Passed()); err != nil {
		t.Error(err)
	}
}
