package document

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// layout is how a file of YAML is indented.
type layout struct {
	indent  int  // spaces for each level
	compact bool // a list in a mapping is no level
}

// layoutOf finds the layout of a tree that was read: the first mapping in a
// mapping shows one part of it, the first list in one the other.
func layoutOf(root *yaml.Node) layout {
	var found layout
	lists := false
	var look func(node *yaml.Node)
	look = func(node *yaml.Node) {
		for i, child := range node.Content {
			if node.Kind == yaml.MappingNode && i%2 == 1 && block(node) && block(child) && child.Line > 0 && len(child.Content) > 0 {
				key := node.Content[i-1]
				deeper := child.Column - key.Column
				if child.Kind == yaml.MappingNode {
					deeper = child.Content[0].Column - key.Column // child's own is that of its anchor or tag
				}
				switch {
				case child.Kind == yaml.SequenceNode && !lists:
					lists, found.compact = true, deeper == 0
				case child.Kind == yaml.MappingNode && found.indent == 0 && deeper > 0:
					found.indent = deeper
				}
			}
			look(child)
		}
	}
	look(root)
	// The encoder takes 2 to 9.
	if found.indent < 2 || found.indent > 9 {
		found.indent = len(defaultIndent)
	}
	return found
}

// block says whether a node is a list or a mapping with a line for each member.
func block(node *yaml.Node) bool {
	return (node.Kind == yaml.MappingNode || node.Kind == yaml.SequenceNode) && node.Style&yaml.FlowStyle == 0
}

func encodeYAML(node *yaml.Node, l layout) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(l.indent)
	if l.compact {
		encoder.CompactSeqIndent()
	}
	if err := encoder.Encode(node); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("write YAML: %w", err)
	}
	return out.Bytes(), nil
}
