package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lockdown"
)

const (
	consulPort = 8500

	// consulTimeout bounds a request to a server that may be leaving.
	consulTimeout = 5 * time.Second

	// answerTimeout is what a server gets to show that it is not frozen.
	answerTimeout = time.Second
)

// serverAddresses are those of the server tasks that are not to stop.
func (l *Lab) serverAddresses() []netip.Addr {
	var addresses []netip.Addr
	for _, arn := range l.Servers.Tasks() {
		if task, ok := l.ECS.Task(arn); ok && task.DesiredStatus == ecs.StatusRunning {
			addresses = append(addresses, task.Address())
		}
	}
	return addresses
}

// StartServers starts the Consul servers and returns their tasks when they
// have a leader and their addresses are published.
func (l *Lab) StartServers(ctx context.Context) ([]ecs.Task, error) {
	var tasks []ecs.Task
	for range l.consuls {
		// Each one joins those before it.
		task, err := l.Servers.Launch(ctx)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, task)
	}
	for _, task := range tasks {
		if _, err := l.ECS.Wait(ctx, task.TaskARN, ecs.Task.Running); err != nil {
			return nil, err
		}
	}
	if err := l.WaitLeader(ctx); err != nil || l.security == nil {
		return tasks, err
	}
	return tasks, l.setUpACL(ctx)
}

// ReplaceServer replaces a Consul server by a new one: a rolling deployment
// of one task. It returns the new one when the old one has left.
func (l *Lab) ReplaceServer(ctx context.Context, old ecs.Task) (ecs.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	return l.Servers.Replace(ctx, old.TaskARN)
}

// UseHTTP tells Consul that services speak HTTP, as their owners do: Envoy
// then chooses an instance for each request instead of each connection.
func (l *Lab) UseHTTP(ctx context.Context, services ...string) error {
	consul, err := l.Consul()
	if err != nil {
		return err
	}
	for _, service := range services {
		entry := &api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: service, Protocol: "http"}
		if _, _, err := consul.ConfigEntries().Set(entry, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
			return fmt.Errorf("set the protocol of %s: %w", service, err)
		}
	}
	return nil
}

// Consul is a client of one of the servers that run and answer.
func (l *Lab) Consul() (*api.Client, error) {
	faults := []error{errors.New("reach Consul: no server answers")}
	for _, address := range l.serverAddresses() {
		if _, err := l.leaderKnownTo(address); err != nil {
			faults = append(faults, err)
			continue
		}
		return l.ConsulAt(address)
	}
	return nil, errors.Join(faults...)
}

// Leader is the server task that leads the others.
func (l *Lab) Leader() (ecs.Task, error) {
	faults := []error{errors.New("find Consul's leader: no server task is known to lead")}
	for _, address := range l.serverAddresses() {
		leader, err := l.leaderKnownTo(address)
		faults = append(faults, err)
		for _, arn := range l.Servers.Tasks() {
			if task, ok := l.ECS.Task(arn); ok && task.Address() == leader {
				return task, nil
			}
		}
	}
	return ecs.Task{}, errors.Join(faults...)
}

// leaderKnownTo is the address of the leader as a server knows it, without
// asking others; invalid when it knows none.
func (l *Lab) leaderKnownTo(server netip.Addr) (netip.Addr, error) {
	consul, err := l.consulAt(server, answerTimeout)
	if err != nil {
		return netip.Addr{}, err
	}
	leader, err := consul.Status().Leader()
	if err != nil || leader == "" {
		return netip.Addr{}, err
	}
	address, err := netip.ParseAddrPort(leader)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find Consul's leader: %w", err)
	}
	return address.Addr(), nil
}

// ConsulURL is the address of a server task's HTTP interface.
func (l *Lab) ConsulURL(task ecs.Task) string { return l.consulURL(task.Address()) }

func (l *Lab) consulURL(address netip.Addr) string {
	if l.security != nil {
		return "https://" + netip.AddrPortFrom(address, lockdown.HTTPSPort).String()
	}
	return httpURL(address, consulPort)
}

// ConsulAt is a client of the server at an address, who may do everything.
func (l *Lab) ConsulAt(address netip.Addr) (*api.Client, error) {
	return l.consulAt(address, consulTimeout)
}

func (l *Lab) consulAt(address netip.Addr, timeout time.Duration) (*api.Client, error) {
	token := ""
	if l.security != nil {
		token = l.security.Token
	}
	return l.consulAs(address, timeout, token)
}

// ConsulAs is a client of one of the servers, with a token of somebody else.
func (l *Lab) ConsulAs(token string) (*api.Client, error) {
	leader, err := l.Leader()
	if err != nil {
		return nil, err
	}
	return l.consulAs(leader.Address(), consulTimeout, token)
}

func (l *Lab) consulAs(address netip.Addr, timeout time.Duration, token string) (*api.Client, error) {
	at, err := url.Parse(l.consulURL(address))
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport
	if l.security != nil {
		transport = l.security.transport
	}
	// The HTTP client is given whole, so that nothing of CONSUL_HTTP_* in the
	// environment redirects it.
	client, err := api.NewClient(&api.Config{
		Address: at.Host, Scheme: at.Scheme, Token: token,
		HttpClient: &http.Client{Timeout: timeout, Transport: transport},
	})
	if err != nil {
		return nil, fmt.Errorf("reach Consul at %s: %w", address, err)
	}
	return client, nil
}
