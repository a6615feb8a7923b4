package access

import (
	"context"
	"errors"
	"net/netip"

	"github.com/hashicorp/consul/api"

	"ecsmesh/shared/consul"
)

// Leader asks the one server at an address who leads the cluster, and returns
// the leader's address for RPC. Its error is that the server does not answer,
// can't be trusted, or knows no leader.
func (a *Access) Leader(ctx context.Context, addr netip.Addr) (leader string, err error) {
	err = a.Use(ctx, []netip.Addr{addr}, func(servers *consul.Servers) error {
		return servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
			leader, err = client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
			if err == nil && leader == "" {
				err = errors.New("it knows no leader")
			}
			return err
		})
	})
	return leader, err
}
