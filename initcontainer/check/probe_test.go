package check

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"ecsmesh/initcontainer/config"
)

func TestHTTP(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		switch r.URL.Path {
		case "/echo":
			if r.Method != "POST" || string(body) != "ping" || r.Host != "api.internal" || strings.Join(r.Header.Values("X-Key"), "+") != "a+b" {
				t.Errorf("got %s %s %q for %s with %v", r.Method, r.URL, body, r.Host, r.Header)
			}
		case "/busy":
			w.WriteHeader(http.StatusTooManyRequests)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		}
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	for name, test := range map[string]struct {
		check config.Check
		want  string
	}{
		"ok":       {config.Check{HTTP: plain.URL + "/"}, "passing HTTP GET URL/: 200 OK"},
		"request":  {config.Check{HTTP: plain.URL + "/echo", Method: "POST", Body: "ping", Header: map[string][]string{"x-key": {"a", "b"}, "host": {"api.internal"}}}, "passing HTTP POST URL/echo: 200 OK"},
		"warning":  {config.Check{HTTP: plain.URL + "/busy"}, "warning HTTP GET URL/busy: 429 Too Many Requests"},
		"critical": {config.Check{HTTP: plain.URL + "/gone"}, "critical HTTP GET URL/gone: 410 Gone"},
		"redirect": {config.Check{HTTP: plain.URL + "/moved"}, "passing HTTP GET URL/moved: 200 OK"},
		"skip TLS": {config.Check{HTTP: secure.URL + "/", TLSSkipVerify: true}, "passing HTTP GET URL/: 200 OK"},
		"secrets":  {config.Check{HTTP: strings.Replace(plain.URL, "//", "//me:s3cret@", 1) + "/?token=s3cret"}, "passing HTTP GET URL/?…: 200 OK"},
		"bad TLS":  {config.Check{HTTP: secure.URL + "/"}, "critical HTTP GET URL/: x509: certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, test.check, test.want, plain.URL, secure.URL) })
	}
}

func expect(t *testing.T, check config.Check, want string, hide ...string) {
	t.Helper()
	check.Timeout = 5 * time.Second
	got := probe(t.Context(), check)
	text := got.Status + " " + got.Output
	for _, url := range hide {
		text = strings.ReplaceAll(text, url, "URL")
	}
	if text != want {
		t.Errorf("got %s\nwant %s", text, want)
	}
}

// closedPort is an address that refuses connections.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	expect(t, config.Check{TCP: listener.Addr().String()}, "passing TCP URL: connected", listener.Addr().String())
	closed := closedPort(t)
	expect(t, config.Check{TCP: closed}, "critical TCP URL: connection refused", closed)
	expect(t, config.Check{HTTP: "http://" + closed}, "critical HTTP GET http://URL: connection refused", closed)
	expect(t, config.Check{GRPC: closed}, "critical gRPC URL: connection refused", closed)
}

// TestGRPC asks a real gRPC server.
func TestGRPC(t *testing.T) {
	serve := func(register func(*grpc.Server)) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		register(server)
		go func() { _ = server.Serve(listener) }() // ends with Stop
		t.Cleanup(server.Stop)
		return listener.Addr().String()
	}
	at := serve(func(s *grpc.Server) {
		state := health.NewServer()
		state.SetServingStatus("good", healthpb.HealthCheckResponse_SERVING)
		state.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
		state.SetServingStatus("zero", healthpb.HealthCheckResponse_UNKNOWN)
		healthpb.RegisterHealthServer(s, state)
	})
	without := serve(func(*grpc.Server) {})
	for target, want := range map[string]string{
		at:           "passing gRPC URL: SERVING",
		at + "/good": "passing gRPC URL/good: SERVING",
		at + "/bad":  "critical gRPC URL/bad: NOT_SERVING",
		at + "/zero": "critical gRPC URL/zero: UNKNOWN",
		at + "/none": `critical gRPC URL/none: HTTP status 200, gRPC status "5"`,
		without:      `critical gRPC URL: HTTP status 200, gRPC status "12"`,
	} {
		expect(t, config.Check{GRPC: target}, want, at, without)
	}
}

func TestOutputsAreShort(t *testing.T) {
	for length, want := range map[int]int{500: 500, 501: 503, 600_000: 503} {
		if got := len(shorten(strings.Repeat("x", length))); got != want {
			t.Errorf("%d bytes became %d, want %d", length, got, want)
		}
	}
	if got := shorten("x" + strings.Repeat("é", 300)); !utf8.ValidString(got) {
		t.Errorf("cut within a character: %q", got[len(got)-6:])
	}
}

func TestWhatIsNoGRPCAnswerIsRefused(t *testing.T) {
	for name, body := range map[string][]byte{
		"empty": nil, "short": {0, 0, 0}, "compressed": {1, 0, 0, 0, 0}, "cut off": {0, 0, 0, 0, 2, 8},
		"another field": {0, 0, 0, 0, 2, 18, 0}, "no number": {0, 0, 0, 0, 2, 8, 0x80},
	} {
		if status, err := servingStatus(body); err == nil {
			t.Errorf("%s: got %d", name, status)
		}
	}
}

func TestWhatHangsIsCriticalAtItsTimeout(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	checks := []config.Check{
		{HTTP: server.URL, Timeout: 30 * time.Millisecond},
		{HTTP: server.URL, Timeout: time.Hour},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	for i, got := range probeAll(ctx, checks) {
		if want := "HTTP GET " + server.URL + ": no answer in time"; got.Status != "critical" || got.Output != want {
			t.Errorf("check %d: got %v", i, got)
		}
	}
}
