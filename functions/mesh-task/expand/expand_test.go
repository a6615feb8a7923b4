package expand_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	awsecs "github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
	"ecsmesh/functions/mesh-task/expand"
	"ecsmesh/functions/mesh-task/meshtask"
)

var defaults = meshtask.Defaults{InitImage: "ecsmesh-init:1"}

func withLogin() meshtask.Defaults {
	d := defaults
	d.Login, d.LoginMethod = true, "tasks"
	return d
}

const task = `
    Type: AWS::ECS::TaskDefinition
    Metadata: {EcsMesh: {service: web, port: 8080}}
    Properties:
      Family: web
      NetworkMode: awsvpc
      RequiresCompatibilities: [FARGATE]
      Cpu: "256"
      Memory: "512"
      ContainerDefinitions: [{Name: web, Image: web:1}]
`

const role = `
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {}
      Tags: [{Key: consul.hashicorp.com.service-name, Value: web}]
`

func run(t *testing.T, source string, in expand.Input) (*document.Document, expand.Report, error) {
	t.Helper()
	d, err := document.Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	if in.Defaults.InitImage == "" {
		in.Defaults = defaults
	}
	report, err := expand.Document(d.Root, in)
	return d, report, err
}

// tree is what a template is as CloudFormation sees it, without short tags.
func tree(t *testing.T, d *document.Document) map[string]any {
	t.Helper()
	text, err := d.In(document.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

func dig(value any, path ...string) any {
	for _, step := range path {
		m, _ := value.(map[string]any)
		value = m[step]
	}
	return value
}

func block(t *testing.T, source string) *yaml.Node {
	t.Helper()
	d, err := document.Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return d.Root
}

// A role in the template gets a policy of ours, however the task names it, and
// the task definition waits for it.
func TestRoleInTheTemplateGetsAPolicy(t *testing.T) {
	for _, arn := range []string{
		"!GetAtt Role.Arn", "!GetAtt [Role, Arn]", "{Fn::GetAtt: Role.Arn}", "{Fn::GetAtt: [Role, Arn]}", "!Ref Role", `!Sub "${Role.Arn}"`,
		`!Sub "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${Role}"`, `!Join ["", ["arn:aws:iam::", !Ref AWS::AccountId, ":role/", !Ref Role]]`,
	} {
		t.Run(arn, func(t *testing.T) {
			source := "Resources:\n  Task:\n    Condition: Yes_\n    DependsOn: [Other]" + task + "      TaskRoleArn: " + arn + "\n" + role
			d, report, err := run(t, source, expand.Input{Defaults: withLogin()})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"Task"}, report.Tasks); diff != "" {
				t.Errorf("the tasks (-want +got):\n%s", diff)
			}
			resources := dig(tree(t, d), "Resources")
			if diff := cmp.Diff([]any{"Other", "TaskEcsMeshPolicy"}, dig(resources, "Task", "DependsOn")); diff != "" {
				t.Errorf("what the task definition waits for (-want +got):\n%s", diff)
			}
			policy := dig(resources, "TaskEcsMeshPolicy")
			if dig(policy, "Condition") != "Yes_" || dig(policy, "Type") != "AWS::IAM::Policy" {
				t.Errorf("the policy is %v", policy)
			}
			if diff := cmp.Diff([]any{map[string]any{"Ref": "Role"}}, dig(policy, "Properties", "Roles")); diff != "" {
				t.Errorf("the policy's roles (-want +got):\n%s", diff)
			}
			allowed := map[string]any{}
			for _, statement := range dig(policy, "Properties", "PolicyDocument", "Statement").([]any) {
				allowed[dig(statement, "Action").(string)] = dig(statement, "Resource")
			}
			want := map[string]any{
				"ssm:GetParameter": map[string]any{"Fn::Sub": "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/ecsmesh/consul-servers"},
				"iam:GetRole":      map[string]any{"Fn::GetAtt": []any{"Role", "Arn"}},
			}
			if diff := cmp.Diff(want, allowed); diff != "" {
				t.Errorf("the policy allows (-want +got):\n%s", diff)
			}
			again(t, d, withLogin())
		})
	}
}

