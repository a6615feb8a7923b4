package sam

import (
	_ "embed"
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"ecsmesh/e2e/sam/usage"
)

//go:embed options.py
var optionsProgram string

// The documents' tests believe usage.Options.
func TestOptions(t *testing.T) {
	commands := slices.Sorted(maps.Keys(usage.Options))
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, python), append([]string{"-c", optionsProgram}, commands...)...)
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("ask SAM for its options: %v\n%s", err, out)
	}
	var actual map[string]map[string]bool
	if err := json.Unmarshal(out, &actual); err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		for option, takes := range usage.Options[command] {
			if really, known := actual[command][option]; !known || really != takes {
				t.Errorf("sam %s has the option %s: %t, with a value: %t; want one with a value: %t", command, option, known, really, takes)
			}
		}
	}
}
