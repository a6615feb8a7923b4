package template

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/tools"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/go-cmp/cmp"
)

// The two ways to say where the Consul servers are, and what goes with both.
var (
	inECS        = map[string]string{"ConsulServerClusterArn": serverCluster, "ConsulServerServiceName": serverService}
	outsideOfECS = map[string]string{"ConsulSeedAddresses": "10.0.1.10, consul.example.com,2001:db8::a"}
	inVPC        = map[string]string{"VpcSubnetIds": "subnet-0a1b2c3d,subnet-1a1b2c3d", "VpcSecurityGroupIds": "sg-0a1b2c3d"}
	withTLS      = map[string]string{"ConsulTls": "ENABLED", "ConsulCaParameterName": "/ecsmesh/consul-ca"}
	withHook     = map[string]string{"DeploymentHook": "ENABLED", "DeploymentHookServices": "api,web"}
	withACLs     = map[string]string{
		"ConsulManagementTokenSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-bootstrap-a1B2c3",
		"TaskRoleArns":                   "arn:aws:iam::123456789012:role/mesh/*",
	}
	withMacro = map[string]string{"MeshTaskMacroName": "EcsMesh", "InitImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ecsmesh-init:1.0.0"}
)

func with(all ...map[string]string) map[string]string {
	union := map[string]string{}
	for _, params := range all {
		maps.Copy(union, params)
	}
	return union
}

// A stack may change from one way to the other.
func TestServersMayMove(t *testing.T) {
	e := startEmulator(t)
	for _, step := range []struct {
		name   string
		params map[string]string
		rules  []string
	}{
		{"servers in ECS", inECS, []string{meshRule, serverRule}},
		{"servers outside", outsideOfECS, []string{meshRule}},
		{"servers in ECS, in a VPC", with(inECS, inVPC), []string{meshRule, serverRule}},
		{"servers outside, in a VPC", with(outsideOfECS, inVPC), []string{meshRule}},
	} {
		t.Run(step.name, func(t *testing.T) {
			outputs, err := deployTo(t, e, nil, step.params)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(step.rules, slices.Sorted(maps.Keys(rulePatterns(t, e)))); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			for _, id := range []string{"PublishServersFunction", "SweepFunction"} {
				f := configuration(t, e, outputs[id])
				for parameter, variable := range map[string]string{
					"ConsulServerClusterArn":  "CONSUL_SERVER_CLUSTER",
					"ConsulServerServiceName": "CONSUL_SERVER_SERVICE",
					"ConsulSeedAddresses":     "CONSUL_SEED_ADDRESSES",
				} {
					if got, want := f.Environment.Variables[variable], step.params[parameter]; got != want {
						t.Errorf("%s has %s=%q, want %q", id, variable, got, want)
					}
				}
			}
			if got := sendersTo(t, e, outputs["UndeliveredEventsQueueUrl"]); len(got) != len(step.rules) {
				t.Errorf("undelivered events are taken from %v, want the %d rules", got, len(step.rules))
			}
		})
	}
}

func TestServersAreSaidInOneWay(t *testing.T) {
	e := startEmulator(t)
	const rule = "Say in one way where the Consul servers are"
	for name, test := range map[string]struct {
		params map[string]string
		want   string
	}{
		"not at all":                 {nil, rule},
		"the cluster alone":          {map[string]string{"ConsulServerClusterArn": serverCluster}, rule},
		"the service alone":          {map[string]string{"ConsulServerServiceName": serverService}, rule},
		"both ways":                  {with(inECS, outsideOfECS), rule},
		"a cluster with seeds":       {with(outsideOfECS, map[string]string{"ConsulServerClusterArn": serverCluster}), rule},
		"a service with seeds":       {with(outsideOfECS, map[string]string{"ConsulServerServiceName": serverService}), rule},
		"a cluster's name":           {with(inECS, map[string]string{"ConsulServerClusterArn": "consul"}), "must be the ARN of an ECS cluster"},
		"a service's ARN":            {with(inECS, map[string]string{"ConsulServerServiceName": "arn:aws:ecs:eu-west-1:123456789012:service/consul"}), "must be the name of an ECS service"},
		"a seed with a port":         {map[string]string{"ConsulSeedAddresses": "10.0.1.10,consul.example.com:8500"}, "without ports"},
		"a seed with a scheme":       {map[string]string{"ConsulSeedAddresses": "http://consul.example.com"}, "without ports"},
		"an IPv6 seed with brackets": {map[string]string{"ConsulSeedAddresses": "[2001:db8::a]"}, "without ports"},
		"seeds without commas":       {map[string]string{"ConsulSeedAddresses": "10.0.1.10 10.0.2.10"}, "without ports"},
		"an unfinished list":         {map[string]string{"ConsulSeedAddresses": "10.0.1.10,"}, "without ports"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := deployTo(t, e, nil, test.params); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a refusal that says %q", err, test.want)
			}
		})
	}
}

// The stack with the real function and a real Consul, which is no ECS task.
func TestServersOutsideOfECSArePublished(t *testing.T) {
	consul := consultest.Start(t)
	bootstrap, err := tools.Dist("publish-servers/bootstrap")
	if err != nil {
		t.Fatal(err)
	}
	e := startEmulator(t)
	outputs, err := deployTo(t, e,
		map[string]string{"PublishServersFunction": filepath.Dir(bootstrap)},
		map[string]string{"ConsulSeedAddresses": "127.255.255.1, " + consul.Addr.String()})
	if err != nil {
		t.Fatal(err)
	}
	out, err := lambda.NewFromConfig(e.Config()).Invoke(t.Context(), &lambda.InvokeInput{
		FunctionName: aws.String(outputs["PublishServersFunction"]),
		Payload:      []byte(toJSON(t, readEvent(t, "schedule.json"))),
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.FunctionError != nil {
		t.Fatalf("the function failed: %s", out.Payload)
	}
	list, err := ssm.NewFromConfig(e.Config()).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(outputs["ServersParameter"])})
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(list.Parameter.Value); got != consul.Addr.String() {
		t.Errorf("the list is %s, want %s", got, consul.Addr)
	}
}

func configuration(t *testing.T, e *emulator.Emulator, function string) *lambda.GetFunctionConfigurationOutput {
	t.Helper()
	f, err := lambda.NewFromConfig(e.Config()).GetFunctionConfiguration(t.Context(),
		&lambda.GetFunctionConfigurationInput{FunctionName: aws.String(function)})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// sendersTo are the ARNs whose messages a queue's policy lets in.
func sendersTo(t *testing.T, e *emulator.Emulator, queue string) []string {
	t.Helper()
	attributes, err := sqs.NewFromConfig(e.Config()).GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl:       aws.String(queue),
		AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNamePolicy},
	})
	if err != nil {
		t.Fatal(err)
	}
	var policy struct {
		Statement []struct {
			Condition struct {
				ArnEquals map[string][]string
			}
		}
	}
	if err := json.Unmarshal([]byte(attributes.Attributes["Policy"]), &policy); err != nil {
		t.Fatalf("read the policy of %s: %v", queue, err)
	}
	return policy.Statement[0].Condition.ArnEquals["aws:SourceArn"]
}
