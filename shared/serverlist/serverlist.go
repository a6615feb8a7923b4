// Package serverlist holds the list of the Consul servers' addresses and its
// home, one SSM parameter of type StringList. publish-servers writes it;
// everything else reads it.
package serverlist

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ecsmesh/shared/parameter"
)

// ErrNotPublished is returned for a parameter that does not exist yet: no
// Consul server has been seen so far.
var ErrNotPublished = errors.New("no servers published yet")

// Parse reads a StringList of IP addresses: "10.0.1.10,10.0.2.10". The result
// is never empty; anything that is not an IP address is an error, since a
// wrong address would be registered or dialled in silence.
func Parse(value string) ([]netip.Addr, error) {
	var (
		addrs  []netip.Addr
		faults []error
	)
	for _, field := range strings.Split(value, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(field))
		if err != nil {
			faults = append(faults, fmt.Errorf("%q is not an IP address", field))
			continue
		}
		addrs = append(addrs, addr)
	}
	return addrs, errors.Join(faults...)
}

// Format is the value for a set of addresses: sorted, each once, so that two
// equal sets have equal values.
func Format(addrs []netip.Addr) string {
	sorted := slices.Clone(addrs)
	slices.SortFunc(sorted, netip.Addr.Compare)
	sorted = slices.Compact(sorted)
	fields := make([]string, len(sorted))
	for i, addr := range sorted {
		fields[i] = addr.String()
	}
	return strings.Join(fields, ",")
}

// Equal tells whether two lists name the same servers.
func Equal(a, b []netip.Addr) bool { return Format(a) == Format(b) }

// Store is what this package needs of SSM Parameter Store; see parameter.Store.
type Store interface {
	parameter.Getter
	PutList(ctx context.Context, name, value, description string) error
}

// Parameter is the list's home in SSM Parameter Store.
type Parameter struct {
	store Store
	name  string
}

// New returns the parameter of that name, for example "/ecsmesh/consul-servers".
func New(store Store, name string) *Parameter { return &Parameter{store: store, name: name} }

// Name is the parameter's name.
func (p *Parameter) Name() string { return p.name }

// Value reads the parameter's raw value. It returns ErrNotPublished where
// there is no such parameter; other errors are those of the store.
func (p *Parameter) Value(ctx context.Context) (string, error) {
	value, err := p.store.Get(ctx, p.name)
	if errors.Is(err, parameter.ErrNotFound) {
		err = ErrNotPublished
	}
	if err != nil {
		return "", fmt.Errorf("read SSM parameter %s: %w", p.name, err)
	}
	return value, nil
}

// Read reads the addresses. Beside Value's errors it returns Parse's.
func (p *Parameter) Read(ctx context.Context) ([]netip.Addr, error) {
	value, err := p.Value(ctx)
	if err != nil {
		return nil, err
	}
	addrs, err := Parse(value)
	if err != nil {
		return nil, fmt.Errorf("read SSM parameter %s: %w", p.name, err)
	}
	return addrs, nil
}

// maxValue is SSM's limit for the value of a standard parameter, in bytes: some
// 250 IPv4 addresses.
const maxValue = 4096

// Write replaces the list. It refuses an empty one: readers that find no
// server could only fail, and the last known servers are the better answer.
// One that is too long for SSM is refused too.
func (p *Parameter) Write(ctx context.Context, addrs []netip.Addr) error {
	if len(addrs) == 0 {
		return fmt.Errorf("write SSM parameter %s: refused, the list of servers is empty", p.name)
	}
	value := Format(addrs)
	if len(value) > maxValue {
		return fmt.Errorf("write SSM parameter %s: the %d addresses take %d bytes, and it holds %d", p.name, len(addrs), len(value), maxValue)
	}
	if err := p.store.PutList(ctx, p.name, value, "Addresses of the Consul servers, kept by ecsmesh"); err != nil {
		return fmt.Errorf("write SSM parameter %s: %w", p.name, err)
	}
	return nil
}

// Permanent tells whether an error of this package will be the same at the next
// attempt; see parameter.Permanent. A parameter that does not exist yet is not.
func Permanent(err error) bool { return !errors.Is(err, ErrNotPublished) && parameter.Permanent(err) }
