package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prepared(t *testing.T) Volume {
	t.Helper()
	v := Volume(t.TempDir())
	if err := v.Prepare(); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWriteReplacesAsAWhole(t *testing.T) {
	v := prepared(t)
	// What a run that was killed left behind is in nobody's way.
	if err := os.WriteFile(filepath.Join(string(v), ".envoy-bootstrap.json.new"), []byte("half of a much longer file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", "2nd"} {
		before, _ := os.Stat(v.Bootstrap())
		if err := v.Write(v.Bootstrap(), []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(v.Bootstrap())
		if err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
		if after, _ := os.Stat(v.Bootstrap()); before != nil && os.SameFile(before, after) {
			t.Error("the file was written in place: Envoy would not notice")
		}
	}
	if diff := cmp.Diff([]string{"bin", "consul-servers.json", "envoy-bootstrap.json", "state"}, list(t, string(v))); diff != "" {
		t.Error(diff)
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestFilesAreForEnvoysUserWhateverTheUmask(t *testing.T) {
	v := prepared(t)
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.CopyBinary(program), v.WriteJSON(v.Task(), 1)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		v.Binary():               0o755,
		v.Task():                 0o644,
		filepath.Dir(v.Task()):   0o777,
		v.Live():                 0o777,
		filepath.Dir(v.Binary()): 0o755,
	} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode().Perm(), want, err)
		}
	}
	if OfBinary(v.Binary()) != v {
		t.Errorf("the binary takes %s for its volume", OfBinary(v.Binary()))
	}
}

// TestTheServersAreReplacedWithoutTouchingTheRest has the list of servers in a
// folder that Envoy's user may write to, and its fixed name outside.
func TestTheServersAreReplacedWithoutTouchingTheRest(t *testing.T) {
	v := prepared(t)
	for _, content := range []string{"first", "second"} {
		if err := v.Write(v.LiveServers(), []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(v.Servers()); err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
		if err := v.Prepare(); err != nil { // the init container again
			t.Fatal(err)
		}
	}
	moved := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Rename(string(v), moved); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(Volume(moved).Servers()); err != nil || string(got) != "second" {
		t.Errorf("mounted elsewhere: %q, %v", got, err)
	}
}

func TestOnlyOneRunHoldsTheLock(t *testing.T) {
	v := prepared(t)
	unlock, err := v.TryLock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.TryLock(); !errors.Is(err, ErrLocked) {
		t.Errorf("the second got %v", err)
	}
	unlock()
	again, err := v.TryLock()
	if err != nil {
		t.Fatalf("after it was freed: %v", err)
	}
	again()
}

func TestReadJSON(t *testing.T) {
	v := prepared(t)
	var value map[string]int
	if err := ReadJSON(v.Checks(), &value); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := v.Write(v.Checks(), []byte(`{"a": `)); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(v.Checks(), &value); err == nil || !strings.Contains(err.Error(), "checks.json") {
		t.Errorf("a broken file: %v", err)
	}
	if err := v.WriteJSON(v.Checks(), map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if err := ReadJSON(v.Checks(), &value); err != nil || value["a"] != 1 {
		t.Errorf("got %v, %v", value, err)
	}
}

func TestAVolumeThatIsNotThereIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Volume(filepath.Join(file, "mount")).Prepare()
	if err == nil || !strings.Contains(err.Error(), "shared volume "+file+"/mount") {
		t.Errorf("got %v", err)
	}
}

// TestWhatIsSecretIsEnvoysAlone gives it to a user, which takes root.
func TestWhatIsSecretIsEnvoysAlone(t *testing.T) {
	v := prepared(t)
	if err := v.PrepareToken(); err != nil {
		t.Fatal(err)
	}
	user := os.Geteuid()
	if user == 0 {
		user = EnvoyUser
	}
	for _, secret := range []string{"first", "second"} {
		if err := v.WritePrivate(v.LiveToken(), []byte(secret), user); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(v.Token())
		if err != nil || string(content) != secret {
			t.Errorf("behind the link is %q, %v", content, err)
		}
		info, err := os.Stat(v.Token())
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("the mode is %v, %v", info.Mode(), err)
		}
		if owner, err := OwnerOf(v.Token()); err != nil || owner != user {
			t.Errorf("it belongs to %d, %v", owner, err)
		}
	}
}
