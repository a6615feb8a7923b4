package usage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	used, err := Of([]string{"sh", "-c", "head -c 1000000 /dev/zero >" + file})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Size() != 1e6 {
		t.Errorf("the command didn't run: %v, %v", info, err)
	}
	if used.Written < 1e6 || used.Written > 2e6 || used.Wall <= 0 || used.Peak <= 0 {
		t.Errorf("it took %+v", used)
	}
}

func TestWhatFailsIsNotMeasured(t *testing.T) {
	for want, argv := range map[string][]string{"run sh: exit status 3": {"sh", "-c", "exit 3"}, "measure /absent": {"/absent"}} {
		if used, err := Of(argv); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", argv, used, err)
		}
	}
}
