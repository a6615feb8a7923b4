package config

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	service   = `"service": {"port": 8080}`
	gossipKey = "AAAAAAAAAAAAAAAAAAAAAA=="
)

func TestAConsulClientHasTheDocumentedDefaults(t *testing.T) {
	got, err := Read(env(Variable, `{"topology": "client-agent", `+plaintext+`, `+service+`}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &ConsulClient{
		Datacenter: "dc1", Address: "127.0.0.1", HTTPPort: 8500, GRPCPort: 8502, DNSPort: 8600, SerfPort: 8301, UID: -1, CheckInterval: 5 * time.Second,
	}
	if diff := cmp.Diff(want, got.ConsulClient); diff != "" {
		t.Error(diff)
	}
	agent := got.LocalAgent()
	if !cmp.Equal(agent.Hosts, []string{"127.0.0.1"}) || agent.HTTP != (Interface{Port: 8500}) || agent.GRPC != (Interface{Port: 8502}) {
		t.Errorf("it is reached at %+v", agent)
	}
}

func TestEveryFieldOfAConsulClientIsRead(t *testing.T) {
	got, err := Read(env("CONSUL_GOSSIP_KEY", gossipKey+"\n", Variable, `{"topology": "client-agent", "consulServers": {"defaults": {"caCertParameter": "/ca"}}, `+service+`,
		"consulClient": {"datacenter": "eu-1", "address": "127.0.0.9", "httpPort": 1, "grpcPort": 2, "dnsPort": 3, "serfPort": 4, "gossipKeyParameter": null,
			"autoEncrypt": true, "uid": 101, "checkInterval": "10s"}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &ConsulClient{
		Datacenter: "eu-1", Address: "127.0.0.9", HTTPPort: 1, GRPCPort: 2, DNSPort: 3, SerfPort: 4, GossipKey: gossipKey, AutoEncrypt: true, UID: 101, CheckInterval: 10 * time.Second,
	}
	if diff := cmp.Diff(want, got.ConsulClient); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsOfAConsulClient(t *testing.T) {
	for name, test := range map[string]struct {
		document string
		env      []string
		want     []Fault
	}{
		"another topology": {`{` + plaintext + `, ` + service + `, "consulClient": {}}`, nil,
			[]Fault{{"consulClient", "an object", `it goes with "topology": "client-agent" only; remove it`}}},
		"all at once": {`{"topology": "client-agent", ` + plaintext + `, ` + service + `, "consulClient": {
			"datacenter": "DC 1", "address": "localhost", "gossipKeyParameter": "` + gossipKey + `", "autoEncrypt": true, "checkInterval": "often", "port": 1}}`, nil,
			[]Fault{
				{"consulClient.checkInterval", `"often"`, "want a duration such as 500ms or 2s, up to 1h0m0s"},
				{"consulClient.datacenter", `"DC 1"`, "want the name of the servers' datacenter: lower-case letters, digits, - and _"},
				{"consulClient.address", `"localhost"`, "want an IP address, such as 127.0.0.1"},
				{"consulClient.gossipKeyParameter", "what looks like a key", "want the name of the SSM parameter that holds it: a task definition is no place for a key, and others have seen this one"},
				{"consulClient.autoEncrypt", "true", "it needs TLS: set consulServers.defaults.tls, or remove it"},
				{"consulClient.port", "an unknown field", "remove it, or use one of address, autoEncrypt, checkInterval, datacenter, dnsPort, gossipKeyParameter, grpcPort, httpPort, serfPort, uid"},
			}},
		"two keys": {`{"topology": "client-agent", ` + plaintext + `, ` + service + `, "consulClient": {"gossipKeyParameter": "/key"}}`, []string{"CONSUL_GOSSIP_KEY", gossipKey},
			[]Fault{{"consulClient.gossipKeyParameter", `"/key"`, "CONSUL_GOSSIP_KEY holds a key as well; keep one of them"}}},
		"no key": {`{"topology": "client-agent", ` + plaintext + `, ` + service + `}`, []string{"CONSUL_GOSSIP_KEY", "secret"},
			[]Fault{{"CONSUL_GOSSIP_KEY", "6 characters", WantGossipKey}}},
		"ports of others": {`{"topology": "client-agent", ` + plaintext + `, ` + service + `, "proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 8500}]}}`, nil,
			[]Fault{{"proxy.upstreams[0].localBindPort", "8500", "want a port of its own: consulClient.httpPort has the same"}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(append(test.env, Variable, test.document)...))
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(test.want, invalid.Faults); diff != "" {
				t.Error(diff)
			}
		})
	}
}
