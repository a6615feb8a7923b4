package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"ecsmesh/e2e/functiontest"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
)

func published(t *testing.T, w *functiontest.World) string {
	t.Helper()
	name := functiontest.ServersParameter
	out, err := ssm.NewFromConfig(w.AWS).GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
	if err != nil {
		t.Fatal(err)
	}
	return *out.Parameter.Value
}

// seeded has the function ask Consul, and an old list published.
func seeded(t *testing.T, rules string) (w *functiontest.World, handle func(context.Context, json.RawMessage) error) {
	t.Helper()
	w = functiontest.Start(t, rules, "")
	w.Variables["CONSUL_SEED_ADDRESSES"] = w.Consul.Addr.String()
	w.Publish(t, functiontest.ServersParameter, "10.0.0.1")
	return w, functiontest.Handler(t, w, wire)
}

// TestSeedsInALockedDownConsul has the rights that setup-acl gives this function.
func TestSeedsInALockedDownConsul(t *testing.T) {
	w, handle := seeded(t, `node_prefix "" { policy = "read" } service "consul" { policy = "read" }`)
	if err := handle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := published(t, w), w.Consul.Addr.String(); got != want {
		t.Errorf("the list is %s, want %s", got, want)
	}
	if tokens := w.Tokens(t); len(tokens) != 1 {
		t.Errorf("it holds %d tokens, want 1", len(tokens))
	}
}

// TestSeedsThatTellNothing must leave the list as it is.
func TestSeedsThatTellNothing(t *testing.T) {
	for name, rules := range map[string]string{"of nodes": `service "consul" { policy = "read" }`, "of services": `node_prefix "" { policy = "read" }`} {
		t.Run(name, func(t *testing.T) {
			w, handle := seeded(t, rules)
			if err := handle(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "part of it is hidden by Consul's ACLs") {
				t.Errorf("got %v, want an error that says why", err)
			}
			if got := published(t, w); got != "10.0.0.1" {
				t.Errorf("the list became %s", got)
			}
		})
	}
}
