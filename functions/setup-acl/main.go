// Command setup-acl is the Lambda function behind a CloudFormation custom
// resource: it sets up Consul's ACL system for the mesh, and takes away again
// what it made.
package main

import (
	"context"
	"net/http"
	"net/netip"

	"ecsmesh/functions/setup-acl/customresource"
	"ecsmesh/functions/setup-acl/setup"
	"ecsmesh/shared/access"
	"ecsmesh/shared/function"
	"ecsmesh/shared/publisher"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

func main() { function.Start("setup-acl", wire) }

func wire(cfg config, lambda function.Runtime) func(context.Context, customresource.Event) error {
	return (&customresource.Handler{
		// Anew for each request, so that the management token isn't kept.
		Resource: func() (customresource.Resource, error) {
			return &setup.Setup{
				Secrets: secretsmanager.NewFromConfig(lambda.SDK),
				Locate: func(ctx context.Context) ([]netip.Addr, error) {
					return publisher.Addresses(ctx, cfg.Config, lambda.SDK, lambda.Log)
				},
				Consul: access.New(cfg.Settings, lambda.SDK, lambda.Log),
				Log:    lambda.Log,
				Plan:   lambda.Plan,
			}, cfg.check()
		},
		Client: &http.Client{},
		Log:    lambda.Log,
		Plan:   lambda.Plan,
	}).Handle
}
