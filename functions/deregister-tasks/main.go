// Command deregister-tasks is the Lambda function that takes tasks out of the
// mesh: it drains those that ECS is stopping and deletes those that stopped.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"ecsmesh/functions/deregister-tasks/deregister"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/serverlist"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/caarlos0/env/v11"
)

func main() {
	handler, err := wire(context.Background())
	if err != nil {
		invocation.NewLogger(os.Stdout, slog.LevelInfo).Error("start deregister-tasks", "error", err)
		os.Exit(1)
	}
	lambda.Start(handler.Handle)
}

func wire(ctx context.Context) (*deregister.Handler, error) {
	cfg, err := environment.Parse[config](env.ToMap(os.Environ()))
	if err != nil {
		return nil, err
	}
	sdk, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("load AWS configuration: %w", err)
	}
	log := invocation.NewLogger(os.Stdout, cfg.LogLevel)
	servers := consul.NewPublished(serverlist.New(ssm.NewFromConfig(sdk), cfg.ServersParameter), int(cfg.HTTPPort), log)
	return deregister.New(catalog.New(servers), metrics.NewWriter(os.Stdout, lambdacontext.FunctionName), log), nil
}
