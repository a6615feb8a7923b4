package template

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/config"
)

// The macro's function is told what tasks need, and not what functions do.
func TestTheMacroKnowsTheMesh(t *testing.T) {
	const caSecretARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-ca-a1B2c3"
	e := expand(t)
	for name, test := range map[string]struct {
		params map[string]string
		want   map[string]string
	}{
		"plain": {withMacro, map[string]string{
			"INIT_IMAGE": withMacro["InitImage"], "ENVOY_IMAGE": "envoyproxy/envoy:v1.34.1",
			"CONSUL_CACERT_SECRET_ARN": "", "CONSUL_LOGIN_METHOD": "", "STS_ENDPOINT": "",
		}},
		"with TLS and ACLs": {
			with(withMacro, withTLS, withACLs, map[string]string{
				"EnvoyImage": "envoyproxy/envoy:distroless-v1.35.0", "StsEndpoint": "https://sts.eu-west-1.amazonaws.com", "ConsulCaSecretArn": caSecretARN,
			}),
			map[string]string{
				"INIT_IMAGE": withMacro["InitImage"], "ENVOY_IMAGE": "envoyproxy/envoy:distroless-v1.35.0",
				"CONSUL_CACERT_SECRET_ARN": caSecretARN, "CONSUL_LOGIN_METHOD": "iam-ecs-service-token", "STS_ENDPOINT": "https://sts.eu-west-1.amazonaws.com",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := variant{t: t, expanded: e, params: with(inECS, test.params)}
			variables := v.resource("MeshTaskFunction")["Environment"].(map[string]any)["Variables"].(map[string]any)
			got := map[string]string{}
			for variable := range test.want {
				got[variable] = v.text(variables[variable])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the function's environment (-want +got):\n%s", diff)
			}
		})
	}
}

