package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

const (
	// upstreamTimeout bounds one call of an upstream.
	upstreamTimeout = 5 * time.Second

	// bodyLimit is how much of an upstream's answer is read, in bytes.
	bodyLimit = 1 << 16
)

// application answers each request with its own name and what its upstreams
// answered.
type application struct {
	name      string
	message   string
	instance  string // its address: which of several it is
	upstreams []string
	stopping  <-chan struct{}
}

// reply is an answer, or what became of the call of an upstream.
type reply struct {
	Name          string           `json:"name,omitempty"`
	Instance      string           `json:"instance,omitempty"`
	Body          string           `json:"body,omitempty"`
	UpstreamCalls map[string]reply `json:"upstream_calls,omitempty"` // by URI
	Code          int              `json:"code"`
	Error         string           `json:"error,omitempty"`
}

func (a *application) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") })
	mux.HandleFunc("/", a.serve)
	return mux
}

func (a *application) serve(w http.ResponseWriter, r *http.Request) {
	out := reply{Name: a.name, Instance: a.instance, Body: a.message, Code: http.StatusOK}
	callers, upstreams := r.Header.Values(via), a.upstreams
	if slices.Contains(callers, a.name) {
		upstreams = nil // services that call each other would go on for ever
	}
	for _, uri := range upstreams {
		answer, err := call(r.Context(), uri, slices.Concat(callers, []string{a.name}))
		if err != nil {
			answer.Error = err.Error()
			out.Code = http.StatusBadGateway
		}
		if out.UpstreamCalls == nil {
			out.UpstreamCalls = map[string]reply{}
		}
		out.UpstreamCalls[uri] = answer
	}
	select {
	case <-a.stopping:
		// Let the caller's next request open a connection elsewhere, rather
		// than find this one closed.
		w.Header().Set("Connection", "close")
	default:
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(out.Code)
	_ = json.NewEncoder(w).Encode(out) // the caller may be gone
}

// via is the header with the names of those that a request has come through,
// each in a line of its own.
const via = "X-Called-By"

// client leaves it to who asked to follow a redirection.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// call asks an upstream in the name of its callers. An upstream of another kind
// has answered, too, whatever it says, unless it or an Envoy says that it can't.
func call(ctx context.Context, uri string, callers []string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return reply{}, fmt.Errorf("call upstream: %w", err)
	}
	req.Header[via] = callers
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("call upstream: %w", err)
	}
	defer resp.Body.Close()
	out := reply{Code: resp.StatusCode}
	if resp.StatusCode >= http.StatusInternalServerError {
		return out, fmt.Errorf("call upstream %s: %s", uri, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return out, fmt.Errorf("read the answer of upstream %s: %w", uri, err)
	}
	// So its Envoy says whom Consul's intentions deny.
	if resp.StatusCode == http.StatusForbidden && bytes.HasPrefix(body, []byte("RBAC: ")) {
		return out, fmt.Errorf("call upstream %s: %s, %s", uri, resp.Status, body)
	}
	var known reply
	if json.Unmarshal(body, &known) == nil && known.Name != "" {
		return known, nil
	}
	out.Body = string(body)
	return out, nil
}
