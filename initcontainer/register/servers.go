package register

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sethvargo/go-retry"

	"ecsmesh/initcontainer/discovery"
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

// waitForServers reads the list until there is one.
func (r Registrar) waitForServers(ctx context.Context, list discovery.List) ([]netip.Addr, error) {
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

func read(ctx context.Context, list discovery.List) ([]netip.Addr, error) {
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
