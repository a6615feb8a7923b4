package lab

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
)

// WipeCatalog takes every task out of Consul's catalog, as a careless hand or
// a restored snapshot would.
func (l *Lab) WipeCatalog(ctx context.Context) error {
	consul, err := l.Consul()
	if err != nil {
		return err
	}
	nodes, err := l.MeshNodes(ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if _, err := consul.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
			return fmt.Errorf("wipe the catalog: %w", err)
		}
	}
	return nil
}
