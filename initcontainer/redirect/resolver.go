package redirect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// resolverFile says whom a container asks for names. All containers of a task
// on EC2 have the same file.
const resolverFile = "/etc/resolv.conf"

// askConsulFirst has Consul's DNS asked before all others, who are asked for what
// it refuses: names outside of its domain. The file is a mount and can't be
// replaced; since it gets longer, there is no moment at which a part is missing.
func askConsulFirst(path, dns string) error {
	const action = "have Consul asked for names: %w"
	line := "nameserver " + dns + "\n"
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf(action, err)
	}
	defer file.Close()
	content, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf(action, err)
	}
	if strings.HasPrefix(string(content), line) {
		return nil
	}
	if _, err := file.WriteAt(append([]byte(line), content...), 0); err != nil {
		return fmt.Errorf(action, err)
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
