package docs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/golden"
	"ecsmesh/e2e/tools"
)

// TestTemplatesInDocumentsAreRight makes each block a whole template, has the
// real command expand its mesh tasks, and the linter read the result.
func TestTemplatesInDocumentsAreRight(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i, b := range templates(t) {
		whole, err := wholeTemplate(b.text)
		if err == nil {
			whole, err = expanded(t, whole)
		}
		if err != nil {
			t.Errorf("%s: %v", b, err)
			continue
		}
		name := fmt.Sprintf("%d-%s.yaml", i, strings.NewReplacer("/", "-", ":", "-").Replace(b.String()))
		files = append(files, filepath.Join(dir, name))
		if err := os.WriteFile(files[len(files)-1], []byte(whole), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 5 {
		t.Fatalf("only %d were found", len(files))
	}
	if err := lint(t, files...); err != nil {
		t.Error(err)
	}
}

// TestWrongTemplatesAreFound has blocks that CloudFormation, or ecsmesh, would
// refuse.
func TestWrongTemplatesAreFound(t *testing.T) {
	const task = `
T:
  Type: AWS::ECS::TaskDefinition
  Metadata: {EcsMesh: {service: a, port: 80}}
  Properties: {Family: a, NetworkMode: awsvpc, RequiresCompatibilities: [FARGATE], Cpu: "256", Memory: "512", ExecutionRoleArn: "arn:aws:iam::123456789012:role/x", ContainerDefinitions: [{Name: a, Image: a}]}
`
	for change, want := range map[string]string{
		"":                      "",
		"service: a>servise: a": "servise",
		"awsvpc>host":           "host",
		"Family: a>Famly: a":    "Famly",
		"AWS::ECS::TaskDefinition>AWS::ECS::Task": "AWS::ECS::Task",
		"Metadata: {>Metadata: {{":                "yaml",
	} {
		t.Run(change, func(t *testing.T) {
			text := task
			if from, to, is := strings.Cut(change, ">"); is {
				text = strings.Replace(task, from, to, 1)
			}
			whole, err := wholeTemplate(text)
			if err == nil {
				whole, err = expanded(t, whole)
			}
			if err == nil {
				file := filepath.Join(t.TempDir(), "x.yaml")
				if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
					t.Fatal(err)
				}
				err = lint(t, file)
			}
			switch {
			case change == "" && err != nil:
				t.Error(err)
			case change != "" && (err == nil || !strings.Contains(err.Error(), want)):
				t.Errorf("%v", err)
			}
		})
	}
	if _, err := wholeTemplate("a: 1\n"); err == nil {
		t.Error("a block of whatever is taken")
	}
}

// templates are the YAML in the documents: blocks, and files that commands make.
func templates(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, b := range allBlocks(t) {
		switch b.language {
		case "yaml":
			all = append(all, b)
		case "sh":
			j := &judge{root: checkout(t), made: map[string]map[string]string{"": {}}}
			if _, err := j.read(b.String(), "", b.text); err != nil {
				t.Errorf("%s: %v", b, err)
			}
			for name, content := range j.made[""] {
				if strings.HasSuffix(name, ".yaml") && !strings.HasPrefix(name, "template of ") && content != "" {
					b.text = content
					all = append(all, b)
				}
			}
		}
	}
	return all
}

// wholeTemplate adds to a block what a template needs: a block has a template,
// resources of one, keys of a container, or what Metadata: EcsMesh may say.
func wholeTemplate(text string) (string, error) {
	var keys map[string]yaml.Node
	if err := yaml.Unmarshal([]byte(text), &keys); err != nil {
		return "", err
	}
	if _, is := keys["Resources"]; is {
		return text, nil
	}
	const head = "AWSTemplateFormatVersion: \"2010-09-09\"\nResources:\n"
	resources := func(node yaml.Node) bool {
		var resource struct {
			Type string `yaml:"Type"`
		}
		return node.Decode(&resource) == nil && strings.HasPrefix(resource.Type, "AWS::")
	}
	isOneOf := func(known ...string) bool {
		for key := range keys {
			if !slices.Contains(known, key) {
				return false
			}
		}
		return true
	}
	switch nodes := slices.Collect(maps.Values(keys)); {
	case len(nodes) > 0 && !slices.ContainsFunc(nodes, func(n yaml.Node) bool { return !resources(n) }):
		return head + indent(text, 2), nil
	case isOneOf("EntryPoint", "Command", "StopTimeout", "HealthCheck", "Environment", "DependsOn", "MountPoints"):
		return head + aTask("", "- Name: app\n  Image: app\n"+indent(text, 2)), nil
	case isOneOf("service", "port", "upstreams", "checks", "gateway", "consulServers", "consulLogin", "proxy", "containers", "taskRole"):
		return head + aTask(text, "- Name: app\n  Image: app\n"), nil
	}
	return "", errors.New("it is no template, no resource, no part of a container, and not what EcsMesh may say")
}

// aTask is a task definition with a block for EcsMesh, which may be empty, and
// containers.
func aTask(mesh, containers string) string {
	metadata := ""
	if mesh != "" {
		metadata = "Metadata:\n  EcsMesh:\n" + indent(mesh, 4)
	}
	return indent("Task:\n"+indent("Type: AWS::ECS::TaskDefinition\n"+metadata+
		"Properties:\n  Family: app\n  NetworkMode: awsvpc\n  RequiresCompatibilities: [FARGATE]\n  Cpu: \"256\"\n  Memory: \"512\"\n"+
		"  ExecutionRoleArn: arn:aws:iam::123456789012:role/ecsTaskExecutionRole\n  ContainerDefinitions:\n"+indent(containers, 4), 2), 2)
}

func indent(text string, spaces int) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			out.WriteString(strings.Repeat(" ", spaces))
		}
		out.WriteString(line)
	}
	return out.String()
}

// expanded is a template with its mesh tasks made whole.
func expanded(t *testing.T, template string) (string, error) {
	t.Helper()
	if !strings.Contains(template, "EcsMesh:") {
		return template, nil
	}
	program, err := tools.Dist("ecsmesh-task")
	if err != nil {
		t.Fatal(err)
	}
	expand := exec.CommandContext(t.Context(), program, "-init-image", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ecsmesh-init:1")
	expand.Stdin = strings.NewReader(template)
	out, err := expand.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	return string(out), err
}

func lint(t *testing.T, files ...string) error {
	t.Helper()
	python, err := tools.Python()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, append([]string{filepath.Join(filepath.Dir(python), "cfn-lint")}, files...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// TestGoldenFullDefinition has the full definition of docs/task-definitions.md be
// what the command makes of the plain one.
func TestGoldenFullDefinition(t *testing.T) {
	text := readFile(t, "docs", "task-definitions.md")
	under := func(heading string) (before, block, after string) {
		at := strings.Index(text, "\n## "+heading+"\n")
		if at < 0 {
			t.Fatalf("there is no %s", heading)
		}
		before, rest, found := strings.Cut(text[at:], "```yaml\n")
		block, after, ended := strings.Cut(rest, "```\n")
		if !found || !ended {
			t.Fatalf("there is no block under %s", heading)
		}
		return text[:at] + before + "```yaml\n", block, "```\n" + after
	}
	_, plain, _ := under("The plain one")
	full, err := expanded(t, plain)
	if err != nil {
		t.Fatal(err)
	}
	before, _, after := under("The full one")
	golden.Expect(t, filepath.Join(checkout(t), "docs", "task-definitions.md"), []byte(before+strings.TrimSuffix(full, "\n")+"\n"+after))
}
