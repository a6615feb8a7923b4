package meshtask_test

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/meshtask"
)

// FuzzExpand looks for definitions with which it panics, changes what is not its
// own, or does something else the second time.
func FuzzExpand(f *testing.F) {
	for _, s := range sources(f) {
		f.Add(dump(f, s.definition), dump(f, s.block), s.form == meshtask.API)
	}
	f.Add(small+app, web, false)
	for _, s := range sources(f) { // with another block before
		if _, err := meshtask.Expand(s.definition, s.block, s.form, stack, nil); err != nil {
			f.Fatal(err)
		}
		f.Add(dump(f, s.definition), web, s.form == meshtask.API)
	}
	f.Fuzz(func(t *testing.T, definition, block string, api bool) {
		form := meshtask.CloudFormation
		if api {
			form = meshtask.API
		}
		var before, given, said yaml.Node
		if yaml.Unmarshal([]byte(definition), &given) != nil || yaml.Unmarshal([]byte(block), &said) != nil {
			return
		}
		result, err := meshtask.Expand(&given, &said, form, stack, map[string]any{"Port": 8080.0, "Names": []any{"a", "b"}})
		if err != nil {
			return
		}
		if len(result.Statements) == 0 && !strings.Contains(block, "hosts") {
			t.Error("the role needs nothing")
		}
		once, err := yaml.Marshal(&given)
		if err != nil {
			return // what the YAML library reads and can't write
		}
		if _, err := meshtask.Expand(&given, &said, form, stack, map[string]any{"Port": 8080.0, "Names": []any{"a", "b"}}); err != nil {
			t.Fatalf("expanded again it is refused: %v\n%s", err, once)
		}
		if twice := dump(t, &given); twice != string(once) {
			t.Fatalf("expanded again it is another:\n%s\nand was:\n%s", twice, once)
		}
		if strings.ContainsAny(definition, "&*") {
			return // aliases are written out
		}
		if err := yaml.Unmarshal([]byte(definition), &before); err != nil {
			t.Fatal(err)
		}
		list := "ContainerDefinitions"
		if api {
			list = "containerDefinitions"
		}
		kept(t, get(before.Content[0], list), get(given.Content[0], list), api)
	})
}

// kept expects of each container, but ecsmesh's own, what it was.
func kept(t *testing.T, before, after *yaml.Node, api bool) {
	t.Helper()
	if before == nil {
		return
	}
	name, lists := "Name", []string{"DependsOn", "MountPoints"}
	if api {
		name, lists = "name", []string{"dependsOn", "mountPoints"}
	}
	added := len(after.Content) - len(before.Content)
	for i, container := range before.Content {
		now := after.Content[i+added]
		if container.Kind != yaml.MappingNode || container.Tag != "!!map" || len(container.Content) == 2 || get(container, name) == nil ||
			slices.Contains([]string{"ecsmesh-init", "envoy", "consul-dataplane", "consul-client", "discover-servers"}, get(container, name).Value) {
			continue
		}
		for j := 0; j < len(container.Content); j += 2 {
			field, value := container.Content[j].Value, container.Content[j+1]
			switch is := get(now, field); {
			case strings.EqualFold(field, "dependsOn") && strings.Contains(dump(t, value), "consul-dataplane"):
				// Of another topology, which an expansion before may have had.
			case is == nil:
				t.Errorf("%s lost its %s", get(container, name).Value, field)
			case slices.Contains(lists, field) || strings.EqualFold(field, "healthCheck"):
				if value.Kind == yaml.SequenceNode && value.Tag == "!!seq" && len(is.Content) < len(value.Content) {
					t.Errorf("%s lost some of its %s", get(container, name).Value, field)
				}
			case dump(t, is) != dump(t, value):
				t.Errorf("%s of %s is\n%s and was\n%s", field, get(container, name).Value, dump(t, is), dump(t, value))
			}
		}
	}
}
