// Command sweep is the Lambda function that repairs, on a schedule, what events
// have missed: the list of Consul servers, and the tasks in Consul's catalog.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"ecsmesh/functions/sweep/sweep"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/publisher"
	"ecsmesh/shared/serverlist"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/caarlos0/env/v11"
)

func main() {
	sweep, err := wire(context.Background())
	if err != nil {
		invocation.NewLogger(os.Stdout, slog.LevelInfo).Error("start sweep", "error", err)
		os.Exit(1)
	}
	lambda.Start(sweep.Handle)
}

func wire(ctx context.Context) (*sweep.Sweep, error) {
	cfg, err := environment.Parse[config](env.ToMap(os.Environ()))
	if err != nil {
		return nil, err
	}
	sdk, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRetryMaxAttempts(sdkAttempts))
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	if sdk.Region == "" {
		return nil, errors.New("load AWS configuration: AWS_REGION is not set")
	}
	log := invocation.NewLogger(os.Stdout, cfg.LogLevel)
	metrics := metrics.NewWriter(os.Stdout, lambdacontext.FunctionName)
	publisher, err := publisher.New(cfg.Config, sdk, metrics, log)
	if err != nil {
		return nil, err
	}
	servers := consul.NewPublished(serverlist.New(ssm.NewFromConfig(sdk), cfg.ServersParameter), int(cfg.HTTPPort), log)
	return &sweep.Sweep{
		Publisher: publisher,
		Nodes:     catalog.New(servers),
		Tasks:     sweep.NewECS(ecs.NewFromConfig(sdk)),
		Region:    sdk.Region,
		Brake:     sweep.Brake{MaxTasks: int(cfg.MaxDeletedTasks), MaxPercent: int(cfg.MaxDeletedPercent)},
		Metrics:   metrics,
		Log:       log,
	}, nil
}
