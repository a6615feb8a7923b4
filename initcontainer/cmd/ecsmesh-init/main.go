// Command ecsmesh-init puts an ECS task into the Consul service mesh.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/register"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
)

// version is set when the binary is linked.
var version = "dev"

const usage = `ecsmesh-init puts an ECS task into the Consul service mesh.

Usage: ecsmesh-init [command] [flags]

Commands:
  register   register this task and write Envoy's bootstrap (the default);
             -timeout is how long Consul is waited for (5m)
  check      probe Envoy and tell Consul how the service is: the command of
             Envoy's container health check; -timeout bounds it (4s) and must
             be shorter than the health check's own; -until-passing fails, too,
             until the service passed once: for the application's container
  version    print the version
  help       print this
`

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2 // of the command line or the configuration
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: arguments in, exit code out. On failure its last line on
// stderr stands alone, for whoever sees only that line.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	command := "register"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("ecsmesh-init "+command, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // parse has the last word
	var err error
	switch command {
	case "register":
		deadline := flags.Duration("timeout", register.DefaultDeadline, "")
		if code, end := parse(flags, args, stdout, stderr); end {
			return code
		}
		err = runRegister(ctx, register.Registrar{Deadline: *deadline}, getenv, stderr)
	case "check":
		budget := flags.Duration("timeout", check.DefaultBudget, "")
		untilPassing := flags.Bool("until-passing", false, "")
		if code, end := parse(flags, args, stdout, stderr); end {
			return code
		}
		if *budget < check.LeastBudget {
			fmt.Fprintf(stderr, "ecsmesh-init check: -timeout is %s; want %s or more\n", *budget, check.LeastBudget)
			return exitUsage
		}
		err = runCheck(ctx, check.Run{Budget: *budget, UntilPassing: *untilPassing, Getenv: getenv}, stdout)
	case "version":
		fmt.Fprintln(stdout, version)
	case "help":
		fmt.Fprint(stdout, usage)
	default:
		fmt.Fprintf(stderr, "%secsmesh-init: there is no command %q\n", usage, command)
		return exitUsage
	}
	if err != nil {
		fmt.Fprintf(stderr, "ecsmesh-init %s: %s\n", command, oneLine(err))
		var invalid *config.InvalidError
		if errors.As(err, &invalid) {
			return exitUsage
		}
		return exitFailure
	}
	return 0
}

// parse reads the flags of a command, which takes no other arguments. At its
// end the program has nothing more to do.
func parse(flags *flag.FlagSet, args []string, stdout, stderr io.Writer) (code int, end bool) {
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0, true
	}
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s%s: %s\n", usage, flags.Name(), err)
		return exitUsage, true
	}
	return 0, false
}

func runRegister(ctx context.Context, registrar register.Registrar, getenv func(string) string, log io.Writer) error {
	cfg, err := config.Read(getenv)
	if err != nil {
		listFaults(err, log)
		return err
	}
	registrar.Config = cfg
	registrar.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: cfg.LogLevel}))
	registrar.Servers = register.Source(ctx, cfg.ConsulServers)
	if registrar.Metadata, err = taskmeta.FromEnvironment(getenv); err != nil {
		return err
	}
	if registrar.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	return registrar.Run(ctx)
}

// listFaults prints a line for each fault, where there are several; the last
// line of the log repeats them all.
func listFaults(err error, log io.Writer) {
	var invalid *config.InvalidError
	if errors.As(err, &invalid) && len(invalid.Faults) > 1 {
		for _, fault := range invalid.Faults {
			fmt.Fprintf(log, "%s: %s\n", invalid.Variable, fault)
		}
	}
}

func runCheck(ctx context.Context, run check.Run, log io.Writer) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	run.Volume = volume.OfBinary(executable)
	run.Log = slog.New(slog.NewTextHandler(log, nil))
	return run.Do(ctx)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
