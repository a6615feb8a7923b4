package volume

import (
	"os"
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
