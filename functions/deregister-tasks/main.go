// Command deregister-tasks is the Lambda function that takes tasks out of the
// mesh: it drains those that ECS is stopping and deletes those that stopped.
package main

import (
	"context"
	"encoding/json"

	"ecsmesh/functions/deregister-tasks/deregister"
	"ecsmesh/shared/access"
	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/function"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"
)

func main() { function.Start("deregister-tasks", wire) }

func wire(cfg config, lambda function.Runtime) func(context.Context, json.RawMessage) (any, error) {
	servers := consul.NewPublished(
		serverlist.New(parameter.NewStore(lambda.SDK), cfg.ServersParameter),
		access.New(cfg.Settings, lambda.SDK, lambda.Log),
		lambda.Log,
	)
	nodes := catalog.New(servers)
	nodes.Partition = cfg.Partition
	nodes.ForceLeave = cfg.ForceLeave
	nodes.Plan = lambda.Plan
	return deregister.New(nodes, lambda.Metrics, lambda.Log).Handle
}
