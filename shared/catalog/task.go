package catalog

import (
	"context"
	"fmt"

	"ecsmesh/shared/consul"

	"github.com/hashicorp/consul/api"
)

// Registered is what the catalog has of one task. Both are empty where there is
// no such node, or nothing on it.
type Registered struct {
	Services []Service
	Checks   []Check
}

// Service is a service instance on a task's node.
type Service struct {
	ID    string
	Envoy bool // it is a sidecar proxy, or a gateway
}

// Check is a check on a task's node.
type Check struct {
	ID        string
	ServiceID string // "": it is the whole node's
	Status    string // as Consul has it: passing, warning, critical
	Output    string
}

// Registered reads what there is on one node. It asks for what is true now, and
// returns consul.ErrHidden where the token may not read all of it.
func (c *Catalog) Registered(ctx context.Context, node string) (Registered, error) {
	var (
		services *api.CatalogNodeServiceList
		checks   api.HealthChecks
		meta     [2]*api.QueryMeta
	)
	err := c.servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		if services, meta[0], err = client.Catalog().NodeServiceList(node, consistent(ctx, "")); err != nil {
			return err
		}
		checks, meta[1], err = client.Health().Node(node, consistent(ctx, ""))
		return err
	})
	for _, m := range meta {
		if err == nil {
			err = consul.Complete(m)
		}
	}
	if err != nil {
		return Registered{}, fmt.Errorf("read node %s: %w", node, err)
	}
	var found Registered
	if services != nil {
		for _, s := range services.Services {
			found.Services = append(found.Services, Service{ID: s.ID, Envoy: s.Kind != api.ServiceKindTypical})
		}
	}
	for _, check := range checks {
		found.Checks = append(found.Checks, Check{ID: check.CheckID, ServiceID: check.ServiceID, Status: check.Status, Output: check.Output})
	}
	return found, nil
}
