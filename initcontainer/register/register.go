// Package register is what the init container does when a task starts: it
// finds the Consul servers, registers the task, and leaves on the shared
// volume what Envoy and its health check need.
//
// It may be killed at any point and run again. Every step either replaces
// what the step before left, or repeats a write that Consul takes for the same.
package register

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/sethvargo/go-retry"

	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

// DefaultDeadline is how long the servers, and then Consul, are waited for.
// It is meant for the first deployment of everything at once; ECS replaces
// the task afterwards.
const DefaultDeadline = 5 * time.Minute

const (
	// metadataDeadline bounds the wait for the metadata endpoint, which is
	// there before any container starts.
	metadataDeadline = 30 * time.Second

	// consulRound is how long one list of servers is tried before it is read
	// again: all of its servers may have been replaced meanwhile.
	consulRound = 5 * time.Second
)

// Registrar registers one task.
type Registrar struct {
	Config   config.Config
	Metadata *taskmeta.Endpoint
	Binary   string // path of the running executable
	Deadline time.Duration
	Log      *slog.Logger
}

// Run registers the task. Its error is final: either trying again can't help,
// or the deadline is over.
func (r Registrar) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Deadline, fmt.Errorf("gave up after %s", r.Deadline))
	defer cancel()
	for _, warning := range r.Config.Warnings {
		r.Log.Warn(warning)
	}
	task, err := r.task(ctx)
	if err != nil {
		return err
	}
	if task.Stopping() {
		r.Log.Warn("the task is stopping; it is not registered", "task", task.TaskARN)
		return nil
	}
	address, err := task.Address()
	if err != nil {
		return err
	}
	registered, err := registration.New(r.Config, task, address, time.Now())
	if err != nil {
		return err
	}
	// First what can fail without Consul: a task that can't start must not
	// be in the catalog.
	shared := volume.Volume(r.Config.BootstrapDir)
	if err := prepare(shared, r.Binary); err != nil {
		return err
	}
	source := discovery.Source{
		Hosts:     r.Config.ConsulServers.Hosts,
		Parameter: r.Config.ConsulServers.Parameter,
		// On EC2, a container's environment need not name the Region.
		Region: task.ARN.Region,
	}
	list, err := source.Open(ctx)
	if err != nil {
		return err
	}
	servers, datacenter, err := r.register(ctx, list, registered)
	if err != nil {
		return err
	}
	if err := r.writeFiles(shared, registered, source, servers, datacenter, address); err != nil {
		return err
	}
	r.Log.Info("registered", "service", registered.Service.Service.ID, "node", registered.Service.Node, "address", address, "datacenter", datacenter)
	return nil
}

// task reads the task metadata, again while the endpoint does not answer.
func (r Registrar) task(ctx context.Context) (taskmeta.Task, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, metadataDeadline, fmt.Errorf("gave up after %s", metadataDeadline))
	defer cancel()
	backoff := retry.WithJitterPercent(50, retry.WithCappedDuration(2*time.Second, retry.NewExponential(50*time.Millisecond)))
	var (
		task taskmeta.Task
		last error
	)
	err := retry.Do(ctx, backoff, func(ctx context.Context) error {
		var err error
		if task, err = r.Metadata.Task(ctx); err != nil {
			if taskmeta.Permanent(err) {
				return err
			}
			last = err
			r.Log.Debug("task metadata not read yet", "error", err)
			return retry.RetryableError(err)
		}
		return nil
	})
	if err != nil && ctx.Err() != nil && last != nil {
		err = fmt.Errorf("%w (%w)", last, context.Cause(ctx))
	}
	return task, err
}

func prepare(shared volume.Volume, binary string) error {
	if err := shared.Prepare(); err != nil {
		return err
	}
	return shared.CopyBinary(binary)
}

// register finds servers and writes the registration to one of them, with a
// fresh list of servers each time that none of them answers.
func (r Registrar) register(ctx context.Context, list discovery.List, registered registration.Registration) (servers []netip.Addr, datacenter string, err error) {
	for {
		servers, err = r.waitForServers(ctx, list)
		if err != nil {
			return nil, "", err
		}
		r.Log.Info("Consul servers found", "servers", servers)
		datacenter, err = r.write(ctx, servers, registered)
		if err == nil || consul.Permanent(err) || ctx.Err() != nil {
			return servers, datacenter, err
		}
		r.Log.Warn("no Consul server took the registration; trying again", "error", err)
	}
}

func (r Registrar) write(ctx context.Context, addrs []netip.Addr, registered registration.Registration) (datacenter string, err error) {
	servers, err := consul.NewServers(addrs, consul.Options{Port: r.Config.ConsulServers.HTTPPort})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, consulRound)
	defer cancel()
	err = servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		stale, err := registered.RemoveStale(ctx, client)
		for _, node := range stale {
			if node.Removed {
				r.Log.Info("removed what a dead task left at this task's address", "node", node.Node)
			} else {
				r.Log.Warn("another node has this task's address, and it is not known to be in the same VPC; it stays, and hides this task from the mesh if it is dead", "node", node.Node, "vpc", node.VPCID)
			}
		}
		if err != nil {
			return err
		}
		datacenter, err = registered.Write(ctx, client)
		return err
	})
	return datacenter, err
}

// writeFiles leaves the bootstrap last but for the task's state, so that Envoy
// never starts without the servers it names. The checks begin anew in Consul,
// so what it was told before is forgotten.
func (r Registrar) writeFiles(shared volume.Volume, registered registration.Registration, source discovery.Source, servers []netip.Addr, datacenter string, address netip.Addr) error {
	if err := shared.Remove(shared.Checks(), shared.Passed(), shared.Upkeep()); err != nil {
		return err
	}
	endpoints, err := envoy.Endpoints(servers, r.Config.ConsulServers.GRPCPort)
	if err != nil {
		return fmt.Errorf("build Envoy's list of servers: %w", err)
	}
	if err := shared.Write(shared.LiveServers(), endpoints); err != nil {
		return err
	}
	sidecar := registered.Sidecar.Service
	bootstrap, err := envoy.Bootstrap(envoy.Sidecar{
		NodeName:   registered.Sidecar.Node,
		ProxyID:    sidecar.ID,
		Service:    sidecar.Proxy.DestinationServiceName,
		Datacenter: datacenter,
		Address:    address,
		Volume:     shared,
		Proxy:      r.Config.Proxy,
	})
	if err != nil {
		return fmt.Errorf("build Envoy's bootstrap: %w", err)
	}
	if err := shared.Write(shared.Bootstrap(), bootstrap); err != nil {
		return err
	}
	return shared.WriteJSON(shared.Task(), check.Task{
		Registration: registered,
		Checks:       r.Config.Service.Checks,
		Containers:   r.Config.Service.HealthSyncContainers,
		Envoy: check.Envoy{
			Admin:          net.JoinHostPort(r.Config.Proxy.AdminBindAddress, strconv.Itoa(r.Config.Proxy.AdminBindPort)),
			PublicListener: net.JoinHostPort(address.String(), strconv.Itoa(r.Config.Proxy.PublicListenerPort)),
		},
		Servers:  servers,
		Source:   source,
		HTTPPort: r.Config.ConsulServers.HTTPPort,
		GRPCPort: r.Config.ConsulServers.GRPCPort,
	})
}
