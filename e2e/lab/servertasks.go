package lab

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"ecsmesh/e2e/ecs"
)

const consulImage = "hashicorp/consul"

// defineServer defines a Consul server that will have an address. It joins the
// servers that run already.
func (l *Lab) defineServer(ctx context.Context, address netip.Addr) (ecs.TaskDefinition, error) {
	join := []string{address.String()} // which is nobody else
	for _, other := range l.serverAddresses() {
		join = append(join, other.String())
	}
	parameters := serverParameters(address)
	maps.Copy(parameters, map[string]string{
		"ConsulTls":     "DISABLED",
		"JoinAddresses": strings.Join(join, ","),
		// On loopback everything is near: elections, and the time that a new
		// server is watched before it may vote, can be short.
		"ExtraConfiguration": fmt.Sprintf(`
			bootstrap_expect = %d
			retry_interval = "1s"
			performance { leave_drain_time = "1s" }
			autopilot { server_stabilization_time = "1s", min_quorum = %[1]d }`, l.consuls),
	})
	if l.security != nil {
		maps.Copy(parameters, map[string]string{
			"ConsulTls": "ENABLED", "ConsulCaParameterName": CAParameter,
			"ServerCertificateSecretArn": l.security.certificateARN, "ConsulManagementTokenSecretArn": l.security.tokenARN,
		})
	}
	return l.define(ctx, ServersStack, "consul-servers.yaml", parameters, "TaskDefinition")
}

// defineDevServer does so for the server to try things with.
func (l *Lab) defineDevServer(ctx context.Context, address netip.Addr) (ecs.TaskDefinition, error) {
	return l.define(ctx, ServersStack, "consul-dev.yaml", serverParameters(address), "TaskDefinition")
}

// serverParameters are those that the examples with servers share, for one that
// will have an address.
func serverParameters(address netip.Addr) map[string]string {
	return map[string]string{
		"Cluster":      ConsulCluster,
		"VpcId":        "vpc-0ec5",
		"Subnets":      "subnet-0ec5a,subnet-0ec5b,subnet-0ec5c",
		"DesiredCount": "0",
		"ConsulImage":  consulImage,
		"BindAddress":  address.String(),
	}
}
