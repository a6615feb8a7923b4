package tools

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestProgramsRun(t *testing.T) {
	for name, program := range map[string]struct {
		find func() (string, error)
		args []string
	}{
		"Consul": {Consul, []string{"version"}},
		"Envoy":  {Envoy, []string{"--version"}},
		"Python": {Python, []string{"-c", "import ministack, samtranslator, cfnlint"}},
	} {
		path, err := program.find()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if out, err := exec.CommandContext(t.Context(), path, program.args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestMissingProgramSaysWhatToDo(t *testing.T) {
	checkout := t.TempDir()
	if err := os.WriteFile(filepath.Join(checkout, "go.mod"), []byte("module ecsmesh\n\ngo 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(checkout, "e2e", "lab")
	if err := os.MkdirAll(inside, 0o750); err != nil {
		t.Fatal(err)
	}
	t.Chdir(inside)
	dist := func() (string, error) { return Dist("ecsmesh-init") }
	for target, find := range map[string]func() (string, error){"make tools": Consul, "make test-tools": Iptables, "make bench-tools": RIE, "make build": dist} {
		if path, err := find(); err == nil || !strings.Contains(err.Error(), target) {
			t.Errorf("found %q, %v, want an error that says `%s`", path, err, target)
		}
	}
	t.Chdir(t.TempDir())
	if root, err := Root(); err == nil {
		t.Errorf("found a checkout at %s, where there is none", root)
	}
}
