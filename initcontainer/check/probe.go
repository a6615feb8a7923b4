package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
)

// probeAll runs the service's checks side by side and returns their results in
// order. Each takes no longer than its own timeout, or ctx.
func probeAll(ctx context.Context, checks []config.Check) []status {
	results := make([]status, len(checks))
	var running sync.WaitGroup
	for i, check := range checks {
		running.Go(func() { results[i] = probe(ctx, check) })
	}
	running.Wait()
	return results
}

// probe runs one check. Its output says nothing that differs from run to run,
// such as a duration: a change of the output is a write to Consul.
func probe(ctx context.Context, check config.Check) status {
	ctx, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	var result status
	switch {
	case check.HTTP != "":
		result = probeHTTP(ctx, check)
	case check.GRPC != "":
		result = probeGRPC(ctx, check)
	default:
		result = probeTCP(ctx, check)
	}
	if ctx.Err() != nil && result.Status == api.HealthCritical {
		result.Output = fmt.Sprintf("%s: no answer in time", target(check))
	}
	result.Output = shorten(result.Output)
	return result
}

// longestOutput keeps a task's outputs well below what Consul takes in one
// transaction, 512 KiB.
const longestOutput = 500 // bytes

// shorten also leaves out what isn't text: JSON would change it, and it would
// seem to have changed at every run.
func shorten(text string) string {
	if len(text) <= longestOutput {
		return strings.ToValidUTF8(text, "")
	}
	return strings.ToValidUTF8(text[:longestOutput], "") + "…"
}

func target(check config.Check) string {
	switch {
	case check.HTTP != "":
		return fmt.Sprintf("HTTP %s %s", method(check), check.Shown())
	case check.GRPC != "":
		return "gRPC " + check.GRPC
	default:
		return "TCP " + check.TCP
	}
}

func method(check config.Check) string {
	if check.Method == "" {
		return http.MethodGet
	}
	return check.Method
}

func critical(check config.Check, err error) status {
	return status{api.HealthCritical, fmt.Sprintf("%s: %s", target(check), stable(err))}
}

// stable leaves out of a network error what differs from run to run, the
// local port first of all.
func stable(err error) string {
	for {
		switch e := err.(type) { //nolint:errorlint // walks down by hand, to the error of the operating system
		case *net.OpError:
			err = e.Err
			continue
		case interface{ Unwrap() error }:
			if inner := e.Unwrap(); inner != nil {
				err = inner
				continue
			}
		}
		text, _, _ := strings.Cut(err.Error(), ": current time") // of an expired certificate
		return strings.TrimPrefix(text, "connect: ")
	}
}

func probeTCP(ctx context.Context, check config.Check) status {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", check.TCP)
	if err != nil {
		return critical(check, err)
	}
	_ = conn.Close() // nothing was sent; the port is open
	return status{api.HealthPassing, target(check) + ": connected"}
}

func probeHTTP(ctx context.Context, check config.Check) status {
	request, err := http.NewRequestWithContext(ctx, method(check), check.HTTP, strings.NewReader(check.Body))
	if err != nil {
		return critical(check, err)
	}
	for name, values := range check.Header {
		if http.CanonicalHeaderKey(name) == "Host" && len(values) > 0 {
			request.Host = values[0]
			continue
		}
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: check.TLSSkipVerify}, //nolint:gosec // the user's choice, for the task's own loopback
	}}
	response, err := client.Do(request)
	if err != nil {
		return critical(check, err)
	}
	_ = response.Body.Close() // not read: it may be large, and may be secret
	output := target(check) + ": " + response.Status
	// As Consul's own HTTP checks have it.
	switch {
	case response.StatusCode >= 200 && response.StatusCode < 300:
		return status{api.HealthPassing, output}
	case response.StatusCode == http.StatusTooManyRequests:
		return status{api.HealthWarning, output}
	default:
		return status{api.HealthCritical, output}
	}
}
