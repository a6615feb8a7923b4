// Package taskmeta reads what ECS tells a container about its own task, from
// the task metadata endpoint, version 4.
package taskmeta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"ecsmesh/shared/mesh"
)

// Variable holds the endpoint's address; ECS sets it in every container.
const Variable = "ECS_CONTAINER_METADATA_URI_V4"

// requestTimeout bounds one request. The endpoint is on the same host and
// answers within milliseconds; Fargate's may stall while a task starts.
const requestTimeout = 2 * time.Second

// largest is the most that is read of an answer. Real ones are a few KB for
// each container.
const largest = 4 << 20

// Task is the part of the endpoint's answer to /task that is used here.
type Task struct {
	Cluster          string // ARN or, on EC2, bare name
	TaskARN          string
	Family           string
	Revision         string
	DesiredStatus    string
	KnownStatus      string
	AvailabilityZone string
	LaunchType       string
	ServiceName      string
	VPCID            string // only EC2 tells it
	Containers       []Container

	// ARN is TaskARN, parsed.
	ARN mesh.TaskARN `json:"-"`
}

// Container is one container of the task.
type Container struct {
	Name        string
	KnownStatus string
	ExitCode    *int    // nil, unless it has ended
	Health      *Health // nil where the container has no health check
	Networks    []Network
}

// Health is what a container's health check said last.
type Health struct {
	Status string `json:"status"` // Healthy, UNHEALTHY or UNKNOWN
}

// Healthy is the one status of a container that passes.
const Healthy = "HEALTHY"

// Network is one of a container's network interfaces.
type Network struct {
	NetworkMode   string // awsvpc, bridge, …
	MACAddress    string
	IPv4Addresses []string
	IPv6Addresses []string
}

// Stopping tells whether ECS has decided to stop the task.
func (t Task) Stopping() bool { return t.DesiredStatus == "STOPPED" }

// ClusterARN is the full ARN of the task's cluster.
func (t Task) ClusterARN() string {
	if arn := t.ARN.ClusterARN(); arn != "" {
		return arn
	}
	return t.Cluster
}

// Address is the task's own IP address: IPv4, or IPv6 where there is only
// that. A task that doesn't have an address of its own, as with the bridge
// network mode, can't be in the mesh.
func (t Task) Address() (netip.Addr, error) {
	modes := map[string]bool{}
	var v6 netip.Addr
	for _, container := range t.Containers {
		for _, network := range container.Networks {
			if network.NetworkMode != "awsvpc" {
				modes[network.NetworkMode] = true
				continue
			}
			if len(network.IPv4Addresses) > 0 {
				return parseAddress(network.IPv4Addresses[0])
			}
			for _, text := range network.IPv6Addresses {
				addr, err := parseAddress(text)
				if err != nil {
					return netip.Addr{}, err
				}
				if !v6.IsValid() && !addr.IsLinkLocalUnicast() {
					v6 = addr
				}
			}
		}
	}
	if v6.IsValid() {
		return v6, nil
	}
	for mode := range modes {
		return netip.Addr{}, fmt.Errorf("find the task's address: its network mode is %q; the mesh needs awsvpc", mode)
	}
	return netip.Addr{}, errors.New("find the task's address: the task metadata has no awsvpc network with an IP address")
}

// MAC is that of the network interface with an address; "" where ECS doesn't
// tell it.
func (t Task) MAC(address netip.Addr) string {
	for _, container := range t.Containers {
		for _, network := range container.Networks {
			if slices.Contains(network.IPv4Addresses, address.String()) {
				return network.MACAddress
			}
		}
	}
	return ""
}

func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the task's address: the task metadata has %q, which is no IP address", text)
	}
	return addr, nil
}

// Endpoint is a task's metadata endpoint.
type Endpoint struct {
	url    string
	client *http.Client
}

// FromEnvironment finds the endpoint. Without one this is no ECS task, and
// waiting can't help.
func FromEnvironment(getenv func(string) string) (*Endpoint, error) {
	url := getenv(Variable)
	if url == "" {
		return nil, fmt.Errorf("find the task metadata endpoint: %s is not set; run this in an ECS task on Fargate platform 1.4.0 or ECS agent 1.39.0, or later", Variable)
	}
	return &Endpoint{url: url, client: &http.Client{
		Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: requestTimeout}).DialContext},
		Timeout:   requestTimeout,
	}}, nil
}

// Task reads the task's metadata. It asks once; see Permanent for which errors
// may be gone at the next attempt.
func (e *Endpoint) Task(ctx context.Context) (Task, error) {
	body, err := e.get(ctx, "/task")
	if err != nil {
		return Task{}, err
	}
	task, err := Parse(body)
	if err != nil {
		return Task{}, fmt.Errorf("read task metadata from %s/task: %w", e.url, err)
	}
	return task, nil
}

// ContainerName reads the name of the container that asks.
func (e *Endpoint) ContainerName(ctx context.Context) (string, error) {
	body, err := e.get(ctx, "")
	if err != nil {
		return "", err
	}
	var container Container
	if err := json.Unmarshal(body, &container); err != nil {
		return "", fmt.Errorf("read task metadata from %s: %w", e.url, err)
	}
	return container.Name, nil
}

func (e *Endpoint) get(ctx context.Context, path string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+path, nil)
	if err != nil {
		return nil, fmt.Errorf("read task metadata: %s is %q: %w", Variable, e.url, err)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read task metadata: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largest))
	if err != nil {
		return nil, fmt.Errorf("read task metadata from %s: %w", e.url+path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, &Error{URL: e.url + path, Status: response.StatusCode}
	}
	return body, nil
}

// Error is an answer of the endpoint that is not the metadata.
type Error struct {
	URL    string
	Status int // HTTP
}

func (e *Error) Error() string {
	return fmt.Sprintf("read task metadata from %s: HTTP status %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// Permanent tells whether asking again can't help: the endpoint refused.
func Permanent(err error) bool {
	var answer *Error
	return errors.As(err, &answer) && answer.Status >= 400 && answer.Status < 500 && answer.Status != http.StatusTooManyRequests
}

// Parse reads the endpoint's answer.
func Parse(body []byte) (Task, error) {
	var task Task
	if err := json.Unmarshal(body, &task); err != nil {
		return Task{}, err
	}
	arn, err := mesh.ParseTaskARN(task.TaskARN)
	if err != nil {
		return Task{}, fmt.Errorf("TaskARN: %w", err)
	}
	task.ARN = arn
	return task, nil
}