// again expands what was expanded, in both formats.
func again(t *testing.T, d *document.Document, with meshtask.Defaults) {
	t.Helper()
	for _, format := range []document.Format{document.YAML, document.JSON} {
		first, err := d.In(format)
		if err != nil {
			t.Fatal(err)
		}
		second, _, err := run(t, string(first), expand.Input{Defaults: with})
		if err != nil {
			t.Fatal(err)
		}
		text, err := second.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(first), string(text)); diff != "" {
			t.Errorf("once more, in %s (-first +second):\n%s", format, diff)
		}
	}
}

func TestTaskWithoutARoleGetsOne(t *testing.T) {
	for name, arn := range map[string]string{"none": "", "no value": "      TaskRoleArn: !Ref AWS::NoValue\n", "an empty text": "      TaskRoleArn: ''\n"} {
		t.Run(name, func(t *testing.T) {
			d, _, err := run(t, "Resources:\n  Task:\n    Condition: C"+task+arn, expand.Input{Defaults: withLogin()})
			if err != nil {
				t.Fatal(err)
			}
			resources := dig(tree(t, d), "Resources")
			made := dig(resources, "TaskEcsMeshRole")
			want := map[string]any{
				"Type": "AWS::IAM::Role", "Condition": "C",
				"Properties": map[string]any{
					"AssumeRolePolicyDocument": map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
						"Effect": "Allow", "Principal": map[string]any{"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole",
						"Condition": map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": map[string]any{"Ref": "AWS::AccountId"}}},
					}}},
					"Tags": []any{map[string]any{"Key": "consul.hashicorp.com.service-name", "Value": "web"}},
				},
			}
			if diff := cmp.Diff(want, made); diff != "" {
				t.Errorf("the role (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]any{"Fn::GetAtt": []any{"TaskEcsMeshRole", "Arn"}}, dig(resources, "Task", "Properties", "TaskRoleArn")); diff != "" {
				t.Errorf("the task's role (-want +got):\n%s", diff)
			}
			again(t, d, withLogin())
		})
	}
}

