package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const example = "../../../../examples/mesh-task-macro.yaml"

// play runs the program as a shell would.
func play(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, problems bytes.Buffer
	code = run(args, func(string) string { return "" }, strings.NewReader(stdin), &out, &problems)
	return code, out.String(), problems.String()
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The diff is what is added and nothing else: no line of the file but Transform
// goes.
func TestDiffShowsWhatIsAdded(t *testing.T) {
	code, diff, problems := play(t, "", "-init-image", "i", "-diff", example)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, problems)
	}
	source, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	_, result, _ := play(t, "", "-init-image", "i", example)
	left := result
	for line := range strings.Lines(string(source)) {
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "Transform:") {
			continue // is above Transform, and goes with it
		}
		_, after, found := strings.Cut(left, line)
		if !found {
			t.Fatalf("the line %q is not there, or not in its place", line)
		}
		left = after
	}
	if !strings.HasPrefix(diff, "--- "+example+"\n+++ "+example+" (expanded)\n@@ ") || !strings.Contains(diff, "+        - Name: envoy\n") {
		t.Errorf("the diff is\n%s", diff)
	}
}

func TestAgainChangesNothing(t *testing.T) {
	_, first, _ := play(t, "", "-init-image", "i", example)
	code, diff, problems := play(t, first, "-init-image", "i", "-diff")
	if code != 0 || diff != "" {
		t.Errorf("exit code %d, %s, and the diff\n%s", code, problems, diff)
	}
}

const registration = `{
    "family": "web",
    "networkMode": "awsvpc",
    "taskRoleArn": "arn:aws:iam::123456789012:role/web",
    "containerDefinitions": [
        {"name": "web", "image": "web:1"}
    ]
}
`

const description = `{
    "taskDefinition": {
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7",
        "family": "web",
        "networkMode": "awsvpc",
        "taskRoleArn": "arn:aws:iam::123456789012:role/web",
        "containerDefinitions": [
            {
                "name": "web",
                "image": "web:1",
                "healthCheck": {"command": ["CMD", "true"]}
            }
        ],
        "revision": 7
    },
    "tags": [{"key": "team", "value": "shop"}]
}
`

// What describe-task-definition printed is indented otherwise than what is made
// of it, and has more in it. The diff is of the task definition all the same.
func TestDiffOfADescriptionShowsWhatIsAdded(t *testing.T) {
	mesh := write(t, "mesh.yaml", "{service: web, port: 8080, taskRole: NONE}")
	asYAML := "taskDefinition:\n  family: web\n  networkMode: awsvpc\n  containerDefinitions:\n  - name: web\n    image: web:1\n  revision: 7\n"
	for name, source := range map[string]string{"JSON": description, "YAML": asYAML} {
		t.Run(name, func(t *testing.T) {
			code, diff, problems := play(t, source, "-init-image", "i", "-mesh", mesh, "-diff")
			if code != 0 {
				t.Fatalf("exit code %d: %s", code, problems)
			}
			if !strings.HasPrefix(diff, "--- standard input (as register-task-definition takes it)\n+++ standard input (expanded)\n@@ ") {
				t.Errorf("the diff begins otherwise:\n%s", diff)
			}
			for line := range strings.Lines(diff) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(line, "-") && !strings.HasPrefix(line, "--- ") && !strings.Contains(diff, "\n+"+line[1:]+",\n") {
					t.Errorf("the line %q goes", line)
				}
			}
			if !strings.Contains(diff, "ecsmesh-init") || strings.Contains(diff, "revision") {
				t.Errorf("the diff is\n%s", diff)
			}
		})
	}
}

