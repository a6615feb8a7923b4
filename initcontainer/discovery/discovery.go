// Package discovery says where a task has the addresses of the Consul servers
// from: from the configuration, or from the SSM parameter in which they are
// published.
package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ecsmesh/shared/awsapi"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"
)

// Source is a place of addresses. It is kept on the shared volume as JSON, so
// that the task can ask again while it runs.
type Source struct {
	Hosts     []string `json:",omitempty"` // IP addresses or DNS names; when given, Parameter isn't read
	Parameter string   // name of the SSM parameter
	Region    string   // of the parameter, where the environment doesn't name one
}

// List reads addresses, once. They are never empty without an error.
type List interface {
	Read(context.Context) ([]netip.Addr, error)
}

// Open prepares the reading, with the environment's configuration of AWS.
func (s Source) Open() (List, error) {
	sdk, err := AWS(s.Region)
	if err != nil && len(s.Hosts) == 0 {
		return nil, err
	}
	return s.With(sdk), nil
}

// With prepares the reading. Its List doesn't try again by itself.
func (s Source) With(sdk aws.Config) List {
	if len(s.Hosts) > 0 {
		return hosts(s.Hosts)
	}
	return serverlist.New(parameter.NewStore(sdk), s.Parameter)
}

// AWS is the configuration with which a task calls AWS, in that Region where
// its environment names none. Nothing is tried again.
func AWS(region string) (aws.Config, error) {
	sdk, err := awsapi.FromEnvironment(os.Getenv, region)
	sdk.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return sdk, err
}

// hosts are addresses and DNS names given by the configuration.
type hosts []string

func (h hosts) Read(ctx context.Context) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for _, host := range h {
		// An IP address resolves to itself.
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, fmt.Errorf("resolve consulServers.hosts: %w", err)
		}
		for _, addr := range found {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}