// What others gave to a resource of ours stays.
func TestOurRoleKeepsWhatOthersGaveIt(t *testing.T) {
	d, _, err := run(t, "Resources:\n  Task:"+task, expand.Input{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	boundary := strings.Replace(string(text), "    Type: AWS::IAM::Role\n    Properties:\n", "    Type: AWS::IAM::Role\n    Properties:\n      Path: /mesh/\n", 1)
	second, _, err := run(t, boundary, expand.Input{Defaults: withLogin()})
	if err != nil {
		t.Fatal(err)
	}
	made := dig(tree(t, second), "Resources", "TaskEcsMeshRole", "Properties")
	if dig(made, "Path") != "/mesh/" || dig(made, "Tags") == nil {
		t.Errorf("the role is %v, want its path, and the tag that logins need", made)
	}
}

// TestOurRoleLosesWhatTheBlockDoesNotAskForAnyMore, and nothing that others gave
// it.
func TestOurRoleLosesWhatTheBlockDoesNotAskForAnyMore(t *testing.T) {
	const hosts = "service: web, port: 8080, consulServers: {hosts: 10.0.0.1}"
	source := "Resources:\n  Task:" + task
	text := func(d *document.Document, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		content, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	d, _, err := run(t, source, expand.Input{Defaults: withLogin()})
	first := text(d, err)
	tagged := strings.Replace(first, "      Tags:\n", "      Tags:\n        - {Key: team, Value: shop}\n", 1)
	if tagged == first {
		t.Fatalf("there are no tags:\n%s", first)
	}

	d, _, err = run(t, tagged, expand.Input{Defaults: withLogin()})
	if found := text(d, err); found != tagged {
		t.Errorf("another tag doesn't stay (-with it +expanded again):\n%s", cmp.Diff(tagged, found))
	}

	d, _, err = run(t, tagged, expand.Input{})
	without := text(d, err)
	if diff := cmp.Diff([]any{map[string]any{"Key": "team", "Value": "shop"}}, dig(tree(t, d), "Resources", "TaskEcsMeshRole", "Properties", "Tags")); diff != "" {
		t.Errorf("without logins its tags (-want +got):\n%s", diff)
	}
	if found := without; strings.Contains(found, "iam:GetRole") {
		t.Errorf("without logins its policy is\n%s", found)
	}

	d, _, err = run(t, first, expand.Input{})
	if text(d, err); dig(tree(t, d), "Resources", "TaskEcsMeshRole", "Properties", "Tags") != nil {
		t.Errorf("without logins it still has a tag:\n%s", text(d, err))
	}

	for _, depends := range []string{"TaskEcsMeshPolicy", "[TaskEcsMeshPolicy, Role]"} {
		d, _, err = run(t, strings.Replace(strings.Replace(without, "service: web, port: 8080", hosts, 1), "DependsOn: TaskEcsMeshPolicy", "DependsOn: "+depends, 1), expand.Input{})
		text(d, err)
		resources := dig(tree(t, d), "Resources").(map[string]any)
		if resources["TaskEcsMeshPolicy"] != nil || resources["TaskEcsMeshRole"] == nil {
			t.Errorf("with servers that are named the policy stays, or the role doesn't: %v", resources)
		}
		if found := dig(resources, "Task", "DependsOn"); depends == "TaskEcsMeshPolicy" && found != nil || depends != "TaskEcsMeshPolicy" && !cmp.Equal(found, []any{"Role"}) {
			t.Errorf("with servers that are named the task depends on %v", found)
		}
	}
}

// TestOurPolicyKeepsTheStatementsOfOthers, in their places, whatever the block asks
// for.
func TestOurPolicyKeepsTheStatementsOfOthers(t *testing.T) {
	text := func(source string, in expand.Input) string {
		t.Helper()
		d, _, err := run(t, source, in)
		if err != nil {
			t.Fatal(err)
		}
		content, err := d.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	first := text("Resources:\n  Task:"+task, expand.Input{Defaults: withLogin()})
	const ours, theirs = "          - Sid: ReadConsulServers\n", "          - {Effect: Allow, Action: 's3:GetObject', Resource: '*'} # the shop's pictures\n"
	edited := strings.Replace(first, ours, theirs+ours, 1)
	if edited == first {
		t.Fatalf("there is no statement:\n%s", first)
	}
	if found := text(edited, expand.Input{Defaults: withLogin()}); found != edited {
		t.Errorf("it is another with the same block:\n%s", cmp.Diff(edited, found))
	}
	without := text(edited, expand.Input{})
	if !strings.Contains(without, theirs) || strings.Contains(without, "iam:GetRole") {
		t.Errorf("without logins it is\n%s", without)
	}
	if found := text(without, expand.Input{Defaults: withLogin()}); found != edited {
		t.Errorf("with logins again it is another:\n%s", cmp.Diff(edited, found))
	}
	hosts := strings.Replace(without, "service: web, port: 8080", "service: web, port: 8080, consulServers: {hosts: 10.0.0.1}", 1)
	if found := text(hosts, expand.Input{}); !strings.Contains(found, theirs) || strings.Contains(found, "ssm:GetParameter") {
		t.Errorf("with servers that are named it is\n%s", found)
	}
}

func TestLoopsAreExpanded(t *testing.T) {
	loop := "Resources:\n  Fn::ForEach::Services:\n    - Name\n    - [web, api]\n    - ${Name}Task:" + strings.ReplaceAll(task, "\n    ", "\n        ")
	loop = strings.Replace(loop, "service: web", "service: !Ref Name", 1)
	d, report, err := run(t, loop, expand.Input{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"${Name}Task"}, report.Tasks); diff != "" {
		t.Errorf("the tasks (-want +got):\n%s", diff)
	}
	body := dig(tree(t, d), "Resources", "Fn::ForEach::Services")
	if body == nil {
		body = tree(t, d)["Resources"].(map[string]any)["Fn::ForEach::Services"]
	}
	repeated := body.([]any)[2].(map[string]any)
	for _, id := range []string{"${Name}Task", "${Name}TaskEcsMeshRole", "${Name}TaskEcsMeshPolicy"} {
		if repeated[id] == nil {
			t.Errorf("%s is not among what the loop repeats: %v", id, slices.Sorted(func(yield func(string) bool) {
				for key := range repeated {
					if !yield(key) {
						return
					}
				}
			}))
		}
	}
}

func TestTransformIsTakenOut(t *testing.T) {
	for transform, want := range map[string]any{
		"Transform: EcsMesh\n":                                    nil,
		"Transform: [EcsMesh]\n":                                  nil,
		"Transform: [EcsMesh, AWS::Serverless-2016-10-31]\n":      []any{"AWS::Serverless-2016-10-31"},
		"Transform: [{Name: EcsMesh}, AWS::LanguageExtensions]\n": []any{"AWS::LanguageExtensions"},
		"Transform: AWS::Serverless-2016-10-31\n":                 "AWS::Serverless-2016-10-31",
	} {
		d, _, err := run(t, transform+"Resources:\n  Task:"+task, expand.Input{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, tree(t, d)["Transform"]); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", transform, diff)
		}
	}
}

const described = `{
    "taskDefinition": {
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7",
        "containerDefinitions": [{"name": "web", "image": "web:1", "cpu": 0, "essential": true, "portMappings": [], "environment": []}],
        "family": "web",
        "taskRoleArn": "arn:aws:iam::123456789012:role/web",
        "networkMode": "awsvpc",
        "revision": 7,
        "status": "ACTIVE",
        "requiresAttributes": [{"name": "ecs.capability.task-eni"}],
        "compatibilities": ["EC2", "FARGATE"],
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "registeredAt": 1700000000.1,
        "registeredBy": "arn:aws:iam::123456789012:user/joe"
    },
    "tags": [{"key": "team", "value": "a"}]
}
`

// What comes out can be registered: the SDK's own input knows every field.
func TestDescribedTaskDefinitionCanBeRegistered(t *testing.T) {
	d, report, err := run(t, described, expand.Input{Block: block(t, "{service: web, port: 8080, taskRole: NONE}")})
	if err != nil {
		t.Fatal(err)
	}
	got := tree(t, d)
	for key := range got {
		if _, ok := reflect.TypeFor[awsecs.RegisterTaskDefinitionInput]().FieldByName(strings.ToUpper(key[:1]) + key[1:]); !ok {
			t.Errorf("register-task-definition doesn't take %s", key)
		}
	}
	if diff := cmp.Diff([]any{map[string]any{"key": "team", "value": "a"}}, got["tags"]); diff != "" {
		t.Errorf("the tags (-want +got):\n%s", diff)
	}
	if said := strings.Join(report.Notes, "\n"); !strings.Contains(said, "taskDefinitionArn, revision, status, requiresAttributes, compatibilities, registeredAt, registeredBy left out") {
		t.Errorf("the notes are %s", said)
	}
	if containers := got["containerDefinitions"].([]any); len(containers) != 3 {
		t.Errorf("there are %d containers, want 3", len(containers))
	}
}

// The fields that are left out are all that AWS gives and doesn't take.
func TestNoFieldOfTheAPIIsUnknown(t *testing.T) {
	for i := range reflect.TypeFor[types.TaskDefinition]().NumField() {
		field := reflect.TypeFor[types.TaskDefinition]().Field(i)
		if !field.IsExported() {
			continue
		}
		name := strings.ToLower(field.Name[:1]) + field.Name[1:]
		_, taken := reflect.TypeFor[awsecs.RegisterTaskDefinitionInput]().FieldByName(field.Name)
		source := strings.Replace(described, `"family"`, `"`+name+`": `+`"x", "family"`, 1)
		if strings.Count(source, `"`+name+`"`) > 1 {
			continue // the sample has it
		}
		d, _, err := run(t, source, expand.Input{Block: block(t, "{service: web, port: 8080, taskRole: NONE}")})
		if err != nil {
			continue // such as a network mode of x
		}
		if _, kept := tree(t, d)[name]; kept != taken {
			t.Errorf("%s: it is taken: %v, and kept: %v", name, taken, kept)
		}
	}
}

func TestBlockIsTakenOutOfARegistration(t *testing.T) {
	for _, key := range []string{"EcsMesh", "ecsMesh"} {
		source := `{"` + key + `": {"service": "web", "port": 8080, "taskRole": "NONE"}, "family": "web", "networkMode": "awsvpc", "containerDefinitions": [{"name": "web", "image": "web:1"}]}`
		d, _, err := run(t, source, expand.Input{})
		if err != nil {
			t.Fatal(err)
		}
		if got := tree(t, d); got[key] != nil || got["containerDefinitions"] == nil {
			t.Errorf("got %v", got)
		}
	}
}

// A port and a partition of the whole mesh get into each task, unless it says
// otherwise.
func TestWhatHoldsForTheWholeMesh(t *testing.T) {
	in := expand.Input{HTTPPort: 80, Partition: "team-a"}
	d, _, err := run(t, "Resources:\n  Task:"+task, in)
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"partition": "team-a"`, `"http": {"port": 80}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if !strings.Contains(string(text), "EcsMesh: {service: web, port: 8080}") {
		t.Error("the block was changed")
	}
}

func TestRefusals(t *testing.T) {
	plain := strings.Replace(task, "    Metadata: {EcsMesh: {service: web, port: 8080}}\n", "", 1)
	outside := "Parameters: {TaskRole: {Type: String}}\nResources:\n  Task:" + task + "      TaskRoleArn: "
	registration := `{"family": "web", "networkMode": "awsvpc", "taskRoleArn": "web-role", "containerDefinitions": [{"name": "web", "image": "web:1"}]}`
	for name, test := range map[string]struct {
		source string
		in     expand.Input
		want   []string
	}{
		"no task definition": {"Resources: {Log: {Type: AWS::Logs::LogGroup}}", expand.Input{}, []string{"the template has no AWS::ECS::TaskDefinition"}},
		"no block":           {"Resources:\n  A:" + plain + "  B:" + plain, expand.Input{}, []string{"no task definition is a mesh task yet (A, B)", "Metadata:\n    EcsMesh:\n      service: web\n      port: 8080"}},
		"a misplaced block":  {"Resources:\n  A:\n    EcsMesh: {service: web}" + plain, expand.Input{}, []string{"A: EcsMesh belongs into the resource's Metadata"}},
		"a misspelt block":   {"Resources:\n  A:\n    Metadata: {ecsMesh: {service: web}}" + plain, expand.Input{}, []string{"A: ecsMesh in Metadata must be EcsMesh"}},
		"a block with a mistake beside a good one": {
			"Resources:\n  Good:" + task + "  A:\n    Metadata: {ECSMesh: {}}" + plain + "  B:\n    Metadata: {ecs-mesh: {}}" + plain + "  C:\n    Metadata: {EscMesh: {}}" + plain + "  D:\n    Metadata: {EcsMeshh: {}}" + plain + "  E:\n    Metadata: {EcMesh: {}}" + plain, expand.Input{},
			[]string{"A: ECSMesh in Metadata must be EcsMesh", "B: ecs-mesh in Metadata must be EcsMesh", "C: EscMesh in Metadata must be EcsMesh", "D: EcsMeshh in Metadata must be EcsMesh", "E: EcMesh in Metadata must be EcsMesh"},
		},
		"a block for several of a part": {"A:" + plain + "B:" + plain, expand.Input{Block: block(t, "{service: a, port: 80}")}, []string{"one block is given for several task definitions (A, B)", "give each its own"}},
		"a misspelt block, API":         {`{"ecs-mesh": {}, ` + registration[1:], expand.Input{Block: block(t, "{service: a, port: 80}")}, []string{"ecs-mesh at the top must be ecsMesh"}},
		"a block for several":           {"Resources:\n  A:" + task, expand.Input{Block: block(t, "{service: a}")}, []string{"none can be given beside it"}},
		"faults of two tasks": {
			"Resources:\n  A:" + strings.Replace(task, "port: 8080", "port: 80800", 1) + "  B:" + strings.Replace(task, "NetworkMode: awsvpc", "NetworkMode: host", 1), expand.Input{},
			[]string{"A: ", "B: "},
		},
		"a role's parameter": {outside + "!Ref TaskRole\n", expand.Input{Defaults: withLogin()}, []string{
			"Task: TaskRoleArn is the parameter TaskRole, a role from outside of the template",
			`"Action": "ssm:GetParameter"`, `"Action": "iam:GetRole", "Resource": {"Ref": "TaskRole"}`,
			`{"Key": "consul.hashicorp.com.service-name", "Value": "web"}`, "taskRole: NONE",
		}},
		"an imported role": {outside + "!ImportValue Role\n", expand.Input{}, []string{`TaskRoleArn is {"Fn::ImportValue": "Role"}, which is no role in the template`}},
		"a role's ARN":     {outside + "arn:aws:iam::123456789012:role/web\n", expand.Input{Defaults: withLogin()}, []string{"TaskRoleArn is arn:aws:iam::123456789012:role/web", `"Resource": "arn:aws:iam::123456789012:role/web"`}},
		"a choice of roles": {
			"Resources:\n  Task:" + task + "      TaskRoleArn: !If [C, !GetAtt Role.Arn, arn:aws:iam::123456789012:role/web]\n" + role, expand.Input{},
			[]string{"TaskRoleArn is chosen by Fn::If"},
		},
		"a role without the tag": {
			"Resources:\n  Task:" + task + "      TaskRoleArn: !GetAtt Role.Arn\n" + strings.Replace(role, "      Tags: [{Key: consul.hashicorp.com.service-name, Value: web}]\n", "", 1),
			expand.Input{Defaults: withLogin()}, []string{`Task: its role Role lacks a tag`, `{"Key": "consul.hashicorp.com.service-name", "Value": "web"}`},
		},
		"a role of another service": {
			"Resources:\n  Task:" + task + "      TaskRoleArn: !GetAtt Role.Arn\n" + strings.Replace(role, "Value: web", "Value: api", 1),
			expand.Input{Defaults: withLogin()}, []string{"with the value api", "needs web"},
		},
		"a name that is taken": {"Resources:\n  Task:" + task + "  TaskEcsMeshPolicy: {Type: AWS::SNS::Topic}\n", expand.Input{}, []string{"TaskEcsMeshPolicy is the name of the AWS::IAM::Policy"}},
		"a resource alone":     {strings.ReplaceAll(task, "\n    ", "\n")[1:], expand.Input{}, []string{"there is nothing to put a role or a policy into", "taskRole: NONE"}},
		"another resource":     {"Type: AWS::ECS::Service\n", expand.Input{}, []string{"the resource's Type is AWS::ECS::Service"}},
		"properties alone":     {"ContainerDefinitions: []\n", expand.Input{}, []string{"without its Metadata", "-mesh FILE"}},
		"no block, API":        {registration, expand.Input{}, []string{"-mesh FILE", "under ecsMesh at the top"}},
		"two blocks, API":      {`{"ecsMesh": {}, ` + registration[1:], expand.Input{Block: block(t, "{service: a}")}, []string{"given more than once"}},
		"a role, API":          {registration, expand.Input{Defaults: withLogin(), Block: block(t, "{service: web, port: 80}")}, []string{"no role can be changed from a task definition", `"Resource": "arn:aws:iam::ACCOUNT:role/web-role"`, "taskRole: NONE"}},
		"no family":            {`{"networkMode": "awsvpc", "containerDefinitions": [{"name": "web", "image": "web:1"}]}`, expand.Input{Block: block(t, "{service: web, port: 80, taskRole: NONE}")}, []string{"family is missing"}},
		"a list":               {`[{"name": "web"}]`, expand.Input{}, []string{"the document is a list", "containerDefinitions is the list"}},
		"something else":       {"services: {web: {image: a}}\n", expand.Input{}, []string{"no template (it has no Resources)", "at its top are services"}},
		"nothing of the kind":  {"web\n", expand.Input{}, []string{`the document is "web"`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := run(t, test.source, test.in)
			if err == nil {
				t.Fatal("it is not refused")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant an error with %q", err, want)
				}
			}
		})
	}
}

// Other Metadata is nobody's mistake.
func TestOtherMetadataIsNoBlock(t *testing.T) {
	for _, name := range []string{"AppMesh", "cfn-lint", "Mesh", "Ecs", "EcsMeshTask", "AWS::CloudFormation::Designer"} {
		plain := strings.Replace(task, "    Metadata: {EcsMesh: {service: web, port: 8080}}\n", "    Metadata: {'"+name+"': {service: web}}\n", 1)
		if _, report, err := run(t, "Resources:\n  Good:"+task+"  Other:"+plain, expand.Input{}); err != nil || !slices.Equal(report.Tasks, []string{"Good"}) {
			t.Errorf("with Metadata %s the tasks are %v, and the error is %v", name, report.Tasks, err)
		}
	}
}

// Whoever says that the role is ready isn't told what it needs, and nothing is
// made.
func TestReadyRoleIsLeftAlone(t *testing.T) {
	source := "Resources:\n  Task:" + strings.Replace(task, "port: 8080", "port: 8080, taskRole: NONE", 1) + "      TaskRoleArn: arn:aws:iam::123456789012:role/web\n"
	d, _, err := run(t, source, expand.Input{Defaults: withLogin()})
	if err != nil {
		t.Fatal(err)
	}
	if resources := tree(t, d)["Resources"].(map[string]any); len(resources) != 1 {
		t.Errorf("the resources are %v", resources)
	}
	again(t, d, withLogin())
}
