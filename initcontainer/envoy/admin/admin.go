// Package admin reads the admin interface of a running Envoy: what it is, what
// it has from Consul, and by which certificates it is known. It only asks.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// requestTimeout bounds one question, which Envoy answers from memory.
	requestTimeout = 2 * time.Second

	// largest is the most that is read of an answer. The list of clusters is the
	// longest: about 1 KB for each endpoint.
	largest = 32 << 20
)

// State is what an Envoy says of itself.
type State struct {
	Version string // "1.40.0"; as it is, where that isn't in it
	State   string // Live, or what it waits for: PRE_INITIALIZING, INITIALIZING
	Uptime  time.Duration

	Listeners    []Listener
	Clusters     []Cluster
	Certificates []Certificate

	Stream  Stream
	Refused int64 // connections and requests that intentions denied here, since it started

	// Rejected are updates of listeners or clusters that Envoy could not take,
	// and goes on without, each with the reason.
	Rejected []string
}

// Live is the State of an Envoy that has all of its configuration.
const Live = "LIVE"

// Draining is the State of an Envoy that was told to fail its health checks.
const Draining = "DRAINING"

// Listener is where an Envoy listens.
type Listener struct{ Name, Address string }

// Cluster is where an Envoy sends to.
type Cluster struct {
	Name           string
	Hosts, Healthy int
}

// Certificate is one by which an Envoy is known, or knows others.
type Certificate struct {
	Authority   bool // it is of a certificate authority
	Serial      string
	From, Until time.Time
	URIs        []string // whose it is: spiffe://…
}

// Stream is the one by which an Envoy has its configuration from Consul.
type Stream struct {
	Known     bool // Envoy has one, or tries
	Connected bool
	Updated   time.Time // when it took the last update of its listeners or clusters; zero: never
	Failures  int64     // of attempts, since it started
}

// Read asks an Envoy whose admin interface is at host:port. What it can't read
// is in the error, and the rest in the State: one that is not up has none.
func Read(ctx context.Context, address string) (State, error) {
	r := reader{
		base:   "http://" + address,
		client: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	var state State
	if err := r.serverInfo(ctx, &state); err != nil {
		return State{}, err
	}
	parts := []func(context.Context, *State) error{r.listeners, r.clusters, r.certificates, r.stats, r.rejected}
	faults := make([]error, len(parts))
	var asking sync.WaitGroup
	for i, part := range parts {
		asking.Go(func() { faults[i] = part(ctx, &state) }) // each fills fields of its own
	}
	asking.Wait()
	return state, errors.Join(faults...)
}

type reader struct {
	base   string
	client *http.Client
}

func (r reader) get(ctx context.Context, page string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+page, nil)
	if err != nil {
		return fmt.Errorf("ask Envoy: %w", err)
	}
	response, err := r.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask Envoy: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask Envoy for %s: %s", page, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, largest)).Decode(into); err != nil {
		return fmt.Errorf("read Envoy's %s: %w", page, err)
	}
	return nil
}

func (r reader) serverInfo(ctx context.Context, state *State) error {
	var info struct {
		Version string `json:"version"`
		State   string `json:"state"`
		Uptime  string `json:"uptime_current_epoch"`
	}
	if err := r.get(ctx, "/server_info", &info); err != nil {
		return err
	}
	state.Version, state.State = info.Version, info.State
	if parts := strings.Split(info.Version, "/"); len(parts) > 1 { // commit/version/…
		state.Version = parts[1]
	}
	state.Uptime, _ = time.ParseDuration(info.Uptime) // 0 in another form
	return nil
}

