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
	for _, d := range documents(t) {
		for _, found := range link.FindAllStringSubmatch(d.text, -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			file, section, _ := strings.Cut(found[1], "#")
			target := filepath.Join(root, d.path)
			if file != "" {
				target = filepath.Join(filepath.Dir(target), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere", d.path, found[1])
			} else if section != "" && !hasSection(t, target, section) {
				t.Errorf("%s: %s leads to no section of %s", d.path, found[1], filepath.Base(target))
			}
		}
	}
	if hasSection(t, filepath.Join(root, "README.md"), "how-it-woks") {
		t.Error("any anchor leads to a section")
	}
}

// TestEveryDocumentIsFound has README or another document lead to each.
func TestEveryDocumentIsFound(t *testing.T) {
	root := checkout(t)
	led := map[string]bool{filepath.Join(root, "README.md"): true}
	for _, d := range documents(t) {
		for _, found := range link.FindAllStringSubmatch(d.text, -1) {
			file, _, _ := strings.Cut(found[1], "#")
			led[filepath.Join(root, filepath.Dir(d.path), file)] = true
		}
	}
	for _, d := range documents(t) {
		if !led[filepath.Join(root, d.path)] {
			t.Errorf("nothing leads to %s", d.path)
		}
	}
}

// hasSection tells whether a document has a heading with this anchor, by
// GitHub's rules.
func hasSection(t *testing.T, document, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range heading.FindAllStringSubmatch(string(text), -1) {
		if strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-") == anchor {
			return true
		}
	}
	return false
}
