package expand

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
	"ecsmesh/functions/mesh-task/meshtask"
)

// scope is a mapping of resources: a template's, or what a loop repeats.
type scope struct {
	resources  *yaml.Node
	parameters *yaml.Node // that the template declares; nil where there is none
	outer      *scope     // of a loop
}

// find returns a resource by its logical ID, or nil.
func (s *scope) find(id string) *yaml.Node {
	if found := get(s.resources, id); found != nil || s.outer == nil {
		return found
	}
	return s.outer.find(id)
}

// isLoop recognises Fn::ForEach of AWS::LanguageExtensions, which comes after
// macros of one's own, and so is still there.
func isLoop(id string) bool { return strings.HasPrefix(id, "Fn::ForEach::") }

// body is what a loop repeats: the last of its identifier, its collection and
// that. It is nil where it isn't written out.
func body(loop *yaml.Node) *yaml.Node {
	if loop.Kind != yaml.SequenceNode || len(loop.Content) != 3 || loop.Content[2].Kind != yaml.MappingNode {
		return nil
	}
	return loop.Content[2]
}

// expandResources expands the mesh tasks among resources.
func expandResources(s scope, in Input, r *Report) error {
	if s.resources.Kind != yaml.MappingNode {
		return errors.New("the template's Resources must be a mapping, of logical IDs to resources")
	}
	if in.Block != nil {
		if tasks := tasksIn(s.resources); len(tasks) > 1 {
			return fmt.Errorf("one block is given for several task definitions (%s), which can't be the same service: give each its own, in its Metadata under %s", strings.Join(tasks, ", "), blockKey)
		}
	}
	before := len(r.Tasks)
	plain, err := expandScope(s, in, r)
	if err != nil || len(r.Tasks) > before {
		return err
	}
	if len(plain) == 0 {
		return fmt.Errorf("the template has no %s", taskDefinitionType)
	}
	return fmt.Errorf("no task definition is a mesh task yet (%s): add to each that is to be one, beside its Properties,\n%s",
		strings.Join(plain, ", "), blockExample("web"))
}

// tasksIn are the logical IDs of the task definitions among resources.
func tasksIn(resources *yaml.Node) []string {
	var found []string
	for id, resource := range pairs(resources) {
		switch {
		case isLoop(id):
			if inner := body(resource); inner != nil {
				found = append(found, tasksIn(inner)...)
			}
		case valueOf(get(resource, "Type")) == taskDefinitionType:
			found = append(found, id)
		}
	}
	return found
}

// expandScope also returns the logical IDs of the task definitions that are no
// mesh tasks.
func expandScope(s scope, in Input, r *Report) (plain []string, err error) {
	var faults []error
	for _, id := range keys(s.resources) { // as they are now: more are added
		resource := get(s.resources, id)
		if isLoop(id) {
			if inner := body(resource); inner != nil {
				more, err := expandScope(scope{resources: inner, parameters: s.parameters, outer: &s}, in, r)
				plain, faults = append(plain, more...), append(faults, err)
			}
			continue
		}
		if valueOf(get(resource, "Type")) != taskDefinitionType {
			continue
		}
		block, err := blockOf(resource, in)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("%s: %w", id, err))
		case block == nil:
			plain = append(plain, id)
		default:
			t := task{id: id, properties: get(resource, "Properties"), resource: resource, scope: &s}
			faults = append(faults, t.expand(block, in, r))
		}
	}
	return plain, errors.Join(faults...)
}

// task is a task definition in a document.
type task struct {
	id         string // for messages; in a scope, the logical ID
	properties *yaml.Node
	resource   *yaml.Node // nil: the properties stand alone
	scope      *scope     // where resources can be added; nil: nowhere
}

// expand makes a mesh task of it, and lets its role do what that needs.
func (t *task) expand(block *yaml.Node, in Input, r *Report) error {
	if t.properties == nil || t.properties.Kind != yaml.MappingNode {
		return fmt.Errorf("%s: it has no Properties", t.id)
	}
	result, err := meshtask.Expand(t.properties, in.completed(block), meshtask.CloudFormation, in.Defaults, in.Parameters)
	if err != nil {
		return prefixed(t.id, err)
	}
	r.Tasks = append(r.Tasks, t.id)
	r.note(t.id, result.Notes...)
	return prefixedOrNil(t.id, t.grant(result, in.Parameters))
}

func prefixedOrNil(where string, err error) error {
	if err == nil {
		return nil
	}
	return prefixed(where, err)
}

// dependOn has the task definition made after another resource, and so tasks
// started.
func (t *task) dependOn(id string) {
	depends := get(t.resource, "DependsOn")
	switch {
	case depends == nil:
		insertAfter(t.resource, "Type", "DependsOn", scalar(id))
	case depends.Kind == yaml.ScalarNode && depends.Value != id:
		set(t.resource, "DependsOn", inOneLine(list(depends, scalar(id))))
	case depends.Kind == yaml.SequenceNode && !slices.ContainsFunc(depends.Content, func(n *yaml.Node) bool { return n.Value == id }):
		depends.Content = append(depends.Content, scalar(id))
	}
}

// dependNoMore has the task definition not wait for a resource that is gone.
func (t *task) dependNoMore(id string) {
	depends := get(t.resource, "DependsOn")
	switch {
	case depends == nil:
	case depends.Kind == yaml.ScalarNode && depends.Value == id:
		remove(t.resource, "DependsOn")
	case depends.Kind == yaml.SequenceNode:
		depends.Content = slices.DeleteFunc(depends.Content, func(n *yaml.Node) bool { return n.Value == id })
		if len(depends.Content) == 0 {
			remove(t.resource, "DependsOn")
		}
	}
}

// references are the logical IDs that an expression of CloudFormation names.
func references(expression *yaml.Node) []string {
	name, argument := document.Function(expression)
	switch name {
	case "Ref":
		return []string{argument.Value}
	case "Fn::GetAtt":
		if argument.Kind == yaml.SequenceNode && len(argument.Content) > 0 {
			return []string{argument.Content[0].Value}
		}
		id, _, _ := strings.Cut(argument.Value, ".")
		return []string{id}
	case "Fn::Sub":
		template := argument
		if argument.Kind == yaml.SequenceNode && len(argument.Content) > 0 {
			template = argument.Content[0]
		}
		found := variables(template.Value)
		for _, more := range argument.Content {
			found = append(found, references(more)...)
		}
		return found
	}
	var found []string
	for _, child := range expression.Content {
		found = append(found, references(child)...)
	}
	return found
}

// variables are what a text of Fn::Sub names, without their attributes.
func variables(text string) []string {
	var found []string
	for {
		_, rest, more := strings.Cut(text, "${")
		if !more {
			return found
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return found
		}
		if !strings.HasPrefix(name, "!") {
			id, _, _ := strings.Cut(strings.TrimSpace(name), ".")
			found = append(found, id)
		}
		text = after
	}
}