// The block has a file of its own, with or without its name above it, and in
// either format.
func TestBlockInAFileOfItsOwn(t *testing.T) {
	for name, block := range map[string]string{
		"YAML":           "service: web\nport: 8080\ntaskRole: NONE\n",
		"under its name": "EcsMesh:\n  service: web\n  port: 8080\n  taskRole: NONE\n",
		"JSON":           `{"ecsMesh": {"service": "web", "port": 8080, "taskRole": "NONE"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			code, result, problems := play(t, registration, "-init-image", "i", "-mesh", write(t, "mesh", block))
			if code != 0 || !strings.HasPrefix(result, "{\n    \"family\": \"web\",\n") || !strings.Contains(result, `"ecsmesh-init"`) {
				t.Errorf("exit code %d, %s, and\n%s", code, problems, result)
			}
		})
	}
}

func TestFormat(t *testing.T) {
	mesh := write(t, "mesh.yaml", "{service: web, port: 8080, taskRole: NONE}")
	code, result, problems := play(t, registration, "-init-image", "i", "-mesh", mesh, "-format", "yaml", "-")
	if code != 0 || !strings.HasPrefix(result, "family: web\nnetworkMode: awsvpc\n") {
		t.Errorf("exit code %d, %s, and\n%s", code, problems, result)
	}
	code, result, problems = play(t, "", "-init-image", "i", "-format", "json", example)
	if code != 0 || !strings.HasPrefix(result, "{\n  \"AWSTemplateFormatVersion\": \"2010-09-09\",\n") || !strings.Contains(result, `{"Fn::Sub": "${AWS::StackName}-web"}`) {
		t.Errorf("exit code %d, %s, and\n%s", code, problems, result)
	}
}

// TLS and a login come with the flags that they need.
func TestFlagsReachTheTask(t *testing.T) {
	code, result, problems := play(t, "", "-init-image", "i", "-envoy-image", "e", "-servers-parameter", "/s", "-ca-parameter", "/ca",
		"-tls-server-name", "consul.example.com", "-login-method", "tasks", "-login-server-id", "here", example)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, problems)
	}
	for _, want := range []string{"Image: e\n", `"/s"`, `"/ca"`, `"consul.example.com"`, `"tasks"`, `"here"`, "consul.hashicorp.com.service-name", "iam:GetRole"} {
		if !strings.Contains(result, want) {
			t.Errorf("%s is not in the result", want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	good := write(t, "good.json", registration)
	for name, test := range map[string]struct {
		args  []string
		stdin string
		code  int
		want  string // of standard error
	}{
		"an unknown flag":     {[]string{"-x"}, "", exitUsage, "ecsmesh-task: flag provided but not defined: -x; ecsmesh-task -help says how it is used\n"},
		"two files":           {[]string{"a", "b"}, "", exitUsage, "there is more than one file: a b"},
		"another format":      {[]string{"-format", "toml"}, "", exitUsage, "want json or yaml"},
		"a diff of formats":   {[]string{"-diff", "-format", "json"}, "", exitUsage, "-diff shows the changes in the file's own format"},
		"half of a parameter": {[]string{"-parameter", "A"}, "", exitUsage, "want NAME=VALUE"},
		"a name without TLS":  {[]string{"-tls-server-name", "consul"}, "", exitUsage, "-tls-server-name means nothing without -ca-parameter"},
		"a secret, no TLS":    {[]string{"-ca-secret-arn", "arn"}, "", exitUsage, "-ca-secret-arn means nothing without -ca-parameter"},
		"an ID, no login":     {[]string{"-login-server-id", "x"}, "", exitUsage, "-login-server-id means nothing without -login-method"},
		"a parameter's typo":  {[]string{"-init-image", "i", "-parameter", "DesiredCuont=2", example}, "", exitUsage, example + ": -parameter DesiredCuont: the template has no such parameter, but Cluster, "},
		"no template":         {[]string{"-init-image", "i", "-parameter", "A=2", good}, "", exitUsage, "-parameter is for a template's parameters, and this is none"},
		"no file":             {[]string{"/there/is/none"}, "", exitUsage, "open /there/is/none"},
		"no block's file":     {[]string{"-mesh", "/there/is/none", good}, "", exitUsage, "open /there/is/none"},
		"no document":         {nil, "a: [", exitUsage, "ecsmesh-task: standard input: read YAML: line 1"},
		"no block":            {[]string{good}, "", exitRefused, good + ": nothing says what the task is in the mesh"},
		"no image": {
			[]string{"-mesh", write(t, "mesh.yaml", "{service: web, port: 8080, taskRole: NONE}"), good}, "", exitRefused, "initImage",
		},
		"a role to be seen to": {
			[]string{"-init-image", "i", "-mesh", write(t, "role.yaml", "{service: web, port: 8080}"), good}, "", exitRefused, `"Action": "ssm:GetParameter"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := play(t, test.stdin, test.args...)
			if code != test.code || !strings.Contains(stderr, test.want) || stdout != "" {
				t.Errorf("exit code %d, want %d with %q; got %q, and printed %q", code, test.code, test.want, stderr, stdout)
			}
		})
	}
}

// The help is printed where it is asked for, and has every flag.
func TestHelp(t *testing.T) {
	for _, flag := range []string{"-h", "-help", "--help"} {
		code, stdout, stderr := play(t, "", flag)
		if diff := cmp.Diff(usage, stdout); code != 0 || stderr != "" || diff != "" {
			t.Errorf("%s: exit code %d, %q (-want +got):\n%s", flag, code, stderr, diff)
		}
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range regexp.MustCompile(`flags\.\w+\((?:&[\w.]+, )?"([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		if !strings.Contains(usage, "\n  -"+flag[1]) {
			t.Errorf("the help doesn't say what -%s is", flag[1])
		}
	}
	if code, stdout, _ := play(t, "", "-version"); code != 0 || stdout != "dev\n" {
		t.Errorf("the version is %q", stdout)
	}
}
