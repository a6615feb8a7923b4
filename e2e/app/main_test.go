package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func environment(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// freeAddress is an address that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// start runs the application until stop is called; ended then has its error.
func start(t *testing.T, vars map[string]string, grace time.Duration) (url string, stop func(), ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	vars["LISTEN_ADDR"] = freeAddress(t)
	go func() { done <- run(ctx, environment(vars), grace) }()
	url = "http://" + vars["LISTEN_ADDR"]
	awaitHealth(t, url)
	return url, cancel, done
}

func awaitHealth(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(url + "/health")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func get(t *testing.T, url string) (reply, *http.Response) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out reply
	if err := json.Unmarshal(body, &out); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return out, resp
}

func TestAnswersWithItsUpstreamsAnswers(t *testing.T) {
	api, _, _ := start(t, map[string]string{"NAME": "api", "MESSAGE": "from api"}, 0)
	web, _, _ := start(t, map[string]string{"NAME": "web", "UPSTREAM_URIS": api}, 0)
	got, _ := get(t, web)
	want := reply{Name: "web", Instance: "127.0.0.1", Body: "Hello World", Code: 200, UpstreamCalls: map[string]reply{
		api: {Name: "api", Instance: "127.0.0.1", Body: "from api", Code: 200},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHandsOnWhatUpstreamsOfAnotherKindSay(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "http://127.0.0.1:1/nowhere")
		w.WriteHeader(http.StatusFound)
		_, _ = w.Write([]byte(`{"message": "over there"}`))
	}))
	defer other.Close()
	web, _, _ := start(t, map[string]string{"NAME": "web", "UPSTREAM_URIS": other.URL}, 0)
	got, resp := get(t, web)
	want := reply{Code: http.StatusFound, Body: `{"message": "over there"}`}
	if diff := cmp.Diff(want, got.UpstreamCalls[other.URL]); diff != "" || resp.StatusCode != http.StatusOK {
		t.Errorf("status %d (-want +got):\n%s", resp.StatusCode, diff)
	}
}

func TestServicesThatCallEachOtherStop(t *testing.T) {
	first, second := freeAddress(t), "http://"+freeAddress(t)
	for name, vars := range map[string]map[string]string{
		"http://" + first: {"NAME": "first", "LISTEN_ADDR": first, "UPSTREAM_URIS": second},
		second:            {"NAME": "second", "LISTEN_ADDR": second[len("http://"):], "UPSTREAM_URIS": "http://" + first},
	} {
		go func() {
			if err := run(t.Context(), environment(vars), 0); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}()
		awaitHealth(t, name)
	}
	got, _ := get(t, "http://"+first)
	again := got.UpstreamCalls[second].UpstreamCalls["http://"+first]
	if again.Name != "first" || again.UpstreamCalls != nil || got.Code != http.StatusOK {
		t.Errorf("first answers %+v", got)
	}
}

func TestSaysWhichUpstreamFailed(t *testing.T) {
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }))
	defer broken.Close()
	denied := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { // as Envoy does
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("RBAC: access denied"))
	}))
	defer denied.Close()
	gone := "http://" + freeAddress(t)
	web, _, _ := start(t, map[string]string{"NAME": "web", "UPSTREAM_URIS": broken.URL + ", " + denied.URL + ", " + gone}, 0)
	got, resp := get(t, web)
	if resp.StatusCode != http.StatusBadGateway || got.Code != http.StatusBadGateway {
		t.Errorf("status %d, code %d, want 502", resp.StatusCode, got.Code)
	}
	if call := got.UpstreamCalls[broken.URL]; call.Code != 503 || call.Error == "" {
		t.Errorf("the broken upstream: %+v", call)
	}
	if call := got.UpstreamCalls[denied.URL]; call.Code != 403 || call.Error == "" {
		t.Errorf("the upstream that is denied: %+v", call)
	}
	if call := got.UpstreamCalls[gone]; call.Code != 0 || call.Error == "" {
		t.Errorf("the upstream that is gone: %+v", call)
	}
}

func TestServesOnAfterSIGTERMAndFinishesWhatItBegan(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = w.Write([]byte(`{"code": 200}`))
	}))
	defer slow.Close()
	web, stopWeb, webEnded := start(t, map[string]string{"NAME": "web", "UPSTREAM_URIS": slow.URL}, 50*time.Millisecond)
	api, stopAPI, apiEnded := start(t, map[string]string{"NAME": "api"}, 1500*time.Millisecond)

	// A request that is under way when the grace period ends is answered.
	answered := make(chan int)
	go func() {
		resp, err := http.Get(web)
		if err != nil {
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-begun
	stopWeb()

	// A request within the grace period is answered, and the connection closed.
	stopAPI()
	if _, resp := get(t, api); resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("after SIGTERM: status %d, connection closed: %t", resp.StatusCode, resp.Close)
	}
	if err := <-apiEnded; err != nil {
		t.Errorf("api ended with: %v", err)
	}
	select {
	case err := <-webEnded:
		t.Errorf("web ended before its request: %v", err)
	default:
	}
	close(release)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("the request under way got %d", status)
	}
	if err := <-webEnded; err != nil {
		t.Errorf("web ended with: %v", err)
	}
}

func TestSaysWhyItCannotListen(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := run(t.Context(), environment(map[string]string{"LISTEN_ADDR": listener.Addr().String()}), 0); err == nil {
		t.Error("it listens on an address in use")
	}
}
