package document

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// snapshot is what nodes were when they were read. A node lives on as itself, or
// as a copy, which knows its place in the source as well.
type snapshot map[place]yaml.Node

// place is where a node was read, and what it was: a mapping begins where its
// first key does.
type place struct {
	line, column int
	kind         yaml.Kind
}

func placeOf(node *yaml.Node) place { return place{node.Line, node.Column, node.Kind} }

// sameNode says whether both are the same, or copies of the same.
func sameNode(a, b *yaml.Node) bool {
	return a == b || (a.Line > 0 && placeOf(a) == placeOf(b))
}

func take(root *yaml.Node) snapshot {
	s := snapshot{}
	s.add(root)
	return s
}

func (s snapshot) add(node *yaml.Node) {
	was := *node
	was.Content = slices.Clone(node.Content)
	s[placeOf(node)] = was
	for _, child := range node.Content {
		s.add(child)
	}
}

// of is what a node was; false is for one that is new.
func (s snapshot) of(node *yaml.Node) (yaml.Node, bool) {
	was, read := s[placeOf(node)]
	return was, read && node.Line > 0
}

// changed says whether a node is new, or anything in it is otherwise than it
// was.
func (s snapshot) changed(node *yaml.Node) bool {
	was, read := s.of(node)
	if !read || was.Kind != node.Kind || was.Tag != node.Tag || was.Value != node.Value || was.Anchor != node.Anchor ||
		!slices.EqualFunc(was.Content, node.Content, sameNode) {
		return true
	}
	return slices.ContainsFunc(node.Content, s.changed)
}

// edited is the source with nothing but the changes: each new member of a list
// or a mapping, and each value that is another, is written where it belongs. It
// is false where the source is written in a way that isn't foreseen here.
func (d *Document) edited() (string, bool) {
	e := editor{before: d.before, layout: layoutOf(d.Root), source: d.source, lines: lineStarts(d.source), newline: "\n"}
	if strings.Contains(d.source, "\r\n") {
		e.newline = "\r\n"
	}
	if !d.before.changed(d.Root) {
		return d.source, true
	}
	limit := len(d.source)
	if ends := documentEnd.FindAllStringIndex(d.source, -1); ends != nil {
		limit = ends[len(ends)-1][0]
	}
	if otherBreak.MatchString(d.source) || !e.node(d.Root, limit) {
		return "", false
	}
	result := e.apply()
	// What comes out must say what the tree does, whatever was overlooked here.
	again, err := parseYAML([]byte(result))
	if err != nil || !Equal(again, d.Root) {
		return "", false
	}
	return result, true
}

// otherBreak is what ends a line in YAML, too, and nobody writes.
var otherBreak = regexp.MustCompile("\r[^\n]|\r$|[\u0085\u2028\u2029]")

// documentEnd is the line that ends a document, and what comes after it.
var documentEnd = regexp.MustCompile(`(?m)^\.\.\.(?:[ \t\r].*)?$`)

// edit is a piece of the source, and what takes its place.
type edit struct {
	from, to int // bytes
	text     string
}

type editor struct {
	before  snapshot
	layout  layout
	source  string
	lines   []int // the offset of each line's start
	newline string
	edits   []edit
}

