package check

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/token"
	"ecsmesh/shared/consul"
)

// vault is a bench whose Consul denies by default, with tokens of the task's
// policies, and the parameter that holds the one to use.
type vault struct {
	*bench
	held  atomic.Value // the parameter's value
	reads atomic.Int32
	given []string // accessors of all tokens
}

func newVault(t *testing.T) *vault {
	t.Helper()
	server := consultest.StartSecure(t)
	v := &vault{bench: newBenchAt(t, server)}
	ssm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		v.reads.Add(1)
		fmt.Fprintf(w, `{"Parameter": {"Name": "/token", "Value": %q}}`, v.held.Load())
	}))
	t.Cleanup(ssm.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": ssm.URL, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1",
	} {
		t.Setenv(name, value)
	}
	rules := `node_prefix "ecs-" { policy = "write" }`
	if _, _, err := v.client.ACL().PolicyCreate(&api.ACLPolicy{Name: "task", Rules: rules}, nil); err != nil {
		t.Fatal(err)
	}
	v.task.HTTPPort, v.task.GRPCPort = consultest.HTTPSPort, consultest.GRPCTLSPort
	v.task.TLS = &consul.TLS{CA: server.CA, ServerName: consul.ServerName(consultest.Datacenter)}
	v.task.Token = &Token{Source: token.Source{Parameter: "/token", Region: "eu-west-1"}}
	v.save(t)
	v.hold(t, v.issue(t))
	return v
}

