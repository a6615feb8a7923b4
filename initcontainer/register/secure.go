package register

import (
	"context"
	"fmt"
	"maps"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/token"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/parameter"
)

// interfaces are the TLS of the servers' interfaces; nil is plaintext.
type interfaces struct{ http, grpc *consul.TLS }

// readCAs completes what the configuration says of TLS by the CAs that are in
// parameters, each of which is read once.
func (r Registrar) readCAs(ctx context.Context, ssm parameter.Getter) (interfaces, error) {
	var (
		found interfaces
		known = map[string]string{}
	)
	for _, each := range []struct {
		configured *config.TLS
		into       **consul.TLS
	}{{r.Config.ConsulServers.HTTP.TLS, &found.http}, {r.Config.ConsulServers.GRPC.TLS, &found.grpc}} {
		if each.configured == nil {
			continue
		}
		ca, name := each.configured.CA, each.configured.CAParameter
		if ca == "" && known[name] == "" {
			value, err := r.readParameter(ctx, ssm, name)
			if err != nil {
				return interfaces{}, fmt.Errorf("read the CA of the Consul servers: %w", err)
			}
			if known[name], err = consul.Certificates(value); err != nil {
				return interfaces{}, fmt.Errorf("read the CA of the Consul servers from SSM parameter %s: %w", name, err)
			}
		}
		if ca == "" {
			ca = known[name]
		}
		*each.into = &consul.TLS{CA: ca, ServerName: each.configured.ServerName}
	}
	return found, nil
}

// readParameter reads a parameter, again while SSM doesn't answer.
func (r Registrar) readParameter(ctx context.Context, ssm parameter.Getter, name string) (value string, err error) {
	err = again(ctx, slowly(), parameter.Permanent, func(ctx context.Context) (err error) {
		attempt, cancel := context.WithTimeout(ctx, readTimeout)
		defer cancel()
		value, err = parameter.Read(attempt, ssm, name)
		return err
	}, func(err error) { r.Log.Info("waiting for a parameter", "parameter", name, "because", err) })
	return value, err
}

// loginMetaTask is what a token's description calls its task, as consul-ecs has
// it. The cluster has a name of our own: the controller of consul-ecs deletes
// tokens with both of its names as soon as it takes their task for none of its.
const loginMetaTask = "consul.hashicorp.com/task-id"

// tokens says where the task gets its tokens from. What is logged in says in
// Consul for which task.
func (r Registrar) tokens(task taskmeta.Task) token.Source {
	source := token.Source{Parameter: r.Config.ConsulServers.TokenParameter, Region: task.ARN.Region}
	if r.Config.Login != nil {
		method := *r.Config.Login
		method.Meta = maps.Clone(method.Meta)
		if method.Meta == nil {
			method.Meta = map[string]string{}
		}
		method.Meta[loginMetaTask], method.Meta[mesh.MetaClusterARN] = task.ARN.ID, task.ClusterARN()
		source.Login = &method
	}
	return source
}
