package register

import (
	"context"
	"fmt"
	"time"

	"github.com/sethvargo/go-retry"
)

// again reads until that succeeds, fails for good, or ctx ends, and tells of
// each failure that may pass. The error is the last one.
func again(ctx context.Context, pause retry.Backoff, permanent func(error) bool, read func(context.Context) error, failed func(error)) error {
	var last error
	err := retry.Do(ctx, pause, func(ctx context.Context) error {
		err := read(ctx)
		if err == nil || permanent(err) {
			return err
		}
		last = err
		failed(err)
		return retry.RetryableError(err)
	})
	if err != nil && ctx.Err() != nil && last != nil {
		return fmt.Errorf("%w (%w)", last, context.Cause(ctx))
	}
	return err
}

// slowly is for what many tasks ask at the same time.
func slowly() retry.Backoff { return pauses(firstPause, longestPause) }

// pauses grow from the first to the longest, each by chance half of it less or
// more.
func pauses(first, longest time.Duration) retry.Backoff {
	return retry.WithJitterPercent(50, retry.WithCappedDuration(longest, retry.NewExponential(first)))
}
