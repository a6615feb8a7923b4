package meshtask_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// template is one of CloudFormation, to see what its values come to.
type template struct {
	parameters map[string]any // their values
	conditions map[string]any
	chosen     map[string]bool // conditions by fiat, before those of the template
}

type left struct{} // what CloudFormation leaves out

var variables = regexp.MustCompile(`\$\{([^{}]*)\}`)

// value is what CloudFormation makes of one, with a name for each resource.
func (c template) value(t *testing.T, node any) any {
	t.Helper()
	switch v := node.(type) {
	case []any:
		items := []any{}
		for _, item := range v {
			if inner := c.value(t, item); inner != any(left{}) {
				items = append(items, inner)
			}
		}
		return items
	case map[string]any:
		for name, argument := range v {
			if len(v) == 1 && (name == "Ref" || strings.HasPrefix(name, "Fn::") || name == "Condition") {
				return c.call(t, name, argument)
			}
		}
		fields := map[string]any{}
		for name, inner := range v {
			if inner = c.value(t, inner); inner != any(left{}) {
				fields[name] = inner
			}
		}
		return fields
	}
	return node
}

func (c template) call(t *testing.T, name string, argument any) any {
	t.Helper()
	if name == "Ref" {
		return c.reference(argument.(string))
	}
	if name == "Condition" {
		return c.holds(t, argument.(string))
	}
	if name == "Fn::Sub" {
		own := map[string]any{}
		if parts, ok := argument.([]any); ok {
			argument, own = parts[0], parts[1].(map[string]any)
		}
		return variables.ReplaceAllStringFunc(argument.(string), func(found string) string {
			name := found[2 : len(found)-1]
			if literal, ok := strings.CutPrefix(name, "!"); ok {
				return "${" + literal + "}"
			}
			value := c.reference(name)
			if mine, ok := own[name]; ok {
				value = c.value(t, mine)
			}
			if _, ok := value.(string); !ok {
				t.Fatalf("Fn::Sub has %v for %s, which is no text", value, name)
			}
			return value.(string)
		})
	}
	if name == "Fn::If" {
		parts := argument.([]any)
		if c.holds(t, parts[0].(string)) {
			return c.value(t, parts[1])
		}
		return c.value(t, parts[2])
	}
	items, _ := c.value(t, argument).([]any)
	switch name {
	case "Fn::GetAtt":
		return fmt.Sprintf("%v.%v", items[0], items[1])
	case "Fn::Join":
		var texts []string
		for _, item := range items[1].([]any) {
			texts = append(texts, item.(string))
		}
		return strings.Join(texts, items[0].(string))
	case "Fn::Equals":
		return items[0] == items[1]
	case "Fn::Not":
		return items[0] == false
	case "Fn::And":
		for _, item := range items {
			if item != true {
				return false
			}
		}
		return true
	}
	t.Fatalf("%s is no function that this test knows", name)
	return nil
}

func (c template) reference(name string) any {
	if name == "AWS::NoValue" {
		return left{}
	}
	if value, ok := c.parameters[name]; ok {
		if list, ok := value.([]any); ok {
			return list
		}
		return fmt.Sprint(value)
	}
	return "{" + name + "}"
}

func (c template) holds(t *testing.T, name string) bool {
	t.Helper()
	if chosen, ok := c.chosen[name]; ok {
		return chosen
	}
	condition, ok := c.conditions[name]
	if !ok {
		t.Fatalf("there is no condition %s", name)
	}
	return c.value(t, condition) == true
}

// asJSON is a node with functions in their long form, as JSON would have it.
func asJSON(t *testing.T, node *yaml.Node) any {
	t.Helper()
	if strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!") {
		name, inner := node.Tag[1:], *node
		if inner.Tag = ""; name != "Ref" && name != "Condition" {
			name = "Fn::" + name
		}
		if node.Kind == yaml.ScalarNode {
			inner.Tag = "!!str"
		}
		value := asJSON(t, &inner)
		if parts, ok := value.(string); ok && name == "Fn::GetAtt" {
			resource, attribute, _ := strings.Cut(parts, ".")
			value = []any{resource, attribute}
		}
		return map[string]any{name: value}
	}
	switch node.Kind {
	case yaml.MappingNode:
		fields := map[string]any{}
		for i := 0; i < len(node.Content); i += 2 {
			fields[node.Content[i].Value] = asJSON(t, node.Content[i+1])
		}
		return fields
	case yaml.SequenceNode:
		items := []any{}
		for _, item := range node.Content {
			items = append(items, asJSON(t, item))
		}
		return items
	}
	var value any
	if err := node.Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// settings is the document in ECSMESH_CONFIG of a container, without fields that
// are null: that is the same as leaving them out.
func settings(t *testing.T, container map[string]any) any {
	t.Helper()
	for _, list := range []string{"Environment", "environment"} {
		variables, _ := container[list].([]any)
		for _, item := range variables {
			variable := item.(map[string]any)
			name, value := variable["Name"], variable["Value"]
			if list == "environment" {
				name, value = variable["name"], variable["value"]
			}
			if name != "ECSMESH_CONFIG" {
				continue
			}
			var document any
			if err := json.Unmarshal([]byte(value.(string)), &document); err != nil {
				t.Fatalf("ECSMESH_CONFIG is no JSON: %v\n%s", err, value)
			}
			return withoutNull(document)
		}
	}
	return nil
}

func withoutNull(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			if inner == nil {
				delete(v, name)
			} else {
				v[name] = withoutNull(inner)
			}
		}
	case []any:
		for i, inner := range v {
			v[i] = withoutNull(inner)
		}
	}
	return value
}
