// Package document reads and writes the files that task definitions come in,
// JSON and YAML, as trees of yaml.Node. What was not changed in a tree is
// written as it was read: its order, its comments, its quotes, its short tags
// of CloudFormation such as !Sub.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Format is the language of a file.
type Format string

// The formats that there are.
const (
	JSON Format = "json"
	YAML Format = "yaml"
)

// Document is a file's content.
type Document struct {
	Root   *yaml.Node // the outermost value, to be changed in place
	Format Format     // that it was read in

	Notes []string // what is written otherwise than it was read

	source string
	before snapshot // of the tree, when it was read
}

// Parse reads a file. Its outermost value may be of any kind.
func Parse(content []byte) (*Document, error) {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, errors.New("there is nothing in it")
	}
	d := &Document{source: string(content)}
	if err := d.read(content); err != nil {
		return nil, err
	}
	if err := unique(d.Root); err != nil {
		return nil, err
	}
	d.before = take(d.Root)
	left := mostOfAliases
	found, err := resolveAliases(d.Root, nil, &left)
	if err != nil {
		return nil, err
	}
	if found {
		d.Notes = append(d.Notes, "YAML's aliases (*name) are written out, since CloudFormation knows none")
	}
	return d, nil
}

// read tells the formats apart: JSON begins with a brace or a bracket. So may
// YAML, of which JSON is a part, but for some escapes.
func (d *Document) read(content []byte) error {
	var faulty error
	if first := bytes.TrimSpace(content)[0]; first == '{' || first == '[' {
		root, err := parseJSON(content)
		if err == nil {
			d.Root, d.Format = root, JSON
			return nil
		}
		faulty = fmt.Errorf("read JSON: %w", err)
	}
	root, err := parseYAML(content)
	if err != nil {
		if faulty != nil {
			return faulty
		}
		if at := tabbed.FindIndex(content); at != nil {
			return fmt.Errorf("read YAML: line %d is indented by a tab, where YAML takes spaces alone", 1+bytes.Count(content[:at[1]], []byte("\n")))
		}
		return fmt.Errorf("read YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	d.Root, d.Format = root, YAML
	return nil
}

// tabbed is the begin of a line that has a tab among its spaces.
var tabbed = regexp.MustCompile(`(?m)^ *\t`)

func parseYAML(content []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var first, second yaml.Node
	if err := decoder.Decode(&first); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("there is nothing in it but comments")
		}
		return nil, err
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("a second document begins at line %d: give each a file of its own", second.Line)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	// A comment over the first line is the document's, and stays in its place
	// as what the document was read from does.
	root := first.Content[0]
	root.HeadComment = joinComments(first.HeadComment, root.HeadComment)
	root.FootComment = joinComments(root.FootComment, first.FootComment)
	nameNothing(root)
	return root, nil
}

// nameNothing has nothing written as null: between braces the encoder makes a
// text of it otherwise.
func nameNothing(node *yaml.Node) {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" && node.Value == "" {
		node.Value = "null"
	}
	for _, child := range node.Content {
		nameNothing(child)
	}
}

func joinComments(above, below string) string {
	if above == "" || below == "" {
		return above + below
	}
	return above + "\n\n" + below
}

// unique finds keys that are in a mapping twice: readers differ in which of the
// two counts.
func unique(node *yaml.Node) error {
	var faults []error
	if node.Kind == yaml.MappingNode {
		first := map[string]int{} // the line of each key
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if line, seen := first[key.Value]; seen {
				faults = append(faults, fmt.Errorf("line %d: %s is there a second time; the first is in line %d", key.Line, key.Value, line))
				continue
			}
			first[key.Value] = key.Line
		}
	}
	for _, child := range node.Content {
		if err := unique(child); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// mostOfAliases is how many nodes a document's aliases may come to when they are
// written out. CloudFormation takes a template of a megabyte, which has fewer;
// aliases of aliases can come to billions.
const mostOfAliases = 500_000

// resolveAliases puts a copy of its own wherever there is an alias, so that a
// change of one isn't a change of all. It says whether there were any. Above are
// the nodes that node is in, left is how many nodes more the copies may have.
func resolveAliases(node *yaml.Node, above []*yaml.Node, left *int) (bool, error) {
	found := false
	above = append(above, node)
	for i, child := range node.Content {
		within := above
		if child.Kind == yaml.AliasNode {
			if slices.Contains(above, child.Alias) {
				return false, fmt.Errorf("line %d: *%s is in what it stands for", child.Line, child.Value)
			}
			if *left -= size(child.Alias); *left < 0 {
				return false, fmt.Errorf("line %d: with *%s written out, YAML's aliases come to more than %d values", child.Line, child.Value, mostOfAliases)
			}
			within = append(slices.Clip(above), child.Alias)
			node.Content[i] = Clone(child.Alias)
			child, found = node.Content[i], true
		}
		more, err := resolveAliases(child, within, left)
		if err != nil {
			return false, err
		}
		found = more || found
	}
	if found {
		dropAnchors(node)
	}
	return found, nil
}

// size is how many nodes there are in one, itself included.
func size(node *yaml.Node) int {
	sum := 1
	for _, child := range node.Content {
		sum += size(child)
	}
	return sum
}

func dropAnchors(node *yaml.Node) {
	node.Anchor = ""
	for _, child := range node.Content {
		dropAnchors(child)
	}
}

// Clone is a copy of all that a node holds.
func Clone(node *yaml.Node) *yaml.Node {
	c := *node
	c.Content = make([]*yaml.Node, len(node.Content))
	for i, child := range node.Content {
		c.Content[i] = Clone(child)
	}
	return &c
}

// Equal says whether two nodes have the same value, however they are written.
func Equal(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || a.Value != b.Value || len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if !Equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

// Bytes is the document as it now is, in the format that it was read in.
func (d *Document) Bytes() ([]byte, error) {
	if d.Format == JSON {
		return EncodeJSON(d.Root, jsonIndent(d.source))
	}
	if text, ok := d.edited(); ok {
		return []byte(text), nil
	}
	return encodeYAML(d.Root, layoutOf(d.Root))
}

// In is the document as it now is, in a format. In JSON there are no comments,
// and short tags are written as the functions that they stand for.
func (d *Document) In(format Format) ([]byte, error) {
	switch format {
	case d.Format:
		return d.Bytes()
	case JSON:
		return EncodeJSON(d.Root, defaultIndent)
	}
	root := Clone(d.Root)
	spread(root)
	return encodeYAML(root, layout{indent: len(defaultIndent)})
}

// Source is what the document was read from.
func (d *Document) Source() string { return d.source }
