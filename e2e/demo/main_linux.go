// Command demo shows ECS tasks join and leave a Consul service mesh, live,
// and draws what happened as dist/demo-timeline.svg. Every number that it
// prints is measured, and each of its claims is checked: it exits with 1 as
// soon as one does not hold.
//
// With TASK=file in the environment, the story is that of the user's own task
// definitions in that file, which are expanded as ecsmesh-task expands them:
//
//	MESH        file with the EcsMesh block, where the definition has none
//	PROGRAM     command that runs in place of the application's image
//	SERVICE     whose program that is, where the file has several services
//	REQUEST     path of the requests to it
//	PARAMETERS  values of the template's parameters: Name=value Other=value
//
// With -check, the file is looked at, and nothing starts. With SECURE=1 in the environment, Consul has TLS and ACLs that deny by
// default, and AWS enforces its policies. With KEEP=1 everything stays up, for a look around,
// until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"ecsmesh/e2e/lab"
	"ecsmesh/e2e/tools"
)

// Where the pictures go, below the root of the checkout.
const (
	pictureFile   = "dist/demo-timeline.svg"
	dashboardFile = "dist/demo-dashboard.svg"
)

func main() {
	// The first Ctrl-C ends the demo in order, the second one at once: then
	// the processes die with this one.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	ctx, orphaned := context.WithCancel(ctx)
	go func() {
		waitForOrphanhood()
		orphaned()
	}()
	own, err := readOwnTasks(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if slices.Equal(os.Args[1:], []string{"-check"}) {
		return
	}
	os.Exit(run(ctx, os.Getenv, newPrinter(os.Stdout, os.Getenv), own))
}

// waitForOrphanhood returns when the program that started this one is gone:
// `go run`, which passes SIGTERM on to nobody.
func waitForOrphanhood() {
	for parent := os.Getppid(); os.Getppid() == parent; {
		time.Sleep(time.Second)
	}
}

// run tells the story and returns the exit code.
func run(ctx context.Context, getenv func(string) string, out *printer, own *ownTasks) int {
	root, err := preflight()
	if err != nil {
		fmt.Fprintf(os.Stderr, "The demo can't run here: %v.\n", err)
		return 1
	}
	// Logs live below dist, where `make clean` finds what a failure left.
	dir, err := os.MkdirTemp(filepath.Join(root, "dist"), "demo-")
	if err != nil {
		fmt.Fprintf(os.Stderr, "The demo can't run here: %v.\n", err)
		return 1
	}
	s := &story{out: out, dir: dir, keep: getenv("KEEP") == "1", secure: getenv("SECURE") == "1", picture: filepath.Join(root, pictureFile), dashboard: filepath.Join(root, dashboardFile), own: own}
	err = s.tell(ctx)
	switch {
	case errors.Is(err, errLookedAround):
		out.note("Everything is stopped and cleaned up.")
		_ = os.RemoveAll(dir)
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		out.note("Interrupted. Everything is stopped and cleaned up.")
		_ = os.RemoveAll(dir)
		return 130
	case err != nil:
		out.failure(err)
		out.note("The logs of all containers and of the emulator are in " + dir)
		return 1
	}
	_ = os.RemoveAll(dir)
	if own != nil {
		out.note(
			fmt.Sprintf("%s. Everything is stopped and cleaned up.", brief(time.Since(out.start))),
			"To look around in it: the same with KEEP=1")
		return 0
	}
	out.note(
		fmt.Sprintf("%s, %d requests, 0 failed but for %d while the catalog was empty. Everything is stopped and cleaned up.",
			brief(time.Since(out.start)), len(s.requests), len(lab.Failures(s.requests))),
		"The same as a picture:  "+s.picture,
		"CloudWatch's dashboard: "+s.dashboard,
		"To look around in it:   make demo KEEP=1",
		"With TLS and ACLs:      make demo SECURE=1")
	return 0
}

// preflight reports all that is missing, before anything starts.
func preflight() (root string, err error) {
	root, err = tools.Root()
	if err != nil {
		return "", err
	}
	return root, lab.Installed()
}