func lineStarts(text string) []int {
	starts := []int{0}
	for i := range len(text) {
		if text[i] == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// offset is where a node that was read begins. Columns count characters.
func (e *editor) offset(line, column int) int {
	at := e.lines[line-1]
	for range column - 1 {
		_, size := utf8.DecodeRuneInString(e.source[at:])
		at += size
	}
	return at
}

// end is where what begins at an offset, and has a node last, ends, if what comes
// next begins at limit: blank lines and comments between them are of neither.
func (e *editor) end(from, limit int, node *yaml.Node) int {
	text := e.source[from:limit]
	margin := e.margin(node)
	for {
		text = strings.TrimRight(text, " \t\r\n")
		last := strings.LastIndexByte(text, '\n') + 1
		line := text[last:]
		if last == 0 || !strings.HasPrefix(strings.TrimSpace(line), "#") || margin != "" && strings.HasPrefix(line, margin) {
			return from + len(text)
		}
		text = text[:last]
	}
}

// margin is what each line of a text begins with that is written in lines of its
// own, and is the last thing in a node; "" where there is none. What looks like a
// comment is of the text there.
func (e *editor) margin(node *yaml.Node) string {
	was, read := e.before.of(node)
	for read && len(was.Content) > 0 {
		was, read = e.before.of(was.Content[len(was.Content)-1])
	}
	if !read || was.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		return ""
	}
	for _, start := range e.lines[min(was.Line, len(e.lines)):] {
		line, _, _ := strings.Cut(e.source[start:], "\n")
		if text := strings.TrimLeft(line, " "); strings.TrimSpace(text) != "" {
			return line[:len(line)-len(text)]
		}
	}
	return ""
}

// member is a member of a list or a mapping: its nodes, and where it is in the
// source, if it is.
type member struct {
	nodes    []*yaml.Node
	from, to int
	limit    int // where the next member begins, or the list or mapping ends
	line     int // the offset of the line that it begins in
}

// node edits what is in a list or a mapping that was read and lives on.
func (e *editor) node(node *yaml.Node, limit int) bool {
	was, _ := e.before.of(node)
	if !block(node) || !block(&was) || was.Kind != node.Kind || was.Tag != node.Tag || len(was.Content) == 0 || was.Anchor != node.Anchor {
		return false
	}
	old, ok := e.members(&was, limit)
	if !ok {
		return false
	}
	size := stride(node)
	column := 1 + utf8.RuneCountInString(e.source[old[0].line:old[0].from])
	insert := -1 // after the member that was handled last; -1: before the first
	kept := 0
	for i := 0; i < len(node.Content); i += size {
		nodes := node.Content[i : i+size]
		at := slices.IndexFunc(old[kept:], func(m member) bool { return sameNode(m.nodes[0], nodes[0]) })
		if at < 0 {
			if insert < 0 {
				stays := slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return sameNode(n, old[0].nodes[0]) })
				if !stays {
					return false
				}
				if !e.insertBefore(old[0], nodes, column) {
					return false
				}
				continue
			}
			text, ok := e.encode(nodes, column)
			if !ok {
				return false
			}
			e.edits = append(e.edits, edit{insert, insert, e.newline + strings.Repeat(" ", column-1) + text})
			continue
		}
		for _, gone := range old[kept : kept+at] {
			if !e.remove(gone) {
				return false
			}
		}
		m := old[kept+at]
		if !e.member(m, nodes, column) {
			return false
		}
		insert, kept = m.to, kept+at+1
	}
	if insert < 0 {
		return false // nothing of it is left
	}
	for _, gone := range old[kept:] {
		if !e.remove(gone) {
			return false
		}
	}
	return true
}

func stride(node *yaml.Node) int {
	if node.Kind == yaml.MappingNode {
		return 2
	}
	return 1
}

// members finds where the members of what was read are.
func (e *editor) members(was *yaml.Node, limit int) ([]member, bool) {
	size := stride(was)
	var all []member
	for i := 0; i < len(was.Content); i += size {
		first, _ := e.before.of(was.Content[i])
		if first.Line == 0 || (size == 2 && first.Kind != yaml.ScalarNode) {
			return nil, false
		}
		from := e.offset(first.Line, first.Column)
		if size == 1 {
			// A list's member begins with its dash.
			before := beforeComments(e.source[:from])
			if !strings.HasSuffix(before, "-") {
				return nil, false
			}
			from = len(before) - 1
		}
		line := strings.LastIndexByte(e.source[:from], '\n') + 1
		if i > 0 && strings.TrimSpace(e.source[line:from]) != "" {
			return nil, false
		}
		all = append(all, member{nodes: was.Content[i : i+size], from: from, line: line})
	}
	for i := range all {
		all[i].limit = limit
		if i+1 < len(all) {
			all[i].limit = all[i+1].line
		}
		all[i].to = e.end(all[i].from, all[i].limit, all[i].nodes[size-1])
	}
	return all, true
}

