package expand

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
)

// get is the value of a mapping's key, or nil.
func get(mapping *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		if mapping == nil || mapping.Kind != yaml.MappingNode {
			return nil
		}
		at := index(mapping, key)
		if at < 0 {
			return nil
		}
		mapping = mapping.Content[at+1]
	}
	return mapping
}

// index is where a mapping has a key, or -1.
func index(mapping *yaml.Node, key string) int {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// keys are those of a mapping, in its order.
func keys(mapping *yaml.Node) []string {
	var names []string
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		names = append(names, mapping.Content[i].Value)
	}
	return names
}

// set gives a mapping's key a value: in its place, or at the end.
func set(mapping *yaml.Node, key string, value *yaml.Node) {
	if at := index(mapping, key); at >= 0 {
		mapping.Content[at+1] = value
		return
	}
	mapping.Content = append(mapping.Content, scalar(key), value)
}

// insertAfter puts a key into a mapping after another one that it has.
func insertAfter(mapping *yaml.Node, after, key string, value *yaml.Node) {
	mapping.Content = slices.Insert(mapping.Content, index(mapping, after)+2, scalar(key), value)
}

// remove takes a key out of a mapping and returns its value, or nil.
func remove(mapping *yaml.Node, key string) *yaml.Node {
	at := index(mapping, key)
	if at < 0 {
		return nil
	}
	value := mapping.Content[at+1]
	mapping.Content = slices.Delete(mapping.Content, at, at+2)
	return value
}

func scalar(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
}

func short(function, argument string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!" + function, Value: argument}
}

func list(members ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: members}
}

func inOneLine(node *yaml.Node) *yaml.Node {
	node.Style = yaml.FlowStyle
	return node
}

// mapping is one of pairs, in their order.
func mapping(pairs ...any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(pairs); i += 2 {
		m.Content = append(m.Content, scalar(pairs[i].(string)), nodeOf(pairs[i+1]))
	}
	return m
}

// nodeOf writes a value as a node: a text, a list, a mapping, or what is a node
// already. Intrinsic functions are short where they can be.
func nodeOf(value any) *yaml.Node {
	switch value := value.(type) {
	case *yaml.Node:
		return value
	case string:
		return scalar(value)
	case []any:
		l := list()
		for _, member := range value {
			l.Content = append(l.Content, nodeOf(member))
		}
		return l
	case map[string]any:
		m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			m.Content = append(m.Content, scalar(key), nodeOf(value[key]))
		}
		return shortened(m)
	}
	var node yaml.Node
	if err := node.Encode(value); err != nil {
		panic(err) // no other value is made here
	}
	return &node
}

// shortened is a call of a function with a text, or with the name of an
// attribute, as a short tag.
func shortened(node *yaml.Node) *yaml.Node {
	name, argument := document.Function(node)
	if name == "" || name == "Condition" {
		return node
	}
	tag := strings.TrimPrefix(name, "Fn::")
	if argument.Kind == yaml.ScalarNode {
		return short(tag, argument.Value)
	}
	if tag == "GetAtt" && len(argument.Content) == 2 {
		return short(tag, argument.Content[0].Value+"."+argument.Content[1].Value)
	}
	return node
}

// oneLine is a value as JSON in one line, for messages. It is also how two
// values are compared, since it writes functions in one way.
func oneLine(node *yaml.Node) string {
	flat := document.Clone(node)
	flat.Style = yaml.FlowStyle
	text, err := document.EncodeJSON(flat, "")
	if err != nil {
		return err.Error() // of a key that is no text, which no value of ours has
	}
	return strings.TrimSuffix(string(text), "\n")
}

func same(a, b *yaml.Node) bool { return oneLine(a) == oneLine(b) }
