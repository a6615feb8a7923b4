// Command publish-servers is the Lambda function that keeps the list of Consul
// servers: when a task of their ECS service changes, and every few minutes, it
// writes the addresses of the usable ones to the SSM parameter that all read.
package main

import (
	"context"
	"encoding/json"

	"ecsmesh/shared/access"
	"ecsmesh/shared/function"
	"ecsmesh/shared/publisher"
)

func main() { function.Start("publish-servers", wire) }

func wire(cfg config, lambda function.Runtime) func(context.Context, json.RawMessage) error {
	consul := access.New(cfg.Settings, lambda.SDK, lambda.Log)
	servers := publisher.New(cfg.Config, lambda.SDK, consul, lambda.Metrics, lambda.Log, lambda.Plan)
	return (&handler{servers: servers, log: lambda.Log}).Handle
}
