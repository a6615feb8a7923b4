// Package registration is what a task writes into Consul's catalog when it
// starts: one node, the service and its sidecar proxy, or a gateway alone, and
// their checks.
package registration

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
)

// Registration is a task's part of the catalog: a call of /v1/catalog/register
// for each of its parts. A single /v1/txn would be one write, but it drops the
// sidecar's upstreams and its opaque configuration in silence.
type Registration struct {
	// Service has one check for each of the service's, then for each container.
	// It is zero where the task is a gateway.
	Service api.CatalogRegistration `json:",omitzero"`

	// Sidecar has the check that gates mesh traffic. Where the task is a gateway,
	// it is that.
	Sidecar api.CatalogRegistration
}

// notYetChecked is the output of a check before its first run.
const notYetChecked = "registered; not checked yet"

// New builds a task's registration. All checks are critical: the task takes
// traffic only after its own health check said that it can.
func New(cfg config.Config, task taskmeta.Task, address netip.Addr, now time.Time) (Registration, error) {
	node := api.CatalogRegistration{
		Node:      mesh.NodeName(task.ARN.ID),
		Address:   address.String(),
		NodeMeta:  NodeMeta(cfg.Topology, task, now),
		Partition: cfg.Tenancy.Partition,
	}
	if cfg.Gateway != nil {
		return newGateway(cfg, task, node)
	}
	name, err := nameOf(cfg.Service.Name, task, "service")
	if err != nil {
		return Registration{}, err
	}
	taskID := task.ARN.ID
	serviceID := mesh.ServiceID(name, taskID)
	proxyID := mesh.ProxyID(serviceID)
	meta := serviceMeta(cfg.Service.Meta, task)
	weights := api.AgentWeights{Passing: 1, Warning: 1}
	if w := cfg.Service.Weights; w != nil {
		weights = api.AgentWeights{Passing: w.Passing, Warning: w.Warning}
	}

	service := node
	service.Service = &api.AgentService{
		ID:                serviceID,
		Service:           name,
		Address:           address.String(),
		Port:              cfg.Service.Port,
		Tags:              cfg.Service.Tags,
		Meta:              meta,
		Weights:           weights,
		EnableTagOverride: cfg.Service.EnableTagOverride,
		Namespace:         cfg.Tenancy.Namespace,
		Partition:         cfg.Tenancy.Partition,
		Locality:          locality(task),
	}
	for _, check := range cfg.Service.Checks {
		service.Checks = append(service.Checks, newCheck(service, mesh.CheckID(serviceID, check.Name), check.Name, kindOf(check), notesOf(check)))
	}
	for _, name := range cfg.Service.HealthSyncContainers {
		service.Checks = append(service.Checks, newCheck(service, mesh.CheckID(serviceID, name), "Container "+name, "", containerNotes))
	}

	sidecar := node
	sidecar.SkipNodeUpdate = true // the service's call has just written it
	sidecar.Service = &api.AgentService{
		Kind:    api.ServiceKindConnectProxy,
		ID:      proxyID,
		Service: mesh.ProxyService(name),
		Address: address.String(),
		Port:    cfg.Proxy.PublicListenerPort,
		Tags:    cfg.Service.Tags,
		Meta:    meta,
		Weights: weights,
		// Whoever changes the one's tags changes the other's.
		EnableTagOverride: cfg.Service.EnableTagOverride,
		Namespace:         cfg.Tenancy.Namespace,
		Partition:         cfg.Tenancy.Partition,
		Locality:          locality(task),
		Proxy: &api.AgentServiceConnectProxyConfig{
			DestinationServiceName: name,
			DestinationServiceID:   serviceID,
			LocalServiceAddress:    cfg.Proxy.LocalServiceAddress,
			LocalServicePort:       cfg.Service.Port,
			Config:                 cfg.Proxy.Config,
			Upstreams:              upstreams(cfg.Proxy.Upstreams),
			MeshGateway:            api.MeshGatewayConfig{Mode: api.MeshGatewayMode(cfg.Proxy.MeshGatewayMode)},
			Expose:                 expose(cfg.Proxy.Expose),
		},
	}
	if cfg.TransparentProxy != nil {
		sidecar.Service.Proxy.Mode = api.ProxyModeTransparent
		sidecar.Service.Proxy.TransparentProxy = &api.TransparentProxyConfig{
			OutboundListenerPort: config.OutboundListenerPort,
			// The address of a task is that of an instance, not of its service,
			// which has a virtual one of Consul's. Whoever calls it gets there,
			// and by the mesh.
			DialedDirectly: true,
		}
	}
	sidecar.Checks = proxyChecks(cfg, sidecar)
	return Registration{Service: service, Sidecar: sidecar}, nil
}

