package template

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/tools"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"go.yaml.in/yaml/v3"
)

const serversExample, devExample = "examples/consul-servers.yaml", "examples/consul-dev.yaml"

var (
	someWhere = map[string]string{"Cluster": "consul", "VpcId": "vpc-0a1b2c3d", "Subnets": "subnet-0a1b2c3d,subnet-1a1b2c3d", "DesiredCount": "0"}
	openToAll = map[string]string{"ConsulTls": "DISABLED"}
)

// The lab runs the servers at addresses of its own. This is how they are on ECS, where none is said.
func TestConsulTakesTheServersConfiguration(t *testing.T) {
	e := startEmulator(t)
	for name, test := range map[string]struct {
		params map[string]string
		want   []string
	}{
		"open":   {openToAll, []string{"grpc = 8502"}},
		"secure": {lockedDown(t, e), []string{"https = 8501", "grpc_tls = 8503", `default_policy = "deny"`}},
	} {
		t.Run(name, func(t *testing.T) {
			outputs := deployExample(t, e, serversExample, test.params)
			server := taskDefinition(t, e, outputs["TaskDefinition"])
			if role := aws.ToString(server.TaskRoleArn); role != "" {
				t.Errorf("a server has the role %s, and asks AWS nothing", role)
			}
			configuration := setting(t, server.ContainerDefinitions[0], "CONFIGURATION")
			for _, want := range append(test.want, `bind_addr = "{{ GetPrivateIP }}"`, `client_addr = "0.0.0.0"`, `retry_join = ["servers.consul-servers.internal"]`) {
				if !strings.Contains(configuration, want) {
					t.Errorf("no word of %s in\n%s", want, configuration)
				}
			}
			consul, err := tools.Consul()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "consul.hcl")
			// This host may have no address that Consul takes for a private one.
			if err := os.WriteFile(file, []byte(strings.Replace(configuration, "{{ GetPrivateIP }}", "127.0.0.1", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), consul, "validate", file).CombinedOutput(); err != nil {
				t.Errorf("consul validate: %v\n%s", err, out)
			}
		})
	}
}

// The name that servers look for is the one that Cloud Map keeps, in which all of them are.
func TestServersAreInCloudMap(t *testing.T) {
	example := readExample(t, serversExample)
	name := example.Resources["Discovery"].Properties.Name + "." + example.Resources["Namespace"].Properties.Name
	if want := "servers.${AWS::StackName}.internal"; name != want {
		t.Errorf("Cloud Map has %s, and servers look for %s", name, want)
	}
	if example.Resources["Service"].Properties.ServiceRegistries == nil {
		t.Error("the service is not in Cloud Map")
	}
}

// A new server first, and not two old ones at once.
func TestADeploymentReplacesOneServerAtATime(t *testing.T) {
	example := readExample(t, serversExample)
	percent := example.Resources["Service"].Properties.DeploymentConfiguration
	for _, count := range example.Parameters["DesiredCount"].AllowedValues {
		if most := count * percent.MaximumPercent / 100; count > 0 && (most != count+1 || percent.MinimumHealthyPercent != 100) {
			t.Errorf("of %d servers, ECS keeps %d%% and has %d at most", count, percent.MinimumHealthyPercent, most)
		}
	}
	percent = readExample(t, devExample).Resources["Service"].Properties.DeploymentConfiguration
	if percent.MaximumPercent != 100 || percent.MinimumHealthyPercent != 0 {
		t.Errorf("two servers that know nothing of each other may run at once: %+v", percent)
	}
}

func TestServersWithTLSNeedSecrets(t *testing.T) {
	e := startEmulator(t)
	whole := lockedDown(t, e)
	for _, missing := range []string{"ConsulCaParameterName", "ServerCertificateSecretArn", "ConsulManagementTokenSecretArn"} {
		params := with(someWhere, whole)
		delete(params, missing)
		_, err := e.Deploy(t.Context(), "consul-servers", filepath.Join(root(t), serversExample), nil, params)
		if want := "ConsulTls needs a " + missing; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a refusal that says %q", err, want)
		}
	}
}

