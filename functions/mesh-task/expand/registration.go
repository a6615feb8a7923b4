package expand

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/meshtask"
)

// registrable is what register-task-definition takes.
var registrable = []string{
	"containerDefinitions", "cpu", "enableFaultInjection", "ephemeralStorage", "executionRoleArn", "family", "inferenceAccelerators",
	"ipcMode", "memory", "networkMode", "pidMode", "placementConstraints", "proxyConfiguration", "requiresCompatibilities",
	"runtimePlatform", "tags", "taskRoleArn", "volumes",
}

// described is what describe-task-definition gives beside, and
// register-task-definition refuses.
var described = []string{
	"compatibilities", "deleteRequestedAt", "deregisteredAt", "registeredAt", "registeredBy", "requiresAttributes", "revision",
	"status", "taskDefinitionArn",
}

// expandRegistration expands the input of register-task-definition. Of the
// output of describe-task-definition it first makes such.
func expandRegistration(root *yaml.Node, in Input, r *Report) error {
	block, err := blockBeside(root, in)
	if err != nil {
		return err
	}
	if err := unwrap(root, r); err != nil {
		return err
	}
	if block == nil {
		return fmt.Errorf("nothing says what the task is in the mesh: give it in a file of its own (ecsmesh-task -mesh FILE), or under %s at the top of this one, "+
			"with at least service and port", lowerBlockKey)
	}
	result, err := meshtask.Expand(root, in.completed(block), meshtask.API, in.Defaults, nil)
	if err != nil {
		return err
	}
	name := valueOf(get(root, "family"))
	if name == "" {
		return errors.New("family is missing: register-task-definition needs the name under which it keeps the task definition")
	}
	r.Tasks = append(r.Tasks, name)
	r.note("", result.Notes...)
	if result.RoleIsReady || len(result.Statements)+len(result.RoleTags) == 0 {
		return nil
	}
	role := get(root, "taskRoleArn")
	why := "no role can be changed from a task definition"
	if role == nil {
		why = "taskRoleArn is missing, and no role can be made from a task definition"
	}
	return errors.New(instructions(why, role, result))
}

// blockBeside takes the block out of the document, where AWS's API has no place
// for it.
func blockBeside(root *yaml.Node, in Input) (*yaml.Node, error) {
	blocks := []*yaml.Node{in.Block}
	for _, holder := range []*yaml.Node{root, get(root, "taskDefinition")} {
		if holder != nil && holder.Kind == yaml.MappingNode {
			for name := range pairs(holder) {
				if name != blockKey && name != lowerBlockKey && isLikeBlockKey(name) {
					return nil, fmt.Errorf("%s at the top must be %s", name, lowerBlockKey)
				}
			}
			blocks = append(blocks, remove(holder, blockKey), remove(holder, lowerBlockKey))
		}
	}
	blocks = slices.DeleteFunc(blocks, func(b *yaml.Node) bool { return b == nil })
	switch len(blocks) {
	case 0:
		return nil, nil
	case 1:
		return blocks[0], nil
	}
	return nil, errors.New("the block is given more than once: at the top of the document, and beside it or there again")
}

// Plain makes of the output of describe-task-definition, in place, the input of
// register-task-definition and no more: what the result of Document is to be
// compared with.
func Plain(root *yaml.Node) error {
	if _, err := blockBeside(root, Input{}); err != nil {
		return err
	}
	return unwrap(root, &Report{})
}

// unwrap makes the input of register-task-definition of the output of
// describe-task-definition.
func unwrap(root *yaml.Node, r *Report) error {
	var dropped []string
	definition := get(root, "taskDefinition")
	if definition == nil {
		definition = root
	} else if definition.Kind != yaml.MappingNode || get(definition, "containerDefinitions") == nil {
		return errors.New("taskDefinition has no containerDefinitions")
	}
	for _, key := range keys(definition) {
		if slices.Contains(described, key) || (definition != root && !slices.Contains(registrable, key)) {
			remove(definition, key)
			dropped = append(dropped, key)
		}
	}
	if definition != root {
		// With --include TAGS they are beside the task definition.
		if tags := get(root, "tags"); tags != nil && len(tags.Content) > 0 && get(definition, "tags") == nil {
			set(definition, "tags", tags)
		}
		comment := root.HeadComment
		*root = *definition
		root.HeadComment = joined(comment, root.HeadComment)
		r.Described = true
		r.note("", "The task definition is taken out of what describe-task-definition printed.")
	}
	if len(dropped) > 0 {
		r.note("", strings.Join(dropped, ", ")+" left out: register-task-definition doesn't take what AWS found out itself.")
	}
	return nil
}

func joined(comments ...string) string {
	return strings.Join(slices.DeleteFunc(comments, func(c string) bool { return c == "" }), "\n")
}
