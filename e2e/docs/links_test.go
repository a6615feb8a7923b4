package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ecsmesh/e2e/tools"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinksLeadSomewhere follows every link from one document to another, or to
// a section.
func TestLinksLeadSomewhere(t *testing.T) {
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(documents) == 0 {
		t.Fatalf("no documents, %v", err)
	}
	documents = append(documents, filepath.Join(root, "README.md"), filepath.Join(root, "CONTRIBUTING.md"), filepath.Join(root, "docs", "performance", "README.md"))
	read := func(path string) string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	for _, document := range documents {
		text := read(document)
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			file, section, _ := strings.Cut(found[1], "#")
			target := document
			if file != "" {
				target = filepath.Join(filepath.Dir(document), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere", filepath.Base(document), found[1])
			} else if section != "" && !hasSection(read(target), section) {
				t.Errorf("%s: %s leads to no section of %s", filepath.Base(document), found[1], filepath.Base(target))
			}
		}
	}
}

// hasSection tells whether a document has a heading with this anchor, by
// GitHub's rules.
func hasSection(text, anchor string) bool {
	for _, found := range heading.FindAllStringSubmatch(text, -1) {
		if strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}
