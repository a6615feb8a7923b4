// Command publish-servers is the Lambda function that keeps the list of Consul
// servers: when a task of their ECS service changes, and every few minutes, it
// writes the addresses of the usable tasks to the SSM parameter that all read.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"ecsmesh/shared/environment"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/serverlist"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/caarlos0/env/v11"
)

func main() {
	publisher, err := wire(context.Background())
	if err != nil {
		invocation.NewLogger(os.Stdout, slog.LevelInfo).Error("start publish-servers", "error", err)
		os.Exit(1)
	}
	lambda.Start(publisher.Handle)
}

func wire(ctx context.Context) (*publisher, error) {
	cfg, err := environment.Parse[config](env.ToMap(os.Environ()))
	if err != nil {
		return nil, err
	}
	sdk, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRetryMaxAttempts(sdkAttempts))
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	return &publisher{
		tasks:     &ecsService{client: ecs.NewFromConfig(sdk), cluster: cfg.Cluster, service: cfg.Service},
		parameter: serverlist.New(ssm.NewFromConfig(sdk), cfg.ServersParameter),
		metrics:   metrics.NewWriter(os.Stdout, lambdacontext.FunctionName),
		log:       invocation.NewLogger(os.Stdout, cfg.LogLevel),
	}, nil
}