// nameOf is the configured name or, without one, the task family's.
func nameOf(configured string, task taskmeta.Task, what string) (string, error) {
	name := cmp.Or(configured, strings.ToLower(task.Family))
	if !config.ValidServiceName(name) {
		return "", fmt.Errorf("name the %s: the task family %q can't be a name in Consul; set %s.name", what, task.Family, what)
	}
	return name, nil
}

// NodeMeta says in Consul which task a node is.
func NodeMeta(topology string, task taskmeta.Task, now time.Time) map[string]string {
	meta := map[string]string{
		mesh.MetaTaskARN:      task.TaskARN,
		mesh.MetaClusterARN:   task.ClusterARN(),
		mesh.MetaFamily:       task.Family,
		mesh.MetaRevision:     task.Revision,
		mesh.MetaRegisteredAt: now.UTC().Format(time.RFC3339),
	}
	if topology != config.ClientAgent {
		meta[mesh.MetaSyntheticNode] = "true"
	}
	for key, value := range map[string]string{
		mesh.MetaLaunchType: task.LaunchType,
		mesh.MetaZone:       task.AvailabilityZone,
		mesh.MetaVPCID:      task.VPCID,
		mesh.MetaConsole:    task.ARN.ConsoleURL(),
	} {
		if value != "" {
			meta[key] = value
		}
	}
	return meta
}

// locality is where the task runs, by which Consul Enterprise has traffic stay
// near; nil where ECS doesn't tell.
func locality(task taskmeta.Task) *api.Locality {
	if task.AvailabilityZone == "" {
		return nil
	}
	return &api.Locality{Region: task.ARN.Region, Zone: task.AvailabilityZone}
}

// maxMeta is how many pairs Consul takes.
const maxMeta = 64

// serviceMeta adds ours to the user's; ours win, since others rely on them. What
// only people read is left out where it would be too much.
func serviceMeta(users map[string]string, task taskmeta.Task) map[string]string {
	meta := maps.Clone(users)
	if meta == nil {
		meta = map[string]string{}
	}
	meta[mesh.ServiceMetaTaskID] = task.ARN.ID
	meta[mesh.ServiceMetaTaskARN] = task.TaskARN
	meta[mesh.ServiceMetaSource] = mesh.Source
	for _, added := range []struct{ key, value string }{
		{mesh.ServiceMetaTaskDefinition, task.Family + ":" + task.Revision},
		{mesh.ServiceMetaConsole, task.ARN.ConsoleURL()},
	} {
		if added.value != "" && len(meta) < maxMeta {
			meta[added.key] = added.value
		}
	}
	return meta
}

// What Consul's UI shows beside a check.
const (
	containerNotes = "The container's health, as ECS has it"
	sidecarNotes   = "Whether Envoy is ready, and all of the service's checks pass: mesh traffic follows this check"
	envoyNotes     = "Whether Envoy is ready: mesh traffic follows this check"
	listenerNotes  = "Whether Envoy accepts connections"
	aliasNotes     = "All of the service's checks"
)

// notesOf says what a check of the service's looks at.
func notesOf(check config.Check) string {
	switch {
	case check.HTTP != "":
		return fmt.Sprintf("HTTP %s %s, from inside the task", cmp.Or(check.Method, http.MethodGet), check.Shown())
	case check.GRPC != "":
		return fmt.Sprintf("gRPC health of %s, from inside the task", check.GRPC)
	default:
		return fmt.Sprintf("TCP connection to %s, from inside the task", check.TCP)
	}
}

func newCheck(of api.CatalogRegistration, id, name, kind, notes string) *api.HealthCheck {
	return &api.HealthCheck{
		Node:        of.Node,
		CheckID:     id,
		Name:        name,
		Status:      api.HealthCritical,
		Notes:       notes,
		Output:      notYetChecked,
		ServiceID:   of.Service.ID,
		ServiceName: of.Service.Service,
		Type:        kind,
		Namespace:   of.Service.Namespace,
		Partition:   of.Service.Partition,
	}
}

func kindOf(check config.Check) string {
	switch {
	case check.HTTP != "":
		return "http"
	case check.GRPC != "":
		return "grpc"
	default:
		return "tcp"
	}
}

