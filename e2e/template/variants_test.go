package template

import (
	"fmt"
	"strings"
	"testing"
)

// variant is the expanded template as it is for certain parameters.
type variant struct {
	t *testing.T
	expanded
	params map[string]string
}

// resource returns the properties of a resource, or nil where it is left out.
func (v variant) resource(id string) map[string]any {
	v.t.Helper()
	resource, ok := v.Resources[id]
	if !ok {
		v.t.Fatalf("the template has no %s", id)
	}
	if resource.Condition != "" && !v.holds(map[string]any{"Condition": resource.Condition}) {
		return nil
	}
	return v.chosen(parse[map[string]any](v.t, resource.Properties)).(map[string]any)
}

// noValue stands for what a template leaves out.
type noValue struct{}

// chosen is a part of the template with only that side of each Fn::If that applies.
func (v variant) chosen(part any) any {
	switch part := part.(type) {
	case []any:
		var list []any
		for _, element := range part {
			if e := v.chosen(element); e != any(noValue{}) {
				list = append(list, e)
			}
		}
		return list
	case map[string]any:
		if part["Ref"] == "AWS::NoValue" {
			return noValue{}
		}
		if sides, ok := part["Fn::If"].([]any); ok {
			if v.holds(map[string]any{"Condition": sides[0]}) {
				return v.chosen(sides[1])
			}
			return v.chosen(sides[2])
		}
		fields := map[string]any{}
		for key, value := range part {
			if f := v.chosen(value); f != any(noValue{}) {
				fields[key] = f
			}
		}
		return fields
	}
	return part
}

// holds evaluates a condition, in the functions that ours use.
func (v variant) holds(condition any) bool {
	v.t.Helper()
	for function, argument := range condition.(map[string]any) {
		list, _ := argument.([]any)
		switch function {
		case "Condition":
			return v.holds(v.Conditions[argument.(string)])
		case "Fn::Not":
			return !v.holds(list[0])
		case "Fn::And":
			for _, c := range list {
				if !v.holds(c) {
					return false
				}
			}
			return true
		case "Fn::Equals":
			return v.text(list[0]) == v.text(list[1])
		}
	}
	v.t.Fatalf("the test can't evaluate %v", condition)
	return false
}

func (v variant) text(expression any) string {
	v.t.Helper()
	fields, ok := expression.(map[string]any)
	if !ok {
		return expression.(string)
	}
	if parameter, ok := fields["Ref"].(string); ok {
		if value, set := v.params[parameter]; set {
			return value
		}
		return fmt.Sprint(v.Parameters[parameter].Default)
	}
	if join, ok := fields["Fn::Join"].([]any); ok && join[0] == "" {
		return strings.ReplaceAll(v.text(join[1]), ",", "") // of a list in one parameter
	}
	v.t.Fatalf("the test can't evaluate %v", expression)
	return ""
}
