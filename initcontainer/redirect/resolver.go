package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// resolverFile says whom a container asks for names. All containers of a task
// on EC2 have the same file.
const resolverFile = "/etc/resolv.conf"

// consulFirst is the line that has Consul asked before all others, who are asked
// for what it refuses: names outside of its domain.
const consulFirst = "nameserver " + dnsAddress + "\n"

// askConsulFirst puts that line into the file, which is a mount and can't be
// replaced. Since it gets longer, there is no moment at which a part is missing.
func askConsulFirst(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("have Consul asked for names: %w", err)
	}
	defer file.Close()
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("have Consul asked for names: %w", err)
	}
	if strings.HasPrefix(string(content), consulFirst) {
		return nil
	}
	if _, err := file.WriteAt(append([]byte(consulFirst), content...), 0); err != nil {
		return fmt.Errorf("have Consul asked for names: %w", err)
	}
	return nil
}

func writable(path string) error {
	const write = 2 // W_OK of access(2), which knows of mounts that are read-only
	err := syscall.Access(path, write)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("write %s for transparentProxy.consulDNS: %w; it is with ReadonlyRootFilesystem: set that to false for the container ecsmesh-init", path, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write %s for transparentProxy.consulDNS: %w; the task's network mode has to be awsvpc", path, err)
	}
	return fmt.Errorf("write %s for transparentProxy.consulDNS: %w", path, err)
}
