// Command app is the application of the lab's mesh tasks. It takes the
// environment variables of the public image nicholasjackson/fake-service that
// the example uses, so that one task definition runs here and on AWS:
//
//	LISTEN_ADDR    where it listens: 127.0.0.1:9090
//	NAME           what it calls itself
//	MESSAGE        the body of its answers
//	UPSTREAM_URIS  what it calls for each request, separated by commas
//
// and one that is its own:
//
//	GRACE  how long it serves after SIGTERM: 2s
//
// It ends the way an application in a mesh should: for two seconds after
// SIGTERM it goes on serving, while the others learn that it leaves, then it
// finishes what it has begun.
package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	// defaultGrace is how long it serves after SIGTERM. Consul tells the callers
	// within a fraction of it.
	defaultGrace = 2 * time.Second

	// finish bounds the requests that are under way after that.
	finish = 5 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	grace, err := time.ParseDuration(cmp.Or(os.Getenv("GRACE"), defaultGrace.String()))
	if err == nil {
		err = run(ctx, os.Getenv, grace)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends, and for grace after that.
func run(ctx context.Context, getenv func(string) string, grace time.Duration) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cmp.Or(getenv("LISTEN_ADDR"), "0.0.0.0:9090"))
	if err != nil {
		return fmt.Errorf("start %s: %w", getenv("NAME"), err)
	}
	app := &application{
		name:     cmp.Or(getenv("NAME"), "Service"),
		message:  cmp.Or(getenv("MESSAGE"), "Hello World"),
		instance: listener.Addr().(*net.TCPAddr).IP.String(),
		stopping: ctx.Done(),
	}
	for uri := range strings.SplitSeq(getenv("UPSTREAM_URIS"), ",") {
		if uri = strings.TrimSpace(uri); uri != "" {
			app.upstreams = append(app.upstreams, uri)
		}
	}
	server := &http.Server{Handler: app.handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	fmt.Printf("%s listens on %s\n", app.name, listener.Addr())

	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	fmt.Printf("%s stops in %s\n", app.name, grace)
	time.Sleep(grace)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), finish)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		return fmt.Errorf("finish requests: %w", err)
	}
	fmt.Printf("%s has stopped\n", app.name)
	return nil
}