// What the servers' stacks say of themselves is what the functions' stack asks.
func TestServersOutputsAreParameters(t *testing.T) {
	e := startEmulator(t)
	for _, file := range []string{serversExample, devExample} {
		params := map[string]string{}
		if file == serversExample {
			params = openToAll
		}
		outputs := deployExample(t, e, file, params)
		if _, err := deployTo(t, e, nil, map[string]string{
			"ConsulServerClusterArn":  outputs["ConsulServerClusterArn"],
			"ConsulServerServiceName": outputs["ConsulServerServiceName"],
			"VpcSubnetIds":            someWhere["Subnets"],
			"VpcSecurityGroupIds":     outputs["ClientSecurityGroups"],
		}); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// ECS reads for a server what that needs, and nothing else.
func TestServersSecretsAreReadByTheirRole(t *testing.T) {
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), EnforceIAM: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Stop() })
	params := lockedDown(t, e)
	outputs := deployExample(t, e, serversExample, params)
	server := taskDefinition(t, e, outputs["TaskDefinition"])
	given, err := e.AssumeRole(t.Context(), emulator.ECSTasks, aws.ToString(server.ExecutionRoleArn), "server")
	if err != nil {
		t.Fatal(err)
	}
	secrets, parameters := secretsmanager.NewFromConfig(e.ConfigAs(given)), ssm.NewFromConfig(e.ConfigAs(given))
	for _, secret := range server.ContainerDefinitions[0].Secrets {
		from := aws.ToString(secret.ValueFrom)
		if _, name, ok := strings.Cut(from, ":parameter"); ok {
			_, err = parameters.GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{name}})
		} else {
			_, err = secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &from})
		}
		if err != nil {
			t.Errorf("%s: %v", aws.ToString(secret.Name), err)
		}
	}
	if _, err := secrets.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(keep(t, e, "another"))}); err == nil {
		t.Error("another secret: it is read, too")
	}
	if _, err := parameters.GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{"/another"}}); err == nil {
		t.Error("another parameter: it is read, too")
	}
}

// lockedDown are the parameters of servers with TLS and ACLs, and what they refer to.
func lockedDown(t *testing.T, e *emulator.Emulator) map[string]string {
	t.Helper()
	const ca = "/ecsmesh/consul-ca"
	_, err := ssm.NewFromConfig(e.Config()).PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String(ca), Value: aws.String("a CA"), Type: "String"})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"ConsulCaParameterName":          ca,
		"ServerCertificateSecretArn":     keep(t, e, "certificate"),
		"ConsulManagementTokenSecretArn": keep(t, e, "token"),
	}
}

// keep makes a secret.
func keep(t *testing.T, e *emulator.Emulator, name string) (arn string) {
	t.Helper()
	out, err := secretsmanager.NewFromConfig(e.Config()).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &name, SecretString: aws.String("a secret")})
	if err != nil {
		t.Fatal(err)
	}
	return aws.ToString(out.ARN)
}

func deployExample(t *testing.T, e *emulator.Emulator, file string, params map[string]string) map[string]string {
	t.Helper()
	stack := strings.TrimSuffix(filepath.Base(file), ".yaml")
	outputs, err := e.Deploy(t.Context(), stack, filepath.Join(root(t), file), nil, with(someWhere, params))
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

func taskDefinition(t *testing.T, e *emulator.Emulator, arn string) *types.TaskDefinition {
	t.Helper()
	out, err := ecs.NewFromConfig(e.Config()).DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{TaskDefinition: &arn})
	if err != nil {
		t.Fatal(err)
	}
	return out.TaskDefinition
}

func setting(t *testing.T, container types.ContainerDefinition, name string) string {
	t.Helper()
	for _, v := range container.Environment {
		if aws.ToString(v.Name) == name {
			return aws.ToString(v.Value)
		}
	}
	t.Fatalf("%s has no variable %s", aws.ToString(container.Name), name)
	return ""
}

// example is what the tests read of one as it is written, without CloudFormation's functions.
type example struct {
	Parameters map[string]struct {
		AllowedValues numbers `yaml:"AllowedValues"`
	} `yaml:"Parameters"`
	Resources map[string]struct {
		Properties struct {
			Name                    string `yaml:"Name"`
			ServiceRegistries       any    `yaml:"ServiceRegistries"`
			DeploymentConfiguration struct {
				MinimumHealthyPercent int `yaml:"MinimumHealthyPercent"`
				MaximumPercent        int `yaml:"MaximumPercent"`
			} `yaml:"DeploymentConfiguration"`
		} `yaml:"Properties"`
	} `yaml:"Resources"`
}

// numbers are a parameter's allowed values where they are numbers.
type numbers []int

func (n *numbers) UnmarshalYAML(node *yaml.Node) error {
	var all []int
	if err := node.Decode(&all); err == nil {
		*n = all
	}
	return nil
}

func readExample(t *testing.T, file string) example {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root(t), file))
	if err != nil {
		t.Fatal(err)
	}
	var e example
	if err := yaml.Unmarshal(content, &e); err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	return e
}
