//go:build !linux

package entrypoint

import "syscall"

// endWithParent can't be had here. ECS runs Linux.
func endWithParent() *syscall.SysProcAttr { return nil }
