package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

// ownerMeta marks a service-splitter of this function's, and introducedMeta has when
// it was made, in RFC 3339.
const (
	ownerMeta      = "managed-by"
	owner          = "ecsmesh-deployment-hook"
	introducedMeta = "introduced"
)

// drainTime is until the last Envoy has closed the connections that its callers had
// from before a service's first splitter. That one comes as a new filter chain of
// the upstream's listener, and Envoy drains the one before: ten minutes long, unless
// its --drain-time-s says else, requests on those connections are spread over all
// tasks, as measured with Envoy 1.40. What comes later is a route, for each request.
const drainTime = 10*time.Minute + 30*time.Second

// anySubset is all of a service's tasks.
const anySubset = "any-revision"

// errChanged is for an entry that another has changed, which stays as it is.
var errChanged = errors.New("another has changed it meanwhile")

// errForeign is for a splitter that isn't this function's, and stays.
var errForeign = errors.New("it is not this function's")

// servers are Consul's; see consul.Servers.Do.
type servers interface {
	Do(context.Context, func(context.Context, *api.Client) error) error
}

// Splitter writes the service-splitter and the service-resolver of services.
type Splitter struct {
	servers servers

	// Partition of Consul Enterprise that the services are in; "" is the default.
	Partition string

	// Plan takes in what would be written, and it isn't; nil: it is.
	Plan *dryrun.Plan

	now func() time.Time
}

// NewSplitter returns what these servers have.
func NewSplitter(servers servers) *Splitter { return &Splitter{servers: servers, now: time.Now} }

