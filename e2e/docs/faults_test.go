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

// TestTheTableOfFaultsNamesTestsThatExist keeps docs/faults.md from telling of
// tests that were renamed or removed.
func TestTheTableOfFaultsNamesTestsThatExist(t *testing.T) {
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join(root, "docs", "faults.md"))
	if err != nil {
		t.Fatal(err)
	}
	defined := definedTests(t, root)
	mentions := mention.FindAllStringSubmatch(string(table), -1)
	if len(mentions) == 0 {
		t.Fatal("it names no test at all")
	}
	for _, m := range mentions {
		if !defined[m[1]] {
			t.Errorf("there is no %s", m[1])
		}
	}
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
