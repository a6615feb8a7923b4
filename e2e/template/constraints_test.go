package template

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// constraints are what CloudFormation holds parameters to before it makes anything.
type constraints struct {
	Parameters map[string]struct {
		AllowedPattern        string
		AllowedValues         []any
		MinValue, MaxValue    *int
		ConstraintDescription string
	}
	Rules map[string]struct {
		Assertions []struct{ AssertDescription string }
	}
}

// mistakes are values that would deploy, and fail later. Each is refused with the words that say what to do.
var mistakes = []struct {
	name   string
	params map[string]string
	want   string
}{
	{"no servers", map[string]string{"ConsulServerClusterArn": "", "ConsulServerServiceName": ""}, "Say in one way where the Consul servers are"},
	{"a cluster's name", map[string]string{"ConsulServerClusterArn": "consul"}, "must be the ARN of an ECS cluster"},
	{"a service's ARN", map[string]string{"ConsulServerServiceName": "arn:aws:ecs:eu-west-1:123456789012:service/mesh/consul"}, "not its ARN"},
	{"a seed's URL", seeds("http://consul.example.com"), "without ports"},
	{"a seed's port", seeds("10.0.1.10:8500"), "without ports"},
	{"seeds that nobody asks", with(seeds("10.0.1.10"), map[string]string{"PublishServersScheduleState": "DISABLED", "SweepScheduleState": "DISABLED"}), "only a schedule finds them"},
	{"gRPC's port", map[string]string{"ConsulHttpPort": "8502"}, "Set the one of its HTTP interface"},
	{"the servers' RPC port", map[string]string{"ConsulHttpPort": "8300"}, "Set the one of its HTTP interface"},
	{"HTTP at HTTPS's port", map[string]string{"ConsulHttpPort": "8501"}, "Set ConsulTls to ENABLED"},
	{"a partition in capitals", map[string]string{"ConsulPartition": "Web"}, "must be the name of a partition"},
	{"a list without its slash", map[string]string{"ServersParameterName": "ecsmesh/consul-servers"}, "as a path"},
	{"a list in AWS's names", map[string]string{"ServersParameterName": "/aws/consul-servers"}, "not under /aws or /ssm"},
	{"a list in SSM's names", map[string]string{"ServersParameterName": "/SSM/consul-servers"}, "not under /aws or /ssm"},
	{"a list in the CA's parameter", with(withTLS, map[string]string{"ServersParameterName": "/ecsmesh/consul-ca"}), "give the CA a parameter of its own"},
	{"a macro without an image", map[string]string{"MeshTaskMacroName": "EcsMesh"}, "A MeshTaskMacroName needs an InitImage"},
	{"a macro's name with a dash", with(withMacro, map[string]string{"MeshTaskMacroName": "ecs-mesh"}), "must be up to 64 letters and digits"},
	{"an image with a space", with(withMacro, map[string]string{"InitImage": "a b"}), "must be the name of an image"},
	{"a topic's name", map[string]string{"AlarmTopicArn": "alarms"}, "must be the ARN of an SNS topic"},
	{"a service in capitals", with(withHook, map[string]string{"DeploymentHookServices": "Web"}), "must be names of services in Consul"},
	{"services to shift without a hook", map[string]string{"DeploymentHookServices": "web"}, "Set DeploymentHook to ENABLED"},
	{"a wait of no time", with(withHook, map[string]string{"DeploymentHookLimitMinutes": "0"}), "must be a number of minutes from 1 to 1440"},
	{"TLS without a CA", map[string]string{"ConsulTls": "ENABLED"}, "ConsulTls needs a ConsulCaParameterName"},
	{"TLS with the CA's secret alone", map[string]string{"ConsulTls": "ENABLED", "ConsulCaSecretArn": caSecret}, "ConsulTls needs a ConsulCaParameterName"},
	{"a CA without TLS", map[string]string{"ConsulCaParameterName": "/ecsmesh/consul-ca"}, "Set ConsulTls to ENABLED"},
	{"a CA's secret without TLS", map[string]string{"ConsulCaSecretArn": caSecret}, "Set ConsulTls to ENABLED"},
	{"a server name without TLS", map[string]string{"ConsulTlsServerName": "consul.example.com"}, "Set ConsulTls to ENABLED"},
	{"a CA's file", with(withTLS, map[string]string{"ConsulCaParameterName": "consul-agent-ca.pem"}), "as a path"},
	{"a CA in AWS's names", with(withTLS, map[string]string{"ConsulCaParameterName": "/aws/consul-ca"}), "/aws/reference/secretsmanager/consul-ca"},
	{"a CA's secret by its name", with(withTLS, map[string]string{"ConsulCaSecretArn": "consul-ca"}), "must be the whole ARN of a secret"},
	{"a server's URL", with(withTLS, map[string]string{"ConsulTlsServerName": "https://consul.example.com"}), "must be a DNS name"},
	{"ACLs without roles", map[string]string{"ConsulManagementTokenSecretArn": withACLs["ConsulManagementTokenSecretArn"]}, "needs TaskRoleArns"},
	{"roles without ACLs", map[string]string{"TaskRoleArns": withACLs["TaskRoleArns"]}, "Set that, too, or leave them empty"},
	{"a server's ID without ACLs", map[string]string{"LoginServerId": "here"}, "Set that, too, or leave them empty"},
	{"an endpoint without ACLs", map[string]string{"StsEndpoint": "https://sts.eu-west-1.amazonaws.com"}, "Set that, too, or leave them empty"},
	{"the token itself", with(withACLs, map[string]string{"ConsulManagementTokenSecretArn": "8a1e3a52-3cbb-4d4c-8f3e-0c6a5a0b7f6c"}), "must be the whole ARN of a secret"},
	{"a token's secret by half of its ARN", with(withACLs, map[string]string{"ConsulManagementTokenSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-token"}), "must be the whole ARN of a secret"},
	{"a field of the token's secret", with(withACLs, map[string]string{"ConsulManagementTokenSecretArn": withACLs["ConsulManagementTokenSecretArn"] + ":SecretID::"}), "must be the whole ARN of a secret"},
	{"a role's name", with(withACLs, map[string]string{"TaskRoleArns": "web"}), "must be ARNs of IAM roles"},
	{"a user", with(withACLs, map[string]string{"TaskRoleArns": "arn:aws:iam::123456789012:user/joe"}), "must be ARNs of IAM roles"},
	{"a role without a name", with(withACLs, map[string]string{"TaskRoleArns": "arn:aws:iam::123456789012:role/"}), "must be ARNs of IAM roles"},
	{"a role's session", with(withACLs, map[string]string{"TaskRoleArns": "arn:aws:sts::123456789012:assumed-role/web/task"}), "must be ARNs of IAM roles"},
	{"a * in the middle", with(withACLs, map[string]string{"TaskRoleArns": "arn:aws:iam::123456789012:role/*/web"}), "a * at most at the end"},
	{"a * for the account", with(withACLs, map[string]string{"TaskRoleArns": "arn:aws:iam::*:role/web"}), "a * at most at the end"},
	{"one method for both", with(withACLs, map[string]string{"FunctionsAuthMethod": "iam-ecs-service-token"}), "an auth method of its own"},
	{"a method with spaces", with(withACLs, map[string]string{"TasksAuthMethod": "my tasks"}), "letters, digits, - and _"},
	{"a method without a name", with(withACLs, map[string]string{"FunctionsAuthMethod": ""}), "letters, digits, - and _"},
	{"a server's ID with a space", with(withACLs, map[string]string{"LoginServerId": "my mesh"}), "must be letters, digits"},
	{"an endpoint with a slash", with(withACLs, map[string]string{"StsEndpoint": "https://sts.eu-west-1.amazonaws.com/"}), "without a path"},
	{"an endpoint without a scheme", with(withACLs, map[string]string{"StsEndpoint": "sts.eu-west-1.amazonaws.com"}), "must be a URL"},
	{"an endpoint with a path", with(withACLs, map[string]string{"IamEndpoint": "https://iam.amazonaws.com/x"}), "without a path"},
	{"subnets alone", map[string]string{"VpcSubnetIds": inVPC["VpcSubnetIds"]}, "Set both, or leave both empty"},
	{"security groups alone", map[string]string{"VpcSecurityGroupIds": inVPC["VpcSecurityGroupIds"]}, "Set both, or leave both empty"},
	{"a subnet's name", with(inVPC, map[string]string{"VpcSubnetIds": "private-a"}), "must be IDs of subnets"},
	{"subnets with a gap", with(inVPC, map[string]string{"VpcSubnetIds": "subnet-0a1b2c3d subnet-1a1b2c3d"}), "separated by commas"},
	{"a group's name", with(inVPC, map[string]string{"VpcSecurityGroupIds": "consul-clients"}), "must be IDs of security groups"},
	{"a large batch without a window", map[string]string{"TaskEventsBatchSize": "11"}, "TaskEventsBatchingWindowSeconds of at least 1"},
	{"the largest batch without a window", map[string]string{"TaskEventsBatchSize": "10000"}, "TaskEventsBatchingWindowSeconds of at least 1"},
	{"a schedule in words", map[string]string{"SweepScheduleExpression": "every 5 minutes"}, "rate(5 minutes)"},
	{"a rate without a unit", map[string]string{"PublishServersScheduleExpression": "rate(5)"}, "rate(5 minutes)"},
	{"a rate in seconds", map[string]string{"SweepScheduleExpression": "rate(30 seconds)"}, "rate(5 minutes)"},
	{"no rate at all", map[string]string{"SweepScheduleExpression": "rate(0 minutes)"}, "rate(5 minutes)"},
	{"Unix's cron", map[string]string{"SweepScheduleExpression": "cron(*/5 * * * *)"}, "six fields"},
	{"two days in one cron", map[string]string{"SweepScheduleExpression": "cron(*/5 * * * * *)"}, "with ? for the day"},
	{"a moment", map[string]string{"PublishServersScheduleExpression": "at(2030-01-01T00:00:00)"}, "rate(5 minutes)"},
}

