// Package resilience writes a service's settings for outlier detection into
// Consul's configuration, where they hold for all of the service's instances.
package resilience

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
)

const (
	// maxConflicts bounds how often an entry is read again because somebody
	// else has written it meanwhile: another task of the service, as a rule,
	// which wrote the same.
	maxConflicts = 10

	// longestPause is the most that is waited before, so that tasks that start
	// together don't stay together.
	longestPause = 50 * time.Millisecond
)

// Write has the service-defaults of a service say how its upstreams' instances
// are left out when they fail, and tells whether they didn't say so before. What
// else is in them stays. It is safe to repeat.
func Write(ctx context.Context, client *api.Client, service string, wanted config.OutlierDetection) (changed bool, err error) {
	for range maxConflicts {
		entry, err := read(ctx, client, service)
		if err != nil {
			return false, fmt.Errorf("read the service-defaults of %s: %w", service, err)
		}
		if !entry.set(wanted) {
			return false, nil
		}
		written, _, err := client.ConfigEntries().CAS(entry, entry.ModifyIndex, (&api.WriteOptions{}).WithContext(ctx))
		if err != nil {
			return false, fmt.Errorf("write the service-defaults of %s: %w", service, err)
		}
		if written {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("write the service-defaults of %s: %w", service, ctx.Err())
		case <-time.After(rand.N(longestPause)):
		}
	}
	return false, fmt.Errorf("write the service-defaults of %s: others wrote them %d times meanwhile", service, maxConflicts)
}

// object is a JSON object.
type object = map[string]any

// entry is a configuration entry with all that the servers know of it, which
// may be more than their client does.
type entry struct {
	*api.ServiceConfigEntry // its kind, name and index alone
	fields                  object
}

// MarshalJSON implements json.Marshaler.
func (e entry) MarshalJSON() ([]byte, error) { return json.Marshal(e.fields) }

// read returns an empty entry, of the index 0, where there is none.
func read(ctx context.Context, client *api.Client, service string) (entry, error) {
	found := entry{&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: service}, object{"Kind": api.ServiceDefaults, "Name": service}}
	var raw json.RawMessage
	_, err := client.Raw().Query("/v1/config/"+api.ServiceDefaults+"/"+service, &raw, (&api.QueryOptions{}).WithContext(ctx))
	var status api.StatusError
	if errors.As(err, &status) && status.Code == http.StatusNotFound {
		return found, nil
	}
	if err != nil {
		return entry{}, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&found.fields); err != nil {
		return entry{}, err
	}
	index, _ := found.fields["ModifyIndex"].(json.Number)
	modified, err := index.Int64()
	if err != nil {
		return entry{}, fmt.Errorf("its ModifyIndex: %w", err)
	}
	found.ModifyIndex = uint64(modified)
	return found, nil
}

// set tells whether it changed anything.
func (e entry) set(wanted config.OutlierDetection) (changed bool) {
	check := inner(inner(inner(e.fields, "UpstreamConfig"), "Defaults"), "PassiveHealthCheck")
	put := func(name string, value any, same bool) {
		if !same {
			check[name], changed = value, true
		}
	}
	numbers := map[string]int{
		"MaxFailures":             wanted.MaxFailures,
		"EnforcingConsecutive5xx": wanted.EnforcingConsecutive5xx,
		"MaxEjectionPercent":      wanted.MaxEjectionPercent,
	}
	maps.Copy(numbers, wanted.Newer)
	for name, number := range numbers {
		put(name, number, check[name] == json.Number(fmt.Sprint(number)))
	}
	put("Interval", wanted.Interval.String(), duration(check["Interval"]) == wanted.Interval)
	if wanted.BaseEjectionTime != 0 {
		put("BaseEjectionTime", wanted.BaseEjectionTime.String(), duration(check["BaseEjectionTime"]) == wanted.BaseEjectionTime)
	}
	return changed
}

// inner returns an object within another, made where there is none.
func inner(outer object, name string) object {
	found, ok := outer[name].(object)
	if !ok {
		found = object{}
		outer[name] = found
	}
	return found
}

// duration reads what Consul has as a text, or as a number of nanoseconds.
func duration(value any) time.Duration {
	switch v := value.(type) {
	case string:
		d, _ := time.ParseDuration(v) // 0 is none
		return d
	case json.Number:
		n, _ := v.Int64()
		return time.Duration(n)
	}
	return 0
}
