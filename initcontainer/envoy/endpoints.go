package envoy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
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

// ReadEndpoints reads the addresses in a file that Endpoints wrote. They are
// never empty without an error.
func ReadEndpoints(path string) ([]netip.Addr, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the list of servers: %w", err)
	}
	var list struct {
		Resources []struct {
			Endpoints []struct {
				LbEndpoints []struct {
					Endpoint struct {
						Address struct {
							SocketAddress struct{ Address netip.Addr } `json:"socket_address"`
						}
					}
				} `json:"lb_endpoints"`
			}
		}
	}
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, fmt.Errorf("read the list of servers %s: %w", path, err)
	}
	var addrs []netip.Addr
	for _, resource := range list.Resources {
		for _, locality := range resource.Endpoints {
			for _, each := range locality.LbEndpoints {
				addrs = append(addrs, each.Endpoint.Address.SocketAddress.Address)
			}
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("read the list of servers %s: it is empty", path)
	}
	return addrs, nil
}
