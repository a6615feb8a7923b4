package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// document reads one JSON object field by field. It remembers which fields
// were asked for, so that whatever is left over is unknown, and it gathers
// every fault instead of stopping at the first. A field that is null counts
// as absent, as users of consul-ecs have it.
type document struct {
	path   string // "" for the root
	fields map[string]any
	read   []string
	report *report // shared by all objects of a configuration
	hides  bool    // its values may be secrets, so faults don't show them
}

// report is what reading a configuration found beside its values.
type report struct {
	faults   []Fault
	warnings []string
	objects  []*document // that were read, for what they know by name
}

// newDocument is an object at a path of the configuration.
func (r *report) newDocument(path string, fields map[string]any) *document {
	d := &document{path: path, fields: fields, report: r}
	r.objects = append(r.objects, d)
	return d
}

// parse reads the root object of a configuration.
func parse(raw []byte) (*document, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var root any
	if err := decoder.Decode(&root); err != nil {
		return nil, jsonError(raw, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("is not one JSON document: something follows its end at %s", position(raw, decoder.InputOffset()+1))
	}
	fields, ok := root.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("is not a JSON object: found %s", show(root))
	}
	if twice := duplicate(json.NewDecoder(bytes.NewReader(raw)), ""); twice != "" {
		return nil, fmt.Errorf("has the field %s twice; keep one", twice)
	}
	return (&report{}).newDocument("", fields), nil
}

// duplicate returns the path of a field that stands twice in one object of a
// valid document, of which the decoder would take the last without a word.
func duplicate(tokens *json.Decoder, path string) string {
	token, err := tokens.Token()
	if err != nil {
		return ""
	}
	seen := map[string]bool{}
	for i := 0; isOpening(token) && tokens.More(); i++ {
		inner := fmt.Sprintf("%s[%d]", path, i)
		if token == json.Delim('{') {
			name, _ := tokens.Token() // the document was decoded before
			text, _ := name.(string)
			inner = strings.TrimPrefix(fmt.Sprintf("%s.%s", path, legible(text)), ".")
			if seen[inner] {
				return inner
			}
			seen[inner] = true
		}
		if twice := duplicate(tokens, inner); twice != "" {
			return twice
		}
	}
	if isOpening(token) {
		_, _ = tokens.Token() // its end
	}
	return ""
}

func isOpening(token json.Token) bool { return token == json.Delim('{') || token == json.Delim('[') }

func jsonError(raw []byte, err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("is not valid JSON: %w at %s", err, position(raw, syntax.Offset))
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("is not valid JSON: it ends too early; check that its value was not cut off")
	}
	return fmt.Errorf("is not valid JSON: %w", err)
}

