package meshtask

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// reading is a look at settings with the eyes of ecsmesh-init: what it would
// refuse when a task starts is refused before there is one.
type reading struct {
	lookup
	environment map[string]string // of the init container, beside its configuration
	secret      map[string]bool   // variables of it whose value isn't known

	choices map[string]bool // what each condition is taken for
	empty   bool            // texts that aren't known are taken for empty

	unknown []string // paths of what wasn't known
	ports   int      // that stand for unknown ones, each for one
}

// mostConditions is how many conditions are tried in all combinations. Of more,
// each is tried by itself.
const mostConditions = 4

// readBack reads the settings as ecsmesh-init does. What it refuses whatever the
// conditions and the unknown values are is a fault; what only with some, a note.
// It returns one that ecsmesh-init takes, or the zero value, and which paths in it
// aren't known.
func readBack(settings *yaml.Node, look lookup, environment map[string]string, secret map[string]bool, report *report, where func(string) string) (config.Config, []string) {
	var conditions []string
	findConditions(look, settings, &conditions)
	var first config.Config
	var unknown []string
	seen, count := map[config.Fault]string{}, map[config.Fault]int{}
	var order []config.Fault
	tries := combinations(conditions)
	for _, choices := range tries {
		var faults []config.Fault
		for _, empty := range []bool{false, true} {
			r := reading{lookup: look, environment: environment, secret: secret, choices: choices, empty: empty}
			cfg, found := r.read(settings)
			if !empty {
				faults = found
			}
			if cfg.Topology != "" && first.Topology == "" {
				first, unknown = cfg, r.unknown
			}
			if !empty {
				continue
			}
			if len(r.unknown) > 0 {
				faults = slices.DeleteFunc(faults, func(fault config.Fault) bool { return !slices.Contains(found, fault) })
			}
		}
		for _, fault := range faults {
			if count[fault]++; count[fault] == 1 {
				seen[fault] = describe(choices)
				order = append(order, fault)
			}
		}
	}
	for _, fault := range order {
		if count[fault] == len(tries) {
			report.fault(where(fault.Path), fault.Found, fault.Want)
		} else {
			report.note("A task does not start %s, because of %s: found %s; %s.", seen[fault], where(fault.Path), fault.Found, fault.Want)
		}
	}
	for _, warning := range first.Warnings {
		report.note("ecsmesh-init warns: %s.", warning)
	}
	return first, unknown
}

func findConditions(look lookup, node *yaml.Node, into *[]string) {
	if condition, _, _, ok := look.branches(node); ok && !slices.Contains(*into, condition) {
		*into = append(*into, condition)
	}
	for _, item := range node.Content {
		findConditions(look, item, into)
	}
}

// combinations are all that conditions may be together: every combination, or of
// many conditions all, none, and each alone.
func combinations(conditions []string) []map[string]bool {
	var tries []map[string]bool
	if len(conditions) > mostConditions {
		for one := -2; one < len(conditions); one++ {
			choices := map[string]bool{}
			for i, condition := range conditions {
				choices[condition] = one == -2 || i == one
			}
			tries = append(tries, choices)
		}
		return tries
	}
	for bits := 1<<len(conditions) - 1; bits >= 0; bits-- {
		choices := map[string]bool{}
		for i, condition := range conditions {
			choices[condition] = bits>>i&1 == 1
		}
		tries = append(tries, choices)
	}
	return tries
}

func describe(choices map[string]bool) string {
	var are, aren []string
	for condition, is := range choices {
		if is {
			are = append(are, condition)
		} else {
			aren = append(aren, condition)
		}
	}
	slices.Sort(are)
	slices.Sort(aren)
	var parts []string
	if len(are) > 0 {
		parts = append(parts, "with "+strings.Join(are, ", "))
	}
	if len(aren) > 0 {
		parts = append(parts, "without "+strings.Join(aren, ", "))
	}
	return strings.Join(parts, " and ")
}

