// Package dataplane writes the configuration of consul-dataplane, which runs
// Envoy in place of the task's own bootstrap: the file of its -config-file.
//
// The names are consul-dataplane's, from version 1.3 on, which has "proxy". It
// overlooks a name that it doesn't know, so the tests hold them against what it
// reads.
package dataplane

import (
	"encoding/json"
	"log/slog"
	"net/netip"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

// Proxy is what the configuration depends on, of a sidecar or of a gateway.
type Proxy struct {
	NodeName string // Consul node
	ID       string // of the sidecar, or of the gateway
	Tenancy  consul.Tenancy
	Address  netip.Addr
	Volume   volume.Volume
	LogLevel slog.Level

	GRPCPort        int
	ServerName      string // in the servers' certificates, whose CA is Volume.CA; "" is plaintext
	SkipServerWatch bool
	Token           string // "" is none

	Envoy    config.Proxy
	Settings config.DataplaneSettings
}

// object is a JSON object.
type object = map[string]any

// Config is the configuration with which consul-dataplane starts. With a Token,
// it is secret.
func Config(p Proxy) ([]byte, error) {
	prometheus := object{
		"scrapePath":    p.Settings.ScrapePath,
		"mergePort":     p.Settings.MergePort,
		"retentionTime": p.Settings.RetentionTime.String(),
	}
	if url := p.Settings.ServiceMetricsURL; url != "" {
		prometheus["serviceMetricsURL"] = url
	}
	found := object{
		"consul": p.consul(),
		"proxy":  p.proxy(),
		"envoy": object{
			"adminBindAddress": p.Envoy.AdminBindAddress,
			"adminBindPort":    p.Envoy.AdminBindPort,
			"readyBindAddress": p.Address.String(),
			"readyBindPort":    p.Envoy.HealthCheckPort,
			"concurrency":      p.Settings.Concurrency,
			"gracefulPort":     p.Settings.GracefulPort,
		},
		"logging":   object{"logLevel": p.LogLevel.String()},
		"telemetry": object{"prometheus": prometheus},
	}
	if port := p.Settings.DNSBindPort; port != 0 {
		found["dnsServer"] = object{"bindAddress": p.Settings.DNSBindAddress, "bindPort": port}
	}
	return json.MarshalIndent(found, "", "  ")
}

func (p Proxy) proxy() object {
	found := object{"nodeName": p.NodeName, "id": p.ID}
	if name := p.Tenancy.Namespace; name != "" {
		found["namespace"] = name
	}
	if name := p.Tenancy.Partition; name != "" {
		found["partition"] = name
	}
	return found
}

// consul says where the servers are. Consul tells consul-dataplane of changes,
// and when none of those answers that it knows, it runs the command again: check
// keeps the list behind that.
func (p Proxy) consul() object {
	found := object{
		"addresses":           "exec=" + p.Volume.Binary() + " servers",
		"grpcPort":            p.GRPCPort,
		"serverWatchDisabled": p.SkipServerWatch,
		"tls":                 object{"disabled": true},
	}
	if p.ServerName != "" {
		found["tls"] = object{"caCertsPath": p.Volume.CA(), "serverName": p.ServerName}
	}
	if p.Token != "" {
		found["credentials"] = object{"type": "static", "static": object{"token": p.Token}}
	}
	return found
}
