package lab

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
)

const dataplaneImage = "hashicorp/consul-dataplane"

// CreateDataplane creates a service whose tasks have their Envoy run by
// consul-dataplane, which has no tasks yet, by its example. The service that it
// calls may be "". In a secure lab its tasks share a token without end, since
// they can't log in.
func (l *Lab) CreateDataplane(name, upstream string) *ecs.Service {
	var (
		mu    sync.Mutex
		token string
	)
	return l.create("dataplane-"+name, "dataplane.yaml", func(ctx context.Context, parameters map[string]string) (err error) {
		maps.Copy(parameters, map[string]string{"ServiceName": name, "UpstreamName": upstream, "DataplaneImage": dataplaneImage, "AppImage": appImage})
		if l.security == nil {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if token == "" {
			if token, err = l.publishToken(ctx, name); err != nil {
				return err
			}
		}
		delete(parameters, "ConsulLogin")
		delete(parameters, "ConsulLoginServerId")
		parameters["ConsulTokenParameterName"] = token
		return nil
	})
}

// publishToken puts a token without end for a service's tasks into AWS, and
// returns the name of the parameter.
func (l *Lab) publishToken(ctx context.Context, service string) (parameter string, err error) {
	consul, err := l.Consul()
	if err != nil {
		return "", err
	}
	write := (&api.WriteOptions{}).WithContext(ctx)
	policy, _, err := consul.ACL().PolicyCreate(&api.ACLPolicy{Name: "tasks-of-" + service, Rules: `node_prefix "ecs-" { policy = "write" }`}, write)
	if err != nil {
		return "", fmt.Errorf("make a policy for the tasks of %s: %w", service, err)
	}
	token, _, err := consul.ACL().TokenCreate(&api.ACLToken{
		ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: service}}, Policies: []*api.ACLLink{{ID: policy.ID}},
	}, write)
	if err != nil {
		return "", fmt.Errorf("make a token for the tasks of %s: %w", service, err)
	}
	parameter = "/ecsmesh/token/" + service
	_, err = ssm.NewFromConfig(l.Emulator.Config()).PutParameter(ctx, &ssm.PutParameterInput{
		Name: aws.String(parameter), Value: aws.String(token.SecretID), Type: types.ParameterTypeSecureString,
	})
	if err != nil {
		return "", fmt.Errorf("publish the token for the tasks of %s: %w", service, err)
	}
	return parameter, nil
}
