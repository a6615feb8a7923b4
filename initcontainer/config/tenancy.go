package config

import "ecsmesh/shared/consul"

var tenant = pattern(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// tenant reads the name of a namespace or partition of Consul Enterprise.
func (d *document) tenant(name string) string {
	value := d.text(name, "")
	if value != "" && !tenant().MatchString(value) {
		d.fault(name, show(value), "want lower-case letters, digits and -, as in a DNS name, or nothing")
	}
	return value
}

// readTenancy reads where a service or a gateway is. What every Consul has is
// the zero value: the Community Edition refuses to hear its name.
func readTenancy(d *document) consul.Tenancy {
	return consul.Tenancy{
		Namespace: unlessDefault(d.tenant("namespace"), ""),
		Partition: unlessDefault(d.tenant("partition"), ""),
	}
}

// unlessDefault leaves the default out where that is one's own anyway.
func unlessDefault(name, own string) string {
	if name == consul.Default && own == "" {
		return ""
	}
	return name
}

// readDestination reads in which namespace and partition an upstream is; "" is
// the service's own.
func readDestination(d *document, upstream *Upstream, own consul.Tenancy) {
	upstream.DestinationNamespace = unlessDefault(d.tenant("destinationNamespace"), own.Namespace)
	upstream.DestinationPartition = unlessDefault(d.tenant("destinationPartition"), own.Partition)
	partition := upstream.DestinationPartition
	switch {
	case upstream.DestinationPeer != "" && partition != "" && partition != own.Partition:
		d.fault("destinationPartition", show(partition), "remove it: peers belong to the service's own partition")
	case upstream.Datacenter != "" && (partition != "" && partition != consul.Default || own.Partition != ""):
		d.fault("datacenter", show(upstream.Datacenter), "remove it: only the default partitions of datacenters reach each other")
	}
}
