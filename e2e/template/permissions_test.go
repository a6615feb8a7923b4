package template

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const vpcPolicy = "VpcPolicy"

// roles are the functions' own.
var roles = map[string]string{
	"PublishServersFunction":  "PublishServersRole",
	"DeregisterTasksFunction": "DeregisterTasksRole",
	"SweepFunction":           "SweepRole",
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

// A role may do what its function does in this variant, and where it can be said, only to what is the stack's.
func TestRolesMayDoWhatIsNeeded(t *testing.T) {
	e := expand(t)
	var (
		log   = []string{"logs:CreateLogStream", "logs:PutLogEvents"}
		list  = []string{"ssm:GetParameter", "ssm:PutParameter"}
		queue = []string{"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
	)
	for name, test := range map[string]struct {
		params         map[string]string
		publish, sweep []string // what these functions may ask ECS
		inVPC          []string // the functions there
	}{
		"servers in ECS": {
			inECS, []string{"ecs:DescribeTasks", "ecs:ListTasks"}, []string{"ecs:DescribeTasks", "ecs:ListTasks"},
			nil,
		},
		"servers in ECS, in a VPC": {
			with(inECS, inVPC), []string{"ecs:DescribeTasks", "ecs:ListTasks"}, []string{"ecs:DescribeTasks", "ecs:ListTasks"},
			[]string{"DeregisterTasksFunction", "SweepFunction"},
		},
		"servers outside": {
			outsideOfECS, nil, []string{"ecs:DescribeTasks"},
			nil,
		},
		"servers outside, in a VPC": {
			with(outsideOfECS, inVPC), nil, []string{"ecs:DescribeTasks"},
			[]string{"DeregisterTasksFunction", "PublishServersFunction", "SweepFunction"},
		},
	} {
		want := map[string][]string{
			"PublishServersFunction":  slices.Concat(test.publish, log, list),
			"DeregisterTasksFunction": slices.Concat(log, queue, []string{"ssm:GetParameter"}),
			"SweepFunction":           slices.Concat(test.sweep, log, list),
		}
		t.Run(name, func(t *testing.T) {
			v := variant{t: t, expanded: e, params: test.params}
			if made := v.resource(vpcPolicy) != nil; made != (test.inVPC != nil) {
				t.Errorf("%s is made: %v", vpcPolicy, made)
			}
			var inVPC []string
			for _, id := range slices.Sorted(maps.Keys(sources)) {
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
				_, placed := v.resource(id)["VpcConfig"]
				if may := len(r.ManagedPolicyArns) == 1 && r.ManagedPolicyArns[0].Ref == vpcPolicy; may != placed {
					t.Errorf("%s is in the VPC: %v, and may be: %v", id, placed, may)
				}
				if placed {
					inVPC = append(inVPC, id)
				}
			}
			if diff := cmp.Diff(test.inVPC, inVPC); diff != "" {
				t.Errorf("functions in the VPC (-want +got):\n%s", diff)
			}
		})
	}
}

// checkResource finds what is allowed for every resource there is.
func checkResource(t *testing.T, function string, s statement) {
	t.Helper()
	const listTasks = "ecs:ListTasks" // of which the condition says which cluster's
	if s.Resource != "*" {
		return
	}
	condition := toJSON(t, s.Condition)
	if want := `{"ArnEquals":{"ecs:cluster":{"Ref":"ConsulServerClusterArn"}}}`; !slices.Equal(s.Action, []string{listTasks}) || condition != want {
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
