package config

import "slices"

// Topologies: who hands Envoy its configuration, and who runs the checks.
const (
	Direct      = "direct"       // the Consul servers; ecsmesh-init check
	ClientAgent = "client-agent" // the task's Consul client agent does both
	Dataplane   = "dataplane"    // consul-dataplane, which runs Envoy; ecsmesh-init check
)

// topologiesBuilt are those that work.
var topologiesBuilt = []string{
	Direct,
	ClientAgent,
}

func readTopology(root *document) string {
	topology := root.oneOf("topology", Direct, Direct, ClientAgent, Dataplane)
	if !slices.Contains(topologiesBuilt, topology) {
		root.fault("topology", show(topology), notYet+", or use "+Direct)
	}
	return topology
}
