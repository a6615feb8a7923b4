package config

// PublicIP is the source of a gateway's WAN address that only AWS knows: the
// public address of the task's network interface.
const PublicIP = "public-ip"

func readWANAddress(d *document) GatewayAddress {
	source := d.oneOf("source", "", "", PublicIP)
	found := readGatewayAddress(d)
	found.Source = source
	if source != "" && found.Address != "" {
		d.fault("source", show(source), "address says where it is as well; keep one of them")
	}
	return found
}
