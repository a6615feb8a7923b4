package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/envoy/admin"
)

func (e *examination) application() {
	r := e.registered()
	if r == nil || r.Service.Service == nil {
		return // a gateway, or a task that nothing is known of
	}
	found := e.Application
	switch {
	case found.Port == "":
		e.ok("it has no port: it only calls others")
	case found.PortErr == nil:
		e.ok("its port %s is open", found.Port)
	default:
		e.wrong(PortClosed, fmt.Sprintf("%s: %s", found.Port, innermost(found.PortErr)), fmt.Sprintf(
			"have the application listen there, or correct service.port (%s) or proxy.localServiceAddress; see its log. It starts when Envoy is healthy", port(found.Port)))
	}
	if found.Err != nil {
		e.unknown("%s", found.Err)
	}
	for _, result := range found.Results {
		switch {
		case result.Status == "" && result.Container:
			e.unknown("the health of %s", result.Name)
		case result.Status == "":
			e.unknown("the check %q", result.Name)
		case result.Status == api.HealthPassing, result.Status == api.HealthWarning:
			e.ok("the check %q is %s: %s", result.Name, result.Status, result.Output)
		case result.Container:
			e.wrong(ContainerUnhealthy, result.Output, "look at that container's log and at its healthCheck in the task definition, which service.healthSyncContainers has Consul follow")
		default:
			e.wrong(CheckFails, fmt.Sprintf("%q: %s", result.Name, result.Output), "look at the application's log; or correct service.checks, if the check asks for the wrong thing")
		}
	}
	e.containers()
}

// containers are those that ECS calls unhealthy and no check of the service's is
// about.
func (e *examination) containers() {
	for _, container := range e.Metadata.Task.Containers {
		synced := slices.Contains(e.State.Task.Containers, container.Name)
		if container.Health != nil && container.Health.Status == "UNHEALTHY" && !synced {
			e.wrong(ContainerUnhealthy, fmt.Sprintf("container %s: UNHEALTHY", container.Name), "look at that container's log and at its healthCheck in the task definition; ECS replaces the task if the container is essential")
		}
	}
}

func (e *examination) upstreams() {
	for _, upstream := range e.Upstreams {
		name := upstream.Name
		switch {
		case upstream.Elsewhere != "":
			e.elsewhere(name, upstream.Elsewhere)
			continue
		case upstream.Err != nil:
			e.unknown("%s: %s", name, upstream.Err)
			continue
		case upstream.Instances+upstream.Outside == 0 && !upstream.Configured:
			fact := fmt.Sprintf("Consul has no service %q", name)
			if upstream.Similar != "" {
				fact += fmt.Sprintf("; it has %q", upstream.Similar)
			}
			e.wrong(UpstreamUnknown, fact, "correct destinationName in proxy.upstreams, or start the service; where its tasks have left, ECS's events of that service say why")
			continue
		case upstream.Instances == 0 && !upstream.Configured:
			e.wrong(UpstreamUnhealthy, fmt.Sprintf("%s: %d instances, none of which has a sidecar", name, upstream.Outside), "put that service into the mesh, or behind a terminating gateway")
		case upstream.Passing == 0 && !upstream.Configured:
			e.wrong(UpstreamUnhealthy, fmt.Sprintf("%s: %d instances, none passing", name, upstream.Instances), "run doctor in a task of that service")
		case upstream.Configured && e.leadsNowhere(upstream.Targets):
			e.wrong(UpstreamUnhealthy, fmt.Sprintf("%s: its configuration entries lead calls to where Envoy has no healthy endpoint: %s", name, strings.Join(slices.Sorted(slices.Values(upstream.Targets)), ", ")),
				"see the service-router, service-splitter and service-resolver of "+name+": the filters of their subsets, and the services that they name")
		case upstream.Configured:
			e.ok("%s: %d of %d instances pass; configuration entries say where calls go", name, upstream.Passing, upstream.Instances)
		default:
			e.ok("%s: %d of %d instances pass", name, upstream.Passing, upstream.Instances)
		}
		switch {
		case upstream.IntentionErr != nil:
			e.unknown("%s: not known whether intentions allow it: %s", name, upstream.IntentionErr)
		case upstream.Allowed:
		case upstream.Configured:
			e.ok("%s: no intention allows it by that name; those of the services count that calls go to", name)
		case upstream.PerRequest:
			e.ok("%s: its intention decides request by request", name)
		default:
			e.wrong(UpstreamForbidden, fmt.Sprintf("from %s to %s", e.source(), name), fmt.Sprintf(
				"allow it: consul intention create %s %s, or a service-intentions entry. Where ACLs deny by default, so do intentions", e.source(), name))
		}
	}
}

// leadsNowhere tells whether Envoy has clusters of all these names, and none of them
// an endpoint that works.
func (e *examination) leadsNowhere(targets []string) bool {
	if e.Envoy == nil || e.Envoy.Err != nil || e.Envoy.Part != nil {
		return false
	}
	unseen := slices.Clone(targets)
	for _, cluster := range e.Envoy.State.Clusters {
		name := cluster.Name[strings.LastIndexByte(cluster.Name, '~')+1:] // without what a chain of its own and a failover have before it
		if slices.Contains(targets, name) && cluster.Healthy > 0 {
			return false
		}
		unseen = slices.DeleteFunc(unseen, func(target string) bool { return target == name })
	}
	return len(targets) > 0 && len(unseen) == 0
}

// source is as which service the task calls others.
func (e *examination) source() string {
	if instance := e.instance(); instance != nil {
		return instance.Service
	}
	return "this service"
}

// elsewhere takes Envoy's word for what the local catalog doesn't know.
func (e *examination) elsewhere(name, where string) {
	if e.Envoy == nil || e.Envoy.Err != nil {
		e.unknown("%s, of %s", name, where)
		return
	}
	at := slices.IndexFunc(e.Envoy.State.Clusters, func(c admin.Cluster) bool { return clusterOf(c.Name, name) })
	if at < 0 {
		e.unknown("%s, of %s: Envoy has no cluster of that name", name, where)
		return
	}
	cluster := e.Envoy.State.Clusters[at]
	if cluster.Healthy == 0 {
		e.wrong(UpstreamUnhealthy, fmt.Sprintf("%s, of %s: Envoy has %d endpoints, none healthy", name, where, cluster.Hosts), "see the service there, and the mesh gateways or the peering on the way")
		return
	}
	e.ok("%s, of %s: Envoy has %d healthy endpoints", name, where, cluster.Healthy)
}