const caSecret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-ca-a1B2c3"

func seeds(addresses string) map[string]string {
	return map[string]string{"ConsulServerClusterArn": "", "ConsulServerServiceName": "", "ConsulSeedAddresses": addresses}
}

func TestMistakesAreRefused(t *testing.T) {
	checker := startChecker(t)
	said := map[string]bool{}
	refuse := func(t *testing.T, params map[string]string, want string) {
		t.Helper()
		err := checker.check(t, with(inECS, params))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a refusal that says %q", err, want)
			return
		}
		for _, description := range checker.descriptions() {
			if strings.Contains(err.Error(), description) {
				said[description] = true
			}
		}
	}
	for _, mistake := range mistakes {
		t.Run(mistake.name, func(t *testing.T) { refuse(t, mistake.params, mistake.want) })
	}
	// What is a number or one of a few words is held to it by CloudFormation alone.
	for name, parameter := range checker.Parameters {
		t.Run(name, func(t *testing.T) {
			if len(parameter.AllowedValues) > 0 {
				refuse(t, map[string]string{name: "-1"}, name)
			}
			if parameter.MinValue != nil {
				refuse(t, map[string]string{name: fmt.Sprint(*parameter.MinValue - 1)}, parameter.ConstraintDescription)
			}
			if parameter.MaxValue != nil {
				refuse(t, map[string]string{name: fmt.Sprint(*parameter.MaxValue + 1)}, parameter.ConstraintDescription)
			}
			constrained := parameter.AllowedPattern != "" || len(parameter.AllowedValues) > 0 || parameter.MinValue != nil && parameter.MaxValue != nil
			if !constrained {
				t.Error("the template takes anything for it")
			}
			if len(parameter.AllowedValues) == 0 && parameter.ConstraintDescription == "" {
				t.Error("no ConstraintDescription says what to do")
			}
		})
	}
	for _, description := range checker.descriptions() {
		if !said[description] {
			t.Errorf("no mistake of the test's is refused with: %s", description)
		}
	}
}

