package document

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const defaultIndent = "  "

// parseJSON keeps the order of an object's members, numbers as they are
// written, and in each node's style whether it was written in one line.
func parseJSON(content []byte) (*yaml.Node, error) {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	r := jsonReader{decoder, content}
	root, err := r.value()
	if err != nil {
		return nil, r.located(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, r.located(errors.New("there is something after the end of the document"))
	}
	return root, nil
}

type jsonReader struct {
	*json.Decoder
	content []byte
}

// line is that of the last token's end, counted from 1.
func (r jsonReader) line() int {
	return 1 + bytes.Count(r.content[:r.InputOffset()], []byte("\n"))
}

func (r jsonReader) located(err error) error {
	line := r.line()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line = 1 + bytes.Count(r.content[:min(int(syntax.Offset), len(r.content))], []byte("\n"))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the document ends too early")
	}
	return fmt.Errorf("line %d: %w", line, err)
}

func (r jsonReader) value() (*yaml.Node, error) {
	token, err := r.Token()
	if err != nil {
		return nil, err
	}
	node := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line()}
	switch token := token.(type) {
	case json.Delim:
		return node, r.members(node, token)
	case string:
		node.Tag, node.Value, node.Style = "!!str", token, yaml.DoubleQuotedStyle
	case json.Number:
		node.Tag, node.Value = "!!int", token.String()
		if strings.ContainsAny(node.Value, ".eE") {
			node.Tag = "!!float"
		}
	case bool:
		node.Tag, node.Value = "!!bool", fmt.Sprint(token)
	default:
		node.Tag, node.Value = "!!null", "null"
	}
	return node, nil
}

// members reads what is in an object or a list, and its end.
func (r jsonReader) members(node *yaml.Node, begin json.Delim) error {
	node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
	if begin == '{' {
		node.Kind, node.Tag = yaml.MappingNode, "!!map"
	}
	for r.More() { // a key is a value, and a text where it is one of an object
		member, err := r.value()
		if err != nil {
			return err
		}
		node.Content = append(node.Content, member)
	}
	if _, err := r.Token(); err != nil {
		return err
	}
	if r.line() == node.Line {
		node.Style = yaml.FlowStyle
	}
	return nil
}

// firstIndent is the white space that the second line of a document begins with.
var firstIndent = regexp.MustCompile(`^\s*[{[]\r?\n([ \t]+)\S`)

func jsonIndent(source string) string {
	if found := firstIndent.FindStringSubmatch(source); found != nil {
		return found[1]
	}
	return defaultIndent
}

// EncodeJSON writes a value as JSON. What has yaml.FlowStyle is in one line. A
// short tag is the function that it stands for.
func EncodeJSON(root *yaml.Node, indent string) ([]byte, error) {
	w := jsonWriter{indent: indent}
	if err := w.value(root, "\n", root.Style&yaml.FlowStyle != 0); err != nil {
		return nil, err
	}
	w.out.WriteByte('\n')
	return w.out.Bytes(), nil
}

type jsonWriter struct {
	out    bytes.Buffer
	indent string
}

// value writes a node. newline is what a line of it begins with; flat, whether
// it is in one line.
func (w *jsonWriter) value(node *yaml.Node, newline string, flat bool) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	function, argument := long(node)
	if function != "" {
		return w.members([]*yaml.Node{text(function), argument}, true, newline, true)
	}
	switch node.Kind {
	case yaml.MappingNode, yaml.SequenceNode:
		return w.members(node.Content, node.Kind == yaml.MappingNode, newline, flat || node.Style&yaml.FlowStyle != 0)
	}
	return w.scalar(node)
}

