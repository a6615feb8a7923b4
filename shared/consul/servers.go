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
	"strings"
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
	token          atomic.Pointer[token]
}

// token is an ACL token.
type token struct {
	secret string
	issued time.Time
}

// Options says how the servers' HTTP interface is reached.
type Options struct {
	Port           int           // 8500, or 8501 with TLS
	AttemptTimeout time.Duration // of one request to one server; 0 is 3 s
	TLS            *TLS          // nil is plain HTTP
	Tenancy        Tenancy       // of every request that names no other
}

// NewServers prepares a client for each address and dials none of them.
func NewServers(addrs []netip.Addr, opts Options) (*Servers, error) {
	if len(addrs) == 0 {
		return nil, errors.New("reach Consul: the list of servers is empty")
	}
	secured, err := opts.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("reach Consul by TLS: %w", err)
	}
	scheme := "http"
	if secured != nil {
		scheme = "https"
	}
	s := &Servers{attemptTimeout: cmp.Or(opts.AttemptTimeout, defaultAttemptTimeout)}
	transport := authorized{&s.token, opts.Tenancy, &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     secured,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     90 * time.Second,
	}}
	for _, addr := range addrs {
		name := net.JoinHostPort(addr.String(), strconv.Itoa(opts.Port))
		client, err := api.NewClient(&api.Config{Address: name, Scheme: scheme, Token: ours, Namespace: ours, Partition: ours, HttpClient: &http.Client{Transport: transport}})
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

// UseToken has every request from now on carry an ACL token, which was issued
// at that time. "" is Consul's anonymous token.
func (s *Servers) UseToken(secret string, issued time.Time) { s.token.Store(&token{secret, issued}) }

// Do calls attempt with one server's client after the other until one
// succeeds, one refuses for good, none can be trusted (see Permanent for both),
// or ctx ends. attempt gets a
// context of the attempt's timeout and must be safe to repeat: an attempt that timed
// out may have been carried out. The error names the last answer of every
// server that was tried in the last round.
func (s *Servers) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	pause := retry.WithJitterPercent(20, retry.WithCappedDuration(roundPauseCap, retry.NewExponential(roundPause)))
	var last error
	for {
		start := s.next.Load()
		var round []error
		distrust := true
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
			if refused(err) && !s.mayArrive(err) {
				return err
			}
			round = append(round, err)
			distrust = distrust && Untrusted(err)
		}
		last = errors.Join(round...)
		if distrust {
			return last
		}
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

// spreadTime is how long a server may not know a new token: it takes tokens
// over from the leader, and remembers for 30 s that it didn't have one.
const spreadTime = 40 * time.Second

// mayArrive tells whether a token that a server doesn't know is so new that it
// may not have reached that server yet.
func (s *Servers) mayArrive(err error) bool {
	token := s.token.Load()
	return TokenUnknown(err) && token != nil && time.Since(token.issued) < spreadTime
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
// understood the request and refused it, or no server has a certificate that
// the CA vouches for. Throttling (429) is not a refusal.
func Permanent(err error) bool {
	return !errors.Is(err, ErrNoAnswer) && (refused(err) || Untrusted(err))
}

func refused(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code >= 400 && status.Code < 500 &&
		status.Code != http.StatusTooManyRequests && status.Code != http.StatusRequestTimeout
}

// tokenUnknown is what Consul says of a token that it doesn't have, where it
// says "Permission denied" of one that isn't enough.
const tokenUnknown = "ACL not found" //nolint:gosec // no token either

// TokenUnknown tells whether Consul doesn't know the ACL token: it has ended,
// was revoked, or was lost with the snapshot that Consul was restored from.
func TokenUnknown(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == http.StatusForbidden && strings.Contains(status.Body, tokenUnknown)
}