// issue makes a token, which is in the parameter from then on.
func (v *vault) issue(t *testing.T) (secret string) {
	t.Helper()
	made, _, err := v.client.ACL().TokenCreate(&api.ACLToken{
		Policies: []*api.ACLTokenPolicyLink{{Name: "task"}}, ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "api"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	v.given = append(v.given, made.AccessorID)
	v.held.Store(made.SecretID)
	return made.SecretID
}

// hold gives Envoy, and so the task, a token.
func (v *vault) hold(t *testing.T, secret string) {
	t.Helper()
	content, err := envoy.Token(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.run.Volume.PrepareToken(); err != nil {
		t.Fatal(err)
	}
	if err := v.run.Volume.WritePrivate(v.run.Volume.LiveToken(), content, os.Geteuid()); err != nil {
		t.Fatal(err)
	}
	// So old that it is known to every server, or to none.
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(v.run.Volume.LiveToken(), old, old); err != nil {
		t.Fatal(err)
	}
}

// holds is the token that Envoy has.
func (v *vault) holds(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(v.run.Volume.Token())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := envoy.Secret(content)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func (v *vault) revoke(t *testing.T, accessor string) {
	t.Helper()
	if _, err := v.client.ACL().TokenDelete(accessor, nil); err != nil {
		t.Fatal(err)
	}
}

func TestATokenIsRenewed(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *vault){
		"that was revoked": func(t *testing.T, v *vault) { v.revoke(t, v.given[0]) },
		"when it is due": func(t *testing.T, v *vault) {
			v.task.Token.RenewAt = v.clock
			v.save(t)
		},
		"whose file is gone": func(t *testing.T, v *vault) {
			if err := os.Remove(v.run.Volume.LiveToken()); err != nil {
				t.Fatal(err)
			}
		},
		"whose file is damaged": func(t *testing.T, v *vault) {
			if err := os.WriteFile(v.run.Volume.LiveToken(), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVault(t)
			v.again(t)
			v.expect(t, "passing", "passing", "passing")
			next := v.issue(t)
			test(t, v)
			v.app.Store(500)
			v.again(t)
			// The very run has the new one, and tells Consul what it was to tell.
			v.expect(t, "critical", "passing", "critical")
			if v.holds(t) != next || v.reads.Load() != 1 {
				t.Errorf("the token is not the next; the parameter was read %d times\n%s", v.reads.Load(), v.log)
			}
			info, err := os.Stat(v.run.Volume.Token())
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("its file has the mode %v, %v", info.Mode(), err)
			}
			v.again(t)
			if v.reads.Load() != 1 {
				t.Error("it was renewed once more")
			}
			if strings.Contains(v.log.String(), next) {
				t.Error("the log has the token")
			}
		})
	}
}

// TestATokenThatCannotBeRenewedYetIsKept has the source fail, again and again.
func TestATokenThatCannotBeRenewedYetIsKept(t *testing.T) {
	v := newVault(t)
	first := v.holds(t)
	v.held.Store("") // which is an error
	v.task.Token.RenewAt = v.clock
	v.save(t)
	for range 12 {
		v.app.Store(700 - v.app.Load()) // 500 and 200 in turn
		v.again(t)
		v.clock = v.clock.Add(5 * time.Second)
	}
	v.expect(t, "passing", "passing", "passing")
	if v.holds(t) != first {
		t.Error("the token is gone")
	}
	// A minute has four pauses.
	if reads := v.reads.Load(); reads < 2 || reads > 5 {
		t.Errorf("the source was asked %d times in a minute", reads)
	}
}

// TestAnUnknownTokenIsNotFoughtOver has a source whose token Consul doesn't know
// either.
func TestAnUnknownTokenIsNotFoughtOver(t *testing.T) {
	v := newVault(t)
	v.revoke(t, v.given[0])
	for range 12 {
		v.app.Store(700 - v.app.Load())
		v.again(t)
		v.clock = v.clock.Add(5 * time.Second)
	}
	if reads := v.reads.Load(); reads < 2 || reads > 5 {
		t.Errorf("the source was asked %d times in a minute", reads)
	}
	if !strings.Contains(v.log.String(), "ACL not found") {
		t.Errorf("the log doesn't say what is wrong:\n%s", v.log)
	}
}

// TestATokenWithoutASourceIsUsedToItsEnd is one that the init container was given.
func TestATokenWithoutASourceIsUsedToItsEnd(t *testing.T) {
	v := newVault(t)
	v.task.Token.Source = token.Source{}
	v.save(t)
	v.again(t)
	v.expect(t, "passing", "passing", "passing")
	v.revoke(t, v.given[0])
	v.app.Store(500)
	v.again(t)
	v.expect(t, "passing", "passing", "passing")
	if v.reads.Load() != 0 || !strings.Contains(v.log.String(), "ACL not found") {
		t.Errorf("%d reads\n%s", v.reads.Load(), v.log)
	}
}

// TestAStoppingTaskKeepsItsToken spares Consul logins that nobody needs.
func TestAStoppingTaskKeepsItsToken(t *testing.T) {
	v := newVault(t)
	v.again(t)
	v.task.Token.RenewAt = v.clock
	v.save(t)
	v.desired.Store("STOPPED")
	v.again(t)
	if v.reads.Load() != 0 {
		t.Error("it was renewed")
	}
}

// TestARegistrationAndItsTokenVanishTogether is Consul restored from a snapshot
// of the time before the task.
func TestARegistrationAndItsTokenVanishTogether(t *testing.T) {
	v := newVault(t)
	v.look(t)
	v.vanish(t)
	v.revoke(t, v.given[0])
	v.issue(t)
	v.clock = v.clock.Add(2 * DefaultRefresh)
	v.again(t)
	v.expect(t, "passing", "passing", "passing")
}

// TestRequestsWithSecretsAreReadFromTheirOwnFile has the state say what they are
// without that.
func TestRequestsWithSecretsAreReadFromTheirOwnFile(t *testing.T) {
	b := newBench(t)
	var authorized atomic.Bool
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		authorized.Store(r.Header.Get("Authorization") == "secret")
	}))
	defer app.Close()
	whole := slices.Clone(b.task.Checks)
	whole[0] = config.Check{Name: "health", HTTP: app.URL, Timeout: time.Second, Header: map[string][]string{"Authorization": {"secret"}}}
	b.task.Checks[0] = config.Check{Name: "health", HTTP: app.URL, Timeout: time.Second}
	b.task.Private = true
	b.save(t)
	content, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.run.Volume.WritePrivate(b.run.Volume.Requests(), content, os.Geteuid()); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	b.expect(t, "passing", "passing", "passing")
	if !authorized.Load() {
		t.Error("the request lacks its header")
	}
	if err := os.Remove(b.run.Volume.Requests()); err != nil {
		t.Fatal(err)
	}
	b.again(t)
	if !strings.Contains(b.log.String(), "requests.json") {
		t.Errorf("nobody says that the checks are gone:\n%s", b.log)
	}
}

func TestEnvoyFollowsServersWithTLS(t *testing.T) {
	v := newVault(t)
	v.task.Servers = []netip.Addr{v.consul.Addr, netip.MustParseAddr("127.255.255.254")} // who is gone
	v.save(t)
	v.look(t)
	if got := v.envoysServers(t); !strings.Contains(got, v.consul.Addr.String()) || strings.Contains(got, "127.255.255.254") {
		t.Errorf("Envoy has %s\n%s", got, v.log)
	}
}
