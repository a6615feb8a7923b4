package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ecsmesh/e2e/ecs"
)

// requestTimeout bounds a request of a Load: a slower answer is a failure.
const requestTimeout = 5 * time.Second

// Load is a steady stream of requests to a web task, which calls api through
// the mesh for each of them. A request starts at every tick, however long
// those before it take, as from many independent callers.
type Load struct {
	url    string
	client *http.Client
	stop   context.CancelFunc
	ended  chan struct{}

	mu       sync.Mutex
	requests []Request
}

// Request is one request of a Load and what became of it.
type Request struct {
	Start time.Time
	Took  time.Duration
	API   netip.Addr // the api task that answered; zero for a failure
	Err   error
}

// End is when the answer was there.
func (r Request) End() time.Time { return r.Start.Add(r.Took) }

// StartLoad sends requests to the web task until Stop, or the end of ctx.
func StartLoad(ctx context.Context, web ecs.Task, perSecond int) *Load {
	ctx, stop := context.WithCancel(ctx)
	load := &Load{
		url:    AppURL(web),
		client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
		stop:   stop,
		ended:  make(chan struct{}),
	}
	go load.run(ctx, time.Second/time.Duration(perSecond))
	return load
}

func (l *Load) run(ctx context.Context, interval time.Duration) {
	defer close(l.ended)
	var pending sync.WaitGroup
	defer pending.Wait()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			// Stop ends the stream; what is under way is answered all the same.
			pending.Go(func() { l.request(context.WithoutCancel(ctx)) })
		}
	}
}

func (l *Load) request(ctx context.Context) {
	r := Request{Start: time.Now()}
	r.API, r.Err = l.ask(ctx)
	r.Took = time.Since(r.Start)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, r)
}

func (l *Load) ask(ctx context.Context) (netip.Addr, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask web: %w", err)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("ask web: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Upstreams map[string]struct {
			Instance netip.Addr `json:"instance"`
			Error    string     `json:"error"`
		} `json:"upstream_calls"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return netip.Addr{}, fmt.Errorf("read web's answer: %w", err)
	}
	for _, upstream := range answer.Upstreams {
		if resp.StatusCode != http.StatusOK {
			return netip.Addr{}, fmt.Errorf("ask web: %s: %s", resp.Status, upstream.Error)
		}
		return upstream.Instance, nil
	}
	return netip.Addr{}, errors.New("ask web: it called no upstream")
}

// Stop ends the stream, waits for the answers under way, and returns all
// requests in the order of their start.
func (l *Load) Stop() []Request {
	l.stop()
	<-l.ended
	l.client.CloseIdleConnections()
	return l.Requests()
}

// Requests returns the requests that have ended so far, in the order of their
// start.
func (l *Load) Requests() []Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.requests)
	slices.SortFunc(all, func(a, b Request) int { return a.Start.Compare(b.Start) })
	return all
}

// Failures returns the requests that were not answered well.
func Failures(requests []Request) []Request {
	return slices.DeleteFunc(slices.Clone(requests), func(r Request) bool { return r.Err == nil })
}

// AnsweredBy returns the requests that a task of api answered.
func AnsweredBy(requests []Request, api ecs.Task) []Request {
	return slices.DeleteFunc(slices.Clone(requests), func(r Request) bool { return r.Err != nil || r.API != api.Address() })
}
