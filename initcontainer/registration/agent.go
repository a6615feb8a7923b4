package registration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/shared/mesh"
)

// Agent says how the task's own Consul agent runs the checks, in the topology
// client-agent. It is kept on the shared volume as JSON.
type Agent struct {
	Interval time.Duration // between two runs of a check
	Ready    string        // URL at which Envoy says whether it is ready

	// PublicListener is host:port at which Envoy takes the mesh's traffic; ""
	// for a gateway of which that isn't known.
	PublicListener string `json:",omitempty"`
}

const (
	// probeTimeout bounds the agent's probes of Envoy, which are local and
	// answered from memory.
	probeTimeout = time.Second

	// containerTTL is how long a container's health counts, of which check
	// tells the agent at each run. ECS's health checks are at most five minutes
	// apart.
	containerTTL = 11 * time.Minute
)

// proxyChecks are those of the part that is Envoy. In the other topologies one
// check stands for all that the agent looks at by several.
func proxyChecks(cfg config.Config, part api.CatalogRegistration) api.HealthChecks {
	id := part.Service.ID
	name, notes := "Envoy and the service behind it", sidecarNotes
	if cfg.Gateway != nil || cfg.Topology == config.ClientAgent {
		name, notes = "Envoy", envoyNotes
	}
	checks := api.HealthChecks{newCheck(part, mesh.EnvoyCheckID(id), name, "", notes)}
	if cfg.Topology != config.ClientAgent {
		return checks
	}
	if cfg.Gateway == nil || cfg.Gateway.HasListener() && !ChoosesWhereToListen(cfg) {
		checks = append(checks, newCheck(part, listenerCheckID(id), "Envoy's public listener", "tcp", listenerNotes))
	}
	if cfg.Gateway == nil {
		checks = append(checks, newCheck(part, aliasCheckID(id), "The service behind it", "alias", aliasNotes))
	}
	return checks
}

func listenerCheckID(proxyID string) string { return proxyID + "-listener" }

func aliasCheckID(proxyID string) string { return proxyID + "-service" }

// WriteToAgent registers the service, then the sidecar, or the gateway, with the
// task's own agent, which runs the checks: these are the service's, and the rest
// of its checks are of containers. The agent goes on with the token with which
// the registration comes; without one, with its own as it is then.
//
// Repeating it changes nothing else: checks that are there keep their status.
func (r Registration) WriteToAgent(ctx context.Context, client *api.Client, agent Agent, checks []config.Check) error {
	options := api.ServiceRegisterOpts{ReplaceExistingChecks: true}.WithContext(ctx)
	for _, service := range r.forAgent(agent, checks) {
		if err := client.Agent().ServiceRegisterOpts(service, options); err != nil {
			return fmt.Errorf("register %s with the Consul client: %w", service.ID, err)
		}
	}
	return nil
}

// ErrNotSynced is returned while the servers don't have what the task's agent
// has: it tells them by itself.
var ErrNotSynced = errors.New("the Consul client has not told the servers yet")

// AwaitSynced returns the datacenter once the servers have the registration, and
// ErrNotSynced before.
func (r Registration) AwaitSynced(ctx context.Context, servers servers) (datacenter string, err error) {
	found, err := r.Read(ctx, servers)
	if err == nil && r.Gone(found) {
		err = fmt.Errorf("read node %s back: %w; is it the agent of this task, and may its token write the service?", r.Node(), ErrNotSynced)
	}
	if err != nil {
		return "", err
	}
	return found.Node.Datacenter, nil
}

// forAgent is the registration in the words of the agent's interface.
func (r Registration) forAgent(agent Agent, checks []config.Check) []*api.AgentServiceRegistration {
	var services []*api.AgentServiceRegistration
	for _, part := range r.parts() {
		s := part.Service
		service := &api.AgentServiceRegistration{
			Kind: s.Kind, ID: s.ID, Name: s.Service, Address: s.Address, Port: s.Port,
			TaggedAddresses: s.TaggedAddresses, Tags: s.Tags, Meta: s.Meta, EnableTagOverride: s.EnableTagOverride,
			Weights: &s.Weights, Proxy: s.Proxy, Locality: s.Locality,
			Namespace: s.Namespace, Partition: s.Partition,
		}
		for i, check := range part.Checks {
			var how api.AgentServiceCheck
			switch {
			case s.Kind != "":
				how = agent.ofEnvoy(s, check.CheckID)
			case i < len(checks):
				how = agent.of(checks[i])
			default:
				how.TTL = containerTTL.String()
			}
			how.CheckID, how.Name, how.Notes = check.CheckID, check.Name, check.Notes
			service.Checks = append(service.Checks, &how)
		}
		services = append(services, service)
	}
	return services
}

// of is a check of the service's.
func (a Agent) of(check config.Check) api.AgentServiceCheck {
	return api.AgentServiceCheck{
		Interval: a.Interval.String(), Timeout: check.Timeout.String(),
		TCP: check.TCP, GRPC: check.GRPC,
		HTTP: check.HTTP, Method: check.Method, Header: check.Header, Body: check.Body, TLSSkipVerify: check.TLSSkipVerify,
	}
}

// ofEnvoy is a check of a sidecar's or gateway's. Mesh traffic follows the
// sidecar's checks and not the service's, so one is critical while any of those is.
func (a Agent) ofEnvoy(proxy *api.AgentService, id string) api.AgentServiceCheck {
	switch id {
	case aliasCheckID(proxy.ID):
		return api.AgentServiceCheck{AliasService: proxy.Proxy.DestinationServiceID}
	case listenerCheckID(proxy.ID):
		return api.AgentServiceCheck{Interval: a.Interval.String(), Timeout: probeTimeout.String(), TCP: a.PublicListener}
	}
	return api.AgentServiceCheck{Interval: a.Interval.String(), Timeout: probeTimeout.String(), HTTP: a.Ready}
}
