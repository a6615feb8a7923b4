// Package clientagent writes the configuration with which a task's own Consul
// agent joins the servers, in the topology client-agent.
package clientagent

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"strconv"

	"ecsmesh/initcontainer/config"
)

// Client is what the configuration depends on.
type Client struct {
	NodeName string
	NodeMeta map[string]string
	Address  netip.Addr   // the task's, at which the other agents reach it
	Servers  []netip.Addr // to join
	DataDir  string       // where it keeps its state, and what was registered
	CAFile   string       // with the CA of the servers' certificates; "" is no TLS
	LogLevel slog.Level

	Settings  config.ConsulClient
	Partition string // of Consul Enterprise; "" is the default one
	GossipKey string // "" is unencrypted gossip
	Token     string // ACL token of its own; "" where there are no ACLs
}

const (
	// retryInterval is how often the servers are tried until one answers. With
	// Consul's own 30 s, a task that starts before them would be that late.
	retryInterval = "2s"

	// reconnectTimeout is when the other agents forget one that ended without
	// a word, and whose node nobody removed: Consul's own is three days.
	reconnectTimeout = "15m"
)

// object is a JSON object.
type object = map[string]any

// Config is the agent's configuration. It holds the gossip key and the token.
func Config(c Client) ([]byte, error) {
	settings := c.Settings
	join := make([]string, len(c.Servers))
	for i, server := range c.Servers {
		join[i] = net.JoinHostPort(server.String(), strconv.Itoa(settings.SerfPort))
	}
	agent := object{
		"server":                      false,
		"datacenter":                  settings.Datacenter,
		"node_name":                   c.NodeName,
		"node_meta":                   c.NodeMeta,
		"data_dir":                    c.DataDir,
		"bind_addr":                   c.Address.String(),
		"advertise_addr":              c.Address.String(),
		"client_addr":                 settings.Address,
		"retry_join":                  join,
		"retry_interval":              retryInterval,
		"advertise_reconnect_timeout": reconnectTimeout,
		"leave_on_terminate":          true,
		"disable_update_check":        true,
		"log_level":                   c.LogLevel.String(),
		"connect":                     object{"enabled": true},
		"ports": object{
			"http":     settings.HTTPPort,
			"grpc":     settings.GRPCPort,
			"dns":      settings.DNSPort,
			"serf_lan": settings.SerfPort,
		},
	}
	if c.Partition != "" {
		agent["partition"] = c.Partition
	}
	if c.GossipKey != "" {
		agent["encrypt"] = c.GossipKey
	}
	if c.CAFile != "" {
		agent["tls"] = object{
			"defaults":     object{"ca_file": c.CAFile, "verify_outgoing": true},
			"internal_rpc": object{"verify_server_hostname": true},
		}
	}
	if settings.AutoEncrypt {
		agent["auto_encrypt"] = object{"tls": true}
	}
	if c.Token != "" {
		agent["acl"] = object{
			"enabled": true,
			// What is renewed later must outlive the agent's restart.
			"enable_token_persistence": true,
			"tokens":                   object{"agent": c.Token, "default": c.Token},
		}
	}
	return json.MarshalIndent(agent, "", "  ")
}
