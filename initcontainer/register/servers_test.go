package register

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scarceRate is how many reads a second SSM allows an account by default.
const scarceRate = 40

// scarce is such an SSM: it lets calls through at its rate, and a second's worth
// of them at once.
type scarce struct {
	mu    sync.Mutex
	calls float64 // that it would let through now
	at    time.Time
}

func (s *scarce) Read(context.Context) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = min(scarceRate, s.calls+scarceRate*time.Since(s.at).Seconds())
	s.at = time.Now()
	if s.calls < 1 {
		return nil, errors.New("ThrottlingException: Rate exceeded")
	}
	s.calls--
	return []netip.Addr{netip.MustParseAddr("10.0.1.10")}, nil
}

// TestTasksShareAScarceSSM has them start all at once. The pauses between their
// tries must leave SSM nothing that it could have answered, or nearly.
func TestTasksShareAScarceSSM(t *testing.T) {
	for _, n := range []int{100, 2_000} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), DefaultDeadline)
			defer cancel()
			ssm := &scarce{calls: scarceRate, at: time.Now()}
			took := make([]time.Duration, n)
			var tasks sync.WaitGroup
			for i := range n {
				tasks.Go(func() {
					began := time.Now()
					if _, err := (Registrar{Log: slog.New(slog.DiscardHandler)}).waitForServers(ctx, ssm); err != nil {
						t.Error(err)
					}
					took[i] = time.Since(began)
				})
			}
			tasks.Wait()
			least := time.Duration(n-scarceRate) * time.Second / scarceRate
			if last := slices.Max(took); last > least+2*longestPause {
				t.Errorf("of %d tasks the last waited %s, where SSM takes %s for all", n, last, least)
			}
		})
	}
}
