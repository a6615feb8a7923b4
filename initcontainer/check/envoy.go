package check

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// envoyTimeout bounds each of Envoy's probes. Both are local and answered
// from memory.
const envoyTimeout = time.Second

// Envoy is where a task's Envoy is probed.
type Envoy struct {
	Admin          string // host:port of its admin interface
	PublicListener string // host:port at which it takes the mesh's traffic; "" for a gateway of which that isn't known
}

// Ready returns nil when Envoy has its configuration and takes traffic, or
// what is missing.
func (e Envoy) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, envoyTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.Admin+"/ready", nil)
	if err != nil {
		return fmt.Errorf("probe Envoy: %w", err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return fmt.Errorf("probe Envoy: it is not up: %s", stable(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		state, err := io.ReadAll(io.LimitReader(response.Body, 100))
		if err != nil {
			return fmt.Errorf("probe Envoy at %s: %w", e.Admin, err)
		}
		return fmt.Errorf("probe Envoy: it is not ready: %s; it waits for its configuration from Consul", strings.TrimSpace(string(state)))
	}
	if e.PublicListener == "" {
		return nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.PublicListener)
	if err != nil {
		return fmt.Errorf("probe Envoy: its public listener is not open: %s", stable(err))
	}
	return conn.Close()
}
