package cloudwatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ecsmesh/shared/awsapi"
)

// Line is one of a log group.
type Line struct {
	At   time.Time // when Lambda took it in
	Text string
}

// Lines are those of a log group, in their order; none where there is no such
// group, as that of a function that did not run yet.
func Lines(ctx context.Context, cfg aws.Config, group string) ([]Line, error) {
	var lines []Line
	input := map[string]any{"logGroupName": group}
	for {
		var page struct {
			Events []struct {
				Timestamp int64 // Unix time in milliseconds
				Message   string
			}
			NextToken string
		}
		err := call(ctx, cfg, "logs", "Logs_20140328.FilterLogEvents", input, &page)
		var refused *awsapi.Error
		if errors.As(err, &refused) && refused.Code == "ResourceNotFoundException" {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read log group %s: %w", group, err)
		}
		for _, event := range page.Events {
			lines = append(lines, Line{time.UnixMilli(event.Timestamp), event.Message})
		}
		if page.NextToken == "" {
			return lines, nil
		}
		input["nextToken"] = page.NextToken
	}
}
