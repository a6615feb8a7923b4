// Package docs holds the documentation to what is there.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ecsmesh/e2e/tools"
)

var (
	mention    = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	definition = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
)

// TestTablesNameTestsThatExist keeps documents from telling of tests that were
// renamed or removed, and from claiming what no test shows.
func TestTablesNameTestsThatExist(t *testing.T) {
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	defined := definedTests(t, root)
	for _, document := range []string{"faults.md", "security.md"} {
		t.Run(document, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(root, "docs", document))
			if err != nil {
				t.Fatal(err)
			}
			rows := rows(string(text))
			if len(rows) == 0 {
				t.Fatal("it has no table with tests")
			}
			for _, row := range rows {
				tests := mention.FindAllStringSubmatch(row, -1)
				if len(tests) == 0 {
					t.Errorf("no test shows this:\n%s", row)
				}
				for _, test := range tests {
					if !defined[test[1]] {
						t.Errorf("there is no %s", test[1])
					}
				}
			}
		})
	}
}

// rows are those of all tables whose last column says by what they are tested.
// Where that is "the same", it is what the row above says.
func rows(text string) []string {
	var rows []string
	tested := false
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			tested = false
		case last == "tested by":
			tested = true
		case tested && last != "---" && last != "the same":
			rows = append(rows, line)
		}
	}
	return rows
}

func definedTests(t *testing.T, root string) map[string]bool {
	t.Helper()
	defined := map[string]bool{}
	for _, folder := range []string{"functions", "shared", "initcontainer", "e2e"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range definition.FindAllStringSubmatch(string(source), -1) {
				defined[m[1]] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return defined
}
