package redirect

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Programs of iptables, which the image has to have.
const (
	list    = "iptables"
	restore = "iptables-restore"
)

// timeout bounds one of them. They take milliseconds.
const timeout = 10 * time.Second

// own begins the names of all chains that Consul's package makes.
const own = "CONSUL_"

// rules are gathered as Consul's package adds them. Applied one by one, as that
// would do, they would fail at those of an earlier run.
type rules struct{ commands [][]string }

// AddRule takes the arguments of a command of iptables.
func (r *rules) AddRule(_ string, arguments ...string) { r.commands = append(r.commands, arguments) }

// ApplyRules leaves that to replace.
func (r *rules) ApplyRules(string) error { return nil }

// Rules are the commands so far.
func (r *rules) Rules() []string {
	var lines []string
	for _, arguments := range r.commands {
		lines = append(lines, strings.Join(arguments, " "))
	}
	return lines
}

// ClearAllRules forgets them.
func (r *rules) ClearAllRules() { r.commands = nil }

// replace puts the rules into the kernel, in one step, where those of an
// earlier run were.
func (r *rules) replace(ctx context.Context) error {
	present, err := Present(ctx)
	if err != nil {
		return err
	}
	_, err = run(ctx, r.transaction(present), restore, "--noflush")
	return err
}

// transaction is what iptables-restore reads: a chain of ours that is declared
// is emptied if it is there.
func (r *rules) transaction(present []string) string {
	lines := []string{"*nat"}
	var added []string
	for _, line := range r.Rules() {
		line = strings.TrimPrefix(line, "-t nat ")
		if chain, declared := strings.CutPrefix(line, "-N "); declared {
			lines = append(lines, ":"+chain+" - [0:0]")
		} else {
			added = append(added, line)
		}
	}
	for _, line := range present {
		rule, isRule := strings.CutPrefix(line, "-A ")
		if isRule && !strings.HasPrefix(rule, own) && strings.Contains(rule, " -j "+own) {
			lines = append(lines, "-D "+rule)
		}
	}
	return strings.Join(append(append(lines, added...), "COMMIT", ""), "\n")
}

// Present lists what is in the kernel's table, as commands.
func Present(ctx context.Context) ([]string, error) {
	output, err := run(ctx, "", list, "-t", "nat", "-S")
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(output), "\n"), nil
}

func run(ctx context.Context, input, name string, arguments ...string) (output string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("gave up after %s", timeout))
	defer cancel()
	command := exec.CommandContext(ctx, name, arguments...) //nolint:gosec // list or restore, with arguments of ours
	command.Stdin = strings.NewReader(input)
	command.WaitDelay = time.Second
	stdout, err := command.Output()
	if err == nil {
		return string(stdout), nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	said := ""
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		said = ": " + strings.TrimSpace(string(exit.Stderr))
	}
	return "", fmt.Errorf("%s: %w%s", command, err, said)
}
