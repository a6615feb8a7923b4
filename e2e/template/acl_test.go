package template

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/tools"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"
)

const aclResource = "ConsulAcl"

// CloudFormation has nothing done where no property has changed, even if a new version of the function would make
// something else of them.
func TestRevisionChangesWithWhatIsMade(t *testing.T) {
	var made []byte
	for _, name := range []string{"acl.json", "acl-client-agents.json"} {
		content, err := os.ReadFile(filepath.Join(root(t), "functions/setup-acl/acl/testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, content...)
	}
	hash := sha256.Sum256(made)
	want := hex.EncodeToString(hash[:4])
	var properties struct{ Revision string }
	if err := json.Unmarshal(expand(t).Resources[aclResource].Properties, &properties); err != nil {
		t.Fatal(err)
	}
	if properties.Revision != want {
		t.Errorf("%s has the Revision %q; what setup-acl makes has changed, so set it to %q", aclResource, properties.Revision, want)
	}
}

// The sample is what CloudFormation sends for the template's resource.
func TestAclResourceHasTheSamplesProperties(t *testing.T) {
	sample := readEvent(t, "setup-acl-create.json")
	v := variant{t: t, expanded: expand(t), params: with(inECS, withACLs)}
	if sample["LogicalResourceId"] != aclResource || sample["ResourceType"] != v.Resources[aclResource].Type {
		t.Errorf("the sample is for %v, a %v; want %s, a %s", sample["LogicalResourceId"], sample["ResourceType"], aclResource, v.Resources[aclResource].Type)
	}
	keys := func(object any) []string {
		var keys []string
		for key, value := range object.(map[string]any) {
			if _, list := value.([]any); list || key != "FunctionRoleArns" {
				keys = append(keys, key)
				continue
			}
			for function := range value.(map[string]any) {
				keys = append(keys, key+"."+function)
			}
		}
		slices.Sort(keys)
		return keys
	}
	if diff := cmp.Diff(keys(v.resource(aclResource)), keys(sample["ResourceProperties"])); diff != "" {
		t.Errorf("properties (-template +sample):\n%s", diff)
	}
	if v := (variant{t: t, expanded: v.expanded, params: inECS}); v.resource(aclResource) != nil {
		t.Errorf("%s is made without a management token", aclResource)
	}
}

// Every function is told the same of how Consul is reached.
func TestFunctionsReachConsulAsTheParametersSay(t *testing.T) {
	e := startEmulator(t)
	for _, test := range []struct {
		name   string
		params map[string]string
		want   map[string]string
	}{
		{"plain", nil, map[string]string{"CONSUL_HTTP_SSL": "false", "CONSUL_HTTP_PORT": "8500"}},
		{"plain, at another port", map[string]string{"ConsulHttpPort": "80"}, map[string]string{"CONSUL_HTTP_SSL": "false", "CONSUL_HTTP_PORT": "80"}},
		{"TLS", withTLS, map[string]string{"CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_PORT": "8501", "CONSUL_CACERT_PARAMETER": "/ecsmesh/consul-ca"}},
		{
			"TLS, at another port and by another name",
			with(withTLS, map[string]string{"ConsulHttpPort": "443", "ConsulTlsServerName": "consul.example.com"}),
			map[string]string{"CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_PORT": "443", "CONSUL_CACERT_PARAMETER": "/ecsmesh/consul-ca", "CONSUL_TLS_SERVER_NAME": "consul.example.com"},
		},
		{"plain, in a partition", map[string]string{"ConsulPartition": "east"}, map[string]string{"CONSUL_HTTP_SSL": "false", "CONSUL_HTTP_PORT": "8500", "CONSUL_PARTITION": "east"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			outputs, err := deployTo(t, e, nil, with(inECS, test.params))
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"PublishServersFunction", "DeregisterTasksFunction", "SweepFunction"} {
				got := configuration(t, e, outputs[id]).Environment.Variables
				for _, name := range []string{
					"CONSUL_HTTP_SSL", "CONSUL_HTTP_PORT", "CONSUL_CACERT_PARAMETER", "CONSUL_TLS_SERVER_NAME", "CONSUL_LOGIN_METHOD", "CONSUL_LOGIN_SERVER_ID", "CONSUL_PARTITION",
				} {
					if got[name] != test.want[name] {
						t.Errorf("%s has %s=%q, want %q", id, name, got[name], test.want[name])
					}
				}
			}
		})
	}
}

// secure is a stack whose functions are real, its Consul, which denies by default, and an AWS that enforces IAM.
type secure struct {
	consul *consultest.Server
	aws    *emulator.Emulator
	code   map[string]string
	params map[string]string
}

func startSecure(t *testing.T) secure {
	t.Helper()
	s := secure{consul: consultest.StartSecure(t), code: map[string]string{}}
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir(), EnforceIAM: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	s.aws = e
	for id, folder := range sources {
		bootstrap, err := tools.Dist(filepath.Base(folder) + "/bootstrap")
		if err != nil {
			t.Fatal(err)
		}
		s.code[id] = filepath.Dir(bootstrap)
	}
	_, err = ssm.NewFromConfig(e.Config()).PutParameter(t.Context(), &ssm.PutParameterInput{
		Name: aws.String("/ecsmesh/consul-ca"), Value: aws.String(s.consul.CA), Type: ssmtypes.ParameterTypeString,
	})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := secretsmanager.NewFromConfig(e.Config()).CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String("consul-bootstrap"), SecretString: aws.String(s.consul.Token),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.params = with(withTLS, map[string]string{
		"ConsulSeedAddresses":            s.consul.Addr.String(),
		"ConsulManagementTokenSecretArn": aws.ToString(secret.ARN),
		"TaskRoleArns":                   "arn:aws:iam::" + emulator.AccountID + ":role/mesh/*,arn:aws:iam::111122223333:role/mesh/*",
		"LoginServerId":                  "here",
		"StsEndpoint":                    e.URL(),
		"IamEndpoint":                    e.URL(),
	})
	return s
}

// methods are the auth methods that Consul has, and the life of the tokens that they give.
func (s secure) methods(t *testing.T) map[string]time.Duration {
	t.Helper()
	methods, _, err := s.consul.Client.ACL().AuthMethodList(nil)
	if err != nil {
		t.Fatal(err)
	}
	lives := map[string]time.Duration{}
	for _, method := range methods {
		lives[method.Name] = method.MaxTokenTTL
	}
	return lives
}

// delete deletes the stack and waits until it is gone.
func (s secure) delete(t *testing.T) {
	t.Helper()
	api, name := cloudformation.NewFromConfig(s.aws.Config()), aws.String(stack)
	if _, err := api.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: name}); err != nil {
		t.Fatal(err)
	}
	gone := cloudformation.NewStackDeleteCompleteWaiter(api, func(o *cloudformation.StackDeleteCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	})
	if err := gone.Wait(t.Context(), &cloudformation.DescribeStacksInput{StackName: name}, 2*time.Minute); err != nil {
		t.Fatalf("delete the stack: %v", err)
	}
}

