package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// leftovers reports every process that has the folder in its command line or
// works in it, as all of a lab's do.
func leftovers(dir string) error {
	// What was killed a moment ago may still be on its way out.
	const patience = 20 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := processesOf(dir)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func processesOf(dir string) error {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return fmt.Errorf("look for processes: %w", err)
	}
	var left []error
	for _, process := range processes {
		// Processes come and go, and others' can't be read: neither is ours.
		command, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		folder, _ := os.Readlink(filepath.Join(process, "cwd"))
		inside := folder == dir || strings.HasPrefix(folder, dir+"/")
		if filepath.Base(process) != fmt.Sprint(os.Getpid()) && (inside || bytes.Contains(command, []byte(dir+"/"))) {
			line := bytes.ReplaceAll(bytes.TrimRight(command, "\x00"), []byte{0}, []byte{' '})
			left = append(left, fmt.Errorf("process %s is left: %s", filepath.Base(process), line))
		}
	}
	return errors.Join(left...)
}
