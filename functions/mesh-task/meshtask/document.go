package meshtask

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// writer prints the settings as the JSON document that ECSMESH_CONFIG holds.
// Where they have intrinsic functions, that is the text of a Fn::Sub.
type writer struct {
	lookup
	report *report
	short  bool // functions are written as tags
	dense  bool // everything in one line

	where     func(path string) string // a path as the block has it
	taken     map[string]bool          // names of variables that must not be hidden
	variables []field
	inlined   bool // the text has variables that are the template's own
}

// width is how long a line gets before an object or a list has a line for each
// of its items.
const width = 100

// open stands for a literal ${ until it is known whether it needs escaping. JSON
// has no such character outside of its escapes.
const open = "$\x00{"

// value prints the settings as a text or as a Fn::Sub of one.
func (w *writer) value(settings *yaml.Node, of shape) *yaml.Node {
	return w.finish(w.print(settings, of, "", 0))
}

// finish makes a node of what was printed.
func (w *writer) finish(printed string) *yaml.Node {
	if !w.inlined && len(w.variables) == 0 {
		return text(strings.ReplaceAll(printed, open, "${"))
	}
	template := text(literal.ReplaceAllStringFunc(printed, func(found string) string {
		if inner, ok := strings.CutSuffix(strings.TrimPrefix(found, open), "}"); ok {
			return "${!" + inner + "}"
		}
		return `$\u007b` // what has no end is no literal to Fn::Sub, but a fault
	}))
	if len(w.variables) == 0 {
		return w.call("Fn::Sub", template)
	}
	return w.call("Fn::Sub", &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{template, mapping(w.variables...)}})
}

var literal = regexp.MustCompile(`\$\x00\{([A-Za-z0-9_.:]+\})?`)

// call writes an intrinsic function.
func (w *writer) call(name string, argument *yaml.Node) *yaml.Node {
	if w.short {
		argument.Tag = "!" + strings.TrimPrefix(name, "Fn::")
		return argument
	}
	return mapping(field{name, argument})
}

// within is a writer for a value that stands by itself, such as a branch.
func (w *writer) within() *writer {
	return &writer{lookup: w.lookup, report: w.report, short: w.short, dense: true, where: w.where, taken: w.taken}
}

// print prints a value as JSON with variables in it. path is for errors and the
// variables' names, indent the spaces before the line that it is in.
func (w *writer) print(node *yaml.Node, of shape, path string, indent int) string {
	if _, yes, no, ok := w.branches(node); ok {
		return w.choice(node, yes, no, of, path)
	}
	if name, argument, ok := w.function(node); ok {
		return w.printFunction(node, name, argument, of, path)
	}
	switch {
	case isMap(node):
		var items []string
		for i := 0; i+1 < len(node.Content); i += 2 {
			name, value := node.Content[i].Value, node.Content[i+1]
			if w.isNoValue(value) {
				continue
			}
			items = append(items, w.quoted(name)+": "+w.print(value, of.field(name), join(path, name), indent+2))
		}
		return w.lines("{", items, "}", indent)
	case isList(node):
		if w.hasOptional(node) {
			return w.optionalItems(node, of, path)
		}
		var items []string
		for i, item := range node.Content {
			if !w.isNoValue(item) {
				items = append(items, w.print(item, of.item(), fmt.Sprintf("%s[%d]", path, i), indent+2))
			}
		}
		return w.lines("[", items, "]", indent)
	case w.form == CloudFormation && of.bare() && reference.MatchString(node.Value):
		return node.Value
	default:
		return w.quoted(fitted(node, of))
	}
}

// reference is a dynamic reference, for which CloudFormation puts in a number,
// too.
var reference = regexp.MustCompile(`^\{\{resolve:[^{}]*\}\}$`)

func join(path, name string) string { return strings.TrimPrefix(path+"."+name, ".") }

// fitted is a scalar as JSON has it, in the type that the schema wants where only
// its spelling differs: CloudFormation's own JSON has "9090" for 9090.
func fitted(node *yaml.Node, of shape) any {
	value := scalar(node)
	if kind := node.ShortTag(); value != nil && kind != "!!str" && kind != "!!bool" && of.takes("string") && len(of.kinds()) == 1 {
		return node.Value
	}
	if found, ok := value.(string); ok {
		return of.typed(found)
	}
	return value
}

// quoted is a value as JSON has it.
func (w *writer) quoted(value any) string {
	return strings.ReplaceAll(compact(value), "${", open)
}

// lines puts items into one line or into one each.
func (w *writer) lines(begin string, items []string, end string, indent int) string {
	one := begin + strings.Join(items, ", ") + end
	if w.dense || len(items) == 0 || indent > 0 && len(one)+indent <= width && !strings.Contains(one, "\n") {
		return one
	}
	margin := "\n" + strings.Repeat(" ", indent)
	return begin + margin + "  " + strings.Join(items, ","+margin+"  ") + margin + end
}

// printFunction prints a variable for what a function gives.
func (w *writer) printFunction(node *yaml.Node, name string, argument *yaml.Node, of shape, path string) string {
	switch {
	case w.isNoValue(node):
		return "null"
	case of.takes("string") || of.bare():
		variables := w.inline(node, name, argument, path)
		if of.bare() {
			return variables
		}
		return `"` + variables + `"`
	case of.takes("array") && name != "Fn::Sub":
		quote := `"`
		if of.item().bare() {
			quote = ""
		}
		joined := w.call("Fn::Join", flow(text(quote+","+quote), bare(node)))
		return "[" + quote + w.variable(path, joined) + quote + "]"
	}
	w.report.fault(w.where(path), show(node), "want an object, whose values may be intrinsic functions")
	return "null"
}

