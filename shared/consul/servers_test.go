package consul

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
)

var three = []netip.Addr{netip.MustParseAddr("127.255.0.1"), netip.MustParseAddr("127.255.0.2"), netip.MustParseAddr("127.255.0.3")}

func servers(t *testing.T, addrs []netip.Addr, opts Options) *Servers {
	t.Helper()
	s, err := NewServers(addrs, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEveryServerIsTried runs on a clock of its own, and so takes no time.
func TestEveryServerIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servers(t, three, Options{Port: 8500})
		tried := map[*api.Client]int{}
		last := 0
		err := s.Do(t.Context(), func(_ context.Context, client *api.Client) error {
			tried[client]++
			if last++; last < 8 { // in the third round
				return errors.New("down")
			}
			return nil
		})
		if err != nil || len(tried) != 3 {
			t.Errorf("%d servers tried; %v", len(tried), err)
		}
		for client, times := range tried {
			if times < 2 {
				t.Errorf("%p was tried %d times of %d", client, times, last)
			}
		}
	})
}

func TestTheServerThatAnsweredIsAskedFirst(t *testing.T) {
	s := servers(t, three, Options{Port: 8500})
	var good *api.Client
	answer := func(_ context.Context, client *api.Client) error {
		if good == nil {
			good = client
		}
		if client != good {
			return errors.New("down")
		}
		return nil
	}
	for range 5 {
		attempts := 0
		err := s.Do(t.Context(), func(ctx context.Context, client *api.Client) error { attempts++; return answer(ctx, client) })
		if err != nil || attempts != 1 {
			t.Fatalf("%d attempts, %v", attempts, err)
		}
	}
}

func TestAnAttemptThatHangsMakesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servers(t, three, Options{Port: 8500})
		start := time.Now()
		attempts := 0
		err := s.Do(t.Context(), func(ctx context.Context, _ *api.Client) error {
			if attempts++; attempts < 3 {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		if took := time.Since(start); err != nil || took != 2*defaultAttemptTimeout {
			t.Errorf("took %s, %v", took, err)
		}
	})
}

func TestTheDeadlinesErrorNamesEveryServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servers(t, three, Options{Port: 8500})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errors.New("gave up after 10s"))
		defer cancel()
		err := s.Do(ctx, func(context.Context, *api.Client) error { return errors.New("down") })
		for _, text := range []string{"no Consul server answered in time (gave up after 10s)", "127.255.0.1:8500: down", "127.255.0.2:8500: down", "127.255.0.3:8500: down"} {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("no %q in %v", text, err)
			}
		}
	})
}

func TestARefusalEndsAtOnce(t *testing.T) {
	for code, permanent := range map[int]bool{400: true, 403: true, 404: true, 409: true, 413: true, 408: false, 429: false, 500: false, 503: false} {
		if err := fmt.Errorf("write: %w", api.StatusError{Code: code}); Permanent(err) != permanent {
			t.Errorf("%d: permanent is %v", code, Permanent(err))
		}
	}
	s := servers(t, three, Options{Port: 8500})
	attempts := 0
	err := s.Do(t.Context(), func(context.Context, *api.Client) error { attempts++; return api.StatusError{Code: 403, Body: "no"} })
	if attempts != 1 || !Permanent(err) {
		t.Errorf("%d attempts, %v", attempts, err)
	}
}

func TestNoServersAtAll(t *testing.T) {
	if _, err := NewServers(nil, Options{Port: 8500}); err == nil {
		t.Error("a list without servers was accepted")
	}
}

// TestARealClusterLosesServers has one server gone and one frozen.
func TestARealClusterLosesServers(t *testing.T) {
	alive, frozen := consultest.Start(t), consultest.Start(t)
	frozen.Freeze()
	s := servers(t, []netip.Addr{three[0], frozen.Addr, alive.Addr}, Options{Port: consultest.HTTPPort, AttemptTimeout: 300 * time.Millisecond})
	var leader string
	err := s.Do(t.Context(), func(ctx context.Context, client *api.Client) (err error) {
		leader, err = client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	if err != nil || !strings.HasPrefix(leader, alive.Addr.String()) {
		t.Errorf("leader %q, %v", leader, err)
	}
}
