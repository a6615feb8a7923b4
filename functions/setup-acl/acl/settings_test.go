package acl

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const account = "arn:aws:iam::123456789012:"

// settings are valid.
func settings() Settings {
	return Settings{
		TasksMethod:     "iam-ecs-service-token",
		TaskRoles:       []string{account + "role/mesh/*", "arn:aws:iam::111122223333:role/web"},
		TaskTokenTTL:    time.Hour,
		FunctionsMethod: "ecsmesh-functions",
		FunctionRoles: map[string]string{
			DeploymentHook:  account + "role/ecsmesh-DeploymentHookRole-4D",
			DeregisterTasks: account + "role/ecsmesh-DeregisterTasksRole-1A",
			Sweep:           account + "role/ecsmesh-SweepRole-2B",
			PublishServers:  account + "role/ecsmesh-PublishServersRole-3C",
		},
		ShiftedServices: []string{"api", "ledger"},
		ServerID:        "consul.example.com",
	}
}

func TestSettings(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Settings)
		want   string // "" for valid
	}{
		"as they are":                  {func(*Settings) {}, ""},
		"China":                        {func(s *Settings) { s.TaskRoles = []string{"arn:aws-cn:iam::123456789012:role/*"} }, ""},
		"a path":                       {func(s *Settings) { s.TaskRoles = []string{account + "role/a/b-*"} }, ""},
		"the shortest life":            {func(s *Settings) { s.TaskTokenTTL = time.Minute }, ""},
		"the longest life":             {func(s *Settings) { s.TaskTokenTTL = 24 * time.Hour }, ""},
		"endpoints of an emulator":     {func(s *Settings) { s.STSEndpoint, s.IAMEndpoint = "http://127.0.0.1:4566", "http://127.0.0.1:4566" }, ""},
		"a method without a name":      {func(s *Settings) { s.TasksMethod = "" }, `the auth method for tasks is called "", want`},
		"a method's name with a slash": {func(s *Settings) { s.FunctionsMethod = "a/b" }, `the auth method for functions is called "a/b", want`},
		"one name for both":            {func(s *Settings) { s.FunctionsMethod = s.TasksMethod }, "want two names"},
		"no tasks":                     {func(s *Settings) { s.TaskRoles = nil }, "no IAM role of tasks is given"},
		"everybody":                    {func(s *Settings) { s.TaskRoles = []string{"*"} }, `"*" is no role's ARN`},
		"a list that is empty":         {func(s *Settings) { s.TaskRoles = []string{""} }, `"" is no role's ARN`},
		"a user":                       {func(s *Settings) { s.TaskRoles = []string{account + "user/joe"} }, "is no role's ARN"},
		"a session":                    {func(s *Settings) { s.TaskRoles = []string{"arn:aws:sts::123456789012:assumed-role/web/1"} }, "is no role's ARN"},
		"any account":                  {func(s *Settings) { s.TaskRoles = []string{"arn:aws:iam::*"} }, "is no role's ARN"},
		"a wildcard in between":        {func(s *Settings) { s.TaskRoles = []string{account + "role/*/web"} }, "is no role's ARN"},
		"two wildcards":                {func(s *Settings) { s.TaskRoles = []string{account + "role/**"} }, "is no role's ARN"},
		"too short a life":             {func(s *Settings) { s.TaskTokenTTL = time.Second }, "to live for 1s, want 1m0s to 24h0m0s"},
		"too long a life":              {func(s *Settings) { s.TaskTokenTTL = 25 * time.Hour }, "to live for 25h0m0s"},
		"a function that needs none":   {func(s *Settings) { s.FunctionRoles["setup-acl"] = account + "role/a" }, `the function "setup-acl" needs nothing of Consul`},
		"a service of rules":           {func(s *Settings) { s.ShiftedServices = []string{`a" {}`} }, "is no name in Consul"},
		"many functions":               {func(s *Settings) { s.FunctionRoles[Sweep] = account + "role/*" }, "of the function sweep is no role's ARN"},
		"an endpoint without a scheme": {func(s *Settings) { s.STSEndpoint = "sts.amazonaws.com" }, `the endpoint of STS is "sts.amazonaws.com"`},
		"an endpoint with a path":      {func(s *Settings) { s.IAMEndpoint = "https://iam.amazonaws.com/" }, "the endpoint of IAM is"},
		"two faults": {func(s *Settings) { s.TaskRoles, s.TaskTokenTTL = nil, 0 },
			"no IAM role of tasks is given, want the ARN of one at least\nthe tokens of tasks are to live for 0s, want 1m0s to 24h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			s := settings()
			test.change(&s)
			switch err := s.Validate(); {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestStack(t *testing.T) {
	s := stack(t, "aws", "eu-west-1", "ecsmesh")
	anew, err := ParseStack("arn:aws:cloudformation:eu-west-1:123456789012:stack/ecsmesh/another")
	if err != nil || anew.mark() != s.mark() {
		t.Errorf("a stack that was created anew is marked %q, want %q; %v", anew.mark(), s.mark(), err)
	}
	for _, other := range []Stack{
		stack(t, "aws", "eu-west-1", "my-ecsmesh"), stack(t, "aws", "eu-west-1", "ecsmesh-2"), stack(t, "aws", "eu-west-2", "ecsmesh"),
	} {
		if s.made("A role. "+other.mark()) || other.made("A role. "+s.mark()) {
			t.Errorf("%q and %q pass for one", s.mark(), other.mark())
		}
	}
	for _, id := range []string{"", "ecsmesh", "arn:aws:cloudformation:eu-west-1:123456789012:stack/ecsmesh", "arn:aws:iam::123456789012:role/a/b/c"} {
		if s, err := ParseStack(id); err == nil {
			t.Errorf("%q was read as %v", id, s)
		}
	}
}

// Consul itself finds only what is under amazonaws.com.
func TestEndpointsOfEachPartition(t *testing.T) {
	const sts, iam = "STSEndpoint", "IAMEndpoint"
	own := settings()
	own.STSEndpoint = "https://vpce-1.sts.cn-northwest-1.vpce.amazonaws.com.cn"
	for name, test := range map[string]struct {
		stack    Stack
		settings Settings
		want     map[string]any
	}{
		"aws":        {stack(t, "aws", "eu-west-1", "a"), settings(), map[string]any{}},
		"aws-us-gov": {stack(t, "aws-us-gov", "us-gov-west-1", "a"), settings(), map[string]any{}},
		"aws-cn": {stack(t, "aws-cn", "cn-northwest-1", "a"), settings(), map[string]any{
			sts: "https://sts.cn-northwest-1.amazonaws.com.cn", iam: "https://iam.cn-north-1.amazonaws.com.cn"}},
		"aws-cn, by an endpoint of one's own": {stack(t, "aws-cn", "cn-northwest-1", "a"), own, map[string]any{
			sts: own.STSEndpoint, iam: "https://iam.cn-north-1.amazonaws.com.cn"}},
	} {
		got := test.settings.login(test.stack, map[string]any{})
		delete(got, "ServerIDHeaderValue")
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func stack(t *testing.T, partition, region, name string) Stack {
	t.Helper()
	s, err := ParseStack("arn:" + partition + ":cloudformation:" + region + ":123456789012:stack/" + name + "/6c4d3f10-c9a5-11f0-b9e2-0a1b2c3d4e5f")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