func (w *jsonWriter) members(content []*yaml.Node, object bool, newline string, flat bool) error {
	brackets, step := "[]", 1
	if object {
		brackets, step = "{}", 2
	}
	if len(content) == 0 {
		w.out.WriteString(brackets)
		return nil
	}
	inner, separator := newline+w.indent, ","
	if flat {
		inner, separator = "", ", "
	}
	w.out.WriteByte(brackets[0])
	for i := 0; i < len(content); i += step {
		if i > 0 {
			w.out.WriteString(separator)
		}
		w.out.WriteString(inner)
		if object {
			if key := content[i]; key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
				return fmt.Errorf("line %d: %q can't be a key in JSON", key.Line, key.Value)
			}
			w.string(content[i].Value)
			w.out.WriteString(": ")
		}
		if err := w.value(content[i+step-1], newline+w.indent, flat); err != nil {
			return err
		}
	}
	if !flat {
		w.out.WriteString(newline)
	}
	w.out.WriteByte(brackets[1])
	return nil
}

func (w *jsonWriter) scalar(node *yaml.Node) error {
	switch tag := node.ShortTag(); tag {
	case "!!int", "!!float", "!!bool", "!!null":
		if json.Valid([]byte(node.Value)) {
			w.out.WriteString(node.Value)
			return nil
		}
		// YAML has more ways to write it.
		var value any
		if err := node.Decode(&value); err != nil {
			return fmt.Errorf("line %d: read %q: %w", node.Line, node.Value, err)
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("line %d: write %q as JSON: %w", node.Line, node.Value, err)
		}
		w.out.Write(encoded)
		return nil
	}
	w.string(node.Value)
	return nil
}

func (w *jsonWriter) string(value string) {
	encoder := json.NewEncoder(&w.out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value)               // of a text into memory, which can't fail
	w.out.Truncate(w.out.Len() - len("\n")) // which Encode adds
}

// long is the function of CloudFormation that a short tag stands for, with its
// argument; "" where the node has none.
func long(node *yaml.Node) (function string, argument *yaml.Node) {
	name, short := strings.CutPrefix(node.Tag, "!")
	if !short || name == "" || strings.HasPrefix(name, "!") {
		return "", node
	}
	plain := *node
	plain.Tag = map[yaml.Kind]string{yaml.MappingNode: "!!map", yaml.SequenceNode: "!!seq"}[node.Kind]
	if node.Kind == yaml.ScalarNode {
		plain.Tag = "!!str"
	}
	switch name {
	case "Ref", "Condition":
		return name, &plain
	case "GetAtt":
		if resource, attribute, dotted := strings.Cut(node.Value, "."); dotted && node.Kind == yaml.ScalarNode {
			plain = yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{text(resource), text(attribute)}}
		}
	}
	return "Fn::" + name, &plain
}

// Function is the intrinsic function of CloudFormation that a node is a call of,
// written long or short, with its argument. It is "" for all else.
func Function(node *yaml.Node) (name string, argument *yaml.Node) {
	if name, argument = long(node); name != "" || node.Kind != yaml.MappingNode || len(node.Content) != 2 {
		return name, argument
	}
	if key := node.Content[0].Value; key == "Ref" || key == "Condition" || strings.HasPrefix(key, "Fn::") {
		return key, node.Content[1]
	}
	return "", node
}

func text(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
}

// spread takes from nodes that were read as JSON what is of JSON alone: quotes
// where YAML needs none, and braces. Short lists stay in one line.
func spread(node *yaml.Node) {
	if node.Kind == yaml.MappingNode || slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return n.Kind != yaml.ScalarNode }) {
		node.Style = 0
	}
	if node.Kind == yaml.ScalarNode && node.ShortTag() == "!!str" && plainText.MatchString(node.Value) && !otherValue.MatchString(node.Value) {
		node.Style = 0
	}
	if node.Kind == yaml.ScalarNode && strings.Contains(node.Value, "\n") {
		node.Style = yaml.LiteralStyle
	}
	for _, child := range node.Content {
		spread(child)
	}
}

var (
	// plainText are texts that are no other value in any version of YAML.
	plainText = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_/.:+=@-]*$`)
	// otherValue are words that YAML 1.1, which CloudFormation reads, takes for a truth value or for nothing.
	otherValue = regexp.MustCompile(`(?i)^(y|yes|n|no|on|off|true|false|null)$|:$`)
)
