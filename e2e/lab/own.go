package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/owntask"
)

// ownStack is that of a user's own task definitions.
const ownStack = "own-tasks"

// upstreamPort is where web reaches the first of its upstreams, as the example
// has it; the others follow.
const upstreamPort = 9091

// Own reads the task definitions of a user's own file, whose values
// CloudFormation finds where it is a template.
func (l *Lab) Own(ctx context.Context, file *owntask.File) ([]*owntask.Task, error) {
	if l.security != nil {
		return nil, errors.New("read your task definitions: a lab with TLS and ACLs has no task roles for them; leave SECURE out")
	}
	definitions := file.Definitions
	if file.Template != nil {
		path := filepath.Join(l.Dir, "own-tasks.json")
		if err := os.WriteFile(path, file.Template, 0o600); err != nil {
			return nil, fmt.Errorf("read your task definitions: %w", err)
		}
		outputs, err := l.Emulator.Deploy(ctx, ownStack, path, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("read your task definitions: %w", err)
		}
		for _, name := range slices.Sorted(maps.Keys(outputs)) {
			definition, err := l.rawTaskDefinition(ctx, outputs[name])
			if err != nil {
				return nil, err
			}
			definitions = append(definitions, definition)
		}
	}
	if len(definitions) == 0 {
		return nil, errors.New("read your task definitions: none of them has a Condition that holds with the parameters' defaults; set others")
	}
	var tasks []*owntask.Task
	for _, definition := range definitions {
		task, err := owntask.Read(definition)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, task)
	}
	return tasks, nil
}

// rawTaskDefinition asks ECS without the SDK, which refuses a number where the
// API has a text: CloudFormation takes either.
func (l *Lab) rawTaskDefinition(ctx context.Context, arn string) (json.RawMessage, error) {
	question, err := json.Marshal(map[string]string{"taskDefinition": arn})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.Emulator.URL(), bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113.DescribeTaskDefinition")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("describe task definition %s: %w", arn, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("describe task definition %s: %w", arn, err)
	}
	var out struct{ TaskDefinition json.RawMessage }
	if err := json.Unmarshal(body, &out); err != nil || out.TaskDefinition == nil {
		return nil, fmt.Errorf("describe task definition %s: %s: %s", arn, response.Status, body)
	}
	return out.TaskDefinition, nil
}

// CreateOwn creates a service of a user's own task definition, which has no tasks
// yet. The program may be nil.
func (l *Lab) CreateOwn(task *owntask.Task, program *owntask.Program) *ecs.Service {
	launchType := ecs.LaunchTypeFargate
	if compatible := task.Definition.RequiresCompatibilities; len(compatible) > 0 && !slices.Contains(compatible, ecs.LaunchTypeFargate) {
		launchType = ecs.LaunchTypeEC2
	}
	define := func(ctx context.Context, address netip.Addr) (ecs.TaskDefinition, error) {
		gossipKey, err := l.secret(ctx, "", l.gossipKey())
		if err != nil {
			return ecs.TaskDefinition{}, err
		}
		definition, _, err := task.On(l.ownHost(gossipKey), address, program)
		return definition, err
	}
	return l.ECS.CreateService(ecs.ServiceOptions{Name: task.Service, Cluster: MeshCluster, LaunchType: launchType, Define: define})
}

// Replaced says what of a user's own task definition isn't in the lab, a line
// each.
func (l *Lab) Replaced(task *owntask.Task, program *owntask.Program) ([]string, error) {
	_, replaced, err := task.On(l.ownHost(""), tasksBase(l.block), program)
	return replaced, err
}

func (l *Lab) ownHost(gossipKey string) owntask.Host {
	return owntask.Host{
		Init: initImage, Envoy: envoyImage, Consul: consulImage, Dataplane: dataplaneImage, Application: appImage, Shell: shellImage,
		ServersParameter: ServersParameter,
		GossipKey:        gossipKey,
		Secret: func(variable string) string {
			if value, ok := os.LookupEnv(variable); ok {
				return value
			}
			return "secret-of-the-lab"
		},
	}
}

// CreateCaller creates a service that is web of the example by another name, and
// calls others for each request, at a path. It has no tasks yet.
func (l *Lab) CreateCaller(name, path string, upstreams ...string) *ecs.Service {
	return l.createLike(l.Web, "web", name, func(definition *ecs.TaskDefinition, address netip.Addr) error {
		var uris []string
		var list []any
		for i, upstream := range upstreams {
			port := upstreamPort + i
			uris = append(uris, httpURL(address, uint16(port))+path) //nolint:gosec // nobody has that many
			list = append(list, map[string]any{"destinationName": upstream, "localBindAddress": address.String(), "localBindPort": port})
		}
		setVariable(definition, "UPSTREAM_URIS", strings.Join(uris, ","))
		return owntask.Configure(definition, func(document map[string]any) {
			if proxy, ok := document["proxy"].(map[string]any); ok {
				proxy["upstreams"] = list
			}
		})
	})
}

// CreateCallee creates a service that is api of the example by another name,
// which has no tasks yet.
func (l *Lab) CreateCallee(name string) *ecs.Service {
	return l.createLike(l.API, "api", name, func(definition *ecs.TaskDefinition, _ netip.Addr) error {
		setVariable(definition, "MESSAGE", "stand-in for service "+name)
		return nil
	})
}

func (l *Lab) createLike(like *ecs.Service, was, name string, change func(*ecs.TaskDefinition, netip.Addr) error) *ecs.Service {
	return l.ECS.CreateService(ecs.ServiceOptions{Name: name, Cluster: MeshCluster, Define: func(ctx context.Context, address netip.Addr) (ecs.TaskDefinition, error) {
		definition, err := like.Define(ctx, address)
		if err != nil {
			return ecs.TaskDefinition{}, err
		}
		definition.Family = strings.TrimSuffix(definition.Family, was) + name
		setVariable(&definition, "NAME", name)
		err = owntask.Configure(&definition, func(document map[string]any) {
			if service, ok := document["service"].(map[string]any); ok {
				service["name"] = name
			}
		})
		return definition, errors.Join(err, change(&definition, address))
	}})
}

// setVariable changes a variable of each container that has it.
func setVariable(definition *ecs.TaskDefinition, name, value string) {
	for i := range definition.Containers {
		for k := range definition.Containers[i].Environment {
			if v := &definition.Containers[i].Environment[k]; v.Name == name {
				v.Value = value
			}
		}
	}
}
