package docs

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/tools"
)

// inventory is what consul-ecs has, by the headings of the tables that have to
// tell of it.
type inventory struct {
	Fields    map[string][]field
	Names     map[string][]string
	Variables map[string]map[string]string // with their defaults
}

// field is one of consul-ecs's configuration, or one case of it.
type field struct {
	Name    string // its path; [] is the first of a list
	Case    string
	Default string
	Example any
	With    map[string]any // what it needs beside
	Env     []string       // variables that it needs
}

func (f field) String() string { return strings.TrimSpace(f.Name + " " + f.Case) }

func readInventory(t *testing.T) inventory {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "consul-ecs.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var read inventory
	if err := yaml.Unmarshal(content, &read); err != nil {
		t.Fatal(err)
	}
	return read
}

func readMigration(t *testing.T) string {
	t.Helper()
	return readFile(t, "docs", "migration.md")
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(append([]string{root}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// tables are the rows of a document's tables by the heading that they are under,
// each with its cells.
func tables(text string) map[string][][]string {
	tables := map[string][][]string{}
	heading := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if found, is := strings.CutPrefix(line, "## "); is {
			heading = found
		}
		if strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|---") {
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			tables[heading] = append(tables[heading], cells)
		}
	}
	for heading, rows := range tables {
		tables[heading] = rows[1:] // without that of the columns' names
	}
	return tables
}

// named are the names in a first cell, with the case of each: `a`, `b` with `c`.
func named(cell string) []string {
	var names []string
	for i, name := range strings.Split(cell, ", `") {
		if i == 0 {
			name = strings.TrimPrefix(name, "`")
		}
		names = append(names, strings.Replace(name, "`", "", 1))
	}
	return names
}

// TestMigrationTellsOfEverything holds the tables to the inventory, in both
// directions, and to the defaults in it.
func TestMigrationTellsOfEverything(t *testing.T) {
	want, got := readInventory(t), tables(readMigration(t))
	defaults := map[string]map[string]string{}
	for heading, fields := range want.Fields {
		defaults[heading] = map[string]string{}
		for _, f := range fields {
			defaults[heading][f.String()] = f.Default
		}
	}
	maps.Copy(defaults, want.Variables)
	for heading, wants := range defaults {
		seen := map[string]bool{}
		for _, row := range got[heading] {
			for _, name := range named(row[0]) {
				standard, known := wants[name]
				switch {
				case !known:
					t.Errorf("%s: consul-ecs has no %s", heading, name)
				case strings.Trim(row[1], `"`) != strings.Trim(standard, `"`):
					t.Errorf("%s: the default of %s is %s, not %s", heading, name, standard, row[1])
				case seen[name]:
					t.Errorf("%s: %s is there twice", heading, name)
				}
				seen[name] = true
			}
		}
		for name := range wants {
			if !seen[name] {
				t.Errorf("%s: nothing is said of %s", heading, name)
			}
		}
	}
	for heading, wants := range want.Names {
		if len(got[heading]) == 0 {
			t.Errorf("there is no table %s", heading)
		}
		tells := func(row []string, name string) bool {
			return strings.HasPrefix(row[0], name) || strings.Contains(row[0], "`"+name+"`")
		}
		for _, name := range wants {
			if !slices.ContainsFunc(got[heading], func(row []string) bool { return tells(row, name) }) {
				t.Errorf("%s: nothing is said of %s", heading, name)
			}
		}
		for _, row := range got[heading] {
			if !slices.ContainsFunc(wants, func(name string) bool { return tells(row, name) }) {
				t.Errorf("%s: consul-ecs has no %s", heading, row[0])
			}
		}
	}
}

// parameterNames are those of template.yaml, in text and as Terraform has them.
var parameterNames = regexp.MustCompile("(?m)`([A-Z][a-z]+[A-Z][A-Za-z]+)`|^    ([A-Z][a-z]+[A-Z][A-Za-z]+) += ")

func TestMigrationNamesParametersAndTestsThatExist(t *testing.T) {
	text, template := readMigration(t), readFile(t, "template.yaml")
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	defined := definedTests(t, root)
	for _, test := range mention.FindAllStringSubmatch(text, -1) {
		if !defined[test[1]] {
			t.Errorf("there is no %s", test[1])
		}
	}
	found := parameterNames.FindAllStringSubmatch(text, -1)
	if len(found) < 20 {
		t.Errorf("it names %d of the stack's parameters", len(found))
	}
	for _, names := range found {
		if name := names[1] + names[2]; !mention.MatchString("`"+name+"`") && !strings.Contains(template, name) {
			t.Errorf("template.yaml has no %s", name)
		}
	}
}
