package entrypoint

import "syscall"

// endWithParent has a child end with the wrapper, however that ends. It stays
// in the wrapper's process group, so that a terminal takes both for one.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
