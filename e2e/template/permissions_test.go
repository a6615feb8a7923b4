package template

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	vpcPolicy = "VpcPolicy"
	caPolicy  = "CaPolicy"
)

// roles are the functions' own.
var roles = map[string]string{
	"PublishServersFunction":  "PublishServersRole",
	"DeregisterTasksFunction": "DeregisterTasksRole",
	"SweepFunction":           "SweepRole",
	"DeploymentHookFunction":  "DeploymentHookRole",
	"SetupAclFunction":        "SetupAclRole",
	"MeshTaskFunction":        "MeshTaskRole",
}

type statement struct {
	Effect    string
	Action    oneOrMore
	Resource  any // a text, or a function of CloudFormation
	Condition map[string]any
}

type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	var one string
	if err := json.Unmarshal(data, &one); err == nil {
		*o = oneOrMore{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(o))
}

type policy struct {
	PolicyDocument struct{ Statement []statement }
}

type role struct {
	ManagedPolicyArns []struct{ Ref string }
	Policies          []policy
}

func (r role) has(policy string) bool {
	return slices.Contains(r.ManagedPolicyArns, struct{ Ref string }{policy})
}

// A role may do what its function does in this variant, and where it can be said, only to what is the stack's.
func TestRolesMayDoWhatIsNeeded(t *testing.T) {
	e := expand(t)
	var (
		log   = []string{"logs:CreateLogStream", "logs:PutLogEvents"}
		list  = []string{"ssm:GetParameter", "ssm:PutParameter"}
		queue = []string{"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
		tasks = []string{"ecs:DescribeTasks", "ecs:ListTasks"}
		token = []string{"kms:Decrypt", "secretsmanager:GetSecretValue"}
	)
	const (
		publish, deregister = "PublishServersFunction", "DeregisterTasksFunction"
		sweep, setup        = "SweepFunction", "SetupAclFunction"
		meshTask            = "MeshTaskFunction"
		hook                = "DeploymentHookFunction"
	)
	for name, test := range map[string]struct {
		params    map[string]string
		ecs       map[string][]string // what functions may ask ECS
		inVPC     []string            // the functions there
		readTheCA []string            // the functions that may
		acls      bool
		macro     bool
		hook      bool
	}{
		"servers in ECS": {
			params: inECS, ecs: map[string][]string{publish: tasks, sweep: tasks},
		},
		"servers in ECS, in a VPC": {
			params: with(inECS, inVPC), ecs: map[string][]string{publish: tasks, sweep: tasks},
			inVPC: []string{deregister, sweep},
		},
		"servers outside": {
			params: outsideOfECS, ecs: map[string][]string{sweep: tasks},
		},
		"servers outside, in a VPC": {
			params: with(outsideOfECS, inVPC), ecs: map[string][]string{sweep: tasks},
			inVPC: []string{deregister, publish, sweep},
		},
		"servers in ECS, with TLS": {
			params: with(inECS, withTLS), ecs: map[string][]string{publish: tasks, sweep: tasks},
			readTheCA: []string{deregister, sweep},
		},
		"servers in ECS, with TLS and ACLs, in a VPC": {
			params: with(inECS, withTLS, withACLs, inVPC), ecs: map[string][]string{publish: tasks, sweep: tasks, setup: tasks},
			inVPC: []string{deregister, setup, sweep}, readTheCA: []string{deregister, setup, sweep}, acls: true,
		},
		"servers outside, with TLS and ACLs": {
			params: with(outsideOfECS, withTLS, withACLs), ecs: map[string][]string{sweep: tasks},
			readTheCA: []string{deregister, publish, setup, sweep}, acls: true,
		},
		"with the macro": {
			params: with(inECS, withTLS, inVPC, withMacro), ecs: map[string][]string{publish: tasks, sweep: tasks},
			inVPC: []string{deregister, sweep}, readTheCA: []string{deregister, sweep}, macro: true,
		},
		"servers outside, with ACLs alone": {
			params: with(outsideOfECS, withACLs), ecs: map[string][]string{sweep: tasks}, acls: true,
		},
		"servers outside, with a hook for deployments": {
			params: with(outsideOfECS, withHook), ecs: map[string][]string{sweep: tasks}, hook: true,
		},
		"servers in ECS, with TLS and a hook for deployments, in a VPC": {
			params: with(inECS, withTLS, withHook, inVPC), ecs: map[string][]string{publish: tasks, sweep: tasks},
			inVPC: []string{hook, deregister, sweep}, readTheCA: []string{hook, deregister, sweep}, hook: true,
		},
	} {
		want := map[string][]string{
			publish:    slices.Concat(test.ecs[publish], log, list),
			deregister: slices.Concat(log, queue, []string{"ssm:GetParameter"}),
			sweep:      slices.Concat(test.ecs[sweep], log, list),
		}
		if test.acls {
			want[setup] = slices.Sorted(slices.Values(slices.Concat(test.ecs[setup], log, token)))
		}
		if test.macro {
			want[meshTask] = log
		}
		if test.hook {
			want[hook] = slices.Concat([]string{"ecs:DescribeServiceDeployments", "ecs:DescribeServiceRevisions"}, tasks, log, []string{"ssm:GetParameter"})
		}
		t.Run(name, func(t *testing.T) {
			v := variant{t: t, expanded: e, params: test.params}
			if made := v.resource("MeshTaskMacro") != nil; made != test.macro {
				t.Errorf("the macro is wanted: %v, made: %v", test.macro, made)
			}
			var inVPC, readTheCA []string
			for _, id := range slices.Sorted(maps.Keys(sources)) {
				made := v.resource(id)
				if _, wanted := want[id]; wanted != (made != nil) || wanted != (v.resource(roles[id]) != nil) {
					t.Errorf("%s and %s are wanted: %v, made: %v, %v", id, roles[id], wanted, made != nil, v.resource(roles[id]) != nil)
					continue
				}
				if made == nil {
					continue
				}
				r := remarshal[role](t, v.resource(roles[id]))
				var actions []string
				for _, p := range r.Policies {
					for _, s := range p.PolicyDocument.Statement {
						actions = append(actions, s.Action...)
						checkResource(t, id, s)
					}
				}
				slices.Sort(actions)
				if diff := cmp.Diff(want[id], actions); diff != "" {
					t.Errorf("%s may do other than it does (-want +may):\n%s", id, diff)
				}
				_, placed := made["VpcConfig"]
				if may := r.has(vpcPolicy); may != placed {
					t.Errorf("%s is in the VPC: %v, and may be: %v", id, placed, may)
				}
				if placed {
					inVPC = append(inVPC, id)
				}
				if r.has(caPolicy) {
					readTheCA = append(readTheCA, id)
				}
			}
			if diff := cmp.Diff(test.inVPC, inVPC); diff != "" {
				t.Errorf("functions in the VPC (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.readTheCA, readTheCA); diff != "" {
				t.Errorf("functions that may read the CA (-want +got):\n%s", diff)
			}
			for policy, users := range map[string][]string{vpcPolicy: test.inVPC, caPolicy: test.readTheCA} {
				if made := v.resource(policy) != nil; users != nil && !made {
					t.Errorf("%s is not made", policy)
				}
			}
		})
	}
}

// The CA may be a secret, which SSM reads in the function's name.
func TestCaPolicyIsForTheCaAlone(t *testing.T) {
	e := expand(t)
	const arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-ca-a1B2c3"
	for name, test := range map[string]struct {
		params map[string]string
		want   []string
	}{
		"a parameter": {withTLS, []string{"ssm:GetParameter"}},
		"a secret": {
			with(withTLS, map[string]string{"ConsulCaParameterName": "/aws/reference/secretsmanager/consul-ca", "ConsulCaSecretArn": arn}),
			[]string{"ssm:GetParameter", "secretsmanager:GetSecretValue"},
		},
	} {
		v := variant{t: t, expanded: e, params: with(inECS, test.params)}
		var actions []string
		for _, s := range remarshal[policy](t, v.resource(caPolicy)).PolicyDocument.Statement {
			actions = append(actions, s.Action...)
			checkResource(t, caPolicy, s)
			if resource := toJSON(t, s.Resource); !strings.Contains(resource, "ConsulCaParameterName") && !strings.Contains(resource, "ConsulCaSecretArn") {
				t.Errorf("%s: %s is allowed for %s", name, s.Action, resource)
			}
		}
		if diff := cmp.Diff(test.want, actions); diff != "" {
			t.Errorf("%s (-want +may):\n%s", name, diff)
		}
	}
}

// checkResource finds what is allowed for every resource there is.
func checkResource(t *testing.T, function string, s statement) {
	t.Helper()
	const listTasks = "ecs:ListTasks" // of which the condition says which cluster's: for the hook, any of the account's
	if s.Resource != "*" {
		return
	}
	condition := toJSON(t, s.Condition)
	want := `{"ArnEquals":{"ecs:cluster":{"Ref":"ConsulServerClusterArn"}}}`
	if function == "DeploymentHookFunction" || function == "SweepFunction" { // tasks of the mesh may be in any cluster
		want = `{"ArnLike":{"ecs:cluster":{"Fn::Sub":"arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:cluster/*"}}}`
	}
	if !slices.Equal(s.Action, []string{listTasks}) || condition != want {
		t.Errorf("%s may %s everything there is, under the condition %s", function, s.Action, condition)
	}
}

// What Lambda needs for the functions, the functions themselves may not do.
func TestVpcPolicyIsForLambdaAlone(t *testing.T) {
	v := variant{t: t, expanded: expand(t), params: with(inECS, inVPC)}
	statements := remarshal[policy](t, v.resource(vpcPolicy)).PolicyDocument.Statement
	if len(statements) != 2 || statements[0].Effect != "Allow" || statements[1].Effect != "Deny" {
		t.Fatalf("got %+v, want what is allowed and then for whom it is not", statements)
	}
	if slices.Contains(statements[0].Action, "ec2:*") || !slices.Equal(statements[1].Action, []string{"ec2:*"}) {
		t.Errorf("%s are allowed and %s denied", statements[0].Action, statements[1].Action)
	}
	if condition := statements[1].Condition["ArnLike"]; condition == nil {
		t.Errorf("the functions are not told apart from Lambda: %v", statements[1].Condition)
	}
}

func remarshal[T any](t *testing.T, value any) T {
	t.Helper()
	return parse[T](t, []byte(toJSON(t, value)))
}

func parse[T any](t *testing.T, data []byte) T {
	t.Helper()
	var value T
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	return value
}
