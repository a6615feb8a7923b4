// Command sweep is the Lambda function that repairs, on a schedule, what events
// have missed: the list of Consul servers, and the tasks in Consul's catalog. Asked
// for a report, it only says what it finds.
package main

import (
	"context"
	"encoding/json"

	"ecsmesh/functions/sweep/sweep"
	"ecsmesh/shared/access"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/function"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/publisher"
	"ecsmesh/shared/serverlist"

	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

func main() { function.Start("sweep", wire) }

func wire(cfg config, lambda function.Runtime) func(context.Context, json.RawMessage) (any, error) {
	// One way in for both, and so one ACL token.
	access := access.New(cfg.Settings, lambda.SDK, lambda.Log)
	servers := consul.NewPublished(serverlist.New(parameter.NewStore(lambda.SDK), cfg.ServersParameter), access, lambda.Log)
	nodes := catalog.New(servers)
	nodes.Partition = cfg.Partition
	nodes.ForceLeave = cfg.ForceLeave
	nodes.Plan = lambda.Plan
	return (&sweep.Sweep{
		Publisher: publisher.New(cfg.Config, lambda.SDK, access, lambda.Metrics, lambda.Log, lambda.Plan),
		Nodes:     nodes,
		Tasks:     sweep.NewECS(ecs.NewFromConfig(lambda.SDK)),
		Leader:    access,
		Region:    lambda.SDK.Region,
		Brake:     sweep.Brake{MaxTasks: int(cfg.MaxDeletedTasks), MaxPercent: int(cfg.MaxDeletedPercent)},
		Metrics:   lambda.Metrics,
		Log:       lambda.Log,
		Plan:      lambda.Plan,
	}).Serve
}
