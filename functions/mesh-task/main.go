// Command mesh-task is the Lambda function behind a CloudFormation macro: it
// makes mesh tasks of plain task definitions that say in their Metadata what
// they are in the mesh.
package main

import (
	"context"

	"ecsmesh/functions/mesh-task/macro"
	"ecsmesh/shared/function"
)

func main() { function.Start("mesh-task", wire) }

func wire(cfg config, lambda function.Runtime) func(context.Context, macro.Request) (macro.Response, error) {
	return (&macro.Handler{Input: cfg.input(), Check: cfg.check, Log: lambda.Log}).Handle
}
