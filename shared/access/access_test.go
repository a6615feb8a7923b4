package access

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"ecsmesh/e2e/pki"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/parameter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/hashicorp/consul/api"
)

// secret is what every token of fakeConsul begins with.
const secret = "e2a1-secret-"

// fakeConsul is a server that knows tokens, and lets in whoever logs in.
type fakeConsul struct {
	addr netip.AddrPort
	ttl  time.Duration

	mu          sync.Mutex
	tokens      map[string]bool // those that live
	logins      int
	refuse      map[string]int // status of what is asked for at these paths, instead of an answer
	amnesia     bool           // no token is known a moment later
	late        int            // so many requests come before the tokens do
	certificate *tls.Certificate
	server      *httptest.Server
}

// startConsul starts one that speaks TLS where it gets a certificate.
func startConsul(t *testing.T, authority *pki.Authority) *fakeConsul {
	t.Helper()
	f := &fakeConsul{ttl: 15 * time.Minute, tokens: map[string]bool{}, refuse: map[string]int{}}
	f.server = httptest.NewUnstartedServer(f)
	f.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	if authority == nil {
		f.server.Start()
	} else {
		f.certify(t, authority)
		f.server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return &tls.Config{Certificates: []tls.Certificate{*f.certificate}}, nil
		}}
		f.server.StartTLS()
	}
	t.Cleanup(f.server.Close)
	f.addr = netip.MustParseAddrPort(f.server.Listener.Addr().String())
	return f
}

// certify gives the server another certificate, which connections from before
// don't outlive.
func (f *fakeConsul) certify(t *testing.T, authority *pki.Authority) {
	t.Helper()
	issued, err := authority.Server("dc1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(issued.Certificate), []byte(issued.Key))
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.certificate = &pair
	f.mu.Unlock()
	f.server.CloseClientConnections()
}

func (f *fakeConsul) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	token := r.Header.Get("X-Consul-Token")
	status, refused := f.refuse[r.URL.Path]
	switch {
	case refused:
		http.Error(w, "Permission denied", status)
	case r.URL.Path == "/v1/acl/login" && token != "":
		http.Error(w, "do not provide a token when logging in", http.StatusBadRequest)
	case r.URL.Path == "/v1/acl/login":
		f.logins++
		token = fmt.Sprint(secret, f.logins)
		f.tokens[token] = !f.amnesia
		created := time.Now()
		ends := created.Add(f.ttl)
		_ = json.NewEncoder(w).Encode(api.ACLToken{SecretID: token, AccessorID: fmt.Sprint("accessor-", f.logins), CreateTime: created, ExpirationTime: &ends})
	case f.late > 0:
		f.late--
		http.Error(w, "ACL not found", http.StatusForbidden)
	case !f.tokens[token]:
		http.Error(w, "ACL not found", http.StatusForbidden)
	case r.URL.Path == "/v1/acl/logout":
		delete(f.tokens, token)
		_, _ = io.WriteString(w, "true")
	default:
		_, _ = io.WriteString(w, `"here"`)
	}
}

// forget revokes all tokens.
func (f *fakeConsul) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.tokens)
}

// fakeSSM holds parameters.
type fakeSSM struct {
	values map[string]string
	err    error
	reads  int
}

var _ parameter.Getter = (*fakeSSM)(nil)

func (f *fakeSSM) Get(ctx context.Context, name string) (string, error) {
	f.reads++
	if _, bounded := ctx.Deadline(); !bounded {
		return "", errors.New("without a deadline")
	}
	if f.err != nil {
		return "", f.err
	}
	value, ok := f.values[name]
	if !ok {
		return "", parameter.ErrNotFound
	}
	return value, nil
}

// world is a function's access and all around it.
type world struct {
	*Access
	consul *fakeConsul
	ssm    *fakeSSM
	clock  time.Time
	log    bytes.Buffer
}

// newWorld has a function's clock in the past, so that its tokens are old enough
// to be known by every server.
func newWorld(t *testing.T, consul *fakeConsul, settings Settings) *world {
	t.Helper()
	settings.HTTPPort = environment.Port(consul.addr.Port())
	if err := settings.Validate(); err != nil {
		t.Fatal(err)
	}
	w := &world{consul: consul, ssm: &fakeSSM{values: map[string]string{}}, clock: time.Now().Add(-24 * time.Hour)}
	now := func() time.Time { return w.clock }
	w.Access = New(settings, aws.Config{
		Region:      "eu-west-1",
		Credentials: credentials.NewStaticCredentialsProvider("id", "key", "session"),
	}, slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	w.ca.ssm, w.ca.now, w.tokens.now = w.ssm, now, now
	t.Cleanup(func() {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log has a token in it: %s", w.log.String())
		}
	})
	return w
}

