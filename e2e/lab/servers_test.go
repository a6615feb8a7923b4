package lab_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// silence is the longest that nobody may be able to write while servers are
// replaced one by one: not for good, as without a quorum. An election takes a
// second, and several on a machine that is busy otherwise.
const silence = 45 * time.Second

// TestServersOfTheExample has somebody write to Consul all the time while its
// servers, with TLS and ACLs, are replaced, and then lost.
func TestServersOfTheExample(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{Secure: true})
	var written []string

	oneByOne := func(t *testing.T) {
		w := startWriter(t, l)
		for i, old := range servers {
			fresh := launch(t, l.Servers)
			_, err := l.WaitTask(t.Context(), fresh, ecs.Task.Ready)
			must(t, err)
			expectVoter(t, l, fresh)
			must(t, l.Servers.Stop(old.TaskARN))
			_, err = l.WaitTask(t.Context(), old, ecs.Task.Stopped)
			must(t, err)
			servers[i] = fresh
			awaitVoters(t, l, len(servers))
			must(t, l.WaitPublished(t.Context(), servers...))
		}
		var longest time.Duration
		written, longest = w.stop()
		t.Logf("%d writes, with %s between two of them at most", len(written), longest.Round(time.Millisecond))
		if longest > silence {
			t.Errorf("nobody could write for %s", longest)
		}
		expectWritten(t, l, written)
	}

	// ECS must not replace the last one that has the data.
	mostAreLost := func(t *testing.T) {
		last := servers[2]
		consul, err := l.ConsulAt(last.Address())
		must(t, err)
		// A follower hears a moment after the others that something is written.
		must(t, lab.Await(t.Context(), "what is written at the last server", func(ctx context.Context) error {
			pair, _, err := consul.KV().Get(written[len(written)-1], (&api.QueryOptions{AllowStale: true}).WithContext(ctx))
			if err == nil && pair == nil {
				err = errors.New("the last key is missing")
			}
			return err
		}))
		signalServers(t, l, servers[:2], syscall.SIGKILL)
		for _, server := range servers[:2] {
			_, err := l.WaitTask(t.Context(), server, ecs.Task.Stopped)
			must(t, err)
		}
		must(t, lab.Await(t.Context(), "the loss of the leader", func(context.Context) error {
			leader, err := consul.Status().Leader()
			if err == nil && leader != "" {
				err = fmt.Errorf("%s leads", leader)
			}
			return err
		}))
		time.Sleep(60 * second) // more than five checks take to fail
		if now, _ := l.ECS.Task(last.TaskARN); !now.Ready() {
			t.Errorf("without a leader, the last server is %s", now.Summary())
		}
		stream, _, err := consul.Snapshot().Save(&api.QueryOptions{AllowStale: true})
		must(t, err)
		defer stream.Close()
		snapshot, err := io.ReadAll(stream)
		must(t, err)
		must(t, l.Servers.Stop(last.TaskARN))
		_, err = l.WaitTask(t.Context(), last, ecs.Task.Stopped)
		must(t, err)
		servers, err = l.StartServers(t.Context())
		must(t, err)
		consul, err = l.Consul()
		must(t, err)
		must(t, consul.Snapshot().Restore(nil, bytes.NewReader(snapshot)))
		must(t, l.WaitLeader(t.Context()))
		expectWritten(t, l, written)
	}

	inTurn(t,
		step{"one by one", oneByOne},
		step{"most of them are lost, and a snapshot of the last one is restored", mostAreLost},
	)
}

// TestTheServerToTryThingsWith has tasks join the mesh of a server in memory.
func TestTheServerToTryThingsWith(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{Dev: true})
	_, err := l.WaitTask(t.Context(), servers[0], ecs.Task.Ready)
	must(t, err)
	web, _ := startMesh(t, l, 1)
	load := lab.StartLoad(t.Context(), web, 50)
	must(t, lab.Await(t.Context(), "requests", func(context.Context) error {
		if n := len(load.Requests()); n < 20 {
			return fmt.Errorf("%d so far", n)
		}
		return nil
	}))
	noFailures(t, load.Stop())
}

// expectVoter holds a server that is HEALTHY to be one that counts.
func expectVoter(t *testing.T, l *lab.Lab, server ecs.Task) {
	t.Helper()
	consul, err := l.Consul()
	must(t, err)
	peers, err := consul.Operator().RaftGetConfiguration(nil)
	must(t, err)
	if !slices.ContainsFunc(peers.Servers, func(peer *api.RaftServer) bool {
		return peer.Voter && peer.Address == netip.AddrPortFrom(server.Address(), 8300).String()
	}) {
		t.Errorf("%s is HEALTHY and has no vote", server.Address())
	}
}

// writer writes one key after the other.
type writer struct {
	cancel  context.CancelFunc
	done    chan struct{}
	keys    []string
	longest time.Duration // from one success to the next
}

func startWriter(t *testing.T, l *lab.Lab) *writer {
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for last := time.Now(); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
			consul, err := l.Consul()
			if err != nil {
				continue // no server answers, or none knows a leader
			}
			key := fmt.Sprintf("written/%d", len(w.keys))
			if _, err := consul.KV().Put(&api.KVPair{Key: key}, (&api.WriteOptions{}).WithContext(ctx)); err == nil {
				w.keys = append(w.keys, key)
				w.longest, last = max(w.longest, time.Since(last)), time.Now()
			}
		}
	}()
	return w
}

func (w *writer) stop() (keys []string, longest time.Duration) {
	w.cancel()
	<-w.done
	return w.keys, w.longest
}

// expectWritten holds Consul to what it said it had written.
func expectWritten(t *testing.T, l *lab.Lab, keys []string) {
	t.Helper()
	if len(keys) == 0 {
		t.Fatal("nothing was written")
	}
	consul, err := l.Consul()
	must(t, err)
	found, _, err := consul.KV().Keys("written/", "", nil)
	must(t, err)
	there := map[string]bool{}
	for _, key := range found {
		there[key] = true
	}
	for _, key := range keys {
		if !there[key] {
			t.Fatalf("%s of %d keys is lost", key, len(keys))
		}
	}
}