func TestWhatIsRightIsNotRefused(t *testing.T) {
	checker := startChecker(t)
	for name, params := range map[string]map[string]string{
		"the least":         nil,
		"seeds":             seeds(outsideOfECS["ConsulSeedAddresses"]),
		"one schedule":      with(seeds("consul.example.com"), map[string]string{"PublishServersScheduleState": "DISABLED"}),
		"no schedules":      {"PublishServersScheduleState": "DISABLED", "SweepScheduleState": "DISABLED"},
		"a VPC":             inVPC,
		"TLS":               with(withTLS, map[string]string{"ConsulHttpPort": "8501", "ConsulTlsServerName": "consul.example.com"}),
		"a secret's CA":     {"ConsulTls": "ENABLED", "ConsulCaParameterName": "/aws/reference/secretsmanager/consul-ca", "ConsulCaSecretArn": caSecret},
		"ACLs":              withACLs,
		"every role":        with(withACLs, map[string]string{"TaskRoleArns": "arn:aws-cn:iam::123456789012:role/*, arn:aws:iam::123456789012:role/mesh/web"}),
		"endpoints":         with(withACLs, map[string]string{"StsEndpoint": "https://sts.eu-west-1.amazonaws.com", "IamEndpoint": "http://127.0.0.1:4566", "LoginServerId": "here"}),
		"one minute":        {"SweepScheduleExpression": "rate(1 minute)"},
		"cron":              {"SweepScheduleExpression": "cron(0/5 8-18 ? * MON-FRI *)", "PublishServersScheduleExpression": "cron(15 10 L * ? 2026-2030)"},
		"the largest batch": {"TaskEventsBatchSize": "10000", "TaskEventsBatchingWindowSeconds": "120"},
		"another list":      {"ServersParameterName": "/mesh.prod/consul_servers-1"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checker.check(t, with(inECS, params)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Within the parameters' bounds, no event is taken for failed while it is handled, or ends in its queue unseen.
func TestEventsOutlastTheirTries(t *testing.T) {
	e := expand(t)
	bounds := startChecker(t).Parameters
	visibility, receives, window := bounds["TaskEventsVisibilityTimeoutSeconds"], bounds["TaskEventsMaxReceives"], bounds["TaskEventsBatchingWindowSeconds"]
	timeout := properties[struct{ Timeout int }](t, e, "AWS::Lambda::Function")["DeregisterTasksFunction"].Timeout
	if least := max(6*timeout, timeout+*window.MaxValue); *visibility.MinValue < least {
		t.Errorf("the visibility timeout may be %d s, want at least %d", *visibility.MinValue, least)
	}
	queues := properties[struct{ MessageRetentionPeriod int }](t, e, "AWS::SQS::Queue")
	retention := queues["TaskEventsQueue"].MessageRetentionPeriod
	if longest := *visibility.MaxValue * *receives.MaxValue; retention <= longest {
		t.Errorf("all tries may take %d s, and the queue keeps an event for %d", longest, retention)
	}
	if dead := queues["TaskEventsDeadLetterQueue"].MessageRetentionPeriod; dead < 2*retention {
		t.Errorf("the dead-letter queue keeps an event for %d s from its first day on, want twice the queue's %d", dead, retention)
	}
	if *receives.MinValue < 5 {
		t.Errorf("an event may be tried %d times, and AWS asks for 5", *receives.MinValue)
	}
}

// checker asks CloudFormation whether it takes parameters, and has nothing made.
type checker struct {
	constraints
	url string // of the template
	api *cloudformation.Client
}

func startChecker(t *testing.T) checker {
	t.Helper()
	e := startEmulator(t)
	template, err := os.ReadFile(expand(t).path)
	if err != nil {
		t.Fatal(err)
	}
	url, err := e.Upload(t.Context(), template)
	if err != nil {
		t.Fatal(err)
	}
	return checker{parse[constraints](t, template), url, cloudformation.NewFromConfig(e.Config())}
}

func (c checker) check(t *testing.T, params map[string]string) error {
	t.Helper()
	in := &cloudformation.CreateChangeSetInput{
		StackName: aws.String("checked"), ChangeSetName: aws.String("check"), ChangeSetType: types.ChangeSetTypeCreate,
		TemplateURL: aws.String(c.url), Capabilities: []types.Capability{types.CapabilityCapabilityIam},
	}
	for name, value := range params {
		in.Parameters = append(in.Parameters, types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(value)})
	}
	if _, err := c.api.CreateChangeSet(t.Context(), in); err != nil {
		return fmt.Errorf("create change set: %w", err)
	}
	// A stack in review takes another change set of the same kind once this one is gone.
	_, err := c.api.DeleteChangeSet(t.Context(), &cloudformation.DeleteChangeSetInput{StackName: in.StackName, ChangeSetName: in.ChangeSetName})
	if err != nil {
		t.Fatal(err)
	}
	return nil
}

// descriptions are all that the template says about mistakes, but for values that are not on a list.
func (c checker) descriptions() []string {
	all := map[string]bool{}
	for _, parameter := range c.Parameters {
		if len(parameter.AllowedValues) == 0 {
			all[parameter.ConstraintDescription] = true
		}
	}
	for _, rule := range c.Rules {
		for _, assertion := range rule.Assertions {
			all[assertion.AssertDescription] = true
		}
	}
	var list []string
	for description := range maps.Keys(all) {
		list = append(list, description)
	}
	return list
}