func (w *world) pass(d time.Duration) { w.clock = w.clock.Add(d) }

// ask has the servers asked a question.
func (w *world) ask(t *testing.T, others ...string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	addrs := []netip.Addr{w.consul.addr.Addr()}
	for _, other := range others {
		addrs = append(addrs, netip.MustParseAddr(other))
	}
	err := w.Use(ctx, addrs, func(servers *consul.Servers) error {
		return servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
			_, err := client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
			return err
		})
	})
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error has a token in it: %v", err)
	}
	return err
}

// expect asks, and compares how many logins there were and how many tokens live.
func (w *world) expect(t *testing.T, logins, live int, others ...string) {
	t.Helper()
	if err := w.ask(t, others...); err != nil {
		t.Errorf("ask: %v", err)
	}
	if w.consul.logins != logins || len(w.consul.tokens) != live {
		t.Errorf("%d logins and %d tokens, want %d and %d", w.consul.logins, len(w.consul.tokens), logins, live)
	}
}

// refused asks, and wants an error with all of the words.
func (w *world) refused(t *testing.T, words ...string) {
	t.Helper()
	err := w.ask(t)
	if err == nil || !consul.Permanent(err) {
		t.Errorf("got %v, want a refusal", err)
	}
	for _, word := range words {
		if err != nil && !strings.Contains(err.Error(), word) {
			t.Errorf("%v doesn't say %q", err, word)
		}
	}
}

var loggingIn = Settings{LoginMethod: "functions", LoginServerID: "prod"}

func TestTokenIsKeptAndThenReplaced(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.expect(t, 1, 1)
	w.pass(tokenUse - time.Second)
	w.expect(t, 1, 1)
	w.pass(time.Second)
	w.expect(t, 2, 1)
	w.pass(time.Hour) // frozen
	w.expect(t, 3, 1)
}

func TestShortLivedTokenIsReplacedAtHalfOfItsLife(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.consul.ttl = 2 * time.Minute
	w.expect(t, 1, 1)
	w.pass(59 * time.Second)
	w.expect(t, 1, 1)
	w.pass(time.Second)
	w.expect(t, 2, 1)
}

func TestTokenStaysWhenTheListChanges(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.expect(t, 1, 1)
	before := w.servers
	w.expect(t, 1, 1)
	if w.servers != before {
		t.Error("the same list made new connections")
	}
	w.expect(t, 1, 1, "127.255.0.1") // where nobody answers
	if w.servers == before {
		t.Error("another list kept the connections")
	}
}

func TestRevokedTokenIsReplaced(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.expect(t, 1, 1)
	w.consul.forget()
	w.expect(t, 2, 1)

	// What was revoked doesn't do until the next login, as one that lives does.
	w.consul.forget()
	w.consul.refuse["/v1/acl/login"] = http.StatusForbidden
	w.refused(t, "log in by the auth method functions")
}

func TestNewTokenIsWaitedFor(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.clock = time.Now()
	w.consul.late = 2
	w.expect(t, 1, 1)

	// It was known: waiting for it now would be in vain.
	w.consul.forget()
	w.expect(t, 2, 1)
}

func TestTokensThatConsulNeverKnows(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.consul.amnesia = true
	w.refused(t, "ACL not found")
	if w.consul.logins != 2 {
		t.Errorf("%d logins, want one and another try", w.consul.logins)
	}
}

func TestLoginThatIsRefused(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.consul.refuse["/v1/acl/login"] = http.StatusForbidden
	w.refused(t, "log in by the auth method functions", "CONSUL_LOGIN_METHOD", "role")

	delete(w.consul.refuse, "/v1/acl/login")
	w.expect(t, 1, 1)
}

// TestLoginThatGoesWrongLater has a token that would still do.
func TestLoginThatGoesWrongLater(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.expect(t, 1, 1)
	w.consul.refuse["/v1/acl/login"] = http.StatusForbidden
	w.pass(tokenUse)
	w.expect(t, 1, 1)
	w.expect(t, 1, 1)
	if got := strings.Count(w.log.String(), "the ACL token stays as it is"); got != 1 {
		t.Errorf("%d warnings, want 1 until the next try: %s", got, w.log.String())
	}
	w.pass(w.consul.ttl - tokenUse)
	w.refused(t, "log in by the auth method functions")

	delete(w.consul.refuse, "/v1/acl/login")
	w.expect(t, 2, 1)
}

func TestLogoutThatGoesWrong(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.expect(t, 1, 1)
	w.consul.refuse["/v1/acl/logout"] = http.StatusForbidden
	w.pass(tokenUse)
	w.expect(t, 2, 2)
	if !strings.Contains(w.log.String(), `level=DEBUG msg="the old ACL token stays`) {
		t.Errorf("the log doesn't say so: %s", w.log.String())
	}
}

