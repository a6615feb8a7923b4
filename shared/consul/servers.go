// Package consul reaches Consul through whichever of its servers answers.
//
// Servers come and go while their list stays behind for a moment, a frozen
// leader hangs a follower's write for 20 seconds and more, and a cluster
// without a quorum answers 500 after 8. So every attempt is short, the next
// one goes to another server, and the rounds go on until the caller's
// deadline. What no server can put right (a refusal) ends at once.
package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/sethvargo/go-retry"
)

const (
	// defaultAttemptTimeout bounds one request to one server. Consul answers
	// a catalog write in milliseconds; a server that takes 3 s is waiting for
	// a leader that may never come.
	defaultAttemptTimeout = 3 * time.Second

	dialTimeout = time.Second

	// roundPause is the pause after all servers failed once; it doubles, with
	// jitter, up to roundPauseCap, so that a returning cluster isn't stormed.
	roundPause    = 100 * time.Millisecond
	roundPauseCap = 2 * time.Second
)

// ErrNoAnswer marks the errors of Servers.Do for which no server is known to
// have refused: none of them answered, or not in time, or not well.
var ErrNoAnswer = errors.New("no Consul server answered in time")

// Servers is a set of Consul servers that all serve the same cluster. It is
// safe for concurrent use.
type Servers struct {
	clients        []*api.Client
	names          []string // host:port, as in errors
	attemptTimeout time.Duration
	next           atomic.Uint32 // where the next call starts: the last server that answered
}

// Options says how the servers' HTTP interface is reached.
type Options struct {
	Port           int           // 8500
	AttemptTimeout time.Duration // of one request to one server; 0 is 3 s
}

// NewServers prepares a client for each address and dials none of them.
func NewServers(addrs []netip.Addr, opts Options) (*Servers, error) {
	if len(addrs) == 0 {
		return nil, errors.New("reach Consul: the list of servers is empty")
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     90 * time.Second,
	}
	s := &Servers{attemptTimeout: cmp.Or(opts.AttemptTimeout, defaultAttemptTimeout)}
	for _, addr := range addrs {
		name := net.JoinHostPort(addr.String(), strconv.Itoa(opts.Port))
		client, err := api.NewClient(&api.Config{Address: name, Scheme: "http", HttpClient: &http.Client{Transport: unaffected{transport}}})
		if err != nil {
			return nil, fmt.Errorf("reach Consul at %s: %w", name, err)
		}
		s.clients = append(s.clients, client)
		s.names = append(s.names, name)
	}
	// Tasks that start together must not all ask the same server.
	s.next.Store(rand.Uint32N(uint32(len(addrs))))
	return s, nil
}

// unaffected keeps out of requests what Consul's client takes from CONSUL_*
// variables by itself: a token, namespace or partition that is set for the
// application's own use must not change where a task is registered.
type unaffected struct{ http.RoundTripper }

func (u unaffected) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Del("X-Consul-Token")
	query := request.URL.Query()
	query.Del("ns")
	query.Del("partition")
	request.URL.RawQuery = query.Encode()
	return u.RoundTripper.RoundTrip(request)
}

// Do calls attempt with one server's client after the other until one
// succeeds, one refuses for good (see Permanent), or ctx ends. attempt gets a
// context of the attempt's timeout and must be safe to repeat: an attempt that timed
// out may have been carried out. The error names the last answer of every
// server that was tried in the last round.
func (s *Servers) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	pause := retry.WithJitterPercent(20, retry.WithCappedDuration(roundPauseCap, retry.NewExponential(roundPause)))
	var last error
	for {
		start := s.next.Load()
		var round []error
		for i := range uint32(len(s.clients)) {
			n := (start + i) % uint32(len(s.clients))
			err := s.try(ctx, n, attempt)
			if err == nil {
				s.next.Store(n)
				return nil
			}
			if ctx.Err() != nil {
				// This attempt was cut short: what came before says more.
				return deadline(ctx, append(round, err), last)
			}
			if Permanent(err) {
				return err
			}
			round = append(round, err)
		}
		last = errors.Join(round...)
		wait, _ := pause.Next()
		select {
		case <-ctx.Done():
			return deadline(ctx, nil, last)
		case <-time.After(wait):
		}
	}
}

func (s *Servers) try(ctx context.Context, n uint32, attempt func(context.Context, *api.Client) error) error {
	attemptCtx, cancel := context.WithTimeout(ctx, s.attemptTimeout)
	defer cancel()
	err := attempt(attemptCtx, s.clients[n])
	if err == nil {
		return nil
	}
	if attemptCtx.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: no answer within %s", s.names[n], s.attemptTimeout)
	}
	// A server that can't be reached has the same error whatever was asked,
	// and the URL, with its filters, would bury it.
	var unreachable *url.Error
	if errors.As(err, &unreachable) {
		err = unreachable.Err
	}
	return fmt.Errorf("%s: %w", s.names[n], err)
}

// deadline prefers the last full round's errors to those of the round that
// the deadline interrupted.
func deadline(ctx context.Context, interrupted []error, last error) error {
	if last == nil {
		last = errors.Join(interrupted...)
	}
	return fmt.Errorf("%w (%w): %w", ErrNoAnswer, context.Cause(ctx), last)
}

// Permanent tells whether asking again, or another server, can't help: Consul
// understood the request and refused it. Throttling (429) is not a refusal.
func Permanent(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code >= 400 && status.Code < 500 &&
		status.Code != http.StatusTooManyRequests && status.Code != http.StatusRequestTimeout
}
