package registration

import (
	"cmp"
	"maps"
	"strings"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/shared/mesh"
)

// Names of a gateway's addresses in Consul: mesh gateways reach each other
// across datacenters at the latter, all else at the former.
const (
	addressLAN = "lan"
	addressWAN = "wan"
)

// newGateway is the registration of a task that is a gateway: one part, which
// stands where a service has its sidecar.
func newGateway(cfg config.Config, task taskmeta.Task, node api.CatalogRegistration) (Registration, error) {
	gateway := cfg.Gateway
	name, err := nameOf(gateway.Name, task, "gateway")
	if err != nil {
		return Registration{}, err
	}
	lan := serviceAddress(gateway.LAN, node.Address)
	part := node
	part.Service = &api.AgentService{
		Kind:      api.ServiceKind(gateway.Kind),
		ID:        mesh.ServiceID(name, task.ARN.ID),
		Service:   name,
		Address:   lan.Address,
		Port:      lan.Port,
		Tags:      gateway.Tags,
		Meta:      serviceMeta(gateway.Meta, task),
		Weights:   api.AgentWeights{Passing: 1, Warning: 1},
		Namespace: cfg.Tenancy.Namespace,
		Partition: cfg.Tenancy.Partition,
		Locality:  locality(task),
		TaggedAddresses: map[string]api.ServiceAddress{
			addressLAN: lan,
			addressWAN: serviceAddress(gateway.WAN, node.Address),
		},
		Proxy: &api.AgentServiceConnectProxyConfig{Config: gatewayConfig(cfg, node.Address)},
	}
	part.Checks = proxyChecks(cfg, part)
	return Registration{Sidecar: part}, nil
}

func serviceAddress(configured config.GatewayAddress, own string) api.ServiceAddress {
	return api.ServiceAddress{Address: cmp.Or(configured.Address, own), Port: configured.Port}
}

// What Consul calls the options that say where a gateway's Envoy listens.
const (
	bindOptions   = "envoy_gateway_"
	noDefaultBind = "envoy_gateway_no_default_bind"
	bindAddresses = "envoy_gateway_bind_addresses"
)

// gatewayConfig adds to the user's configuration where Envoy listens, unless
// that is there or is where Consul has it by default: at the LAN address, which
// may be a load balancer's.
func gatewayConfig(cfg config.Config, own string) map[string]any {
	if lan := cfg.Gateway.LAN.Address; lan == "" || lan == own || ChoosesWhereToListen(cfg) {
		return cfg.Proxy.Config
	}
	options := maps.Clone(cfg.Proxy.Config)
	if options == nil {
		options = map[string]any{}
	}
	options[noDefaultBind] = true
	options[bindAddresses] = map[string]any{"default": map[string]any{"address": own, "port": cfg.Gateway.LAN.Port}}
	return options
}

// ChoosesWhereToListen tells whether the user's own options say where a
// gateway's Envoy listens.
func ChoosesWhereToListen(cfg config.Config) bool {
	for name := range cfg.Proxy.Config {
		if strings.HasPrefix(name, bindOptions) {
			return true
		}
	}
	return false
}
