package consultest

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// StartAgent runs a client agent that joins a server, and returns when the server
// has its node. It has an address of its own, ends with the test, and is a Server
// but for what it does. Its node has a name and meta.
func StartAgent(t testing.TB, server *Server, name string, meta map[string]string) *Server {
	t.Helper()
	agent := newServer(t, freeAddr(t), nil, "-data-dir", t.TempDir(), "-retry-join", server.Addr.String(), "-retry-interval", "1s")
	agent.args = append(agent.args, "-node", name, "-hcl", "leave_on_terminate = true", "-hcl", "connect { enabled = true }")
	if server.Security != nil {
		path, err := server.lockdown.ConfigureAgent(agent.Addr)
		if err != nil {
			t.Fatal(err)
		}
		agent.args = append(agent.args, "-config-file", path)
	}
	for key, value := range meta {
		agent.args = append(agent.args, "-node-meta", key+":"+value)
	}
	agent.run(t)
	await(t, agent, func(ctx context.Context) error {
		node, _, err := server.Client.Catalog().Node(name, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && (node == nil || len(meta) > len(node.Node.Meta)) {
			err = fmt.Errorf("the server has the node %+v", node)
		}
		return err
	})
	return agent
}

// Leave has an agent leave its cluster and end.
func (s *Server) Leave() {
	s.signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(stopTimeout):
	}
}