// The stack's life, with roles that may do no more than the template says.
func TestSecureStack(t *testing.T) {
	s := startSecure(t)
	outputs, err := deployTo(t, s.aws, s.code, s.params)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]time.Duration{"iam-ecs-service-token": time.Hour, "ecsmesh-functions": 15 * time.Minute}, s.methods(t)); diff != "" {
		t.Errorf("auth methods (-want +got):\n%s", diff)
	}
	if got := outputs["TasksAuthMethod"]; got != "iam-ecs-service-token" {
		t.Errorf("the output TasksAuthMethod is %q", got)
	}
	// Both log in: the one to ask Consul for its servers, the other also to read the mesh.
	for id, event := range map[string]string{"PublishServersFunction": "schedule.json", "SweepFunction": "schedule.json"} {
		s.invoke(t, outputs[id], event)
	}
	list, err := ssm.NewFromConfig(s.aws.Config()).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(outputs["ServersParameter"])})
	if err != nil {
		t.Fatal(err)
	}
	if got := aws.ToString(list.Parameter.Value); got != s.consul.Addr.String() {
		t.Errorf("the list is %s, want %s", got, s.consul.Addr)
	}

	t.Run("updated", func(t *testing.T) {
		outputs, err := deployTo(t, s.aws, s.code, with(s.params, map[string]string{"TaskTokenTtlMinutes": "5", "FunctionsAuthMethod": "functions"}))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]time.Duration{"iam-ecs-service-token": 5 * time.Minute, "functions": 15 * time.Minute}, s.methods(t)); diff != "" {
			t.Errorf("auth methods (-want +got):\n%s", diff)
		}
		s.invoke(t, outputs["SweepFunction"], "schedule.json")
	})
	t.Run("deleted", func(t *testing.T) {
		s.delete(t)
		if left := s.methods(t); len(left) > 0 {
			t.Errorf("left are the auth methods %v", left)
		}
	})
}

func (s secure) invoke(t *testing.T, function, event string) {
	t.Helper()
	out, err := lambda.NewFromConfig(s.aws.Config()).Invoke(t.Context(), &lambda.InvokeInput{
		FunctionName: aws.String(function), Payload: []byte(toJSON(t, readEvent(t, event))),
	})
	if err != nil {
		t.Fatal(err)
	}
	if out.FunctionError != nil {
		t.Fatalf("%s failed: %s", function, out.Payload)
	}
}

// CloudFormation shows the reason, and can undo what was begun.
func TestSecureStackThatFails(t *testing.T) {
	s := startSecure(t)
	for _, test := range []struct {
		name   string
		params map[string]string
		want   string
	}{
		{"no CA", map[string]string{"ConsulCaParameterName": "/ecsmesh/missing"}, "/ecsmesh/missing"},
		{"no secret", map[string]string{"ConsulManagementTokenSecretArn": "arn:aws:secretsmanager:us-east-1:000000000000:secret:missing-a1B2c3"}, "read the management token"},
		{"another server name", map[string]string{"ConsulTlsServerName": "consul.example.com"}, "CONSUL_TLS_SERVER_NAME"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := deployTo(t, s.aws, s.code, with(s.params, test.params))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), aclResource+" CREATE_FAILED") {
				t.Errorf("got %v, want a failure that says %q", err, test.want)
			}
			s.delete(t)
			if left := s.methods(t); len(left) > 0 {
				t.Errorf("left are the auth methods %v", left)
			}
		})
	}
}

// The right to force agents to leave, and its use, are for stacks that want it.
func TestClientAgentsAreNotForAll(t *testing.T) {
	for choice, want := range map[string]string{"DISABLED": "false", "ENABLED": "true"} {
		v := variant{t: t, expanded: expand(t), params: with(inECS, withACLs, map[string]string{"ClientAgents": choice})}
		for _, function := range []string{"DeregisterTasksFunction", "SweepFunction"} {
			environment := v.resource(function)["Environment"].(map[string]any)["Variables"].(map[string]any)
			if environment["FORCE_LEAVE"] != want {
				t.Errorf("%s: %s has FORCE_LEAVE=%v", choice, function, environment["FORCE_LEAVE"])
			}
		}
		if got := v.resource(aclResource)["ClientAgents"]; got != want {
			t.Errorf("%s: %s has ClientAgents %v", choice, aclResource, got)
		}
	}
	if standard := expand(t).Parameters["ClientAgents"].Default; standard != "DISABLED" {
		t.Errorf("by default it is %v", standard)
	}
}
