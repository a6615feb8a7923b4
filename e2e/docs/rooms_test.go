package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestRoomsAreThoseOfTheTree holds CONTRIBUTING's table to the folders: every
// one with Go in it is named, and every name is that of a folder.
func TestRoomsAreThoseOfTheTree(t *testing.T) {
	for _, fault := range wrongRooms(t, readFile(t, "CONTRIBUTING.md"), os.DirFS(checkout(t))) {
		t.Error(fault)
	}
	const table = "## Where things are\n\n| where | what |\n|---|---|\n| `e2e/` | `lab` and `model`, as main.go says |\n"
	file := &fstest.MapFile{}
	for tree, want := range map[string]string{
		"e2e/lab/a.go e2e/model/a.go":                  "",
		"e2e/lab/a.go":                                 "e2e/ has no folder model",
		"e2e/lab/a.go e2e/model/a.go e2e/ecs/x/a.go":   "e2e/ecs",
		"e2e/lab/a.go e2e/model/a.go shared/mesh/a.go": "shared/",
	} {
		files := fstest.MapFS{}
		for name := range strings.FieldsSeq(tree) {
			files[name] = file
		}
		if faults := strings.Join(wrongRooms(t, table, files), "\n"); (want == "") != (faults == "") || !strings.Contains(faults, want) {
			t.Errorf("%s: %q", tree, faults)
		}
	}
}

func wrongRooms(t *testing.T, document string, tree fs.FS) []string {
	t.Helper()
	// A name of several words, or with a dot, is no folder's.
	name := regexp.MustCompile("`([a-z0-9-]+)`")
	var faults []string
	rooms := map[string][]string{}
	for _, row := range tables(document)["Where things are"] {
		folder := strings.Trim(row[0], "`/")
		rooms[folder] = []string{}
		if _, err := fs.Stat(tree, folder); err != nil {
			faults = append(faults, fmt.Sprintf("there is no %s/", folder))
		}
		for _, found := range name.FindAllStringSubmatch(row[1], -1) {
			// Programs are not folders, but for those that are.
			if _, err := fs.Stat(tree, filepath.Join(folder, found[1])); err != nil && !strings.HasPrefix(found[1], "ecsmesh-") {
				faults = append(faults, fmt.Sprintf("%s/ has no folder %s", folder, found[1]))
			}
			rooms[folder] = append(rooms[folder], found[1])
		}
	}
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") && path != "." || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		parts := strings.Split(path, "/")
		known, is := rooms[parts[0]]
		switch {
		case !is:
			faults = append(faults, "nothing is said of "+parts[0]+"/")
		case len(parts) > 2 && !slices.Contains(known, parts[1]):
			faults = append(faults, "nothing is said of "+parts[0]+"/"+parts[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(faults)
	return slices.Compact(faults)
}