// Protocol is what a service speaks, by its discovery chain: tcp, http, …
func (s *Splitter) Protocol(ctx context.Context, service string) (protocol string, err error) {
	err = s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		chain, _, err := client.DiscoveryChain().Get(service, nil, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
		if err == nil {
			protocol = chain.Chain.Protocol
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read the discovery chain of %s: %w", service, err)
	}
	return protocol, nil
}

// Split has a service's requests go where they are wanted. First its resolver
// learns the subsets, in addition to what it has, then its splitter is written
// over the one that was read. A splitter without this function's mark, or with
// other subsets than this deployment's, is another's: errForeign. One that changes
// between the read and the write is errChanged.
//
// As long as not all Envoys may do so, wait says why to ask again in some seconds.
// It is safe to repeat: what is as it should be is not written.
func (s *Splitter) Split(ctx context.Context, service string, split Split) (wait string, err error) {
	var splitter api.ServiceSplitterConfigEntry
	has, err := s.read(ctx, api.ServiceSplitter, service, &splitter)
	if err != nil {
		return "", err
	}
	if has {
		if err := recognize(splitter, split); err != nil {
			return "", fmt.Errorf("change %s %s: %w", api.ServiceSplitter, service, err)
		}
	}
	var resolver api.ServiceResolverConfigEntry
	if _, err := s.read(ctx, api.ServiceResolver, service, &resolver); err != nil {
		return "", err
	}
	if resolved := resolve(resolver, service, splitter, split); !sameSubsets(resolver, resolved) {
		resolved.Partition = s.Partition
		err := s.write(ctx, &resolved, resolver.ModifyIndex)
		if errors.Is(err, errChanged) {
			// By a call like this one, or by an attempt whose answer was lost.
			if _, again := s.read(ctx, api.ServiceResolver, service, &resolver); again == nil && sameSubsets(resolver, resolved) {
				err = nil
			}
		}
		if err != nil {
			return "", err
		}
	}
	wanted := api.ServiceSplitterConfigEntry{
		Kind: api.ServiceSplitter, Name: service, Partition: s.Partition, Meta: maps.Clone(splitter.Meta), Splits: splits(split.Weights),
	}
	if !has {
		wanted.Meta = map[string]string{ownerMeta: owner, introducedMeta: s.now().UTC().Format(time.RFC3339)}
		wanted.Splits = introduction(split.Weights)
	}
	told := has && sameSplits(splitter.Splits, wanted.Splits)
	if !told {
		err := s.write(ctx, &wanted, splitter.ModifyIndex)
		if errors.Is(err, errChanged) {
			if _, again := s.read(ctx, api.ServiceSplitter, service, &splitter); again == nil && splitter.Meta[ownerMeta] == owner && sameSplits(splitter.Splits, wanted.Splits) {
				err = nil
			}
		}
		if err != nil {
			return "", err
		}
	}
	return s.wait(wanted, split.Hold, has, told), nil
}

// wait is why not all Envoys follow a splitter yet, which this call has made (unless
// has) or changed (unless told).
func (s *Splitter) wait(splitter api.ServiceSplitterConfigEntry, hold, has, told bool) string {
	introduced, err := time.Parse(time.RFC3339, splitter.Meta[introducedMeta])
	drained := introduced.Add(drainTime)
	switch {
	case hold && err == nil && s.now().Before(drained):
		return fmt.Sprintf("it is the service's first splitter: until %s its callers' Envoys drain connections from before, whose requests go to any task", drained.Format(time.TimeOnly+"Z"))
	case !has:
		return "from the service's first splitter the Envoys learn of the revisions, before the traffic follows"
	case hold && !told:
		return "the Envoys learn of it before there are new tasks"
	}
	return ""
}

// recognize finds a splitter that another made or changed.
func recognize(has api.ServiceSplitterConfigEntry, split Split) error {
	if has.Meta[ownerMeta] != owner {
		return fmt.Errorf("%w: its meta has no %s=%s; delete it, or have no traffic shifted for this service", errForeign, ownerMeta, owner)
	}
	for _, s := range has.Splits {
		if _, known := split.Subsets[s.ServiceSubset]; !known && s.ServiceSubset != "" && s.Weight > 0 || s.Service != "" && s.Service != has.Name {
			return fmt.Errorf("%w: %v%% of the requests go to %s%s, which is no revision of this deployment; put it back, or delete it", errForeign, s.Weight, cmp.Or(s.Service, "the subset "), s.ServiceSubset)
		}
	}
	return nil
}

// resolve adds subsets to a resolver. Those made for deployments before go, but
// for what the splitter still names.
func resolve(has api.ServiceResolverConfigEntry, service string, splitter api.ServiceSplitterConfigEntry, split Split) api.ServiceResolverConfigEntry {
	wanted := has
	wanted.Kind, wanted.Name = api.ServiceResolver, service
	wanted.Subsets, wanted.Failover = maps.Clone(has.Subsets), maps.Clone(has.Failover)
	if wanted.Subsets == nil {
		wanted.Subsets = map[string]api.ServiceResolverSubset{}
	}
	if wanted.Failover == nil {
		wanted.Failover = map[string]api.ServiceResolverFailover{}
	}
	for name := range has.Subsets {
		named := slices.ContainsFunc(splitter.Splits, func(s api.ServiceSplit) bool { return s.ServiceSubset == name })
		if strings.HasPrefix(name, subsetPrefix) && !named {
			delete(wanted.Subsets, name)
			delete(wanted.Failover, name)
		}
	}
	wanted.Subsets[anySubset] = api.ServiceResolverSubset{}
	failover := failover(has)
	for name, subset := range split.Subsets {
		wanted.Subsets[name] = api.ServiceResolverSubset{Filter: fmt.Sprintf("Node.Meta[%q] == %q and Node.Meta[%q] == %q", mesh.MetaFamily, subset.Family, mesh.MetaRevision, subset.Revision)}
		wanted.Failover[name] = failover
	}
	return wanted
}

// failover is where a revision's requests go when its tasks are all gone, as after a
// deployment without this hook: any task is better than none. To Consul, the service
// without a subset is the same subset again. Then come the places that the user has
// for the service, which Consul would forget for a subset that has a failover of its
// own.
func failover(has api.ServiceResolverConfigEntry) api.ServiceResolverFailover {
	theirs, ok := has.Failover[has.DefaultSubset]
	if !ok {
		theirs = has.Failover["*"]
	}
	after := slices.Clone(theirs.Targets)
	target := api.ServiceResolverFailoverTarget{Service: theirs.Service, ServiceSubset: theirs.ServiceSubset, Namespace: theirs.Namespace}
	for _, target.Datacenter = range theirs.Datacenters {
		after = append(after, target)
	}
	if len(after) == 0 && target != (api.ServiceResolverFailoverTarget{}) {
		after = append(after, target)
	}
	for i, target := range after {
		// Without a subset, one of the service itself would be of this revision.
		if target.ServiceSubset == "" && target.Peer == "" && (target.Service == "" || target.Service == has.Name) {
			after[i].ServiceSubset = cmp.Or(has.DefaultSubset, anySubset)
		}
	}
	if len(after) == 0 {
		return api.ServiceResolverFailover{ServiceSubset: anySubset}
	}
	return api.ServiceResolverFailover{Targets: append([]api.ServiceResolverFailoverTarget{{ServiceSubset: anySubset}}, after...)}
}

func sameSubsets(a, b api.ServiceResolverConfigEntry) bool {
	return a.Name != "" && maps.Equal(a.Subsets, b.Subsets) &&
		maps.EqualFunc(a.Failover, b.Failover, func(a, b api.ServiceResolverFailover) bool {
			return a.ServiceSubset == b.ServiceSubset && slices.Equal(a.Targets, b.Targets)
		})
}

// splits has everybody, those that get nothing as well: an Envoy then has a cluster
// for each, with its endpoints, before the first request goes there. Without, all
// requests failed for seconds at each shift, as measured with Consul 1.16 and Envoy
// 1.40: the cluster from before was gone, and the next one not yet there.
func splits(weights map[string]float64) []api.ServiceSplit {
	all := []api.ServiceSplit{{}} // the service as a whole, as before the first deployment
	for _, subset := range slices.Sorted(maps.Keys(weights)) {
		all = append(all, api.ServiceSplit{Weight: float32(weights[subset]), ServiceSubset: subset})
	}
	return all
}

// introduction changes nothing for the requests, and has the Envoys learn of the
// subsets.
func introduction(weights map[string]float64) []api.ServiceSplit {
	all := splits(weights)
	for i := range all {
		all[i].Weight = 0
	}
	all[0].Weight = 100
	return all
}

func sameSplits(a, b []api.ServiceSplit) bool {
	return slices.EqualFunc(a, b, func(a, b api.ServiceSplit) bool {
		return a.Weight == b.Weight && a.ServiceSubset == b.ServiceSubset
	})
}

// read reads an entry into one of its kind, and tells whether there is one.
func (s *Splitter) read(ctx context.Context, kind, name string, into any) (bool, error) {
	found := false
	err := s.servers.Do(ctx, func(ctx context.Context, client *api.Client) error {
		entry, _, err := client.ConfigEntries().Get(kind, name, (&api.QueryOptions{RequireConsistent: true, Partition: s.Partition}).WithContext(ctx))
		var answer api.StatusError
		switch {
		case errors.As(err, &answer) && answer.Code == http.StatusNotFound:
			return nil
		case err != nil:
			return err
		}
		found = true
		switch into := into.(type) {
		case *api.ServiceSplitterConfigEntry:
			*into = *entry.(*api.ServiceSplitterConfigEntry)
		case *api.ServiceResolverConfigEntry:
			*into = *entry.(*api.ServiceResolverConfigEntry)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	return found, nil
}

// write replaces the entry of an index, or makes it where that is 0.
func (s *Splitter) write(ctx context.Context, entry api.ConfigEntry, index uint64) error {
	if s.Plan != nil {
		return s.foresee(ctx, entry, index)
	}
	done := false
	err := s.servers.Do(ctx, func(ctx context.Context, client *api.Client) (err error) {
		done, _, err = client.ConfigEntries().CAS(entry, index, (&api.WriteOptions{Partition: s.Partition}).WithContext(ctx))
		return err
	})
	if err == nil && !done {
		err = errChanged
	}
	if err != nil {
		return fmt.Errorf("write %s %s: %w", entry.GetKind(), entry.GetName(), err)
	}
	return nil
}
