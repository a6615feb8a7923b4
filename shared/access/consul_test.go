package access_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/functiontest"
	"ecsmesh/shared/access"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/function"

	"github.com/hashicorp/consul/api"
)

// probe is a function that writes a node into Consul's catalog, at the servers
// that its payload lists.
type probe struct {
	access.Settings
	function.Logging
}

func wire(cfg probe, lambda function.Runtime) func(context.Context, json.RawMessage) error {
	access := access.New(cfg.Settings, lambda.SDK, lambda.Log)
	return func(ctx context.Context, payload json.RawMessage) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		var addrs []netip.Addr
		if err := json.Unmarshal(payload, &addrs); err != nil {
			return err
		}
		return access.Use(ctx, addrs, func(servers *consul.Servers) error {
			return servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
				_, err := client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-1a", Address: "10.0.0.1"}, (&api.WriteOptions{}).WithContext(ctx))
				return err
			})
		})
	}
}

// TestAFunctionInALockedDownConsul goes through the life of a warm function.
func TestAFunctionInALockedDownConsul(t *testing.T) {
	w := functiontest.Start(t, `node_prefix "ecs-" { policy = "write" }`, "")
	handle := functiontest.Handler(t, w, wire)
	server := `["` + w.Consul.Addr.String() + `"]`

	tokensAfter := func(payload string) string {
		t.Helper()
		if err := handle(t.Context(), json.RawMessage(payload)); err != nil {
			t.Fatal(err)
		}
		tokens := w.Tokens(t)
		if len(tokens) != 1 {
			t.Fatalf("it holds %d tokens, want 1", len(tokens))
		}
		return tokens[0].AccessorID
	}
	first := tokensAfter(server)
	if second := tokensAfter(`["127.255.0.1", "` + w.Consul.Addr.String() + `"]`); second != first {
		t.Error("another list made it log in again")
	}
	if _, err := w.Consul.Client.ACL().TokenDelete(first, nil); err != nil {
		t.Fatal(err)
	}
	if next := tokensAfter(server); next == first {
		t.Error("a revoked token is still in use")
	}
}

func TestAFunctionThatIsRefused(t *testing.T) {
	w := functiontest.Start(t, ``, "")
	server := json.RawMessage(`["` + w.Consul.Addr.String() + `"]`)
	good := w.Variables
	for name, test := range map[string]struct{ variable, value, want string }{
		"by its rights":            {"", "", "Permission denied"},
		"without a login":          {"CONSUL_LOGIN_METHOD", "", "Permission denied"},
		"by an unknown method":     {"CONSUL_LOGIN_METHOD", "other", "CONSUL_LOGIN_METHOD"},
		"by another cluster":       {"CONSUL_LOGIN_SERVER_ID", "elsewhere", "CONSUL_LOGIN_SERVER_ID"},
		"for want of a CA":         {"CONSUL_CACERT_PARAMETER", "/ecsmesh/other", "AccessDeniedException"},
		"by itself for a wrong CA": {"CONSUL_CACERT_PARAMETER", functiontest.ServersParameter, "holds no certificate"},
		"by itself for a name":     {"CONSUL_TLS_SERVER_NAME", "server.dc2.consul", "CONSUL_TLS_SERVER_NAME"},
	} {
		t.Run(name, func(t *testing.T) {
			w.Variables = maps.Clone(good)
			w.Variables[test.variable] = test.value
			if w.Variables["CONSUL_LOGIN_METHOD"] == "" {
				delete(w.Variables, "CONSUL_LOGIN_SERVER_ID")
			}
			err := functiontest.Handler(t, w, wire)(t.Context(), server)
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, consul.ErrNoAnswer) {
				t.Errorf("got %v, want a refusal that says %q", err, test.want)
			}
		})
	}
}
