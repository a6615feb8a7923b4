package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"ecsmesh/e2e/ecs"
)

// adminTimeout bounds one question to Envoy's admin interface.
const adminTimeout = 3 * time.Second

// clusters is the part of Envoy's /clusters that says where requests go.
type clusters struct {
	Statuses []struct {
		Name  string `json:"name"`
		Hosts []struct {
			Address struct {
				Socket struct {
					Address string `json:"address"`
				} `json:"socket_address"`
			} `json:"address"`
			Health struct {
				EDS string `json:"eds_health_status"`
			} `json:"health_status"`
		} `json:"host_statuses"`
	} `json:"cluster_statuses"`
}

// Endpoints are the addresses to which a task's Envoy sends requests for the
// service: those that Consul gave it as healthy, sorted.
func Endpoints(ctx context.Context, task ecs.Task, service string) ([]netip.Addr, error) {
	return hosts(ctx, task, func(cluster string) bool { return strings.HasPrefix(cluster, service+".") })
}

// ConsulServers are the addresses at which a task's Envoy reaches Consul, sorted.
func ConsulServers(ctx context.Context, task ecs.Task) ([]netip.Addr, error) {
	return hosts(ctx, task, func(cluster string) bool { return cluster == "consul_servers" })
}

// hosts are the healthy hosts of some of Envoy's clusters, sorted.
func hosts(ctx context.Context, task ecs.Task, of func(cluster string) bool) ([]netip.Addr, error) {
	var all clusters
	if err := envoyAdmin(ctx, task, "/clusters?format=json", &all); err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, cluster := range all.Statuses {
		if !of(cluster.Name) {
			continue
		}
		for _, host := range cluster.Hosts {
			address, err := netip.ParseAddr(host.Address.Socket.Address)
			if err != nil {
				return nil, fmt.Errorf("read the hosts of Envoy's cluster %s: %w", cluster.Name, err)
			}
			if host.Health.EDS == "HEALTHY" {
				addresses = append(addresses, address)
			}
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses, nil
}

// WaitEnvoy waits until the task's Envoy has its configuration from Consul:
// it calls itself ready, and takes connections from the mesh.
func (l *Lab) WaitEnvoy(ctx context.Context, task ecs.Task) error {
	return Await(ctx, "Envoy at "+task.Address().String(), func(ctx context.Context) error {
		if err := envoyReady(ctx, task); err != nil {
			now, _ := l.ECS.Task(task.TaskARN)
			return fmt.Errorf("%w; the task is %s", err, now.Summary())
		}
		return nil
	})
}

func envoyReady(ctx context.Context, task ecs.Task) error {
	var info struct {
		State string `json:"state"`
	}
	if err := envoyAdmin(ctx, task, "/server_info", &info); err != nil {
		return err
	}
	if info.State != "LIVE" {
		return fmt.Errorf("wait for Envoy: it is %s", info.State)
	}
	dialer := net.Dialer{Timeout: adminTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(task.Address(), EnvoyPublicPort).String())
	if err != nil {
		return fmt.Errorf("reach Envoy: %w", err)
	}
	return conn.Close()
}

// Certificates are the serial numbers of the certificates with which a task's
// Envoy proves who it is.
func Certificates(ctx context.Context, task ecs.Task) ([]string, error) {
	var all struct {
		Certificates []struct {
			Chain []struct {
				Serial string `json:"serial_number"`
			} `json:"cert_chain"`
		} `json:"certificates"`
	}
	if err := envoyAdmin(ctx, task, "/certs", &all); err != nil {
		return nil, err
	}
	var serials []string
	for _, certificate := range all.Certificates {
		for _, link := range certificate.Chain {
			serials = append(serials, link.Serial)
		}
	}
	return serials, nil
}

// EnvoyStats returns the values of the task's Envoy statistics whose names
// match the regular expression.
func EnvoyStats(ctx context.Context, task ecs.Task, filter string) (map[string]int64, error) {
	var all struct {
		Stats []struct {
			Name  string `json:"name"`
			Value int64  `json:"value"`
		} `json:"stats"`
	}
	if err := envoyAdmin(ctx, task, "/stats?format=json&type=Counters&filter="+url.QueryEscape(filter), &all); err != nil {
		return nil, err
	}
	stats := map[string]int64{}
	for _, s := range all.Stats {
		stats[s.Name] = s.Value
	}
	return stats, nil
}

func envoyAdmin(ctx context.Context, task ecs.Task, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, EnvoyAdminURL(task)+path, nil)
	if err != nil {
		return fmt.Errorf("ask Envoy: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask Envoy: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask Envoy %s: %s", path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("read Envoy's %s: %w", path, err)
	}
	return nil
}
