package owntask

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// File is a user's file, expanded to mesh tasks.
type File struct {
	// Definitions are in ECS's JSON, where the file has them like that.
	Definitions []json.RawMessage

	// Template is one of CloudFormation with the task definitions alone. Its
	// outputs are their ARNs; those whose conditions don't hold are missing.
	Template json.RawMessage

	Parameters []string // values of the template's parameters that were made up
}

// definitionType is the only type of resource that the lab needs.
const definitionType = "AWS::ECS::TaskDefinition"

// BlockName is that of the Metadata of a mesh task.
const BlockName = "EcsMesh"

// ReadFile reads what the expansion printed as JSON: a template, some of its
// resources, or a task definition in ECS's own form. Whatever a template says of other
// resources is replaced by their names: a lab has no load balancers and roles.
// values are those of parameters, by their names; a parameter without a default
// gets one of its type.
func ReadFile(expanded []byte, values map[string]string) (*File, error) {
	var document map[string]any
	if err := json.Unmarshal(expanded, &document); err != nil {
		return nil, fmt.Errorf("read the expanded file: %w", err)
	}
	if document["containerDefinitions"] != nil {
		return &File{Definitions: []json.RawMessage{expanded}}, nil
	}
	return readTemplate(inTemplate(document), values)
}

// inTemplate puts a template around what is a part of one.
func inTemplate(document map[string]any) map[string]any {
	switch {
	case document["Resources"] != nil:
		return document
	case document["ContainerDefinitions"] != nil:
		document = map[string]any{"Type": definitionType, "Properties": document}
	case document["Type"] == nil:
		return map[string]any{"Resources": document}
	}
	// Its block may have been in another file.
	document["Metadata"] = map[string]any{BlockName: map[string]any{}}
	return map[string]any{"Resources": map[string]any{"TaskDefinition": document}}
}

func readTemplate(document map[string]any, values map[string]string) (*File, error) {
	r := reduction{gone: map[string]bool{}}
	resources, _ := document["Resources"].(map[string]any)
	kept, outputs := map[string]any{}, map[string]any{}
	for name, each := range resources {
		resource, _ := each.(map[string]any)
		metadata, _ := resource["Metadata"].(map[string]any)
		if resource["Type"] != definitionType || metadata[BlockName] == nil {
			r.gone[name] = true
			continue
		}
		definition := map[string]any{"Type": definitionType}
		output := map[string]any{"Value": map[string]any{"Ref": name}}
		properties, _ := resource["Properties"].(map[string]any)
		if properties["Family"] == nil && properties != nil {
			properties["Family"] = name
		}
		definition["Properties"] = properties
		if condition := resource["Condition"]; condition != nil {
			definition["Condition"], output["Condition"] = condition, condition
		}
		kept[name], outputs[name] = definition, output
	}
	if len(kept) == 0 {
		return nil, errors.New("read the expanded file: no task definition has Metadata: " + BlockName)
	}
	reduced := map[string]any{"AWSTemplateFormatVersion": "2010-09-09", "Resources": r.replace(kept), "Outputs": outputs}
	for _, part := range []string{"Mappings", "Conditions"} {
		if document[part] != nil {
			reduced[part] = r.replace(document[part])
		}
	}
	text, err := json.Marshal(reduced)
	if err != nil {
		return nil, fmt.Errorf("write the template of the tasks: %w", err)
	}
	f := &File{}
	declared, _ := document["Parameters"].(map[string]any)
	if reduced["Parameters"], err = f.setParameters(declared, values, string(text)); err != nil {
		return nil, err
	}
	f.Template, err = json.MarshalIndent(reduced, "", "  ")
	return f, err
}