func TestGivenToken(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	w.consul.tokens[secret+"given"] = true
	w.UseToken(secret + "given")
	w.expect(t, 0, 1)
	w.consul.forget()
	w.refused(t, "ACL not found")
	if w.consul.logins != 0 {
		t.Errorf("%d logins, want none", w.consul.logins)
	}
}

func TestConsulWithoutACLs(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), Settings{})
	w.consul.tokens[""] = true
	w.expect(t, 0, 1)
	if w.log.Len() != 0 {
		t.Errorf("there was nothing to say, and the log has %s", w.log.String())
	}
}

func TestLoginInClearIsWarnedOf(t *testing.T) {
	w := newWorld(t, startConsul(t, nil), loggingIn)
	if !strings.Contains(w.log.String(), "level=WARN") || !strings.Contains(w.log.String(), "CONSUL_HTTP_SSL") {
		t.Errorf("the log has %q", w.log.String())
	}
}

// throughTLS is a function whose CA is in a parameter.
func throughTLS(t *testing.T, authority *pki.Authority) *world {
	t.Helper()
	settings := loggingIn
	settings.HTTPSSL, settings.CACertParameter = true, "/consul/ca"
	w := newWorld(t, startConsul(t, authority), settings)
	w.ssm.values["/consul/ca"] = authority.CA + "\n"
	return w
}

func (w *world) expectReads(t *testing.T, want int) {
	t.Helper()
	if w.ssm.reads != want {
		t.Errorf("SSM was asked %d times, want %d", w.ssm.reads, want)
	}
}

func TestCAIsReadOnce(t *testing.T) {
	w := throughTLS(t, authorityOf(t))
	w.expectReads(t, 0)
	w.expect(t, 1, 1)
	before := w.servers
	w.pass(time.Hour)
	w.expect(t, 2, 1)
	w.expectReads(t, 1)
	if w.servers != before {
		t.Error("the same CA made new connections")
	}
	if strings.Contains(w.log.String(), "level=WARN") {
		t.Errorf("the log warns: %s", w.log.String())
	}
}

func TestRotatedCAIsReadAgain(t *testing.T) {
	for name, token := range map[string]time.Duration{"with a token": time.Minute, "at the next login": tokenUse} {
		t.Run(name, func(t *testing.T) {
			w := throughTLS(t, authorityOf(t))
			w.expect(t, 1, 1)
			next := authorityOf(t)
			w.consul.certify(t, next)
			w.ssm.values["/consul/ca"] = next.CA
			w.pass(token)
			if err := w.ask(t); err != nil {
				t.Error(err)
			}
			w.expectReads(t, 2)
		})
	}
}

func TestWrongCA(t *testing.T) {
	w := throughTLS(t, authorityOf(t))
	w.ssm.values["/consul/ca"] = authorityOf(t).CA
	words := []string{"unknown authority", "CONSUL_CACERT_PARAMETER"}
	w.refused(t, words...)
	w.refused(t, words...)
	w.expectReads(t, 1) // a moment ago
	w.pass(caPause)
	w.refused(t, words...)
	w.expectReads(t, 2)

	w.pass(caPause)
	w.ssm.err = errors.New("ThrottlingException")
	w.refused(t, words...)
	if !strings.Contains(w.log.String(), "ThrottlingException") {
		t.Errorf("the log doesn't say why the CA wasn't read again: %s", w.log.String())
	}
	if w.consul.logins != 0 {
		t.Errorf("%d logins at a server that can't be trusted", w.consul.logins)
	}
}

func TestWrongServerName(t *testing.T) {
	authority := authorityOf(t)
	w := newWorld(t, startConsul(t, authority), Settings{HTTPSSL: true, CACertPEM: authority.CA, TLSServerName: "consul.example.com"})
	w.consul.tokens[""] = true
	w.refused(t, "consul.example.com", "CONSUL_TLS_SERVER_NAME", "CONSUL_CACERT_PEM")

	w = newWorld(t, w.consul, Settings{HTTPSSL: true, CACertPEM: authority.CA, TLSServerName: "server.dc1.consul"})
	w.expect(t, 0, 1)
	w.expectReads(t, 0)
}

func TestCAThatCannotBeRead(t *testing.T) {
	w := throughTLS(t, authorityOf(t))
	good := w.ssm.values["/consul/ca"]
	delete(w.ssm.values, "/consul/ca")
	for _, want := range []string{"read SSM parameter /consul/ca", "holds no certificate in PEM"} {
		err := w.ask(t)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "CONSUL_CACERT_PARAMETER") {
			t.Errorf("got %v, want it to say %q", err, want)
		}
		w.ssm.values["/consul/ca"] = "10.0.1.10,10.0.2.10"
	}
	w.ssm.values["/consul/ca"] = good
	w.expect(t, 1, 1)
}
