package config

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPathsThatCannotBeExposed(t *testing.T) {
	got := faultsOf(t, `"service": {"port": 80}, "proxy": {"expose": {"check": true, "paths": [
		{"listenerPort": 1, "path": "/a", "localPathPort": 80}, {"listenerPort": 1, "path": "b", "localPathPort": 0}, {"protocol": "grpc", "port": 1}]}}`)
	slices.Sort(got)
	if diff := cmp.Diff([]string{
		"proxy.expose.check", "proxy.expose.paths[1].listenerPort", "proxy.expose.paths[1].localPathPort", "proxy.expose.paths[1].path",
		"proxy.expose.paths[2].listenerPort", "proxy.expose.paths[2].localPathPort", "proxy.expose.paths[2].path", "proxy.expose.paths[2].port", "proxy.expose.paths[2].protocol",
	}, got); diff != "" {
		t.Error(diff)
	}
}
