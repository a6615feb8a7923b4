package config

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A field is what the schema says of one path, such as service.checks[].name;
// what it refers to is filled in, and whether the object around it needs it.
type field map[string]any

// needed is a key of ours beside the schema's.
const needed = "needed by the object around"

// schemaFields are all fields of the schema, and the objects that hold them.
func schemaFields(t *testing.T) map[string]field {
	t.Helper()
	var root field
	if err := json.Unmarshal(Schema, &root); err != nil {
		t.Fatal(err)
	}
	fields := map[string]field{}
	root.walk(root, "", fields)
	delete(fields, "")
	return fields
}

func (f field) walk(root field, path string, into map[string]field) {
	f = f.resolve(root)
	into[path] = f
	for name, inner := range f.object("properties") {
		inner, _ := inner.(map[string]any)
		inner = maps.Clone(inner)
		if slices.Contains(f.list("required"), any(name)) {
			inner[needed] = true
		}
		field(inner).walk(root, strings.TrimPrefix(path+"."+name, "."), into)
	}
	if items := f.object("items"); items != nil {
		if items = items.resolve(root); items["properties"] != nil {
			items.walk(root, path+"[]", into)
			delete(into, path+"[]") // has no name of its own
		}
	}
}

// resolve fills in what a field refers to; what it says itself wins.
func (f field) resolve(root field) field {
	reference, _ := f["$ref"].(string)
	name, is := strings.CutPrefix(reference, "#/$defs/")
	if !is {
		return f
	}
	resolved := maps.Clone(root.object("$defs").object(name).resolve(root))
	properties := map[string]any{}
	maps.Copy(properties, resolved.object("properties"))
	for name, own := range f.object("properties") {
		if own != true { // true is as it is there
			properties[name] = own
		}
	}
	maps.Copy(resolved, f)
	if len(properties) > 0 {
		resolved["properties"] = properties
	}
	return resolved
}

func (f field) object(name string) field {
	inner, _ := f[name].(map[string]any)
	return inner
}

func (f field) list(name string) []any {
	list, _ := f[name].([]any)
	return list
}

func (f field) text(name string) string {
	text, _ := f[name].(string)
	return text
}

// types are the JSON types that a field may have, null aside.
func (f field) types() []string {
	var types []string
	switch found := f["type"].(type) {
	case string:
		types = append(types, found)
	case []any:
		for _, name := range found {
			if name != "null" {
				types = append(types, name.(string))
			}
		}
	}
	return types
}

// mayBeNull tells whether the field may be left out.
func (f field) mayBeNull() bool {
	types, _ := f["type"].([]any)
	return slices.Contains(types, any("null"))
}

// readerFields are the paths of all fields that the reader asks for. What it
// asks for in an object is known once there is one, so each field that it asks
// for is given to it as an object, and as a list of one.
func readerFields(bases ...string) map[string]bool {
	known := map[string]bool{}
	for _, base := range bases {
		seen := map[string]bool{}
		for queue := []string{""}; len(queue) > 0; queue = queue[1:] {
			for _, value := range []any{map[string]any{}, []any{map[string]any{}}} {
				for _, path := range asked(with(base, queue[0], value)) {
					known[path] = true
					if !seen[path] {
						seen[path] = true
						queue = append(queue, path)
					}
				}
			}
		}
	}
	return known
}

var index = regexp.MustCompile(`\[\d+\]`)

// asked are the paths of the fields that the reader asks for in a document.
func asked(fields map[string]any) []string {
	root := (&report{}).newDocument("", fields)
	readConfig(root, env())
	var paths []string
	for _, d := range root.report.objects {
		for _, name := range d.read {
			paths = append(paths, index.ReplaceAllString(d.at(name), "[]"))
		}
	}
	return paths
}

// with returns a document with a value at a path; lists on its way get, or
// have, one element.
func with(base, path string, value any) map[string]any {
	var document map[string]any
	decoder := json.NewDecoder(strings.NewReader(base))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		panic(err) // the base is the test's own
	}
	if path == "" {
		return document
	}
	at, rest := document, path
	for {
		name, inner, more := strings.Cut(rest, ".")
		if !more {
			at[name] = value
			return document
		}
		rest = inner
		name, list := strings.CutSuffix(name, "[]")
		next, _ := at[name].(map[string]any)
		if elements, _ := at[name].([]any); len(elements) > 0 {
			next, _ = elements[0].(map[string]any)
		}
		if next == nil {
			next = map[string]any{}
		}
		at[name] = next
		if list {
			at[name] = []any{next}
		}
		at = next
	}
}
