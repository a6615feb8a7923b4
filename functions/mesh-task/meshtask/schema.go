package meshtask

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ecsmesh/initcontainer/config"
)

// shape is what the schema of ECSMESH_CONFIG says of one value: nothing, where
// it is passed on to Consul as it is.
type shape struct{ root, here map[string]any }

var schemaRoot = sync.OnceValue(func() map[string]any {
	var root map[string]any
	if err := json.Unmarshal(config.Schema, &root); err != nil {
		return nil // its own tests see to that
	}
	return root
})

func configShape() shape { return shape{schemaRoot(), schemaRoot()} }

// target is what the schema refers to for a value.
func (s shape) target() shape {
	reference, ok := s.here["$ref"].(string)
	if !ok {
		return shape{root: s.root}
	}
	here := s.root
	for _, step := range strings.Split(strings.TrimPrefix(reference, "#/"), "/") {
		here, _ = here[step].(map[string]any)
	}
	return shape{s.root, here}
}

func (s shape) field(name string) shape {
	for ; s.here != nil; s = s.target() {
		fields, _ := s.here["properties"].(map[string]any)
		if inner, ok := fields[name].(map[string]any); ok {
			return shape{s.root, inner}
		}
		if inner, ok := s.here["additionalProperties"].(map[string]any); ok {
			return shape{s.root, inner}
		}
	}
	return s
}

func (s shape) item() shape {
	for ; s.here != nil; s = s.target() {
		if inner, ok := s.here["items"].(map[string]any); ok {
			return shape{s.root, inner}
		}
	}
	return s
}

// kinds are the JSON types that a value may have but for null; none is any.
func (s shape) kinds() []string {
	for ; s.here != nil; s = s.target() {
		var kinds []string
		switch kind := s.here["type"].(type) {
		case string:
			kinds = []string{kind}
		case []any:
			for _, one := range kind {
				kinds = append(kinds, one.(string))
			}
		}
		if _, ok := s.here["enum"]; ok {
			kinds = []string{"string"} // all of them are of texts, but one of false alone, which isn't walked
		}
		kinds = slices.DeleteFunc(kinds, func(kind string) bool { return kind == "null" })
		if len(kinds) > 0 {
			return kinds
		}
	}
	return nil
}

func (s shape) takes(kind string) bool {
	kinds := s.kinds()
	return len(kinds) == 0 || slices.Contains(kinds, kind)
}

// bare tells whether a value is written without quotes in JSON.
func (s shape) bare() bool {
	return !s.takes("string") && (s.takes("integer") || s.takes("number") || s.takes("boolean"))
}

// keyword is what the schema says nearest to a value.
func (s shape) keyword(name string) any {
	for ; s.here != nil; s = s.target() {
		if value, ok := s.here[name]; ok {
			return value
		}
	}
	return nil
}

// fits tells whether a text is what the schema wants, as far as that goes.
func (s shape) fits(value string) bool {
	if allowed, ok := s.keyword("enum").([]any); ok && !slices.Contains(allowed, any(value)) {
		return false
	}
	if pattern, ok := s.keyword("pattern").(string); ok {
		matched, err := regexp.MatchString(pattern, value)
		return err == nil && matched
	}
	return true
}

// standIns are what an unknown text may be, from the most likely on.
var standIns = []string{"unknown", "127.0.0.1", "/unknown", "http://127.0.0.1:8080", "127.0.0.1:8080", "5s", "10.0.0.0/16", "65534", "INFO"}

// standIn is a text that the schema takes where the true one isn't known.
func (s shape) standIn() string {
	if allowed, ok := s.keyword("enum").([]any); ok {
		for _, one := range allowed {
			if value, ok := one.(string); ok {
				return value
			}
		}
	}
	for _, value := range standIns {
		if s.fits(value) {
			return value
		}
	}
	return standIns[0]
}

// typed is a text in the type that the schema wants, where it can be.
func (s shape) typed(value string) any {
	if !s.bare() {
		return value
	}
	if s.takes("integer") || s.takes("number") {
		if _, err := strconv.ParseInt(value, 10, 64); err == nil {
			return json.Number(value)
		}
	}
	if s.takes("boolean") {
		switch strings.ToLower(value) {
		case "true":
			return true
		case "false":
			return false
		}
	}
	return value
}
