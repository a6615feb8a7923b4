package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ecsmesh/e2e/golden"
)

// TestGoldenReference keeps docs/configuration.md what the schema says.
func TestGoldenReference(t *testing.T) {
	golden.Expect(t, filepath.Join(root, "docs", "configuration.md"), writeReference(t))
}

const referenceHead = `# Configuration of a task

<!-- Made from initcontainer/config/schema.json by make golden; change it there. -->

%s

An editor knows all of this, too: ` + "`ecsmesh-init schema >ecsmesh.schema.json`" + ` prints the JSON Schema of your version, and
` + "`\"$schema\": \"./ecsmesh.schema.json\"`" + ` in a document, or in VS Code the setting ` + "`json.schemas`" + `, has it checked as you type.
What only ` + "`ecsmesh-init`" + ` can know, such as two listeners with one port, it says when it starts, all at once.
`

// writeReference has a table for each object of the document.
func writeReference(t *testing.T) []byte {
	t.Helper()
	fields := schemaFields(t)
	var schema field
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	fmt.Fprintf(&page, referenceHead, schema.text("description"))
	var top, tables []string
	for path, field := range fields {
		switch {
		case strings.Contains(path, "."):
		case field.object("properties") != nil:
			tables = append(tables, path)
		default:
			top = append(top, path)
		}
	}
	slices.SortFunc(tables, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	for _, table := range tables {
		fmt.Fprintf(&page, "\n## `%s`\n\n%s\n\n", table, fields[table].text("description"))
		writeTable(&page, fields, below(fields, table), table+".")
	}
	slices.Sort(top)
	page.WriteString("\n## The rest\n\n")
	writeTable(&page, fields, top, "")
	page.WriteString("\n## Refused by name\n\n")
	for _, path := range slices.Sorted(maps.Keys(fields)) {
		if fields[path].refused() {
			fmt.Fprintf(&page, "- `%s`: %s\n", path, strings.TrimPrefix(fields[path].text("description"), "Refused: "))
		}
	}
	return page.Bytes()
}

// rank has what most documents have first.
func rank(table string) string {
	order := []string{"service", "proxy", "consulServers", "consulLogin", "gateway"}
	if i := slices.Index(order, table); i >= 0 {
		return fmt.Sprint(i)
	}
	return table
}

// below are the fields in an object, each followed by those in it, and what is
// required first.
func below(fields map[string]field, object string) []string {
	var own, all []string
	for path := range fields {
		name, is := strings.CutPrefix(strings.TrimPrefix(path, object), ".")
		if is && strings.HasPrefix(path, object) && !strings.Contains(name, ".") && !fields[path].refused() {
			own = append(own, path)
		}
	}
	slices.SortFunc(own, func(a, b string) int {
		if first := fields[a][needed] != nil; first != (fields[b][needed] != nil) {
			if first {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	for _, path := range own {
		all = append(all, path)
		all = append(all, below(fields, path)...)
		all = append(all, below(fields, path+"[]")...)
	}
	return all
}

func writeTable(page *bytes.Buffer, fields map[string]field, paths []string, prefix string) {
	page.WriteString("| field | value | default | meaning |\n|---|---|---|---|\n")
	for _, path := range paths {
		f := fields[path]
		standard := ""
		switch {
		case f["default"] != nil:
			standard = fmt.Sprintf("`%v`", f["default"])
		case f[needed] != nil:
			standard = "required"
		}
		meaning := strings.NewReplacer("|", `\|`, "<", `\<`).Replace(f.text("description"))
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", strings.TrimPrefix(path, prefix), f.value(), standard, meaning)
	}
}

func (f field) refused() bool { return f.text("type") == "null" }

// value says in words what a field takes.
func (f field) value() string {
	var allowed []string
	enum, _ := f["enum"].([]any)
	for _, each := range f.list("anyOf") {
		if named, is := each.(map[string]any)["enum"].([]any); is {
			enum = named
		}
	}
	for _, value := range enum {
		if value != nil && value != "" {
			allowed = append(allowed, fmt.Sprintf("`%v`", value))
		}
	}
	if constant := f["const"]; constant != nil {
		allowed = append(allowed, fmt.Sprintf("`%v`", constant))
	}
	if len(allowed) > 0 {
		return strings.Join(allowed, ", ")
	}
	if len(f.types()) == 0 {
		return "any"
	}
	switch f.types()[0] {
	case "integer":
		return fmt.Sprintf("%.0f to %.0f", f["minimum"], f["maximum"])
	case "boolean":
		return "`true`, `false`"
	case "array":
		switch f.object("items").text("type") {
		case "string":
			return "list of strings"
		case "integer":
			return "list of whole numbers"
		}
		return "list of objects"
	case "object":
		switch inner := f.object("additionalProperties"); {
		case inner["type"] != nil:
			return "strings by name"
		case inner != nil:
			return "lists of strings by name"
		}
	}
	return f.types()[0]
}
