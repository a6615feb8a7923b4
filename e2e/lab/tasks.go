package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"

	"ecsmesh/e2e/ecs"
)

// Images as the lab's task definitions name them.
const (
	initImage  = "ecsmesh-init"
	envoyImage = "envoyproxy/envoy"
	appImage   = "nicholasjackson/fake-service"
	shellImage = "shell" // none: the programs of this host
)

// Where the application and Envoy of a mesh task listen, as the example has
// it.
const (
	AppPort         = 9090
	EnvoyAdminPort  = 19000
	EnvoyPublicPort = 20000
)

// bootstrapDir is where the containers see their volume. It is not the
// default, /ecsmesh: the lab replaces that path by a folder wherever it
// occurs, and the parameter /ecsmesh/consul-servers must stay what it is.
const bootstrapDir = "/mesh"

// refreshInterval is how often a task looks after its registration and its
// servers: a minute outside of the lab, where nobody wants to wait for that.
const refreshInterval = "2s"

// defineMeshTask defines a task of web or api.
func (l *Lab) defineMeshTask(name string) func(context.Context, netip.Addr) (ecs.TaskDefinition, error) {
	output := map[string]string{"web": "WebTaskDefinition", "api": "ApiTaskDefinition"}[name]
	return func(ctx context.Context, address netip.Addr) (ecs.TaskDefinition, error) {
		parameters := l.taskParameters(address)
		maps.Copy(parameters, map[string]string{"AppImage": appImage, "WebDesiredCount": "0", "ApiDesiredCount": "0", "EnableExecuteCommand": "ENABLED"})
		return l.define(ctx, MeshStack, "mesh-tasks.yaml", parameters, output)
	}
}

// taskParameters are those that the examples with tasks of the mesh share, for a
// task that will have an address.
func (l *Lab) taskParameters(address netip.Addr) map[string]string {
	parameters := map[string]string{
		"Cluster":              MeshCluster,
		"Subnets":              "subnet-0ec5a,subnet-0ec5b",
		"SecurityGroups":       "sg-0ec5",
		"InitImage":            initImage,
		"EnvoyImage":           envoyImage,
		"ServersParameterName": ServersParameter,
		"BootstrapDir":         bootstrapDir,
		"LocalAddress":         address.String(),
		"RefreshInterval":      refreshInterval,
	}
	if l.security != nil {
		maps.Copy(parameters, map[string]string{
			"ConsulTls": "ENABLED", "ConsulCaParameterName": CAParameter,
			"ConsulLogin": "ENABLED", "ConsulLoginServerId": serverID,
		})
	}
	return parameters
}

// CreateGateway creates a service of gateways, which has no tasks yet, by its
// example.
func (l *Lab) CreateGateway(kind, name string) *ecs.Service {
	return l.create(name, "gateway.yaml", func(_ context.Context, parameters map[string]string) error {
		maps.Copy(parameters, map[string]string{"GatewayKind": kind, "GatewayName": name})
		return nil
	})
}

// CreateClientAgent creates a service whose tasks have a Consul client agent,
// which has no tasks yet, by its example. The service that it calls may be "".
func (l *Lab) CreateClientAgent(name, upstream string) *ecs.Service {
	return l.create("client-"+name, "client-agent.yaml", func(_ context.Context, parameters map[string]string) error {
		maps.Copy(parameters, map[string]string{
			"ServiceName": name, "UpstreamName": upstream, "ConsulImage": consulImage, "AppImage": appImage, "GossipKeySecretArn": l.gossipKey(),
		})
		return nil
	})
}

// create creates a service of the mesh's cluster by an example, whose further
// parameters it sets for each task.
func (l *Lab) create(name, example string, set func(context.Context, map[string]string) error) *ecs.Service {
	define := func(ctx context.Context, address netip.Addr) (ecs.TaskDefinition, error) {
		parameters := l.taskParameters(address)
		parameters["DesiredCount"] = "0"
		if err := set(ctx, parameters); err != nil {
			return ecs.TaskDefinition{}, err
		}
		return l.define(ctx, name, example, parameters, "TaskDefinition")
	}
	return l.ECS.CreateService(ecs.ServiceOptions{Name: name, Cluster: MeshCluster, Define: define})
}

// define resolves an example's task definition for a task that will have an
// address, which is among the parameters. CloudFormation does it: the stack is
// brought to them, without tasks, and ECS's API has the new revision.
func (l *Lab) define(ctx context.Context, stack, example string, parameters map[string]string, output string) (ecs.TaskDefinition, error) {
	l.stacks.Lock()
	defer l.stacks.Unlock()
	outputs, err := l.Emulator.Deploy(ctx, stack, filepath.Join(l.root, "examples", example), nil, parameters)
	if err != nil {
		return ecs.TaskDefinition{}, err
	}
	if arn := outputs["GossipKeySecretArn"]; arn != "" {
		l.gossipKeyARN = arn
	}
	return l.taskDefinition(ctx, outputs[output])
}

func (l *Lab) taskDefinition(ctx context.Context, arn string) (ecs.TaskDefinition, error) {
	out, err := awsecs.NewFromConfig(l.Emulator.Config()).DescribeTaskDefinition(ctx, &awsecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String(arn)})
	if err != nil {
		return ecs.TaskDefinition{}, fmt.Errorf("describe task definition %s: %w", arn, err)
	}
	// The SDK's fields have the names of ECS's JSON, but for the case of the
	// first letter, which decoding JSON overlooks.
	raw, err := json.Marshal(out.TaskDefinition)
	if err != nil {
		return ecs.TaskDefinition{}, fmt.Errorf("read task definition %s: %w", arn, err)
	}
	var def ecs.TaskDefinition
	if err := json.Unmarshal(raw, &def); err != nil {
		return ecs.TaskDefinition{}, fmt.Errorf("read task definition %s: %w", arn, err)
	}
	return def, nil
}

// AppURL is the address of a mesh task's application.
func AppURL(task ecs.Task) string { return httpURL(task.Address(), AppPort) }

// EnvoyAdminURL is the address of the admin page of a mesh task's Envoy.
func EnvoyAdminURL(task ecs.Task) string { return httpURL(task.Address(), EnvoyAdminPort) }

func httpURL(address netip.Addr, port uint16) string {
	return "http://" + netip.AddrPortFrom(address, port).String()
}

// Log is the path of the log of a task's container. Its health check's is
// beside it, with the ending .health.log.
func (l *Lab) Log(task ecs.Task, container string) string {
	return filepath.Join(l.ECS.TaskDir(task), container+".log")
}
