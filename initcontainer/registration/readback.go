package registration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
)

// Found is what Consul has of a task.
type Found struct {
	Node     *api.Node // nil where there is none
	Services []*api.AgentService
	Checks   api.HealthChecks
}

// servers are Consul's; see consul.Servers.Do. Each request here has attempts
// of its own: together they would take too long for one, where Consul is slow.
type servers interface {
	Do(context.Context, func(context.Context, *api.Client) error) error
}

// Read reads back what Consul has of the task, in two requests.
//
// Not stale: a server that lags behind would have a task that has just
// registered for one whose registration is gone.
func (r Registration) Read(ctx context.Context, servers servers) (Found, error) {
	var (
		node *api.CatalogNodeServiceList
		meta *api.QueryMeta
	)
	err := servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		node, meta, err = client.Catalog().NodeServiceList(r.Node(), (&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	if err == nil {
		err = consul.Complete(meta)
	}
	if err != nil {
		return Found{}, fmt.Errorf("read node %s back: %w", r.Node(), err)
	}
	if node == nil || node.Node == nil {
		return Found{}, nil
	}
	checks, err := r.ReadChecks(ctx, servers)
	if err != nil {
		return Found{}, err
	}
	return Found{Node: node.Node, Services: node.Services, Checks: checks}, nil
}

// ReadChecks reads back the task's checks alone: none, where its node is gone.
func (r Registration) ReadChecks(ctx context.Context, servers servers) (checks api.HealthChecks, err error) {
	var meta *api.QueryMeta
	err = servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		checks, meta, err = client.Health().Node(r.Node(), (&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	if err == nil {
		err = consul.Complete(meta)
	}
	if err != nil {
		return nil, fmt.Errorf("read the checks of node %s back: %w", r.Node(), err)
	}
	return checks, nil
}

// Damage says what of the registration Consul doesn't have as it was
// registered; "" is nothing. What others added is no damage, nor is the status
// of a check or its absence, which check mends by itself.
func (r Registration) Damage(found Found) string {
	if found.Node == nil {
		return "its node is gone"
	}
	if found.Node.Address != r.Sidecar.Address {
		return fmt.Sprintf("its node's address is %s", found.Node.Address)
	}
	if at := difference(r.Sidecar.NodeMeta, found.Node.Meta); at != "" {
		return "its node's meta has another " + at
	}
	for _, part := range r.parts() {
		want := *part.Service
		want.Locality = nil // not all servers keep it, and 1.16 keeps no change of it alone
		if want.EnableTagOverride {
			want.Tags = nil // others may change them
		}
		i := found.service(want.ID)
		if i < 0 {
			return fmt.Sprintf("its service %s is gone", want.ID)
		}
		if at := difference(want, found.Services[i]); at != "" {
			return fmt.Sprintf("its service %s has another %s", want.ID, at)
		}
	}
	return ""
}

// Gone tells whether Consul lacks the node or one of the parts: it then refuses
// their checks.
func (r Registration) Gone(found Found) bool {
	return found.Node == nil || slices.ContainsFunc(r.parts(), func(part api.CatalogRegistration) bool { return found.service(part.Service.ID) < 0 })
}

// difference returns the path of a part of want, as JSON has it, that have
// lacks or has otherwise; "" if there is none. What want leaves out or at zero
// may be anything: Consul fills in defaults.
func difference(want, have any) string {
	a, b := asJSON(want), asJSON(have)
	return strings.TrimPrefix(differs(a, b, ""), ".")
}

func differs(want, have any, path string) string {
	switch w := want.(type) {
	case map[string]any:
		h, _ := have.(map[string]any)
		for name, inner := range w {
			if at := differs(inner, h[name], path+"."+name); at != "" {
				return at
			}
		}
		return ""
	case []any:
		h, _ := have.([]any)
		if len(w) != len(h) && len(w) > 0 {
			return path
		}
		for i, inner := range w {
			if at := differs(inner, h[i], fmt.Sprintf("%s[%d]", path, i)); at != "" {
				return at
			}
		}
		return ""
	case nil:
		return ""
	case bool:
		if !w {
			return ""
		}
	case string:
		if w == "" {
			return ""
		}
	case float64:
		if w == 0 {
			return ""
		}
	}
	if want != have {
		return path
	}
	return ""
}

func asJSON(value any) any {
	content, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	var plain any
	if json.Unmarshal(content, &plain) != nil {
		return nil
	}
	return plain
}

// SuccessorError is another task that has this one's address and registered
// after it. ECS gives an address to one task at a time, so this task has lost
// it, and is the remains of a task itself.
type SuccessorError struct{ Node, Address string }

func (e *SuccessorError) Error() string {
	return fmt.Sprintf("node %s registered later with this task's address %s", e.Node, e.Address)
}

// Neighbours are the other tasks' nodes that have this task's address.
func (r Registration) Neighbours(ctx context.Context, servers servers) (others []*api.Node, err error) {
	err = servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		others, err = r.sharesAddress(ctx, client)
		return err
	})
	return others, err
}

// Restore registers again what Consul lost, with the checks as they are in r:
// a task that takes traffic goes on doing so. Tags that others may change stay
// as found. It removes nothing, as an init container may: after hours, a task
// can't be sure that it is the one that lives. It returns a *SuccessorError, and
// writes nothing, where it is not. After another error, a part may be written.
func (r Registration) Restore(ctx context.Context, servers servers, found Found) error {
	others, err := r.Neighbours(ctx, servers)
	if err != nil {
		return err
	}
	for _, other := range others {
		if r.succeededBy(other) {
			return &SuccessorError{Node: other.Node, Address: other.Address}
		}
	}
	// The sidecar first: without it the service would pass, and nothing reach it.
	for _, part := range slices.Backward(r.keepTags(found).parts()) {
		err := servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
			_, err := client.Catalog().Register(&part, (&api.WriteOptions{}).WithContext(ctx))
			return err
		})
		if err != nil {
			return fmt.Errorf("register %s on node %s: %w", part.Service.ID, part.Node, err)
		}
	}
	return nil
}

// keepTags is the registration with the tags that its parts have in Consul,
// where others may change them.
func (r Registration) keepTags(found Found) Registration {
	for _, part := range []*api.CatalogRegistration{&r.Service, &r.Sidecar} {
		if part.Service == nil || !part.Service.EnableTagOverride {
			continue
		}
		if i := found.service(part.Service.ID); i >= 0 {
			service := *part.Service
			service.Tags = found.Services[i].Tags
			part.Service = &service
		}
	}
	return r
}

// service is the index of a service, or -1.
func (f Found) service(id string) int {
	return slices.IndexFunc(f.Services, func(s *api.AgentService) bool { return s.ID == id })
}

// succeededBy takes a node that has the task's address for its successor,
// unless it is known to be in another VPC or to have registered before.
func (r Registration) succeededBy(other *api.Node) bool {
	own := r.Sidecar.NodeMeta
	if theirs := other.Meta[mesh.MetaVPCID]; theirs != "" && own[mesh.MetaVPCID] != "" && theirs != own[mesh.MetaVPCID] {
		return false
	}
	at := mesh.RegisteredAt(other.Meta)
	return at.IsZero() || !at.Before(mesh.RegisteredAt(own))
}

// Remove takes the task out of the catalog.
func (r Registration) Remove(ctx context.Context, servers servers) error {
	gone := &api.CatalogDeregistration{Node: r.Node(), Partition: r.Sidecar.Partition}
	err := servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		_, err := client.Catalog().Deregister(gone, (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
	if err != nil {
		return fmt.Errorf("remove node %s: %w", r.Node(), err)
	}
	return nil
}
