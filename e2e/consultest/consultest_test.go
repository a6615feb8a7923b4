package consultest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

func TestServersRunSideBySide(t *testing.T) {
	first, second := Start(t), Start(t)
	if first.Addr == second.Addr {
		t.Fatalf("both servers got %s", first.Addr)
	}
	if _, err := first.Client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-1", Address: "10.0.0.1"}, nil); err != nil {
		t.Fatalf("register a node: %v", err)
	}
	for server, want := range map[*Server]int{first: 2, second: 1} { // each holds itself
		nodes, _, err := server.Client.Catalog().Nodes(nil)
		if err != nil || len(nodes) != want {
			t.Errorf("%s has %d nodes (%v), want %d", server.Addr, len(nodes), err, want)
		}
		conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(server.Addr, GRPCPort)))
		if err != nil {
			t.Errorf("dial the xDS port: %v", err)
			continue
		}
		conn.Close()
	}
}

func TestFrozenServerAcceptsAndDoesNotAnswer(t *testing.T) {
	server := Start(t)
	server.Freeze()

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, err := server.Client.Catalog().Nodes((&api.QueryOptions{}).WithContext(ctx)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server gave %v, want the deadline to pass", err)
	}

	server.Unfreeze()
	if _, _, err := server.Client.Catalog().Nodes(nil); err != nil {
		t.Errorf("after Unfreeze: %v", err)
	}
}

func TestStoppedServerRefuses(t *testing.T) {
	server := Start(t)
	server.Stop()
	server.Stop()
	if _, _, err := server.Client.Catalog().Nodes(nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a stopped server gave %v, want connection refused", err)
	}
}