// setParameters are the parameters that a text uses: each with a type that needs
// nothing of an account, and a default.
func (f *File) setParameters(declared map[string]any, values map[string]string, text string) (map[string]any, error) {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if declared[name] == nil {
			faults = append(faults, fmt.Errorf("set parameters: the template has no %s; it has %s", name, cmp.Or(strings.Join(slices.Sorted(maps.Keys(declared)), ", "), "none")))
		}
	}
	used := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		if !strings.Contains(text, `{"Ref":"`+name+`"}`) && !strings.Contains(text, "${"+name+"}") {
			continue
		}
		declaration, _ := declared[name].(map[string]any)
		kind := "String"
		switch given := fmt.Sprint(declaration["Type"]); {
		case given == "Number":
			kind = given
		case strings.Contains(given, "List"):
			kind = "CommaDelimitedList"
		}
		value, has := declaration["Default"]
		if set, ok := values[name]; ok {
			value = set
		} else if !has {
			value = filler(declaration, kind)
			f.Parameters = append(f.Parameters, fmt.Sprintf("%s=%v", name, value))
		}
		used[name] = map[string]any{"Type": kind, "Default": value}
	}
	return used, errors.Join(faults...)
}

// filler is a value for a parameter that nobody gave one.
func filler(declaration map[string]any, kind string) any {
	if allowed, ok := declaration["AllowedValues"].([]any); ok && len(allowed) > 0 {
		return allowed[0]
	}
	if least := declaration["MinValue"]; least != nil {
		return least
	}
	if kind == "Number" {
		return 1
	}
	return "lab"
}

// reduction replaces what refers to resources that are gone.
type reduction struct{ gone map[string]bool }

func (r reduction) replace(value any) any {
	switch value := value.(type) {
	case map[string]any:
		if replacement, ok := r.function(value); ok {
			return replacement
		}
		for k, v := range value {
			value[k] = r.replace(v)
		}
	case []any:
		for i, v := range value {
			value[i] = r.replace(v)
		}
	case string:
		return dynamicReference.ReplaceAllString(value, "resolved-by-aws")
	}
	return value
}

// dynamicReference is a value in SSM or Secrets Manager.
var dynamicReference = regexp.MustCompile(`\{\{resolve:[^}]*\}\}`)

// function replaces an intrinsic function whose value only an account knows.
func (r reduction) function(call map[string]any) (any, bool) {
	if len(call) != 1 {
		return nil, false
	}
	for name, argument := range call {
		switch name {
		case "Ref":
			if resource, _ := argument.(string); r.gone[resource] {
				return resource, true
			}
		case "Fn::GetAtt":
			if resource, attribute := attributeOf(argument); r.gone[resource] {
				return standInFor(resource, attribute), true
			}
		case "Fn::ImportValue":
			if export, ok := argument.(string); ok {
				return export, true
			}
			return "imported", true
		case "Fn::Sub":
			return map[string]any{name: r.substitute(argument)}, true
		}
	}
	return nil, false
}

func attributeOf(argument any) (resource, attribute string) {
	switch argument := argument.(type) {
	case string:
		resource, attribute, _ = strings.Cut(argument, ".")
	case []any:
		if len(argument) == 2 {
			resource, _ = argument[0].(string)
			attribute, _ = argument[1].(string)
		}
	}
	return resource, attribute
}

// variable is one in a text of Fn::Sub. One that begins with ! is no variable.
var variable = regexp.MustCompile(`\$\{([A-Za-z0-9.:]+)\}`)

func (r reduction) substitute(argument any) any {
	text, own := argument, map[string]any{}
	list, isList := argument.([]any)
	if isList && len(list) == 2 {
		text = list[0]
		own, _ = r.replace(list[1]).(map[string]any)
	}
	filled := text
	if text, ok := text.(string); ok {
		text = dynamicReference.ReplaceAllString(text, "resolved-by-aws")
		filled = variable.ReplaceAllStringFunc(text, func(found string) string {
			name := found[2 : len(found)-1]
			resource, attribute, _ := strings.Cut(name, ".")
			if own[name] != nil || !r.gone[resource] {
				return found
			}
			return standInFor(resource, attribute)
		})
	}
	if isList {
		return []any{filled, own}
	}
	return filled
}

// standInFor is the name of a resource, in the form that its attribute has.
func standInFor(resource, attribute string) string {
	if strings.HasSuffix(attribute, "Arn") {
		return "arn:aws:iam::000000000000:role/" + resource
	}
	return resource
}
