package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// faultsOf returns the paths of what is wrong with a service's fields.
func faultsOf(t *testing.T, fields string) []string {
	t.Helper()
	_, err := Read(env(Variable, `{"consulServers": {"defaults": {"tls": false}}, `+fields+`}`))
	paths := []string{}
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		for _, fault := range invalid.Faults {
			paths = append(paths, fault.Path)
		}
	}
	return paths
}

func TestUpstreamsThatCannotBe(t *testing.T) {
	const a = `"destinationName": "a"`
	for upstreams, want := range map[string][]string{
		`{` + a + `, "localBindPort": 1}, {` + a + `, "localBindPort": 2, "destinationPeer": "p"}, {` + a + `, "localBindPort": 3, "datacenter": "dc2"}, {` + a + `, "localBindPort": 4, "destinationType": "prepared_query"}`: {},
		`{` + a + `, "localBindSocketPath": "/s"}, {"destinationName": "b", "localBindSocketPath": "/t", "localBindSocketMode": "600"}`:                                                                                        {},

		`{` + a + `, "localBindPort": 1, "destinationPeer": "p", "datacenter": "dc2"}`:                 {"[0].datacenter"},
		`{` + a + `, "localBindPort": 1, "destinationPeer": "p", "destinationType": "prepared_query"}`: {"[0].destinationType"},
		`{` + a + `, "localBindPort": 1, "destinationType": "query"}`:                                  {"[0].destinationType"},
		`{"destinationName": "*", "localBindPort": 1}`:                                                 {"[0].destinationName"},
		`{` + a + `}`: {"[0].localBindPort"},
		`{` + a + `, "localBindPort": 1, "localBindSocketMode": "0600"}`:                                  {"[0].localBindSocketMode"},
		`{` + a + `, "localBindPort": 1, "localBindSocketPath": "/s"}`:                                    {"[0].localBindPort"},
		`{` + a + `, "localBindAddress": "127.0.0.1", "localBindSocketPath": "/s"}`:                       {"[0].localBindAddress"},
		`{` + a + `, "localBindSocketPath": "s", "localBindSocketMode": "rw"}`:                            {"[0].localBindSocketPath", "[0].localBindSocketMode"},
		fmt.Sprintf(`{%s, "localBindSocketPath": "/%s"}`, a, strings.Repeat("s", 107)):                    {"[0].localBindSocketPath"},
		`{` + a + `, "localBindSocketPath": "/s"}, {"destinationName": "b", "localBindSocketPath": "/s"}`: {"[1].localBindSocketPath"},
		`7, {` + a + `, "localBindPort": 1}, {` + a + `, "localBindPort": 2}`:                             {"[0]", "[2].destinationName"},
	} {
		for i := range want {
			want[i] = "proxy.upstreams" + want[i]
		}
		if diff := cmp.Diff(want, faultsOf(t, `"service": {"port": 80}, "proxy": {"upstreams": [`+upstreams+`]}`)); diff != "" {
			t.Errorf("%s: %s", upstreams, diff)
		}
	}
}
