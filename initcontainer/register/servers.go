package register

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/sethvargo/go-retry"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/shared/serverlist"
)

const (
	// notPublishedPause is the pause while there is no list at all: the
	// servers are starting too, and a second decides how fast all is up.
	notPublishedPause = 700 * time.Millisecond

	// SSM allows an account 40 reads a second. Tasks that are throttled must
	// spread out, whatever their number.
	firstPause, longestPause = 250 * time.Millisecond, 8 * time.Second

	// readTimeout bounds one read of the list.
	readTimeout = 5 * time.Second

	// progressEvery is how often the log says what is being waited for.
	progressEvery = 15 * time.Second
)

// ServerList is where the Consul servers' addresses come from. The addresses
// are never empty without an error.
type ServerList interface {
	Read(context.Context) ([]netip.Addr, error)
}

// Source decides where a configuration has the servers' addresses from.
func Source(ctx context.Context, servers config.ConsulServers) func(taskmeta.Task) (ServerList, error) {
	return func(task taskmeta.Task) (ServerList, error) {
		if len(servers.Hosts) > 0 {
			return hosts(servers.Hosts), nil
		}
		// On EC2, a container's environment need not name the Region; the
		// task's ARN does. Retries are this package's own business.
		cfg, err := awsconfig.LoadDefaultConfig(ctx,
			awsconfig.WithDefaultRegion(task.ARN.Region),
			awsconfig.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }))
		if err != nil {
			return nil, fmt.Errorf("configure AWS: %w", err)
		}
		return serverlist.New(ssm.NewFromConfig(cfg), servers.Parameter), nil
	}
}

// hosts are addresses and DNS names given by the configuration.
type hosts []string

func (h hosts) Read(ctx context.Context) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, host := range h {
		// An IP address resolves to itself.
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, fmt.Errorf("resolve consulServers.hosts: %w", err)
		}
		for _, addr := range found {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}

// waitForServers reads the list until there is one.
func (r Registrar) waitForServers(ctx context.Context, list ServerList) ([]netip.Addr, error) {
	backoff := retry.WithCappedDuration(longestPause, retry.NewExponential(firstPause))
	var reported time.Time
	for {
		addrs, err := read(ctx, list)
		if err == nil {
			return addrs, nil
		}
		if serverlist.Permanent(err) {
			return nil, explainRefusal(err)
		}
		if ctx.Err() != nil {
			return nil, giveUp(ctx, err)
		}
		if time.Since(reported) > progressEvery {
			reported = time.Now()
			end, _ := ctx.Deadline()
			r.Log.Info("waiting for the Consul servers' addresses", "because", err, "remaining", time.Until(end).Round(time.Second))
		}
		pause := notPublishedPause
		if !errors.Is(err, serverlist.ErrNotPublished) {
			pause, _ = backoff.Next()
		}
		select {
		case <-ctx.Done():
			return nil, giveUp(ctx, err)
		case <-time.After(jitter(pause)):
		}
	}
}

func read(ctx context.Context, list ServerList) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	return list.Read(ctx)
}

func jitter(pause time.Duration) time.Duration {
	spread, _ := retry.WithJitterPercent(50, retry.NewConstant(pause)).Next()
	return spread
}

func giveUp(ctx context.Context, err error) error {
	advice := ""
	if errors.Is(err, serverlist.ErrNotPublished) {
		advice = "; check that consulServers.parameter is the one that publish-servers writes, and that a Consul server is running"
	}
	return fmt.Errorf("find the Consul servers: %w: %w%s", context.Cause(ctx), err, advice)
}

func explainRefusal(err error) error {
	return fmt.Errorf("find the Consul servers: %w; check that the task role allows ssm:GetParameter on this parameter, in this Region", err)
}