// beforeComments is a text without the blank and the comments at its end, which
// are all that is between a dash and what it is the dash of.
func beforeComments(text string) string {
	for {
		text = strings.TrimRight(text, " \t\r\n")
		last := strings.LastIndexByte(text, '\n') + 1
		begin := last + len(text[last:]) - len(strings.TrimLeft(text[last:], "- \t"))
		if !strings.HasPrefix(text[begin:], "#") {
			return text
		}
		text = text[:begin]
	}
}

// member edits one that lives on.
func (e *editor) member(m member, nodes []*yaml.Node, column int) bool {
	value := nodes[len(nodes)-1]
	if len(nodes) == 2 && e.before.changed(nodes[0]) {
		return false
	}
	same := sameNode(value, m.nodes[len(nodes)-1])
	if same && !e.before.changed(value) {
		return true
	}
	if same {
		mark := len(e.edits)
		if e.node(value, m.limit) {
			return true
		}
		e.edits = e.edits[:mark]
	}
	text, ok := e.encode(nodes, column)
	if !ok {
		return false
	}
	e.edits = append(e.edits, edit{m.from, m.to, text})
	return true
}

// insertBefore puts a member before the first one, and before the comment right
// above that, which is its own.
func (e *editor) insertBefore(first member, nodes []*yaml.Node, column int) bool {
	text, ok := e.encode(nodes, column)
	if !ok {
		return false
	}
	margin := strings.Repeat(" ", column-1)
	at := first.from
	if e.source[first.line:first.from] == margin {
		at = first.line
		for at > 0 {
			above := strings.LastIndexByte(e.source[:at-1], '\n') + 1
			if !strings.HasPrefix(e.source[above:at], margin+"#") {
				break
			}
			at = above
		}
		at += len(margin)
	}
	e.edits = append(e.edits, edit{at, at, text + e.newline + margin})
	return true
}

// remove takes a member's lines out, and the comment right above them.
func (e *editor) remove(m member) bool {
	if strings.TrimSpace(e.source[m.line:m.from]) != "" {
		return false // it shares its first line with what is around it
	}
	from := m.line
	for was, _ := e.before.of(m.nodes[0]); was.HeadComment != ""; {
		above := strings.LastIndexByte(e.source[:max(from-1, 0)], '\n') + 1
		if from == 0 || !strings.HasPrefix(strings.TrimSpace(e.source[above:from]), "#") {
			break
		}
		from = above
	}
	to := m.to
	if next := strings.IndexByte(e.source[to:], '\n'); next >= 0 {
		to += next + 1
	}
	e.edits = append(e.edits, edit{from, to, ""})
	return true
}

// encode writes a member anew. Its first line is without indentation. Comments
// above and below it stay in the source where they are.
func (e *editor) encode(nodes []*yaml.Node, column int) (string, bool) {
	around := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: slices.Clone(nodes)}
	if len(nodes) == 2 {
		around.Kind, around.Tag = yaml.MappingNode, "!!map"
	}
	if was, read := e.before.of(nodes[0]); read && was.HeadComment+was.FootComment != "" {
		bare := *nodes[0]
		bare.HeadComment, bare.FootComment = "", ""
		around.Content[0] = &bare
	}
	text, err := encodeYAML(around, e.layout)
	if err != nil {
		return "", false
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	for i, line := range lines {
		if i > 0 && line != "" {
			lines[i] = strings.Repeat(" ", column-1) + line
		}
	}
	return strings.Join(lines, e.newline), true
}

func (e *editor) apply() string {
	slices.SortStableFunc(e.edits, func(a, b edit) int { return a.from - b.from })
	var out strings.Builder
	at := 0
	for _, edit := range e.edits {
		out.WriteString(e.source[at:edit.from])
		out.WriteString(edit.text)
		at = edit.to
	}
	out.WriteString(e.source[at:])
	return out.String()
}