// inline prints what Fn::Sub itself knows how to get, and a variable for the rest.
func (w *writer) inline(node *yaml.Node, name string, argument *yaml.Node, path string) string {
	switch {
	case name == "Ref" && argument.Kind == yaml.ScalarNode:
		w.inlined = true
		return "${" + argument.Value + "}"
	case name == "Fn::GetAtt":
		if attribute := attribute(argument); attribute != "" {
			w.inlined = true
			return "${" + attribute + "}"
		}
	case name == "Fn::Sub" && argument.Kind == yaml.ScalarNode:
		return w.inlineSub(argument.Value)
	}
	return w.variable(path, bare(node))
}

// attribute is the argument of Fn::GetAtt as ${…} has it; "" where it can't.
func attribute(argument *yaml.Node) string {
	if argument.Kind == yaml.ScalarNode {
		return argument.Value
	}
	if !isList(argument) || len(argument.Content) != 2 || argument.Content[0].Kind != yaml.ScalarNode || argument.Content[1].Kind != yaml.ScalarNode {
		return ""
	}
	return argument.Content[0].Value + "." + argument.Content[1].Value
}

// inlineSub prints the text of a Fn::Sub within a string.
func (w *writer) inlineSub(template string) string {
	var out strings.Builder
	literally := func(part string) {
		printed := w.quoted(part)
		out.WriteString(printed[1 : len(printed)-1])
	}
	from := 0
	for _, at := range variable.FindAllStringIndex(template, -1) {
		literally(template[from:at[0]])
		name := strings.TrimSpace(template[at[0]+2 : at[1]-1])
		if inner, ok := strings.CutPrefix(name, "!"); ok {
			literally("${" + inner + "}")
		} else {
			w.inlined = true
			out.WriteString("${" + name + "}")
		}
		from = at[1]
	}
	literally(template[from:])
	return out.String()
}

// choice prints a variable for what Fn::If gives: either branch as JSON.
func (w *writer) choice(node, yes, no *yaml.Node, of shape, path string) string {
	_, argument, _ := w.function(node)
	return w.variable(path, w.call("Fn::If", flow(bare(argument.Content[0]), w.branch(yes, of, path), w.branch(no, of, path))))
}

func (w *writer) branch(node *yaml.Node, of shape, path string) *yaml.Node {
	inner := w.within()
	return inner.finish(inner.print(node, of, path, 0))
}

// hasOptional tells whether a list has an item that CloudFormation may leave out.
func (w *writer) hasOptional(list *yaml.Node) bool {
	for _, item := range list.Content {
		if _, yes, no, ok := w.branches(item); ok && w.mayBeNone(yes, no) {
			return true
		}
	}
	return false
}

func (w *writer) mayBeNone(nodes ...*yaml.Node) bool {
	for _, node := range nodes {
		if w.isNoValue(node) {
			return true
		}
		if _, yes, no, ok := w.branches(node); ok && w.mayBeNone(yes, no) {
			return true
		}
	}
	return false
}

// optionalItems prints a variable for the items of a list of which CloudFormation
// may leave some out: Fn::Join puts commas only between those that are there.
func (w *writer) optionalItems(list *yaml.Node, of shape, path string) string {
	var item func(node *yaml.Node, path string) *yaml.Node
	item = func(node *yaml.Node, path string) *yaml.Node {
		if w.isNoValue(node) {
			return bare(node)
		}
		if _, yes, no, ok := w.branches(node); ok {
			_, argument, _ := w.function(node)
			return w.call("Fn::If", flow(bare(argument.Content[0]), item(yes, path), item(no, path)))
		}
		return w.branch(node, of.item(), path)
	}
	items := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for i, node := range list.Content {
		if !w.isNoValue(node) {
			items.Content = append(items.Content, item(node, fmt.Sprintf("%s[%d]", path, i)))
		}
	}
	joined := w.call("Fn::Join", &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: []*yaml.Node{text(", "), items}})
	return "[" + w.variable(path, joined) + "]"
}

// variable adds a variable of Fn::Sub, which is called as what it is for.
func (w *writer) variable(path string, value *yaml.Node) string {
	var name strings.Builder
	upper := true
	for _, r := range path {
		switch {
		case r >= 'a' && r <= 'z' && upper:
			name.WriteRune(r - 'a' + 'A')
			upper = false
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			name.WriteRune(r)
			upper = false
		default:
			upper = true
		}
	}
	base := name.String()
	free := base
	for n := 2; w.isTaken(free); n++ {
		free = fmt.Sprintf("%sValue%d", base, n)
	}
	w.variables = append(w.variables, field{free, value})
	return "${" + free + "}"
}

func (w *writer) isTaken(name string) bool {
	for _, earlier := range w.variables {
		if earlier.name == name {
			return true
		}
	}
	return name == "" || w.taken[name]
}

// names are all that a template's functions refer to within a node.
func names(node *yaml.Node, into map[string]bool) {
	if name, argument, ok := function(node); ok {
		switch name {
		case "Ref":
			into[argument.Value] = true
		case "Fn::GetAtt":
			into[attribute(argument)] = true
		case "Fn::Sub":
			template := argument
			if isList(argument) && len(argument.Content) > 0 {
				template = argument.Content[0]
			}
			for _, found := range variable.FindAllStringSubmatch(template.Value, -1) {
				into[strings.TrimSpace(found[1])] = true
			}
		}
	}
	for _, item := range node.Content {
		names(item, into)
	}
}
