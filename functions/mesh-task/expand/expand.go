// Package expand finds the mesh tasks in a document, has package meshtask make
// full task definitions of them, and sees to what is around one: the task role,
// the template, and what AWS's next tool takes.
package expand

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/meshtask"
)

const (
	taskDefinitionType = "AWS::ECS::TaskDefinition"

	// blockKey is where a task definition says what it is in the mesh: in a
	// resource's Metadata, or at the top of what has none.
	blockKey = "EcsMesh"

	// lowerBlockKey is the same in the manner of the API's names.
	lowerBlockKey = "ecsMesh"

	// Macro is the macro's usual name in a template's Transform.
	Macro = "EcsMesh"
)

// Input is what counts beside the document itself.
type Input struct {
	Block      *yaml.Node        // of EcsMesh, where it isn't in the document; or nil
	Defaults   meshtask.Defaults // for all tasks
	HTTPPort   int               // of the Consul servers, where it isn't the usual one; or 0
	Partition  string            // of Consul Enterprise, where it isn't the default one; or ""
	Parameters map[string]any    // values of the template's parameters, where they aren't their defaults
}

// Report is what whoever deploys the result should know.
type Report struct {
	Tasks []string // the mesh tasks: logical IDs, or families
	Notes []string // a sentence each

	Described bool // the document was the output of describe-task-definition
}

func (r *Report) note(task string, notes ...string) {
	for _, note := range notes {
		if task != "" {
			note = task + ": " + note
		}
		r.Notes = append(r.Notes, note)
	}
}

// Document expands every mesh task in a document, in place. The document is a
// template of CloudFormation or SAM, a part of one (resources by their logical
// IDs, a resource, or its properties), the input of register-task-definition, or
// the output of describe-task-definition. The error has every fault; root is of
// no use then.
func Document(root *yaml.Node, in Input) (Report, error) {
	var r Report
	var err error
	switch {
	case root.Kind == yaml.SequenceNode:
		err = errors.New("the document is a list: a task definition is an object, in which containerDefinitions is the list")
	case root.Kind != yaml.MappingNode:
		err = fmt.Errorf("the document is %q, and not a template or a task definition", root.Value)
	case get(root, "Resources") != nil:
		err = expandTemplate(root, in, &r)
	case get(root, "Type") != nil:
		err = expandResource(root, in, &r)
	case get(root, "ContainerDefinitions") != nil:
		err = expandProperties(root, in, &r)
	case get(root, "taskDefinition") != nil, get(root, "containerDefinitions") != nil:
		err = expandRegistration(root, in, &r)
	case areResources(root):
		err = expandResources(scope{resources: root}, in, &r)
	default:
		err = fmt.Errorf("the document is no template (it has no Resources) and no task definition (it has no ContainerDefinitions and no containerDefinitions): at its top are %s",
			strings.Join(keys(root), ", "))
	}
	return r, err
}

// areResources says whether a mapping is that of a template's Resources.
func areResources(node *yaml.Node) bool {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if get(node.Content[i+1], "Type") == nil && !isLoop(node.Content[i].Value) {
			return false
		}
	}
	return len(node.Content) > 0
}

// expandResource expands one resource alone. Nothing can be put beside it.
func expandResource(resource *yaml.Node, in Input, r *Report) error {
	if found := get(resource, "Type").Value; found != taskDefinitionType {
		return fmt.Errorf("the resource's Type is %s, and only an %s can be a mesh task", found, taskDefinitionType)
	}
	block, err := blockOf(resource, in)
	if err != nil {
		return err
	}
	if block == nil {
		return errors.New("the resource is no mesh task yet; add\n" + blockExample("web"))
	}
	t := task{id: "the resource", properties: get(resource, "Properties"), resource: resource}
	return t.expand(block, in, r)
}

// expandProperties expands a resource's properties alone, which say nothing of
// the mesh themselves.
func expandProperties(properties *yaml.Node, in Input, r *Report) error {
	if in.Block == nil {
		return errors.New("these are the properties of a resource, without its Metadata: say in a block of their own what the task is in the mesh " +
			"(ecsmesh-task -mesh FILE, or Parameters of Fn::Transform), with at least service and port")
	}
	t := task{id: "the task definition", properties: properties}
	return t.expand(in.Block, in, r)
}

