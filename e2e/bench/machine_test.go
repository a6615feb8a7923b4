package bench

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/tools"
)

func describeMachine() (results.Machine, error) {
	machine := results.Machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	var err error
	if machine.Processor, err = field("/proc/cpuinfo", "model name"); err != nil {
		return machine, err
	}
	memory, err := field("/proc/meminfo", "MemTotal")
	if err != nil {
		return machine, err
	}
	kib, err := strconv.Atoi(strings.TrimSuffix(memory, " kB"))
	if err != nil {
		return machine, fmt.Errorf("read /proc/meminfo: %w", err)
	}
	machine.MemoryMiB = kib >> 10
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return machine, err
	}
	machine.Kernel = strings.TrimSpace(string(kernel))
	if machine.Consul, err = version(tools.Consul, "version"); err != nil {
		return machine, err
	}
	machine.Envoy, err = version(tools.Envoy, "--version")
	return machine, err
}

// describeLoad is what else the machine has to do, before the benchmarks begin.
func describeLoad() (load float64, err error) {
	content, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(content), &load)
	}
	if err != nil {
		return 0, fmt.Errorf("read the machine's load: %w", err)
	}
	return load, nil
}

// field is the value of a name in a file of lines "name: value".
func field(path, name string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if before, after, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after), nil
		}
	}
	return "", fmt.Errorf("read %s: it has no %q", path, name)
}

var number = regexp.MustCompile(`\d+\.\d+\.\d+`)

func version(program func() (string, error), argument string) (string, error) {
	path, err := program()
	if err != nil {
		return "", err
	}
	output, err := exec.Command(path, argument).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", path, argument, err)
	}
	return number.FindString(string(output)), nil
}

func describeCommit(root string) (string, error) {
	command := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
	command.Dir = root
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("ask git for the commit: %w", err)
	}
	return strings.TrimSpace(string(output)), nil
}