// read returns the faults that are none of what isn't known.
func (r *reading) read(settings *yaml.Node) (config.Config, []config.Fault) {
	value, _ := r.evaluate(settings, configShape(), "")
	document, err := json.Marshal(value)
	if err != nil {
		return config.Config{}, []config.Fault{{Path: "", Found: "what is no JSON", Want: err.Error()}}
	}
	cfg, err := config.Read(func(name string) string {
		switch {
		case name == config.Variable:
			return string(document)
		case name == config.LegacyVariable:
			return ""
		case r.secret[name]:
			return standIns[0]
		}
		return r.environment[name]
	})
	var invalid *config.InvalidError
	switch {
	case err == nil:
		return cfg, nil
	case !errors.As(err, &invalid):
		return cfg, []config.Fault{{Path: "", Found: "what can't be read", Want: err.Error()}}
	case invalid.Reason != "":
		return cfg, []config.Fault{{Path: "", Found: "what " + invalid.Reason, Want: "want what docs/configuration.md describes"}}
	}
	return cfg, slices.DeleteFunc(invalid.Faults, func(fault config.Fault) bool {
		return r.secret[fault.Path] || slices.ContainsFunc(r.unknown, func(path string) bool {
			return path == fault.Path || strings.HasPrefix(path, fault.Path+".") || strings.HasPrefix(path, fault.Path+"[") ||
				strings.HasPrefix(fault.Path, path+".") || strings.HasPrefix(fault.Path, path+"[")
		})
	})
}

// evaluate is what a value comes to; present is false where CloudFormation
// leaves it out.
func (r *reading) evaluate(node *yaml.Node, of shape, path string) (value any, present bool) {
	if condition, yes, no, ok := r.branches(node); ok {
		if r.choices[condition] {
			return r.evaluate(yes, of, path)
		}
		return r.evaluate(no, of, path)
	}
	if r.isNoValue(node) {
		return nil, false
	}
	if name, argument, ok := r.function(node); ok {
		return r.evaluateFunction(node, name, argument, of, path), true
	}
	switch {
	case isMap(node):
		fields := map[string]any{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			name := node.Content[i].Value
			if inner, ok := r.evaluate(node.Content[i+1], of.field(name), join(path, name)); ok {
				fields[name] = inner
			}
		}
		return fields, true
	case isList(node):
		items := []any{}
		for i, item := range node.Content {
			if inner, ok := r.evaluate(item, of.item(), fmt.Sprintf("%s[%d]", path, i)); ok {
				items = append(items, inner)
			}
		}
		return items, true
	}
	if r.form == CloudFormation && strings.Contains(node.Value, "{{resolve:") {
		return r.standIn(of, path), true
	}
	return fitted(node, of), true
}

func (r *reading) evaluateFunction(node *yaml.Node, name string, argument *yaml.Node, of shape, path string) any {
	found, known := r.text(node)
	wantsList := !of.takes("string") && !of.bare() && of.takes("array")
	switch {
	case known && wantsList:
		items := []any{}
		for _, item := range strings.Split(found, ",") {
			items = append(items, of.item().typed(strings.TrimSpace(item)))
		}
		return items
	case known:
		return of.typed(found)
	case wantsList:
		return []any{r.standIn(of.item(), path)}
	case name == "Fn::Sub" && argument.Kind == yaml.ScalarNode && !of.bare():
		return r.standInSub(argument.Value, of, path)
	}
	return r.standIn(of, path)
}

// standIn is a value that takes the place of one that isn't known.
func (r *reading) standIn(of shape, path string) any {
	r.unknown = append(r.unknown, path)
	switch {
	case of.takes("string") && r.empty:
		return ""
	case of.takes("string"):
		return of.standIn()
	case of.takes("integer"):
		const first, last = 40000, 65535 // ports that nobody has by default
		r.ports++
		if maximum, ok := of.keyword("maximum").(float64); ok && maximum < last {
			return 1
		}
		return first + r.ports
	case of.takes("boolean"):
		return false
	}
	return nil
}

// standInSub puts something into the place of each unknown variable of a text,
// so that it is one that the schema takes.
func (r *reading) standInSub(template string, of shape, path string) string {
	r.unknown = append(r.unknown, path)
	var value string
	for _, candidate := range append([]string{"8080"}, standIns...) {
		value = substitute(template, func(name string) string {
			if known, ok := r.parameter(name); ok {
				return known
			}
			return candidate
		})
		if of.fits(value) {
			break
		}
	}
	return value
}