// expandTemplate expands the tasks of a whole template.
func expandTemplate(template *yaml.Node, in Input, r *Report) error {
	if in.Block != nil {
		return fmt.Errorf("a template has the block of each mesh task in the task definition's Metadata, under %s, and none can be given beside it", blockKey)
	}
	parameters := defaultsOf(get(template, "Parameters"))
	maps.Copy(parameters, in.Parameters)
	for name, declared := range pairs(get(template, "Parameters")) {
		// The value is the name of an SSM parameter, and not what that holds.
		if strings.HasPrefix(valueOf(get(declared, "Type")), "AWS::SSM::Parameter::Value<") {
			delete(parameters, name)
		}
	}
	in.Parameters = parameters
	if err := expandResources(scope{resources: get(template, "Resources"), parameters: get(template, "Parameters")}, in, r); err != nil {
		return err
	}
	if takeOutTransform(template) {
		r.note("", "Transform: "+Macro+" is taken out, since it is done.")
	}
	return nil
}

// defaultsOf are the parameters' values that hold where nobody sets others.
func defaultsOf(declared *yaml.Node) map[string]any {
	values := map[string]any{}
	for name, parameter := range pairs(declared) {
		var value any
		if set := get(parameter, "Default"); set != nil && set.Decode(&value) == nil {
			values[name] = value
		}
	}
	return values
}

// takeOutTransform takes the macro out of the template's Transform, and says
// whether it was there.
func takeOutTransform(template *yaml.Node) bool {
	transform := get(template, "Transform")
	if transform == nil {
		return false
	}
	if transform.Value == Macro {
		remove(template, "Transform")
		return true
	}
	for i, member := range transform.Content {
		if transform.Kind != yaml.SequenceNode || (member.Value != Macro && valueOf(get(member, "Name")) != Macro) {
			continue
		}
		if len(transform.Content) == 1 {
			remove(template, "Transform")
		} else {
			transform.Content = append(transform.Content[:i:i], transform.Content[i+1:]...)
		}
		return true
	}
	return false
}

// blockOf is what a resource says of its place in the mesh, or nil.
func blockOf(resource *yaml.Node, in Input) (*yaml.Node, error) {
	for _, elsewhere := range []*yaml.Node{resource, get(resource, "Properties"), get(resource, "Properties", "Metadata")} {
		for name := range pairs(elsewhere) {
			if isLikeBlockKey(name) {
				return nil, fmt.Errorf("%s belongs into the resource's Metadata, which is beside its Properties, as %s", name, blockKey)
			}
		}
	}
	metadata := get(resource, "Metadata")
	for name := range pairs(metadata) {
		if name != blockKey && isLikeBlockKey(name) {
			return nil, fmt.Errorf("%s in Metadata must be %s", name, blockKey)
		}
	}
	block := get(metadata, blockKey)
	if block != nil && in.Block != nil {
		return nil, errors.New("the block is given twice: in Metadata, and beside the document")
	}
	if block == nil {
		block = in.Block
	}
	return block, nil
}

// isLikeBlockKey tells whether a name is that of the block, or that with a
// mistake, which would leave a task out of the mesh without a word: other case or
// separators, a letter too much, too few or wrong, or two that changed places.
func isLikeBlockKey(name string) bool {
	plain := strings.NewReplacer("-", "", "_", "", " ", "", ":", "").Replace(strings.ToLower(name))
	want := strings.ToLower(blockKey)
	same := 0 // letters at the begin
	for same < len(plain) && same < len(want) && plain[same] == want[same] {
		same++
	}
	a, b := plain[same:], want[same:]
	switch len(a) - len(b) {
	case 0:
		return len(a) == 0 || a[1:] == b[1:] || len(a) > 1 && a[0] == b[1] && a[1] == b[0] && a[2:] == b[2:]
	case 1:
		return a[1:] == b
	case -1:
		return b[1:] == a
	}
	return false
}

func blockExample(service string) string {
	return "  Metadata:\n    " + blockKey + ":\n      service: " + service + "\n      port: 8080 # where the application listens"
}

// pairs are the keys and values of a mapping; none of what isn't one.
func pairs(mapping *yaml.Node) func(func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		if mapping == nil || mapping.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(mapping.Content); i += 2 {
			if !yield(mapping.Content[i].Value, mapping.Content[i+1]) {
				return
			}
		}
	}
}

// valueOf is a scalar's text; "" where there is none.
func valueOf(node *yaml.Node) string {
	if node == nil || node.Kind != yaml.ScalarNode {
		return ""
	}
	return node.Value
}

// prefixed names what each of an error's faults is in.
func prefixed(where string, err error) error {
	several, ok := err.(interface{ Unwrap() []error }) //nolint:errorlint // one within others has words around it
	if !ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	var faults []error
	for _, fault := range several.Unwrap() {
		faults = append(faults, prefixed(where, fault))
	}
	return errors.Join(faults...)
}
