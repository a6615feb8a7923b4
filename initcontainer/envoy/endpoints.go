package envoy

import (
	"encoding/json"
	"net/netip"
)

// Endpoints is the file from which Envoy learns the Consul servers, in Envoy's
// endpoint discovery format. addrs must not be empty: Envoy would accept that
// and lose its control plane.
func Endpoints(addrs []netip.Addr, grpcPort int) ([]byte, error) {
	endpoints := make([]any, len(addrs))
	for i, addr := range addrs {
		endpoints[i] = object{"endpoint": object{"address": socketAddress(addr.String(), grpcPort)}}
	}
	return json.MarshalIndent(object{
		"resources": []any{object{
			"@type":        "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
			"cluster_name": ServersCluster,
			"endpoints":    []any{object{"lb_endpoints": endpoints}},
		}},
	}, "", "  ")
}
