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
	"time"

	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/doctor"
	"ecsmesh/initcontainer/doctor/facts"
	"ecsmesh/initcontainer/entrypoint"
	"ecsmesh/initcontainer/envoy"
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
             until the service passed once: for the application's container;
             -refresh is how often it looks after the task's registration and
             the list of Consul servers (1m)
  discover-servers
             in the topology client-agent, write the configuration with which
             the task's Consul client joins the servers; -timeout is how long
             their addresses are waited for (5m)
  entrypoint [-grace 10s] [--] COMMAND [ARGUMENT…]
             run the application's command, and pass SIGTERM on to it only
             after -grace (10s), when the mesh sends it no new work any more;
             a second SIGTERM, all else, and its exit code pass at once. ECS's
             stopTimeout must be longer than -grace and the application's own
             shutdown together
  servers    print the addresses of the Consul servers, as check keeps them:
             for consul-dataplane, which runs it
  doctor [-json]
             name the first thing that is wrong with this task, and what to do:
             run it by ECS Exec in any container that mounts the volume, or as
             the command of the init container. It changes nothing, and takes
             10s at most. Exit code 0: nothing is wrong, 1: something is, 2:
             that can't be told
  schema     print the JSON Schema of the configuration, for editors
  version    print the version
  help       print this
`

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2 // of the command line or the configuration
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the program: arguments in, exit code out. On failure its last line on
// stderr stands alone, for whoever sees only that line.
func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	command := "register"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("ecsmesh-init "+command, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // parse has the last word
	var err error
	switch command {
	case "register", "discover-servers":
		deadline := flags.Duration("timeout", register.DefaultDeadline, "")
		if code, end := parse(flags, args, stdout, stderr, more(flags)); end {
			return code
		}
		act := register.Registrar.Run
		if command == "discover-servers" {
			act = register.Registrar.DiscoverServers
		}
		err = runRegistrar(register.Registrar{Deadline: *deadline}, act, getenv, stderr)
	case "check":
		budget := flags.Duration("timeout", check.DefaultBudget, "")
		refresh := flags.Duration("refresh", check.DefaultRefresh, "")
		untilPassing := flags.Bool("until-passing", false, "")
		if code, end := parse(flags, args, stdout, stderr, more(flags),
			less("timeout", budget, check.LeastBudget), less("refresh", refresh, check.LeastRefresh)); end {
			return code
		}
		err = runCheck(check.Run{Budget: *budget, Refresh: *refresh, UntilPassing: *untilPassing, Getenv: getenv}, stdout)
	case "entrypoint":
		return runEntrypoint(flags, args, stdout, stderr)
	case "servers":
		if code, end := parse(flags, args, stdout, stderr, more(flags)); end {
			return code
		}
		err = runServers(stdout)
	case "doctor":
		asJSON := flags.Bool("json", false, "")
		if code, end := parse(flags, args, stdout, stderr, more(flags)); end {
			return code
		}
		var code int
		if code, err = runDoctor(*asJSON, getenv, stdout); err == nil {
			return code
		}
	case "schema":
		if code, end := parse(flags, args, stdout, stderr, more(flags)); end {
			return code
		}
		_, err = stdout.Write(config.Schema)
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

// parse reads the flags of a command, and then looks for faults in what it
// read. At its end the program has nothing more to do.
func parse(flags *flag.FlagSet, args []string, stdout, stderr io.Writer, faults ...func() error) (code int, end bool) {
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0, true
	}
	for _, fault := range faults {
		if err == nil {
			err = fault()
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s%s: %s\n", usage, flags.Name(), err)
		return exitUsage, true
	}
	return 0, false
}

// more is the fault of arguments that a command doesn't take.
func more(flags *flag.FlagSet) func() error {
	return func() error {
		if flags.NArg() > 0 {
			return fmt.Errorf("unexpected argument %q", flags.Arg(0))
		}
		return nil
	}
}

// less is the fault of a duration that is too short.
func less(name string, found *time.Duration, least time.Duration) func() error {
	return func() error {
		if *found < least {
			return fmt.Errorf("-%s is %s; want %s or more", name, *found, least)
		}
		return nil
	}
}

// untilAskedToEnd is the context of the commands that end when they are told
// to. Signals are the application's in entrypoint.
func untilAskedToEnd() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

func runRegistrar(registrar register.Registrar, act func(register.Registrar, context.Context) error, getenv func(string) string, log io.Writer) error {
	ctx, stop := untilAskedToEnd()
	defer stop()
	cfg, err := config.Read(getenv)
	if err != nil {
		listFaults(err, log)
		return err
	}
	registrar.Config = cfg
	registrar.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: cfg.LogLevel}))
	if registrar.Metadata, err = taskmeta.FromEnvironment(getenv); err != nil {
		return err
	}
	if registrar.Binary, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	return act(registrar, ctx)
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

func runCheck(run check.Run, log io.Writer) error {
	ctx, stop := untilAskedToEnd()
	defer stop()
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	run.Volume = volume.OfBinary(executable)
	run.Log = slog.New(slog.NewTextHandler(log, nil))
	return run.Do(ctx)
}

func runDoctor(asJSON bool, getenv func(string) string, stdout io.Writer) (code int, err error) {
	ctx, stop := untilAskedToEnd()
	defer stop()
	executable, err := os.Executable()
	if err != nil {
		return exitFailure, fmt.Errorf("find this program's own file: %w", err)
	}
	return doctor.Run(ctx, facts.Source{Volume: volume.OfBinary(executable), Getenv: getenv}, asJSON, stdout)
}

// runServers prints addresses and nothing else, whatever the log level:
// consul-dataplane takes a word on stderr for a failure.
func runServers(stdout io.Writer) error {
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	servers, err := envoy.ReadEndpoints(volume.OfBinary(executable).Servers())
	if err != nil {
		return err
	}
	for _, server := range servers {
		fmt.Fprintln(stdout, server)
	}
	return nil
}

func runEntrypoint(flags *flag.FlagSet, args []string, stdout, stderr io.Writer) int {
	grace := flags.Duration("grace", entrypoint.DefaultGrace, "")
	nothing := func() error {
		if flags.NArg() == 0 {
			return errors.New("no command to run")
		}
		return nil
	}
	if code, end := parse(flags, args, stdout, stderr, less("grace", grace, 0), nothing); end {
		return code
	}
	code, err := entrypoint.Wrapper{Command: flags.Args(), Grace: *grace, Log: stderr}.Run()
	if err != nil {
		fmt.Fprintf(stderr, "ecsmesh-init entrypoint: %s\n", oneLine(err))
	}
	return code
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
