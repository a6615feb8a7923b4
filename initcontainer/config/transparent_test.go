package config

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// withTransparentProxy is a document with the fields beside it.
func withTransparentProxy(object, fields string) func(string) string {
	return env(LegacyVariable, `{`+plaintext+`, "transparentProxy": `+object+`, `+fields+`}`)
}

const someService = `"service": {"port": 8080}`

func TestTransparentProxyIsRead(t *testing.T) {
	for object, want := range map[string]*TransparentProxy{
		`null`:               nil,
		`{"enabled": false}`: nil,
		`{"enabled": false, "excludeUIDs": ["1"], "consulDNS": {"enabled": true}}`: nil,
		// As consul-ecs has it.
		`{}`:                             {},
		`{"enabled": true}`:              {},
		`{"consulDNS": null}`:            {},
		`{"consulDNS": {}}`:              {},
		`{"excludeInboundPorts": null}`:  {},
		`{"excludeOutboundCIDRs": null}`: {},
		`{"excludeInboundPorts": [1, 65535], "excludeOutboundPorts": [5432], "excludeOutboundCIDRs": ["10.1.2.3/16", "10.9.9.9"],
			"excludeUIDs": ["0", "4294967294"], "consulDNS": {"enabled": false}}`: {
			ExcludeInboundPorts: []int{1, 65535}, ExcludeOutboundPorts: []int{5432},
			ExcludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.9.9.9/32")},
			ExcludeUIDs:          []uint32{0, 4294967294},
		},
	} {
		got, err := Read(withTransparentProxy(object, someService))
		if err != nil {
			t.Errorf("%s: %v", object, err)
			continue
		}
		if diff := cmp.Diff(want, got.TransparentProxy, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%s:\n%s", object, diff)
		}
	}
}

const noTransparentProxy = "transparentProxy is off, since it is not there; consul-ecs 0.8 and newer have it on then: set transparentProxy.enabled to what is wanted"

// TestATransparentProxyThatConsulECSWouldHaveIsMissed is for what would be other
// than it was without a word.
func TestATransparentProxyThatConsulECSWouldHaveIsMissed(t *testing.T) {
	for _, c := range []struct {
		variable, fields string
		want             []string
	}{
		{LegacyVariable, someService, []string{noTransparentProxy}},
		{LegacyVariable, someService + `, "transparentProxy": null`, []string{noTransparentProxy}},
		{LegacyVariable, someService + `, "transparentProxy": {"enabled": false}`, nil},
		{LegacyVariable, someService + `, "transparentProxy": {}`, nil},
		{LegacyVariable, `"gateway": {"kind": "mesh-gateway"}`, nil},
		{Variable, someService, nil},
	} {
		got, err := Read(env(c.variable, `{`+plaintext+`, `+c.fields+`}`))
		if err != nil || !slices.Equal(got.Warnings, c.want) {
			t.Errorf("%s, %s: %q, %v", c.variable, c.fields, got.Warnings, err)
		}
	}
}

func TestFaultsOfATransparentProxy(t *testing.T) {
	for _, c := range []struct {
		object, fields string
		want           map[string]string
	}{
		{`7`, someService, map[string]string{"transparentProxy": "7"}},
		{`{"excludePorts": [], "excludeInboundPorts": ["80", 80.5, 0, 65536, 8e2], "excludeOutboundPorts": 80}`, someService, map[string]string{
			"transparentProxy.excludePorts": "an unknown field", "transparentProxy.excludeOutboundPorts": "80",
			"transparentProxy.excludeInboundPorts[0]": `"80"`, "transparentProxy.excludeInboundPorts[1]": "80.5", "transparentProxy.excludeInboundPorts[2]": "0",
			"transparentProxy.excludeInboundPorts[3]": "65536", "transparentProxy.excludeInboundPorts[4]": "8e2",
		}},
		{`{"excludeOutboundCIDRs": ["10.0.0.0/33", "fd00::/8", "::1", "example.com", ""], "excludeUIDs": ["root", "-1", "4294967295", 1]}`, someService, map[string]string{
			"transparentProxy.excludeOutboundCIDRs[0]": `"10.0.0.0/33"`, "transparentProxy.excludeOutboundCIDRs[1]": `"fd00::/8"`, "transparentProxy.excludeOutboundCIDRs[2]": `"::1"`,
			"transparentProxy.excludeOutboundCIDRs[3]": `"example.com"`, "transparentProxy.excludeOutboundCIDRs[4]": `""`,
			"transparentProxy.excludeUIDs[0]": `"root"`, "transparentProxy.excludeUIDs[1]": `"-1"`, "transparentProxy.excludeUIDs[2]": `"4294967295"`, "transparentProxy.excludeUIDs[3]": "1",
		}},
		{`{"consulDNS": {"enabled": true, "port": 53}}`, someService, map[string]string{"transparentProxy.consulDNS.enabled": "true", "transparentProxy.consulDNS.port": "an unknown field"}},
		{`{"consulDNS": {"enabled": true}}`, someService + `, "topology": "client-agent", "consulClient": {"address": "::1"}`, map[string]string{"transparentProxy.consulDNS.enabled": "true"}},
		{`{"consulDNS": {"enabled": true}}`, someService + `, "topology": "client-agent", "consulClient": {"address": "0.0.0.0"}`, map[string]string{"transparentProxy.consulDNS.enabled": "true"}},
		{`{}`, `"service": {"port": 15001}`, map[string]string{"service.port": "15001"}},
	} {
		_, err := Read(withTransparentProxy(c.object, c.fields))
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %v", c.object, err)
			continue
		}
		got := map[string]string{}
		for _, fault := range invalid.Faults {
			got[fault.Path] = fault.Found
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", c.object, diff)
		}
	}
}