func upstreams(configured []config.Upstream) []api.Upstream {
	var list []api.Upstream
	for _, u := range configured {
		list = append(list, api.Upstream{
			DestinationType:      api.UpstreamDestType(u.DestinationType),
			DestinationName:      u.DestinationName,
			DestinationNamespace: u.DestinationNamespace,
			DestinationPartition: u.DestinationPartition,
			DestinationPeer:      u.DestinationPeer,
			Datacenter:           u.Datacenter,
			LocalBindAddress:     u.LocalBindAddress,
			LocalBindPort:        u.LocalBindPort,
			LocalBindSocketPath:  u.LocalBindSocketPath,
			LocalBindSocketMode:  u.LocalBindSocketMode,
			Config:               u.Config,
			MeshGateway:          api.MeshGatewayConfig{Mode: api.MeshGatewayMode(u.MeshGatewayMode)},
		})
	}
	return list
}

func expose(configured config.Expose) api.ExposeConfig {
	wanted := api.ExposeConfig{Checks: configured.Checks}
	for _, p := range configured.Paths {
		wanted.Paths = append(wanted.Paths, api.ExposePath{ListenerPort: p.ListenerPort, Path: p.Path, LocalPathPort: p.LocalPathPort, Protocol: p.Protocol})
	}
	return wanted
}

// parts are what is registered, in this order.
func (r Registration) parts() []api.CatalogRegistration {
	if r.Service.Service == nil {
		return []api.CatalogRegistration{r.Sidecar}
	}
	return []api.CatalogRegistration{r.Service, r.Sidecar}
}

// Node is the name of the task's node.
func (r Registration) Node() string { return r.Sidecar.Node }

// Tenancy is where the task is in a Consul Enterprise.
func (r Registration) Tenancy() consul.Tenancy {
	return consul.Tenancy{Namespace: r.Sidecar.Service.Namespace, Partition: r.Sidecar.Service.Partition}
}

// Instance is what the task is in Consul: an instance of its service or, where
// it has none, a gateway.
func (r Registration) Instance() *api.AgentService { return r.parts()[0].Service }

// Checks are all checks of the registration, the service's first.
func (r Registration) Checks() api.HealthChecks {
	return append(append(api.HealthChecks{}, r.Service.Checks...), r.Sidecar.Checks...)
}

// Write registers the service, then the sidecar, or the gateway, and returns the
// datacenter they are in. Repeating it changes nothing but the checks, which
// begin again.
func (r Registration) Write(ctx context.Context, client *api.Client) (datacenter string, err error) {
	options := (&api.WriteOptions{}).WithContext(ctx)
	for _, part := range r.parts() {
		if _, err := client.Catalog().Register(&part, options); err != nil {
			return "", fmt.Errorf("register %s on node %s: %w", part.Service.ID, part.Node, err)
		}
	}
	node, _, err := client.Catalog().NodeServiceList(r.Node(), (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return "", fmt.Errorf("read node %s back: %w", r.Node(), err)
	}
	if node == nil || node.Node == nil {
		return "", fmt.Errorf("read node %s back: it is not in the catalog", r.Node())
	}
	return node.Node.Datacenter, nil
}

// Stale is another node that holds this task's address.
type Stale struct {
	Node  string
	VPCID string // "" is unknown

	// Removed tells that it was certainly the remains of a dead task.
	Removed bool
}

// RemoveStale clears the task's address. ECS gives an address to one task at
// a time, so within one VPC another task's node with the same address is what
// a dead task left behind; Envoy keeps one endpoint for an address, and that
// node would hide this task. A node whose VPC is unknown or another may be
// alive, and stays.
func (r Registration) RemoveStale(ctx context.Context, client *api.Client) ([]Stale, error) {
	own := r.Sidecar
	others, err := r.sharesAddress(ctx, client)
	if err != nil {
		return nil, err
	}
	var found []Stale
	for _, node := range others {
		stale := Stale{Node: node.Node, VPCID: node.Meta[mesh.MetaVPCID]}
		if stale.VPCID != "" && stale.VPCID == own.NodeMeta[mesh.MetaVPCID] {
			gone := &api.CatalogDeregistration{Node: node.Node, Partition: own.Partition}
			if _, err := client.Catalog().Deregister(gone, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
				return found, fmt.Errorf("remove node %s, which held %s before: %w", node.Node, own.Address, err)
			}
			stale.Removed = true
		}
		found = append(found, stale)
	}
	return found, nil
}

// sharesAddress lists the other tasks' nodes that have this task's address.
func (r Registration) sharesAddress(ctx context.Context, client *api.Client) ([]*api.Node, error) {
	filter := fmt.Sprintf("Address == %q and Node != %q and %s", r.Sidecar.Address, r.Node(), mesh.FilterTasks)
	nodes, _, err := client.Catalog().Nodes((&api.QueryOptions{Filter: filter}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("look for other nodes at %s: %w", r.Sidecar.Address, err)
	}
	return nodes, nil
}
