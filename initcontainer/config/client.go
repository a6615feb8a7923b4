package config

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"
)

// GossipKeyVariable holds the key that Consul's agents encrypt their gossip
// with, where ECS hands it in from Secrets Manager or SSM.
const GossipKeyVariable = "CONSUL_GOSSIP_KEY"

// Defaults of the Consul client, which are Consul's own where it has one.
const (
	DefaultDatacenter    = "dc1"
	DefaultClientAddress = "127.0.0.1"
	DefaultSerfPort      = 8301
	DefaultDNSPort       = 8600
	DefaultCheckInterval = 5 * time.Second
)

// ConsulClient is the task's own Consul agent, in the topology client-agent.
type ConsulClient struct {
	Datacenter string
	Address    string // on which the task's containers reach it
	HTTPPort   int
	GRPCPort   int
	DNSPort    int
	SerfPort   int // of all agents, the servers included

	// GossipKey was given, or is in the SSM parameter; without either, gossip
	// isn't encrypted.
	GossipKey          Secret
	GossipKeyParameter string

	// AutoEncrypt has the client get a certificate of its own from the servers.
	AutoEncrypt bool

	// UID is the user that the client runs as, and alone may read its
	// configuration; -1 where it isn't given.
	UID int

	CheckInterval time.Duration // between two runs of a check
}

// LocalAgent is how register and check reach the task's Consul client: as if it
// was the one server, and without TLS, since it listens within the task.
func (c Config) LocalAgent() ConsulServers {
	agent := c.ConsulServers
	agent.Hosts = []string{c.ConsulClient.Address}
	agent.HTTP = Interface{Port: c.ConsulClient.HTTPPort}
	agent.GRPC = Interface{Port: c.ConsulClient.GRPCPort}
	return agent
}

var datacenterName = pattern(`^[a-z0-9_-]+$`)

// readConsulClient returns nil in the other topologies, where nothing may be
// said of a client.
func readConsulClient(root *document, topology string, servers ConsulServers, getenv func(string) string) *ConsulClient {
	if topology != ClientAgent {
		root.refuse("consulClient", `it goes with "topology": "`+ClientAgent+`" only; remove it`)
		return nil
	}
	d := root.section("consulClient")
	client := &ConsulClient{
		Datacenter:         d.text("datacenter", DefaultDatacenter),
		Address:            d.text("address", DefaultClientAddress),
		HTTPPort:           d.port("httpPort", DefaultConsulHTTPPort),
		GRPCPort:           d.port("grpcPort", DefaultConsulGRPCPort),
		DNSPort:            d.port("dnsPort", DefaultDNSPort),
		SerfPort:           d.port("serfPort", DefaultSerfPort),
		GossipKey:          Secret(strings.TrimSpace(getenv(GossipKeyVariable))),
		GossipKeyParameter: d.text("gossipKeyParameter", ""),
		AutoEncrypt:        d.boolean("autoEncrypt", false),
		UID:                d.integer("uid", -1, 0, 1<<31-1),
		CheckInterval:      d.duration("checkInterval", DefaultCheckInterval, time.Hour),
	}
	if !datacenterName().MatchString(client.Datacenter) {
		d.fault("datacenter", show(client.Datacenter), "want the name of the servers' datacenter: lower-case letters, digits, - and _")
	}
	d.ipAddress("address", client.Address)
	switch {
	case ValidGossipKey(client.GossipKeyParameter):
		d.fault("gossipKeyParameter", "what looks like a key", "want the name of the SSM parameter that holds it: a task definition is no place for a key, and others have seen this one")
	case client.GossipKey != "" && client.GossipKeyParameter != "":
		d.fault("gossipKeyParameter", show(client.GossipKeyParameter), GossipKeyVariable+" holds a key as well; keep one of them")
	}
	if client.GossipKey != "" && !ValidGossipKey(string(client.GossipKey)) {
		d.report.faults = append(d.report.faults, Fault{GossipKeyVariable, fmt.Sprintf("%d characters", len(client.GossipKey)), WantGossipKey})
	}
	if client.AutoEncrypt && servers.HTTP.TLS == nil {
		d.fault("autoEncrypt", "true", "it needs TLS: set consulServers.defaults.tls, or remove it")
	}
	d.end()
	return client
}

// WantGossipKey says what a gossip key is.
const WantGossipKey = "want what `consul keygen` prints: 16, 24 or 32 bytes in base64"

// ValidGossipKey tells whether Consul can encrypt with a key.
func ValidGossipKey(text string) bool {
	key, err := base64.StdEncoding.DecodeString(text)
	return err == nil && slices.Contains([]int{16, 24, 32}, len(key))
}

// clientListeners are the ports of the task's Consul client.
func clientListeners(client *ConsulClient) []Listener {
	if client == nil {
		return nil
	}
	return []Listener{
		{"consulClient.httpPort", client.Address, client.HTTPPort},
		{"consulClient.grpcPort", client.Address, client.GRPCPort},
		{"consulClient.dnsPort", client.Address, client.DNSPort},
		{"consulClient.serfPort", ownAddress, client.SerfPort},
	}
}