func position(raw []byte, offset int64) string {
	before := raw[:min(offset, int64(len(raw)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return fmt.Sprintf("line %d, column %d", line, max(column, 1))
}

// show prints what was found, short enough for one line of a log.
func show(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case nil:
		return "null"
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		const most = 80
		if len(text) > most {
			return string(text[:most]) + "…"
		}
		return string(text)
	}
}

func (d *document) at(name string) string {
	name = legible(name)
	if d.path == "" {
		return name
	}
	return d.path + "." + name
}

// fault records what is wrong with a field and what to do about it.
func (d *document) fault(name, found, want string) {
	if d.hides && !slices.Contains([]string{"an object", "a list", "null"}, found) {
		found = "a value that isn't shown, as it may be a secret"
	}
	d.report.faults = append(d.report.faults, Fault{Path: d.at(name), Found: found, Want: want})
}

// get returns a field's value; present is false for absent and null.
func (d *document) get(name string) (value any, present bool) {
	d.read = append(d.read, name)
	value = d.fields[name]
	return value, value != nil
}

func (d *document) text(name, standard string) string {
	value, present := d.get(name)
	if !present {
		return standard
	}
	text, ok := value.(string)
	if !ok {
		d.fault(name, show(value), "want a string")
		return standard
	}
	return text
}

func (d *document) boolean(name string, standard bool) bool {
	value, present := d.get(name)
	if !present {
		return standard
	}
	boolean, ok := value.(bool)
	if !ok {
		d.fault(name, show(value), "want true or false")
		return standard
	}
	return boolean
}

func (d *document) integer(name string, standard, least, most int) int {
	value, present := d.get(name)
	if !present {
		return standard
	}
	number, ok := value.(json.Number)
	if ok {
		n, err := number.Int64()
		if err == nil && n >= int64(least) && n <= int64(most) {
			return int(n)
		}
	}
	d.fault(name, show(value), fmt.Sprintf("want a whole number from %d to %d", least, most))
	return standard
}

func (d *document) port(name string, standard int) int {
	return d.integer(name, standard, 1, 65535)
}

func (d *document) oneOf(name, standard string, allowed ...string) string {
	text := d.text(name, standard)
	if !slices.Contains(allowed, text) {
		d.fault(name, show(text), "want one of "+strings.Join(allowed, ", "))
		return standard
	}
	return text
}

// list returns nil where the field is absent or is no list.
func (d *document) list(name, of string) []any {
	value, present := d.get(name)
	if !present {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		d.fault(name, show(value), "want a list of "+of)
	}
	return list
}

func (d *document) texts(name string) []string {
	list := d.list(name, "strings")
	if list == nil {
		return nil
	}
	texts := make([]string, 0, len(list))
	for i, item := range list {
		text, ok := item.(string)
		if !ok {
			d.fault(fmt.Sprintf("%s[%d]", name, i), show(item), "want a string")
			continue
		}
		texts = append(texts, text)
	}
	return texts
}

func (d *document) textMap(name string) map[string]string {
	inner := d.object(name)
	if inner == nil {
		return nil
	}
	texts := make(map[string]string, len(inner.fields))
	for _, key := range inner.names() {
		texts[key] = inner.text(key, "")
	}
	return texts
}

// opaque returns an object that is passed on as it is.
func (d *document) opaque(name string) map[string]any {
	inner := d.object(name)
	if inner == nil {
		return nil
	}
	if at := nullInList(inner.fields, name); at != "" {
		d.fault(at, "null", "remove it: Consul takes a null in a list, and can't give it back")
	}
	return inner.fields
}

// nullInList returns the path of a null that stands in a list, or "".
func nullInList(value any, path string) string {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if at := nullInList(v[name], path+"."+legible(name)); at != "" {
				return at
			}
		}
	case []any:
		for i, item := range v {
			element := fmt.Sprintf("%s[%d]", path, i)
			if item == nil {
				return element
			}
			if at := nullInList(item, element); at != "" {
				return at
			}
		}
	}
	return ""
}

// object returns nil where the field is absent or is no object.
func (d *document) object(name string) *document {
	value, present := d.get(name)
	if !present {
		return nil
	}
	fields, ok := value.(map[string]any)
	if !ok {
		d.fault(name, show(value), "want an object")
		return nil
	}
	return d.report.newDocument(d.at(name), fields)
}

// section is object for a field whose settings all have defaults: an absent
// one is empty.
func (d *document) section(name string) *document {
	if inner := d.object(name); inner != nil {
		return inner
	}
	return d.report.newDocument(d.at(name), nil)
}

// objects reads a list of objects, of which example is one.
func (d *document) objects(name, example string) []*document {
	var inner []*document
	for i, item := range d.list(name, "objects") {
		element := fmt.Sprintf("%s[%d]", name, i)
		fields, ok := item.(map[string]any)
		if !ok {
			d.fault(element, show(item), "want an object such as "+example)
			continue
		}
		inner = append(inner, d.report.newDocument(d.at(element), fields))
	}
	return inner
}

// refuse refuses a field whatever it is, with advice.
func (d *document) refuse(name, advice string) {
	if value, present := d.get(name); present {
		d.fault(name, show(value), advice)
	}
}

// ignore accepts a field that has no meaning here, with a warning.
func (d *document) ignore(name string) {
	if _, present := d.get(name); present {
		d.report.warnings = append(d.report.warnings, d.at(name)+" has no meaning in ecsmesh and is ignored")
	}
}

// has tells whether a field is there and not null, without reading it.
func (d *document) has(name string) bool { return d.fields[name] != nil }

func (d *document) names() []string {
	names := make([]string, 0, len(d.fields))
	for name := range d.fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// end reports every field that nothing asked for.
func (d *document) end() {
	for _, name := range d.names() {
		if slices.Contains(d.read, name) {
			continue
		}
		known := slices.Clone(d.read)
		slices.Sort(known)
		known = slices.Compact(known)
		d.fault(name, "an unknown field", "remove it, or use one of "+strings.Join(known, ", "))
	}
}

// legible is a field's name as it is, unless it would be lost in a line of a log.
func legible(name string) string {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(name)
	}
	return name
}
