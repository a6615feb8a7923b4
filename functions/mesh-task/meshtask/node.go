package meshtask

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// most is what a task definition's nodes may come to once its aliases are written
// out. CloudFormation takes a megabyte, ECS 64 KB.
const most = 200_000

// plain returns a copy of a node in which nothing is shared: where an alias was,
// there is a copy of what it stood for. CloudFormation knows no aliases, and what
// is changed at one place must not change at another.
func plain(node *yaml.Node) (*yaml.Node, error) {
	left := most
	return copied(node, &left)
}

func copied(node *yaml.Node, left *int) (*yaml.Node, error) {
	if *left--; *left < 0 {
		return nil, errors.New("its YAML is too large, or an alias contains itself")
	}
	if node.Kind == yaml.AliasNode {
		if node.Alias == nil {
			return nil, fmt.Errorf("the YAML alias *%s stands for nothing", node.Value)
		}
		inner, err := copied(node.Alias, left)
		if err == nil {
			inner.HeadComment, inner.LineComment, inner.FootComment = node.HeadComment, node.LineComment, node.FootComment
		}
		return inner, err
	}
	twin := *node
	twin.Anchor, twin.Alias, twin.Content = "", nil, nil
	for i, item := range node.Content {
		inner, err := copied(item, left)
		if err != nil {
			return nil, err
		}
		if node.Kind == yaml.MappingNode && i%2 == 0 && inner.Kind == yaml.ScalarNode && inner.Value == "<<" && inner.Tag != "!!str" {
			return nil, errors.New("YAML's merge key << is nothing that CloudFormation or ECS knows; write the fields out")
		}
		twin.Content = append(twin.Content, inner)
	}
	return &twin, nil
}

// clone copies a node that has no aliases.
func clone(node *yaml.Node) *yaml.Node {
	twin := *node
	twin.Content = nil
	for _, item := range node.Content {
		twin.Content = append(twin.Content, clone(item))
	}
	return &twin
}

// bare is a clone without comments, for what is put at another place.
func bare(node *yaml.Node) *yaml.Node {
	twin := clone(node)
	var strip func(*yaml.Node)
	strip = func(n *yaml.Node) {
		n.HeadComment, n.LineComment, n.FootComment = "", "", ""
		for _, item := range n.Content {
			strip(item)
		}
	}
	strip(twin)
	return twin
}

// twice returns the path of a field that a map has twice, or "".
func twice(node *yaml.Node, path string) string {
	seen := map[string]bool{}
	for i, item := range node.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if node.Kind == yaml.MappingNode {
			if i%2 == 0 {
				continue
			}
			name := node.Content[i-1].Value
			if at = strings.TrimPrefix(path+"."+name, "."); seen[name] {
				return at
			}
			seen[name] = true
		}
		if found := twice(item, at); found != "" {
			return found
		}
	}
	return ""
}

func isNull(node *yaml.Node) bool {
	return node == nil || node.Kind == 0 || node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

func isMap(node *yaml.Node) bool  { return node != nil && node.Kind == yaml.MappingNode }
func isList(node *yaml.Node) bool { return node != nil && node.Kind == yaml.SequenceNode }

// get returns the value of a map's field; nil where it isn't there, or null.
func get(node *yaml.Node, name string) *yaml.Node {
	if !isMap(node) {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			if isNull(node.Content[i+1]) {
				return nil
			}
			return node.Content[i+1]
		}
	}
	return nil
}

// set gives a map's field a value, at the field's place where it has one.
func set(node *yaml.Node, name string, value *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			node.Content[i+1] = value
			return
		}
	}
	node.Content = append(node.Content, text(name), value)
}

// text is a scalar that is a string whatever it looks like.
func text(value string) *yaml.Node {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	if strings.Contains(value, "\n") {
		node.Style = yaml.LiteralStyle
	}
	return node
}

func texts(values ...string) []*yaml.Node {
	nodes := make([]*yaml.Node, len(values))
	for i, value := range values {
		nodes[i] = text(value)
	}
	return nodes
}

func number(value int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(value)}
}

func boolean(value bool) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(value)}
}

// flow is a list that is printed in one line.
func flow(items ...*yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Style: yaml.FlowStyle, Content: items}
}

// field is one of a map, in its order.
type field struct {
	name  string
	value *yaml.Node
}

func mapping(fields ...field) *yaml.Node {
	node := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, f := range fields {
		node.Content = append(node.Content, text(f.name), f.value)
	}
	return node
}

// flowMap is a map that is printed in one line.
func flowMap(fields ...field) *yaml.Node {
	node := mapping(fields...)
	node.Style = yaml.FlowStyle
	return node
}

// function tells whether a node is an intrinsic function of CloudFormation, by
// its name as in the long form (Ref, Fn::Sub) and its argument.
func function(node *yaml.Node) (name string, argument *yaml.Node, ok bool) {
	if node == nil {
		return "", nil, false
	}
	if tag := node.Tag; strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") && len(tag) > 1 {
		twin := *node
		twin.Tag = map[yaml.Kind]string{yaml.MappingNode: "!!map", yaml.SequenceNode: "!!seq"}[node.Kind]
		if node.Kind == yaml.ScalarNode {
			twin.Tag = "!!str"
		}
		name = strings.TrimPrefix(tag, "!")
		if name != "Ref" {
			name = "Fn::" + name
		}
		return name, &twin, true
	}
	if isMap(node) && len(node.Content) == 2 {
		if name = node.Content[0].Value; name == "Ref" || strings.HasPrefix(name, "Fn::") {
			return name, node.Content[1], true
		}
	}
	return "", nil, false
}

// hasShortTags tells whether any function is written as a tag.
func hasShortTags(node *yaml.Node) bool {
	if strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!") {
		return true
	}
	for _, item := range node.Content {
		if hasShortTags(item) {
			return true
		}
	}
	return false
}

// long is a node as JSON has it: functions are maps, whatever they were.
func long(node *yaml.Node) any {
	if name, argument, ok := function(node); ok {
		value := long(argument)
		if parts, isText := value.(string); isText && name == "Fn::GetAtt" {
			resource, attribute, _ := strings.Cut(parts, ".")
			value = []any{resource, attribute}
		}
		return map[string]any{name: value}
	}
	switch {
	case isMap(node):
		fields := make(map[string]any, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			fields[node.Content[i].Value] = long(node.Content[i+1])
		}
		return fields
	case isList(node):
		items := make([]any, len(node.Content))
		for i, item := range node.Content {
			items[i] = long(item)
		}
		return items
	default:
		return scalar(node)
	}
}

// scalar is the value of a scalar as JSON has it. Dates, of which JSON has none,
// are texts.
func scalar(node *yaml.Node) any {
	if isNull(node) {
		return nil
	}
	var value any
	switch node.ShortTag() {
	case "!!bool", "!!int", "!!float":
		if err := node.Decode(&value); err == nil {
			if printed, err := json.Marshal(value); err == nil && value != nil {
				if node.ShortTag() == "!!bool" {
					return value
				}
				return json.Number(printed)
			}
		}
	}
	return node.Value
}

// compact prints a value as JSON in one line, < and > as they are.
func compact(value any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Sprint(value)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// show prints what was found, short enough for a line of an error.
func show(node *yaml.Node) string {
	if node == nil {
		return "nothing"
	}
	_, _, isFunction := function(node)
	switch {
	case isMap(node) && !isFunction:
		return "an object"
	case isList(node) && !isFunction:
		return "a list"
	}
	const longest = 80
	found := []rune(compact(long(node)))
	if len(found) > longest {
		return string(found[:longest]) + "…"
	}
	return string(found)
}
