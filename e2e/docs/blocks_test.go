package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"ecsmesh/e2e/tools"
)

// document is a file in Markdown, by its path from the root of the checkout.
type document struct{ path, text string }

// documents are all that are written for people.
func documents(t *testing.T) []document {
	t.Helper()
	root := checkout(t)
	var paths []string
	for _, pattern := range []string{"README.md", "CONTRIBUTING.md", "docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil || len(found) == 0 {
			t.Fatalf("there is no %s, %v", pattern, err)
		}
		paths = append(paths, found...)
	}
	var all []document
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, document{relative, string(text)})
	}
	return all
}

func checkout(t *testing.T) string {
	t.Helper()
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// block is what stands between two fences.
type block struct {
	document, language, text string
	line                     int // of its first line in the document
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.document, b.line) }

// blocks are those of a document, in its order.
func (d document) blocks() ([]block, error) {
	var all []block
	open := false
	number := 0
	for line := range strings.Lines(d.text) {
		number++
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case !fence && open:
			all[len(all)-1].text += line
		case !fence:
		case !open:
			if !strings.HasPrefix(line, "```") {
				return nil, fmt.Errorf("%s:%d: the block is indented, so that pasting it pastes the indentation", d.path, number)
			}
			all, open = append(all, block{document: d.path, language: language, line: number + 1}), true
		case language != "":
			return nil, fmt.Errorf("%s:%d: a block begins within a block", d.path, number)
		default:
			open = false
		}
	}
	if open {
		return nil, fmt.Errorf("%s: %s has no end", d.path, all[len(all)-1])
	}
	return all, nil
}

func allBlocks(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, d := range documents(t) {
		found, err := d.blocks()
		if err != nil {
			t.Error(err)
		}
		all = append(all, found...)
	}
	return all
}

// TestEveryBlockIsOfALanguageThatIsChecked keeps out what nothing looks at.
func TestEveryBlockIsOfALanguageThatIsChecked(t *testing.T) {
	checked := map[string]string{
		"sh":   "TestCommandsAreRight",
		"yaml": "TestTemplatesInDocumentsAreRight",
		"json": "TestJSONInDocumentsIsRight",
		"hcl":  "TestTerraformInDocumentsIsRight",
		"diff": "TestMigrationsExampleIsWhole",
	}
	defined := definedTests(t, checkout(t))
	for language, test := range checked {
		if !defined[test] {
			t.Errorf("%s: there is no %s", language, test)
		}
	}
	diffs := 0
	for _, b := range allBlocks(t) {
		if checked[b.language] == "" {
			t.Errorf("%s: nothing checks a block of %q", b, b.language)
		}
		if b.language == "diff" {
			diffs++
		}
	}
	if diffs != 1 {
		t.Errorf("there are %d blocks with a diff, and the test reads one", diffs)
	}
}

func TestTerraformInDocumentsIsRight(t *testing.T) {
	for _, b := range allBlocks(t) {
		if b.language != "hcl" {
			continue
		}
		if err := parseHCL(b.text); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	}
	if parseHCL(`resource "a" "b" { c = [ }`) == nil {
		t.Error("nothing is wrong with an open bracket")
	}
}

func parseHCL(text string) error {
	if _, faults := hclparse.NewParser().ParseHCL([]byte(text), "block"); faults.HasErrors() {
		return hcl.Diagnostics(faults)
	}
	return nil
}

// TestBlocks has documents whose blocks can't be told apart.
func TestBlocks(t *testing.T) {
	for text, want := range map[string]string{
		"```sh\nmake\n":                     "has no end",
		"```sh\nmake\n```yaml\na: 1\n```\n": "begins within",
		"- a\n  ```sh\n  make\n  ```\n":     "is indented",
	} {
		if _, err := (document{"x.md", text}).blocks(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	found, err := document{"x.md", "a\n```sh\nmake\n\n```\n```json\n{}\n```\n"}.blocks()
	want := []block{{"x.md", "sh", "make\n\n", 3}, {"x.md", "json", "{}\n", 7}}
	if err != nil || len(found) != 2 || found[0] != want[0] || found[1] != want[1] {
		t.Errorf("%+v, %v", found, err)
	}
}
