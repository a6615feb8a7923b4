// Command publish-servers is the Lambda function that keeps the list of Consul
// servers: when a task of their ECS service changes, and every few minutes, it
// writes the addresses of the usable ones to the SSM parameter that all read.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"ecsmesh/shared/environment"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/publisher"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/caarlos0/env/v11"
)

// sdkAttempts outlasts a burst of throttling: SSM's and ECS's limits are shared
// by the whole account. The invocation's time bounds them too.
const sdkAttempts = 8

func main() {
	handler, err := wire(context.Background())
	if err != nil {
		invocation.NewLogger(os.Stdout, slog.LevelInfo).Error("start publish-servers", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler.Handle)
}

func wire(ctx context.Context) (*handler, error) {
	cfg, err := environment.Parse[config](env.ToMap(os.Environ()))
	if err != nil {
		return nil, err
	}
	sdk, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRetryMaxAttempts(sdkAttempts))
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	log := invocation.NewLogger(os.Stdout, cfg.LogLevel)
	servers, err := publisher.New(cfg.Config, sdk, metrics.NewWriter(os.Stdout, lambdacontext.FunctionName), log)
	if err != nil {
		return nil, err
	}
	return &handler{servers: servers, log: log}, nil
}
