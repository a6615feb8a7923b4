package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ecsmesh/e2e/tools"
)

// TestTheDemoTellsItsStory runs it as users do.
func TestTheDemoTellsItsStory(t *testing.T) {
	root, err := tools.Root()
	must(t, err)
	out, err := demo(t)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"T0", "T1", "T2", "T3", "T4", "0 failed", "the catalog is empty", "cleaned up"} {
		if !strings.Contains(out, want) {
			t.Errorf("the story has no %q:\n%s", want, out)
		}
	}
	if picture, err := os.ReadFile(filepath.Join(root, "dist", "demo-timeline.svg")); err != nil || !strings.Contains(string(picture), "</svg>") {
		t.Errorf("the picture: %v", err)
	}
}
