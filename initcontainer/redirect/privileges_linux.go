package redirect

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// lacking names the capabilities that this process needs and doesn't have: for
// iptables, and to act as another user.
func lacking() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return nil, fmt.Errorf("read this process's capabilities: %w", err)
	}
	var names []string
	for _, needed := range []struct {
		name   string
		number int
	}{{"NET_ADMIN", unix.CAP_NET_ADMIN}, {"SETUID", unix.CAP_SETUID}, {"SETGID", unix.CAP_SETGID}} {
		if sets[needed.number/32].Effective&(1<<(needed.number%32)) == 0 {
			names = append(names, needed.name)
		}
	}
	return names, nil
}

// As has root be another user, with a group of the same number, until back is
// called. The files that it writes are that user's, and its connections are not
// redirected where that user is Envoy's, whatever rules an earlier run applied.
func As(user int) (back func() error, err error) {
	if err := syscall.Setresgid(-1, user, -1); err != nil {
		return nil, fmt.Errorf("become group %d: %w", user, err)
	}
	if err := syscall.Setresuid(-1, user, -1); err != nil {
		return nil, fmt.Errorf("become user %d: %w", user, err)
	}
	return func() error {
		if err := syscall.Setresuid(-1, 0, -1); err != nil {
			return fmt.Errorf("become root again: %w", err)
		}
		if err := syscall.Setresgid(-1, 0, -1); err != nil {
			return fmt.Errorf("become root's group again: %w", err)
		}
		return nil
	}, nil
}
