package publisher

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// Addresses returns where Consul can be asked now: at the servers that ECS
// names, or at the seeds. It is for those who come before the list is published
// and before anybody may ask Consul for its servers.
func Addresses(ctx context.Context, cfg Config, sdk aws.Config, log *slog.Logger) ([]netip.Addr, error) {
	if cfg.Seeded() {
		return newSeedServers(cfg.SeedAddresses, nil, log).resolve(ctx)
	}
	servers, err := (&ecsService{client: ecs.NewFromConfig(sdk), cluster: cfg.Cluster, service: cfg.Service, log: log}).Servers(ctx)
	if err == nil && len(servers) == 0 {
		err = errors.New("no task of their ECS service is usable")
	}
	return servers, err
}