func (r reader) listeners(ctx context.Context, state *State) error {
	var all struct {
		Statuses []struct {
			Name    string        `json:"name"`
			Address socketAddress `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := r.get(ctx, "/listeners?format=json", &all); err != nil {
		return err
	}
	for _, each := range all.Statuses {
		state.Listeners = append(state.Listeners, Listener{each.Name, each.Address.String()})
	}
	return nil
}

type socketAddress struct {
	Socket struct {
		Address string `json:"address"`
		Port    int    `json:"port_value"`
	} `json:"socket_address"`
	Pipe struct {
		Path string `json:"path"`
	} `json:"pipe"`
}

func (a socketAddress) String() string {
	if a.Pipe.Path != "" {
		return a.Pipe.Path
	}
	return net.JoinHostPort(a.Socket.Address, strconv.Itoa(a.Socket.Port))
}

func (r reader) clusters(ctx context.Context, state *State) error {
	var all struct {
		Statuses []struct {
			Name  string `json:"name"`
			Hosts []struct {
				Health struct {
					EDS string `json:"eds_health_status"`
				} `json:"health_status"`
			} `json:"host_statuses"`
		} `json:"cluster_statuses"`
	}
	if err := r.get(ctx, "/clusters?format=json", &all); err != nil {
		return err
	}
	for _, each := range all.Statuses {
		cluster := Cluster{Name: each.Name, Hosts: len(each.Hosts)}
		for _, host := range each.Hosts {
			if host.Health.EDS == "HEALTHY" {
				cluster.Healthy++
			}
		}
		state.Clusters = append(state.Clusters, cluster)
	}
	return nil
}

type certificate struct {
	Serial string    `json:"serial_number"`
	From   time.Time `json:"valid_from"`
	Until  time.Time `json:"expiration_time"`
	Names  []struct {
		URI string `json:"uri"`
	} `json:"subject_alt_names"`
}

func (r reader) certificates(ctx context.Context, state *State) error {
	var all struct {
		Certificates []struct {
			CA    []certificate `json:"ca_cert"`
			Chain []certificate `json:"cert_chain"`
		} `json:"certificates"`
	}
	if err := r.get(ctx, "/certs", &all); err != nil {
		return err
	}
	seen := map[string]bool{} // every listener and cluster has the same ones
	add := func(list []certificate, authority bool) {
		for _, each := range list {
			if seen[each.Serial] {
				continue
			}
			seen[each.Serial] = true
			found := Certificate{Authority: authority, Serial: each.Serial, From: each.From, Until: each.Until}
			for _, name := range each.Names {
				if name.URI != "" {
					found.URIs = append(found.URIs, name.URI)
				}
			}
			state.Certificates = append(state.Certificates, found)
		}
	}
	for _, each := range all.Certificates {
		add(each.Chain, false)
		add(each.CA, true)
	}
	return nil
}

// Envoy's names of its statistics.
const (
	statConnected   = "control_plane.connected_state"
	statListeners   = "listener_manager.lds.update_time"
	statClusters    = "cluster_manager.cds.update_time"
	statAttempts    = "listener_manager.lds.update_attempt"
	statFailures    = "listener_manager.lds.update_failure"
	suffixDenied    = "rbac.denied"
	statsOfInterest = `^control_plane\.connected_state$|^(listener_manager\.lds|cluster_manager\.cds)\.update_(time|attempt|failure)$|rbac\.denied$`
)

func (r reader) stats(ctx context.Context, state *State) error {
	var all struct {
		Stats []struct {
			Name  string `json:"name"`
			Value int64  `json:"value"`
		} `json:"stats"`
	}
	if err := r.get(ctx, "/stats?format=json&filter="+url.QueryEscape(statsOfInterest), &all); err != nil {
		return err
	}
	for _, each := range all.Stats {
		switch {
		case each.Name == statConnected:
			state.Stream.Known, state.Stream.Connected = true, each.Value == 1
		case each.Name == statAttempts:
			state.Stream.Known = true
		case each.Name == statListeners, each.Name == statClusters:
			if at := time.UnixMilli(each.Value); each.Value > 0 && at.After(state.Stream.Updated) {
				state.Stream.Updated = at
			}
		case each.Name == statFailures:
			state.Stream.Failures = each.Value
		case strings.HasSuffix(each.Name, suffixDenied):
			state.Refused += each.Value
		}
	}
	return nil
}

// longestReason is the most that is kept of why an update was rejected: Envoy may
// cite much of it.
const longestReason = 300 // bytes

func (r reader) rejected(ctx context.Context, state *State) error {
	for _, page := range []string{"dynamic_listeners&mask=name,error_state", "dynamic_active_clusters&mask=error_state"} {
		var all struct {
			Configs []struct {
				Name  string `json:"name"`
				Error *struct {
					Details string `json:"details"`
				} `json:"error_state"`
			} `json:"configs"`
		}
		if err := r.get(ctx, "/config_dump?resource="+page, &all); err != nil {
			return err
		}
		for _, each := range all.Configs {
			if each.Error == nil {
				continue
			}
			reason := each.Error.Details
			if len(reason) > longestReason {
				reason = strings.ToValidUTF8(reason[:longestReason], "") + "…"
			}
			state.Rejected = append(state.Rejected, strings.TrimPrefix(each.Name+": ", ": ")+reason)
		}
	}
	return nil
}
