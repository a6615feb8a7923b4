package meshtask_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/golden"
	"ecsmesh/functions/mesh-task/meshtask"
)

// stack is what its operator says for all tasks.
var stack = meshtask.Defaults{
	InitImage: "registry.example/ecsmesh-init:1", ServersParameter: "/mesh/consul-servers",
	TLS: true, CAParameter: "/aws/reference/secretsmanager/consul-ca", CASecretARN: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:consul-ca-AbCdEf",
	TLSServerName: "server.dc1.consul", Login: true, LoginMethod: "ecsmesh-tasks", LoginServerID: "mesh",
}

// source is one of testdata's task definitions.
type source struct {
	name                        string
	document, definition, block *yaml.Node
	form                        meshtask.Form
}

func sources(t testing.TB) []source {
	t.Helper()
	paths, err := filepath.Glob("testdata/*")
	if err != nil {
		t.Fatal(err)
	}
	var found []source
	for _, path := range paths {
		if strings.Contains(path, ".golden.") || filepath.Ext(path) == "" {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, read(t, filepath.Base(path), string(content)))
	}
	if len(found) < 12 {
		t.Fatalf("testdata has %d task definitions", len(found))
	}
	return found
}

func read(t testing.TB, name, content string) source {
	t.Helper()
	root := parse(t, content)
	if block := get(root, "ecsMesh"); block != nil {
		remove(root, "ecsMesh")
		return source{name, root, root, block, meshtask.API}
	}
	return source{name, root, get(root, "Properties"), get(get(root, "Metadata"), "EcsMesh"), meshtask.CloudFormation}
}

func get(node *yaml.Node, name string) *yaml.Node {
	for i := 0; node != nil && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1]
		}
	}
	return nil
}

func TestGolden(t *testing.T) {
	for _, s := range sources(t) {
		t.Run(s.name, func(t *testing.T) {
			result, err := meshtask.Expand(s.definition, s.block, s.form, stack, nil)
			if err != nil {
				t.Fatal(err)
			}
			once := dump(t, s.definition)
			again, err := meshtask.Expand(s.definition, s.block, s.form, stack, nil)
			if err != nil {
				t.Fatalf("expand it again: %v", err)
			}
			if twice := dump(t, s.definition); once != twice {
				t.Errorf("expanded again it is another:\n%s\nand was:\n%s", twice, once)
			}
			again.Notes = result.Notes // what was added needs no second word
			if printed(t, again) != printed(t, result) {
				t.Errorf("expanded again the role needs something else: %s, and was: %s", printed(t, again), printed(t, result))
			}
			if filepath.Ext(s.name) == ".json" {
				block(s.definition) // JSON in one line is nothing to read
			}
			golden.Expect(t, filepath.Join("testdata", strings.TrimSuffix(s.name, filepath.Ext(s.name))+".golden.yaml"),
				[]byte(dump(t, s.definition)+"--- # what was found beside\n"+printed(t, result)))
		})
	}
}

// block has a node printed in lines.
func block(node *yaml.Node) {
	node.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	for _, item := range node.Content {
		block(item)
	}
}

func printed(t testing.TB, result meshtask.Result) string {
	t.Helper()
	raw, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	out, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