// deployMacro deploys the stack with the macro and its real function, and then one of the examples.
func deployMacro(t *testing.T, e *emulator.Emulator) (function string) {
	t.Helper()
	bootstrap, err := tools.Dist("mesh-task/bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	outputs, err := deployTo(t, e, map[string]string{"MeshTaskFunction": filepath.Dir(bootstrap)}, with(inECS, withMacro))
	if err != nil {
		t.Fatal(err)
	}
	if outputs["MeshTaskMacro"] != "EcsMesh" {
		t.Errorf("the outputs are %v", outputs)
	}
	return outputs["MeshTaskFunction"]
}

// meshParameters are those of the examples with web and api.
var meshParameters = map[string]string{"Cluster": "apps", "Subnets": "subnet-0a1b2c3d", "SecurityGroups": "sg-0a1b2c3d"}

// A template of a page with Transform: EcsMesh deploys to what examples/mesh-tasks.yaml spells out. ECS is asked what
// arrived. The macro goes with the stack's parameter.
func TestTheMacroMakesWhatTheExampleSpellsOut(t *testing.T) {
	e := startEmulator(t)
	deployMacro(t, e)
	root := root(t)
	deployExample := func(name string, params map[string]string) (map[string]string, error) {
		return e.Deploy(t.Context(), strings.TrimSuffix(name, ".yaml"), filepath.Join(root, "examples", name), nil, with(meshParameters, params))
	}
	spelt, err := deployExample("mesh-tasks.yaml", map[string]string{"InitImage": withMacro["InitImage"], "WebDesiredCount": "0", "ApiDesiredCount": "0"})
	if err != nil {
		t.Fatal(err)
	}
	made, err := deployExample("mesh-task-macro.yaml", map[string]string{"Cluster": "others", "DesiredCount": "0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, output := range []string{"ApiTaskDefinition", "WebTaskDefinition"} {
		want, got := substance(t, e, spelt[output]), substance(t, e, made[output])
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-spelt out +made by the macro):\n%s", output, diff)
		}
	}

	t.Run("what the macro refuses is in the change set's reason", func(t *testing.T) {
		faulty := filepath.Join(t.TempDir(), "faulty.yaml")
		content, err := os.ReadFile(filepath.Join(root, "examples", "mesh-task-macro.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(faulty, []byte(strings.ReplaceAll(string(content), "NetworkMode: awsvpc", "NetworkMode: host")), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = e.Deploy(t.Context(), "faulty", faulty, nil, meshParameters)
		for _, want := range []string{"::EcsMesh failed with: ", "ApiTaskDefinition: ", "WebTaskDefinition: ", "NetworkMode"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		}
	})
	t.Run("and back", func(t *testing.T) {
		outputs, err := deployTo(t, e, nil, inECS)
		if err != nil {
			t.Fatal(err)
		}
		if outputs["MeshTaskMacro"] != "" || outputs["MeshTaskFunction"] != "" {
			t.Errorf("the outputs are %v", outputs)
		}
	})
}

// substance is a task definition without what may differ: names, defaults that one spells out, and the order of what
// has none. The configuration is as ecsmesh-init reads it.
func substance(t *testing.T, e *emulator.Emulator, arn string) map[string]any {
	t.Helper()
	out, err := ecs.NewFromConfig(e.Config()).DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String(arn)})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]any{
		"NetworkMode": out.TaskDefinition.NetworkMode, "Cpu": aws.ToString(out.TaskDefinition.Cpu), "Memory": aws.ToString(out.TaskDefinition.Memory),
		"Volumes": remarshal[any](t, out.TaskDefinition.Volumes),
	}
	for _, container := range out.TaskDefinition.ContainerDefinitions {
		c := remarshal[map[string]any](t, container)
		for _, environment := range container.Environment {
			if aws.ToString(environment.Name) != "ECSMESH_CONFIG" {
				continue
			}
			read, err := config.Read(func(name string) string {
				if name == "ECSMESH_CONFIG" {
					return aws.ToString(environment.Value)
				}
				return ""
			})
			if err != nil {
				t.Fatalf("%s: %v", arn, err)
			}
			c["Environment"] = fmt.Sprintf("%+v", remarshal[any](t, read))
		}
		if check := container.HealthCheck; check != nil {
			c["HealthCheck"].(map[string]any)["Command"] = slices.DeleteFunc(check.Command, func(word string) bool { return word == "-refresh" || word == "1m" })
		}
		if logs := container.LogConfiguration; logs != nil {
			delete(logs.Options, "awslogs-group") // has the stack's name
			c["LogConfiguration"] = logs.Options
		}
		found[aws.ToString(container.Name)] = c
	}
	return found
}

// The function as Lambda runs it, with the event that `sam local invoke` takes as well.
func TestTheMacrosFunctionAnswers(t *testing.T) {
	e := startEmulator(t)
	function := deployMacro(t, e)
	invoke := func(event map[string]any) (answer struct {
		RequestID, Status, ErrorMessage string
		Fragment                        struct {
			Resources map[string]struct{ Type string }
		}
	}) {
		t.Helper()
		out, err := lambda.NewFromConfig(e.Config()).Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String(function), Payload: []byte(toJSON(t, event))})
		if err != nil {
			t.Fatal(err)
		}
		if out.FunctionError != nil {
			t.Fatalf("the function failed: %s", out.Payload)
		}
		if err := json.Unmarshal(out.Payload, &answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	event := readEvent(t, "macro.json")
	answer := invoke(event)
	if answer.Status != "success" || answer.RequestID != event["requestId"] || answer.Fragment.Resources["WebTaskDefinitionEcsMeshPolicy"].Type != "AWS::IAM::Policy" {
		t.Errorf("the answer is %+v", answer)
	}
	event["fragment"] = map[string]any{"Resources": map[string]any{}}
	answer = invoke(event)
	if answer.Status != "failure" || answer.RequestID != event["requestId"] || answer.ErrorMessage != "the template has no AWS::ECS::TaskDefinition" {
		t.Errorf("of a template without tasks the answer is %+v", answer)
	}
}
