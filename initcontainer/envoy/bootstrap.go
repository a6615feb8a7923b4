// Package envoy writes Envoy's own configuration: the bootstrap it starts
// with, and the list of Consul servers it reads from a file while it runs.
//
// The bootstrap is plain JSON. Envoy's protobuf types would check it at
// compile time, but cost the binary megabytes and every health check their
// start-up; the tests hold the result against them, and against a real Envoy.
package envoy

import (
	"cmp"
	"encoding/json"
	"net/netip"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

// ServersCluster is Envoy's name for the Consul servers.
const ServersCluster = "consul_servers"

// adminCluster is Envoy's name for its own admin interface, as Consul has it.
const adminCluster = "self_admin"

// object is a JSON object.
type object = map[string]any

// Sidecar is what a sidecar's bootstrap depends on, and a gateway's, which is
// the same: Consul tells them apart by what is registered.
type Sidecar struct {
	NodeName   string // Consul node
	ProxyID    string // or the gateway's ID
	Service    string // or the gateway's name
	Datacenter string
	Tenancy    consul.Tenancy
	Address    netip.Addr // the task's
	Volume     volume.Volume
	Proxy      config.Proxy

	// TLS is that of the servers' xDS interface, whose ServerName must be
	// there; nil is plaintext.
	TLS *consul.TLS

	// Token tells that the servers want an ACL token: that in Volume.Token.
	Token bool
}

// Bootstrap is the configuration with which Envoy starts: where its control
// plane is, and all that Consul does not send. It does for users what the one
// of "consul connect envoy" does, but reaches the servers without an agent.
func Bootstrap(s Sidecar) ([]byte, error) {
	settings := s.Proxy.Envoy
	listeners := []any{adminListener("envoy_ready", netip.AddrPortFrom(s.Address, uint16(s.Proxy.HealthCheckPort)), object{"path": "/ready"}, "/ready")}
	if at := settings.PrometheusBindAddr; at.IsValid() {
		listeners = append(listeners, adminListener("envoy_prometheus_metrics", at, object{"path": "/metrics"}, "/stats/prometheus"))
	}
	if at := settings.StatsBindAddr; at.IsValid() {
		listeners = append(listeners, adminListener("envoy_metrics", at, object{"prefix": "/stats"}, "/stats"))
	}
	bootstrap := object{
		"node": object{
			"id":      s.ProxyID,
			"cluster": s.Service,
			// The servers find the proxy in their catalog by its node.
			"metadata": object{"node_name": s.NodeName, "namespace": cmp.Or(s.Tenancy.Namespace, consul.Default), "partition": cmp.Or(s.Tenancy.Partition, consul.Default)},
		},
		"admin": object{
			"address": socketAddress(s.Proxy.AdminBindAddress, s.Proxy.AdminBindPort),
			"access_log": []any{object{
				"name": "envoy.access_loggers.file",
				"typed_config": object{
					"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
					"path":  "/dev/null",
				},
			}},
		},
		"layered_runtime": object{"layers": []any{object{
			"name": "base",
			// Consul's routes may carry larger expressions than Envoy's default allows.
			"static_layer": object{"re2.max_program_size.error_level": 1048576},
		}}},
		"dynamic_resources": dynamicResources(),
		"static_resources": object{
			"clusters":  append([]any{serversCluster(s), adminClusterFor(s.Proxy)}, raws(settings.ExtraClusters)...),
			"listeners": append(listeners, raws(settings.ExtraListeners)...),
		},
		"stats_config": statsConfig(s),
	}
	if sinks := statsSinks(settings); len(sinks) > 0 {
		bootstrap["stats_sinks"] = sinks
	}
	if interval := settings.StatsFlushInterval; interval > 0 {
		bootstrap["stats_flush_interval"] = seconds(interval)
	}
	if settings.Tracing != nil {
		bootstrap["tracing"] = settings.Tracing
	}
	return json.MarshalIndent(bootstrap, "", "  ")
}

// dynamicResources has everything else come from Consul, over one stream.
func dynamicResources() object {
	// Envoy waits for its first listeners and clusters however long Consul
	// takes: one that gave up would call itself ready with nothing to serve.
	fromADS := object{"ads": object{}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}
	return object{
		"lds_config": fromADS,
		"cds_config": fromADS,
		"ads_config": object{
			"api_type":              "DELTA_GRPC",
			"transport_api_version": "V3",
			"grpc_services": []any{object{"envoy_grpc": object{
				"cluster_name": ServersCluster,
				// Envoy's own back-off reaches 30 s, the time for which a
				// task would miss changes after a server was replaced.
				"retry_policy": object{"retry_back_off": object{"base_interval": "0.2s", "max_interval": "2s"}},
			}}},
		},
	}
}

// serversCluster lists the Consul servers from a file, so that all of them can
// be replaced while Envoy runs.
func serversCluster(s Sidecar) object {
	// A server that vanished without a word is noticed within 25 s by HTTP/2
	// and, where the kernel already knows better, within 11 by TCP. Consul
	// closes a stream that is pinged more often than every 15 s, so the
	// interval must not be shorter.
	protocol := object{
		"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
		"explicit_http_config": object{"http2_protocol_options": object{
			"connection_keepalive": object{"interval": "20s", "timeout": "5s"},
		}},
	}
	if s.Token {
		protocol["http_filters"] = tokenFilters(s.Volume)
	}
	cluster := object{
		"name":            ServersCluster,
		"type":            "EDS",
		"connect_timeout": "1s",
		"lb_policy":       "ROUND_ROBIN",
		"eds_cluster_config": object{"eds_config": object{
			"resource_api_version": "V3",
			"path_config_source": object{
				"path":              s.Volume.Servers(),
				"watched_directory": object{"path": s.Volume.Live()},
			},
		}},
		"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol},
		"upstream_connection_options": object{
			"tcp_keepalive": object{"keepalive_time": 5, "keepalive_interval": 2, "keepalive_probes": 3},
		},
	}
	if s.TLS != nil {
		cluster["transport_socket"] = serversTLS(*s.TLS)
	}
	return cluster
}

func adminClusterFor(proxy config.Proxy) object {
	return object{
		"name":            adminCluster,
		"type":            "STATIC",
		"connect_timeout": "5s",
		"load_assignment": object{
			"cluster_name": adminCluster,
			"endpoints": []any{object{"lb_endpoints": []any{object{
				"endpoint": object{"address": socketAddress(proxy.AdminBindAddress, proxy.AdminBindPort)},
			}}}},
		},
	}
}

// adminListener opens one path of the admin interface, and nothing else of
// it, to the network.
func adminListener(name string, at netip.AddrPort, match object, path string) object {
	return object{
		"name":    name + "_listener",
		"address": socketAddress(at.Addr().String(), int(at.Port())),
		"filter_chains": []any{object{"filters": []any{object{
			"name": "envoy.filters.network.http_connection_manager",
			"typed_config": object{
				"@type":       "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
				"stat_prefix": name,
				"codec_type":  "HTTP1",
				"route_config": object{
					"name": name,
					"virtual_hosts": []any{object{
						"name":    adminCluster,
						"domains": []any{"*"},
						"routes": []any{
							object{"match": match, "route": object{"cluster": adminCluster, "prefix_rewrite": path}},
							object{"match": object{"prefix": "/"}, "direct_response": object{"status": 404}},
						},
					}},
				},
				"http_filters": []any{object{
					"name":         "envoy.filters.http.router",
					"typed_config": object{"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
				}},
			},
		}}}},
	}
}

func socketAddress(address string, port int) object {
	return object{"socket_address": object{"address": address, "port_value": port}}
}

func raws(list []json.RawMessage) []any {
	values := make([]any, len(list))
	for i, raw := range list {
		values[i] = raw
	}
	return values
}
