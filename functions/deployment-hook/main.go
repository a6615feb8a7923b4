// Command deployment-hook is the Lambda function that ECS asks, at certain stages
// of a service's deployment, whether it is to go on.
package main

import (
	"context"
	"encoding/json"
	"time"

	"ecsmesh/functions/deployment-hook/hook"
	"ecsmesh/shared/access"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/function"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

func main() { function.Start("deployment-hook", wire) }

func wire(cfg config, lambda function.Runtime) func(context.Context, json.RawMessage) (hook.Answer, error) {
	servers := consul.NewPublished(
		serverlist.New(parameter.NewStore(lambda.SDK), cfg.ServersParameter),
		access.New(cfg.Settings, lambda.SDK, lambda.Log),
		lambda.Log,
	)
	traffic := hook.NewSplitter(servers)
	traffic.Partition = cfg.Partition
	traffic.Plan = lambda.Plan
	return (&hook.Hook{
		Deployments: hook.NewECS(ecs.NewFromConfig(lambda.SDK)),
		Nodes:       catalog.New(servers),
		Traffic:     traffic,
		Limit:       time.Duration(cfg.LimitMinutes) * time.Minute,
		Services:    cfg.Services,
		Now:         time.Now,
		Log:         lambda.Log,
		Plan:        lambda.Plan,
	}).Handle
}
