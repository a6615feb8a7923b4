package config

// Topologies: who hands Envoy its configuration, and who runs the checks.
const (
	Direct      = "direct"       // the Consul servers; ecsmesh-init check
	ClientAgent = "client-agent" // the task's Consul client agent does both
	Dataplane   = "dataplane"    // consul-dataplane, which runs Envoy; ecsmesh-init check
)

func readTopology(root *document) string {
	return root.oneOf("topology", Direct, Direct, ClientAgent, Dataplane)
}
