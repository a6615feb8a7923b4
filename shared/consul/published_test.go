package consul

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// fakeList is the published list.
type fakeList struct {
	addrs []netip.Addr
	err   error
	reads int
}

var _ serverList = (*fakeList)(nil)

func (f *fakeList) Read(context.Context) ([]netip.Addr, error) {
	f.reads++
	if f.err != nil {
		return nil, f.err
	}
	return slices.Clone(f.addrs), nil
}

// fakeAccess reaches servers without TLS and token.
type fakeAccess struct {
	port int
	used [][]netip.Addr
	err  error // instead
}

var _ access = (*fakeAccess)(nil)

func (f *fakeAccess) Use(_ context.Context, addrs []netip.Addr, use func(*Servers) error) error {
	f.used = append(f.used, addrs)
	if f.err != nil {
		return f.err
	}
	servers, err := NewServers(addrs, Options{Port: f.port})
	if err != nil {
		return err
	}
	return use(servers)
}

// patience is for answers that come, be the machine as busy as it may.
const patience = 30 * time.Second

// world is a list, a clock, and Consul servers that answer with their address.
type world struct {
	*Published
	list   *fakeList
	access *fakeAccess
	clock  time.Time
	log    bytes.Buffer
	consul map[string]*httptest.Server // by address
}

func newWorld(t *testing.T, answering ...string) *world {
	t.Helper()
	w := &world{list: &fakeList{}, access: &fakeAccess{}, clock: time.Now(), consul: map[string]*httptest.Server{}}
	var shared int // port
	for _, addr := range answering {
		// All servers of a cluster use the same port: the first gets a free one.
		listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(shared))))
		if err != nil {
			t.Fatal(err)
		}
		shared = listener.Addr().(*net.TCPAddr).Port
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			if _, err := rw.Write([]byte(`"` + addr + `"`)); err != nil {
				t.Error(err)
			}
		}))
		server.Listener.Close()
		server.Listener = listener
		server.Start()
		t.Cleanup(server.Close)
		w.consul[addr] = server
	}
	w.access.port = shared
	w.Published = NewPublished(w.list, w.access, slog.New(slog.NewTextHandler(&w.log, nil)))
	w.now = func() time.Time { return w.clock }
	w.trial = patience
	return w
}

func (w *world) publish(addrs ...string) {
	w.list.addrs = nil
	for _, addr := range addrs {
		w.list.addrs = append(w.list.addrs, netip.MustParseAddr(addr))
	}
}

// ask returns the address of the server that answered.
func (w *world) ask(t *testing.T, limit time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var answer string
	err := w.Do(ctx, func(ctx context.Context, client *api.Client) error {
		_, err := client.Raw().Query("/v1/status/leader", &answer, (&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	return answer, err
}

func (w *world) expectAnswer(t *testing.T, want string, reads int) {
	t.Helper()
	got, err := w.ask(t, patience)
	if err != nil || got != want {
		t.Errorf("got an answer from %s (%v), want %s", got, err, want)
	}
	if w.list.reads != reads {
		t.Errorf("the list was read %d times, want %d", w.list.reads, reads)
	}
}

func TestListIsKeptForAMinute(t *testing.T) {
	w := newWorld(t, "127.0.0.11", "127.0.0.12")
	w.publish("127.0.0.11")
	w.expectAnswer(t, "127.0.0.11", 1)

	w.publish("127.0.0.12") // 127.0.0.11 still answers
	w.clock = w.clock.Add(59 * time.Second)
	w.expectAnswer(t, "127.0.0.11", 1)
	w.clock = w.clock.Add(time.Second)
	w.expectAnswer(t, "127.0.0.12", 2)
	w.expectAnswer(t, "127.0.0.12", 2)
}

func TestListIsReadAgainWhenNoServerAnswers(t *testing.T) {
	w := newWorld(t, "127.0.0.11", "127.0.0.12")
	w.publish("127.0.0.11", "127.0.0.13")
	w.expectAnswer(t, "127.0.0.11", 1)

	// All servers were replaced a moment ago.
	w.trial = 200 * time.Millisecond
	w.consul["127.0.0.11"].Close()
	w.publish("127.0.0.12")
	w.expectAnswer(t, "127.0.0.12", 2)
	if !strings.Contains(w.log.String(), "reading the list again") {
		t.Errorf("the log doesn't say so: %s", w.log.String())
	}
}

func TestListThatCannotBeRead(t *testing.T) {
	throttled := errors.New("ThrottlingException")
	w := newWorld(t, "127.0.0.11")
	w.list.err = throttled
	if _, err := w.ask(t, patience); !errors.Is(err, throttled) {
		t.Errorf("at first: got %v, want the cause", err)
	}

	w.list.err = nil
	w.publish("127.0.0.11")
	w.expectAnswer(t, "127.0.0.11", 2)
	w.list.err = throttled
	w.clock = w.clock.Add(time.Hour)
	w.expectAnswer(t, "127.0.0.11", 3) // what was known is better than nothing
	if !strings.Contains(w.log.String(), "ThrottlingException") {
		t.Errorf("the log doesn't say why: %s", w.log.String())
	}
}

func TestListOfServersThatAreAllGone(t *testing.T) {
	w := newWorld(t, "127.0.0.11")
	w.publish("127.0.0.13", "127.0.0.14", "127.0.0.15")
	_, err := w.ask(t, 2*time.Second)
	if err == nil {
		t.Fatal("no error")
	}
	for _, addr := range []string{"127.0.0.13", "127.0.0.14", "127.0.0.15"} {
		if !strings.Contains(err.Error(), addr) {
			t.Errorf("%q does not name %s: it was not tried", err, addr)
		}
	}
}

func TestRefusalDoesNotReadTheListAgain(t *testing.T) {
	w := newWorld(t, "127.0.0.11")
	w.publish("127.0.0.11")
	w.expectAnswer(t, "127.0.0.11", 1)
	attempts := 0
	err := w.Do(t.Context(), func(context.Context, *api.Client) error {
		attempts++
		return api.StatusError{Code: http.StatusForbidden, Body: "Permission denied"}
	})
	if !Permanent(err) {
		t.Errorf("got %v, want Consul's refusal", err)
	}
	if diff := cmp.Diff([]int{1, 1}, []int{attempts, w.list.reads}); diff != "" {
		t.Errorf("attempts and reads (-want +got):\n%s", diff)
	}
}

// TestServersThatAreNotTrusted has others at the addresses of a kept list.
func TestServersThatAreNotTrusted(t *testing.T) {
	w := newWorld(t, "127.0.0.11", "127.0.0.12")
	w.publish("127.0.0.11")
	w.expectAnswer(t, "127.0.0.11", 1)
	w.publish("127.0.0.12")
	untrusted := &tls.CertificateVerificationError{Err: errors.New("of somebody else")}
	w.access.err = untrusted
	if _, err := w.ask(t, patience); !errors.Is(err, untrusted) {
		t.Errorf("got %v, want the cause", err)
	}
	w.access.err = nil
	w.expectAnswer(t, "127.0.0.12", 2)
}

func TestFunctionThatMayNotLogIn(t *testing.T) {
	w := newWorld(t, "127.0.0.11")
	w.publish("127.0.0.11")
	w.expectAnswer(t, "127.0.0.11", 1)
	w.access.err = api.StatusError{Code: http.StatusForbidden, Body: "Permission denied"}
	if _, err := w.ask(t, patience); !Permanent(err) || len(w.access.used) != 2 || w.list.reads != 1 {
		t.Errorf("got %v after %d uses and %d reads, want a refusal at once", err, len(w.access.used), w.list.reads)
	}
}
