package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// upstreamTimeout bounds one call of an upstream.
const upstreamTimeout = 5 * time.Second

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
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") })
	mux.HandleFunc("GET /", a.serve)
	return mux
}

func (a *application) serve(w http.ResponseWriter, r *http.Request) {
	out := reply{Name: a.name, Instance: a.instance, Body: a.message, Code: http.StatusOK}
	for _, uri := range a.upstreams {
		answer, err := call(r.Context(), uri)
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

func call(ctx context.Context, uri string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return reply{}, fmt.Errorf("call upstream: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("call upstream: %w", err)
	}
	defer resp.Body.Close()
	out := reply{Code: resp.StatusCode}
	if resp.StatusCode != http.StatusOK {
		return out, fmt.Errorf("call upstream %s: %s", uri, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("read the answer of upstream %s: %w", uri, err)
	}
	return out, nil
}
