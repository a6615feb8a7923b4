package meshtask

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const noValue = "AWS::NoValue"

// lookup says what a value is, as far as that is known before CloudFormation
// has the template.
type lookup struct {
	form       Form
	parameters map[string]any
}

// function is that of a node in the form CloudFormation. The API has none.
func (l lookup) function(node *yaml.Node) (name string, argument *yaml.Node, ok bool) {
	if l.form == API {
		return "", nil, false
	}
	return function(node)
}

// isNoValue tells whether CloudFormation leaves a value out.
func (l lookup) isNoValue(node *yaml.Node) bool {
	name, argument, ok := l.function(node)
	return ok && name == "Ref" && argument.Value == noValue
}

// branches are both outcomes of a Fn::If.
func (l lookup) branches(node *yaml.Node) (condition string, yes, no *yaml.Node, ok bool) {
	name, argument, ok := l.function(node)
	if !ok || name != "Fn::If" || !isList(argument) || len(argument.Content) != 3 {
		return "", nil, nil, false
	}
	return argument.Content[0].Value, argument.Content[1], argument.Content[2], true
}

// anyBranch tells whether one of the outcomes of a value, those that leave it out
// among them, is something.
func (l lookup) anyBranch(node *yaml.Node, is func(*yaml.Node) bool) bool {
	if _, yes, no, ok := l.branches(node); ok {
		return l.anyBranch(yes, is) || l.anyBranch(no, is)
	}
	return is(node)
}

// outcomes are the values that one may have.
func (l lookup) outcomes(node *yaml.Node) []*yaml.Node {
	if node == nil || l.isNoValue(node) {
		return nil
	}
	if _, yes, no, ok := l.branches(node); ok {
		return append(l.outcomes(yes), l.outcomes(no)...)
	}
	return []*yaml.Node{node}
}

// parameter is the value of a template's parameter.
func (l lookup) parameter(name string) (string, bool) {
	value, ok := l.parameters[name]
	if !ok || value == nil {
		return "", false
	}
	switch v := value.(type) {
	case string:
		return v, true
	case []string:
		return strings.Join(v, ","), true
	case []any:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = fmt.Sprint(item)
		}
		return strings.Join(items, ","), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	default:
		return fmt.Sprint(v), true
	}
}

// text is a value as a text, where it is known.
func (l lookup) text(node *yaml.Node) (string, bool) {
	if isNull(node) {
		return "", false
	}
	if name, argument, ok := l.function(node); ok {
		return l.functionText(name, argument)
	}
	if node.Kind != yaml.ScalarNode || l.form == CloudFormation && strings.Contains(node.Value, "{{resolve:") {
		return "", false
	}
	switch value := scalar(node).(type) {
	case string:
		return value, true
	case json.Number:
		return value.String(), true
	default:
		return fmt.Sprint(value), true
	}
}

func (l lookup) functionText(name string, argument *yaml.Node) (string, bool) {
	switch {
	case name == "Ref":
		return l.parameter(argument.Value)
	case name == "Fn::Sub":
		template, own := argument, (*yaml.Node)(nil)
		if isList(argument) && len(argument.Content) == 2 {
			template, own = argument.Content[0], argument.Content[1]
		}
		if template.Kind != yaml.ScalarNode {
			return "", false
		}
		known := true
		value := substitute(template.Value, func(name string) string {
			value, ok := "", false
			if mine := get(own, name); mine != nil {
				value, ok = l.text(mine)
			} else {
				value, ok = l.parameter(name)
			}
			known = known && ok
			return value
		})
		return value, known
	case name == "Fn::Join" && isList(argument) && len(argument.Content) == 2 && isList(argument.Content[1]):
		var items []string
		for _, item := range argument.Content[1].Content {
			value, ok := l.text(item)
			if !ok {
				return "", false
			}
			items = append(items, value)
		}
		return strings.Join(items, argument.Content[0].Value), true
	}
	return "", false
}

// variable is ${Name} in the text of Fn::Sub, or the literal ${!Name}.
var variable = regexp.MustCompile(`\$\{([^{}]*)\}`)

// substitute replaces the variables of a Fn::Sub, and takes literals for what
// they stand for.
func substitute(template string, value func(name string) string) string {
	return variable.ReplaceAllStringFunc(template, func(found string) string {
		name := strings.TrimSpace(found[2 : len(found)-1])
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			return "${" + literal + "}"
		}
		return value(name)
	})
}

func (l lookup) boolean(node *yaml.Node) (value, known bool) {
	found, ok := l.text(node)
	if !ok {
		return false, false
	}
	value, err := strconv.ParseBool(strings.ToLower(found))
	return value, err == nil
}

func (l lookup) integer(node *yaml.Node) (value int, known bool) {
	found, ok := l.text(node)
	if !ok {
		return 0, false
	}
	value, err := strconv.Atoi(found)
	return value, err == nil
}

// key is what makes two values the same: the text, or else the function.
func (l lookup) key(node *yaml.Node) string {
	if found, ok := l.text(node); ok {
		return found
	}
	if node == nil {
		return ""
	}
	return compact(long(node))
}

// name is a value as an error or a note calls it.
func (l lookup) name(node *yaml.Node) string {
	if found, ok := l.text(node); ok {
		return found
	}
	return show(node)
}
