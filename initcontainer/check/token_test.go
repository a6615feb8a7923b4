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
	"ecsmesh/shared/login"
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

// loggingIn is a bench whose token is due, and whose Consul takes every login
// after a while.
func loggingIn(t *testing.T, delay time.Duration, answer string) (b *vault, logins *atomic.Int32) {
	t.Helper()
	b, logins = &vault{bench: newBench(t)}, &atomic.Int32{}
	behind := b.behind(t)
	consul := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/acl/login" {
			logins.Add(1)
			time.Sleep(delay)
			fmt.Fprint(w, answer)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(consul.Close)
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"} {
		t.Setenv(name, value)
	}
	b.pointAt(t, consul)
	b.task.Token = &Token{Source: token.Source{Login: &login.Method{AuthMethod: "m"}, Region: "eu-west-1"}, RenewAt: b.clock}
	b.save(t)
	b.hold(t, "the first")
	return b, logins
}

// TestASlowLoginHasTheRestOfTheRun has Consul ask AWS on another continent.
func TestASlowLoginHasTheRestOfTheRun(t *testing.T) {
	b, logins := loggingIn(t, 2*longestShare*2/3, `{"SecretID": "the second", "CreateTime": "2026-01-01T00:00:00Z", "ExpirationTime": "2026-01-01T01:00:00Z"}`)
	b.run.Budget = 30 * time.Second // on a busy machine
	b.again(t)
	if b.holds(t) != "the second" || logins.Load() != 1 {
		t.Errorf("after %d logins it has %q\n%s", logins.Load(), b.holds(t), b.log)
	}
	b.expect(t, "passing", "passing", "passing")
}

// TestATokenWithoutAnEndIsNotRenewed has had one with an end before.
func TestATokenWithoutAnEndIsNotRenewed(t *testing.T) {
	b, logins := loggingIn(t, 0, `{"SecretID": "the second", "CreateTime": "2026-01-01T00:00:00Z"}`)
	for range 20 {
		b.again(t)
		b.clock = b.clock.Add(15 * time.Second)
	}
	if logins.Load() != 1 {
		t.Errorf("%d logins in 5 minutes", logins.Load())
	}
}

// TestFailedLoginsBecomeRare spares Consul tokens that nobody gets to see.
func TestFailedLoginsBecomeRare(t *testing.T) {
	clock, tries := time.Now(), 0
	s := &synchronization{
		Run:  Run{Refresh: DefaultRefresh, Now: func() time.Time { return clock }},
		task: Task{Token: &Token{Source: token.Source{Parameter: "/token"}}},
	}
	for end := clock.Add(time.Hour); clock.Before(end); clock = clock.Add(5 * time.Second) {
		if s.mayRenew() {
			tries++
			s.upkeep = s.upkeep.renewing(clock, DefaultRefresh)
		}
	}
	if tries < 15 || tries > 25 {
		t.Errorf("%d tries in an hour", tries)
	}
}

// TestStrangersAtTheServersAddresses have TLS, too, and another CA.
func TestStrangersAtTheServersAddresses(t *testing.T) {
	v := newVault(t)
	stranger := httptest.NewTLSServer(http.NotFoundHandler())
	defer stranger.Close()
	v.pointAt(t, stranger)
	v.app.Store(500)
	for range 4 * firstAsk {
		v.again(t)
		v.clock = v.clock.Add(DefaultRefresh / 2)
	}
	if got := v.envoysServers(t); !strings.Contains(got, v.consul.Addr.String()) {
		t.Errorf("the source of servers was not asked: Envoy has %s\n%s", got, v.log)
	}
}
