package config

// older is a field of consul-ecs before 0.7, whose tasks ran a Consul client
// agent, and what to do about it.
type older struct{ name, advice string }

const runByCheck = "remove it: checks run when the health check of Envoy's container does"

var (
	olderFields = []older{
		{"consulHTTPAddr", "use consulServers.hosts, or leave the servers to consulServers.parameter"},
		{"consulCACertFile", "use consulServers.defaults.caCertFile, or caCertParameter"},
	}
	olderLoginFields = []older{
		{"extraLoginFlags", "use meta, region, stsEndpoint and serverIdHeaderValue"},
	}
	olderCheckFields = []older{
		{"checkId", "remove it: the check's ID ends with its name"},
		{"notes", "remove it: a check's output says how it is"},
		{"interval", runByCheck + "; those of a Consul client run every consulClient.checkInterval"},
		{"status", "remove it: a check is critical until it passed"},
		{"successBeforePassing", runByCheck},
		{"failuresBeforeCritical", runByCheck},
		{"args", "use the health check of a container, and name that in healthSyncContainers"},
		{"ttl", "use the health check of a container, and name that in healthSyncContainers"},
		{"h2ping", "use grpc, http or tcp"},
		{"h2pingUseTLS", "use grpc, http or tcp"},
		{"grpcUseTls", "use tcp, or the health check of a container: the task asks itself without TLS"},
		{"tlsServerName", "use tlsSkipVerify: the task asks itself"},
		{"aliasNode", "remove it: the sidecar follows the service's checks anyway"},
		{"aliasService", "remove it: the sidecar follows the service's checks anyway"},
	}
)

// refuseOlder says of each such field what has taken its place.
func (d *document) refuseOlder(fields []older) {
	for _, field := range fields {
		if _, there := d.fields[field.name]; there {
			d.refuse(field.name, field.advice)
		}
	}
}
