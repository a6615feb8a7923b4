package config

import (
	"fmt"
	"path"

	"ecsmesh/shared/consul"
)

// Kinds of an upstream's destination, as Consul has them.
const (
	destinationService = "service"
	destinationQuery   = "prepared_query"
)

// Upstream is a service that the application reaches through the mesh, at a
// port or at a Unix domain socket.
type Upstream struct {
	DestinationType      string // service or prepared_query
	DestinationName      string
	DestinationNamespace string // "" is the service's own
	DestinationPartition string // likewise
	DestinationPeer      string
	Datacenter           string
	LocalBindAddress     string // "" at a socket
	LocalBindPort        int    // 0 at a socket
	LocalBindSocketPath  string
	LocalBindSocketMode  string // octal; "" is what Envoy's umask leaves
	MeshGatewayMode      string
	Config               map[string]any
}

// readUpstreams reads the list, in which Consul takes nothing twice.
func readUpstreams(proxy *document, own consul.Tenancy) []Upstream {
	var upstreams []Upstream
	sockets, destinations := map[string]string{}, map[destination]string{}
	for _, d := range proxy.objects("upstreams", `{"destinationName": "cart", "localBindPort": 9091}`) {
		upstream := readUpstream(d, own)
		if socket := upstream.LocalBindSocketPath; socket != "" {
			if earlier := sockets[socket]; earlier != "" {
				d.fault("localBindSocketPath", show(socket), "want a socket of its own: "+earlier+" has the same")
			}
			sockets[socket] = d.path
		}
		if leads := upstream.destination(); leads.name != "" {
			if earlier := destinations[leads]; earlier != "" {
				d.fault("destinationName", show(upstream.DestinationName), "remove it: "+earlier+" leads to the same")
			}
			destinations[leads] = d.path
		}
		upstreams = append(upstreams, upstream)
	}
	return upstreams
}

// destination is where an upstream leads to.
type destination struct{ kind, name, namespace, partition, peer, datacenter string }

func (u Upstream) destination() destination {
	return destination{u.DestinationType, u.DestinationName, u.DestinationNamespace, u.DestinationPartition, u.DestinationPeer, u.Datacenter}
}

func readUpstream(d *document, own consul.Tenancy) Upstream {
	upstream := Upstream{
		DestinationType:     d.oneOf("destinationType", destinationService, destinationService, destinationQuery),
		DestinationName:     d.text("destinationName", ""),
		DestinationPeer:     d.text("destinationPeer", ""),
		Datacenter:          d.text("datacenter", ""),
		LocalBindSocketPath: d.text("localBindSocketPath", ""),
		LocalBindSocketMode: d.text("localBindSocketMode", ""),
		MeshGatewayMode:     readMeshGateway(d),
		Config:              d.opaque("config"),
	}
	switch upstream.DestinationName {
	case "":
		d.fault("destinationName", "nothing", "want the name of the service to reach")
	case "*":
		d.fault("destinationName", `"*"`, "want the name of one service")
	}
	if upstream.DestinationPeer != "" {
		d.onlyOneOf("destinationPeer", "datacenter", "a peer's service is in the peer's own datacenter")
		if upstream.DestinationType == destinationQuery {
			d.fault("destinationType", show(destinationQuery), "a peer has no prepared queries for others: want a service, or no destinationPeer")
		}
	}
	if upstream.LocalBindSocketPath != "" {
		readSocket(d, upstream)
	} else {
		upstream.LocalBindAddress, upstream.LocalBindPort = readBindAddress(d)
	}
	readDestination(d, &upstream, own)
	d.end()
	return upstream
}

func readBindAddress(d *document) (address string, port int) {
	address, port = d.text("localBindAddress", DefaultUpstreamBindAddr), d.port("localBindPort", 0)
	d.ipAddress("localBindAddress", address)
	if !d.has("localBindPort") {
		d.fault("localBindPort", "nothing", "want the port at which the application reaches this upstream, or localBindSocketPath")
	}
	if d.has("localBindSocketMode") {
		d.fault("localBindSocketMode", show(d.fields["localBindSocketMode"]), "it goes with localBindSocketPath only; remove it")
	}
	return address, port
}

// longestSocketPath is Linux's limit.
const longestSocketPath = 107

var octalMode = pattern(`^0?[0-7]{3}$`)

func readSocket(d *document, upstream Upstream) {
	const noPort = "an upstream is at a port or at a socket"
	d.onlyOneOf("localBindSocketPath", "localBindPort", noPort)
	d.onlyOneOf("localBindSocketPath", "localBindAddress", noPort)
	if socket := upstream.LocalBindSocketPath; !path.IsAbs(socket) || len(socket) > longestSocketPath {
		d.fault("localBindSocketPath", show(socket), fmt.Sprintf("want an absolute path, of %d bytes at most, on a volume that Envoy may write to and the application reads", longestSocketPath))
	}
	if mode := upstream.LocalBindSocketMode; mode != "" && !octalMode().MatchString(mode) {
		d.fault("localBindSocketMode", show(mode), `want permissions in octal, such as "0666"`)
	}
}

// onlyOneOf refuses the second field where the first is there too.
func (d *document) onlyOneOf(first, second, because string) {
	if value, present := d.get(second); present {
		d.fault(second, show(value), because+": keep it, or "+first)
	}
}
