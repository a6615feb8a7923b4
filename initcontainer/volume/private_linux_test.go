package volume

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAFileThatCannotBeGivenAwayIsNotWritten does without the right to give
// files away, as containers do that drop all capabilities.
func TestAFileThatCannotBeGivenAwayIsNotWritten(t *testing.T) {
	v := prepared(t)
	dropChown(t)
	err := v.WritePrivate(v.LiveToken(), []byte("secret"), os.Geteuid()+1)
	if err == nil || !strings.Contains(err.Error(), "proxy.uid") {
		t.Errorf("got %v", err)
	}
	if names := list(t, v.Live()); len(names) != 0 {
		t.Errorf("%s is left", names)
	}
}

// TestAVolumeIsGivenToWhoWritesToIt is for one that is root's, as where no image
// declares it.
func TestAVolumeIsGivenToWhoWritesToIt(t *testing.T) {
	other := os.Geteuid() + 1
	v := Volume(t.TempDir())
	if os.Geteuid() != 0 { // who can only be refused
		if err := v.GiveTo(other); err == nil || !strings.Contains(err.Error(), "CAP_CHOWN") {
			t.Errorf("without the right to give: %v", err)
		}
		return
	}
	for range 2 { // the second time it is that user's
		if err := v.GiveTo(other); err != nil {
			t.Fatal(err)
		}
		if owner, err := OwnerOf(string(v)); err != nil || owner != other {
			t.Fatalf("it belongs to %d, %v", owner, err)
		}
	}
	if err := Volume(filepath.Join(string(v), "none")).GiveTo(other); err != nil {
		t.Errorf("one that isn't there: %v", err)
	}
	dropChown(t)
	if err := v.GiveTo(other); err != nil {
		t.Errorf("its own, without the right to give: %v", err)
	}
	roots := Volume(t.TempDir())
	if err := roots.GiveTo(other); err == nil || !strings.Contains(err.Error(), "CAP_CHOWN") {
		t.Errorf("without the right to give: %v", err)
	}
	if err := os.Chmod(string(roots), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := roots.GiveTo(other); err != nil {
		t.Errorf("everybody's: %v", err)
	}
}

// dropChown takes CAP_CHOWN from this test's thread, which ends with it.
func dropChown(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1 << unix.CAP_CHOWN
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}
