package docs

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"ecsmesh/e2e/pki"
	"ecsmesh/initcontainer/config"
)

// pending are the fields of which docs/migration.md tells what the next version
// does. A field that does it must go from here.
var pending = []string{}

// TestMigrationTellsWhatTheReaderDoes has the reader read each field, and holds
// what is said of it to that.
func TestMigrationTellsWhatTheReaderDoes(t *testing.T) {
	got := tables(readMigration(t))
	said := map[string]string{}
	for heading := range readInventory(t).Fields {
		for _, row := range got[heading] {
			for _, name := range named(row[0]) {
				said[name] = row[2]
			}
		}
	}
	reader := newReader(t)
	for _, fields := range readInventory(t).Fields {
		for _, f := range fields {
			found, why := reader.verdict(t, f)
			is := strings.HasPrefix(said[f.String()], found)
			switch later := slices.Contains(pending, f.String()); {
			case !is && !later:
				t.Errorf("%s: it is said to be %q, and is %s (%s)", f, said[f.String()], found, why)
			case is && later:
				t.Errorf("%s is %s now: take it off pending", f, found)
			}
		}
	}
	for _, name := range pending {
		if said[name] == "" {
			t.Errorf("pending: there is no field %s", name)
		}
	}
}

// Verdicts, as they begin a cell.
const (
	taken   = "as it is"
	ignored = "ignored"
	refused = "refused"
)

// reader reads documents as a task does.
type reader struct{ ca, file string }

func newReader(t *testing.T) reader {
	t.Helper()
	authority, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(authority.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	return reader{authority.CA, file}
}

// verdict reads a document without the field, and with it. Only what changes the
// configuration is taken.
func (r reader) verdict(t *testing.T, f field) (verdict, why string) {
	t.Helper()
	base := map[string]any{"consulServers": map[string]any{"hosts": "10.0.0.1", "defaults": map[string]any{"tls": false}}}
	if _, gateway := f.With["gateway"]; gateway || strings.HasPrefix(f.Name, "gateway.") {
		base["gateway"] = map[string]any{"kind": "mesh-gateway"}
	} else {
		base["service"] = map[string]any{"port": 8080}
	}
	if strings.HasPrefix(f.Name, "proxy.upstreams[]") {
		base["proxy"] = map[string]any{"upstreams": []any{map[string]any{"destinationName": "a", "localBindPort": 9001}}}
	}
	base = merge(base, f.With)
	without, withoutErr := r.read(t, base, f.Env)
	with, err := r.read(t, set(base, strings.Split(f.Name, "."), f.Example).(map[string]any), f.Env)
	var invalid *config.InvalidError
	if errors.As(err, &invalid) {
		for _, fault := range invalid.Faults {
			if strings.HasPrefix(fault.Path, strings.ReplaceAll(f.Name, "[]", "[0]")) || strings.HasPrefix(f.Name, fault.Path) {
				return refused, err.Error()
			}
		}
		// A case is where two fields meet, and the fault may be the other's. Or
		// what the field needs beside is refused already.
		if f.Case == "" && withoutErr == nil {
			t.Errorf("%s: the error does not name it: %v", f, err)
		}
		return refused, err.Error()
	}
	for _, warning := range with.Warnings {
		if name, _, _ := strings.Cut(warning, " has no "); name != warning && strings.HasPrefix(f.Name, name) {
			return ignored, warning
		}
	}
	if withoutErr == nil && reflect.DeepEqual(without, with) {
		return "lost", "it changes nothing, and nobody is told"
	}
	return taken, ""
}

func (r reader) read(t *testing.T, document map[string]any, env []string) (config.Config, error) {
	t.Helper()
	content, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return config.Read(func(name string) string {
		switch {
		case name == config.LegacyVariable:
			return strings.ReplaceAll(string(content), "CA_FILE", r.file)
		case !slices.Contains(env, name):
			return ""
		case name == config.TokenVariable:
			return "8f3a3f0e-2f0b-4b7d-9a53-1f0d3c6f7a55"
		}
		return r.ca
	})
}

// merge lays one object over another, and changes neither.
func merge(under, over map[string]any) map[string]any {
	merged := maps.Clone(under)
	for name, value := range over {
		below, both := merged[name].(map[string]any)
		if object, is := value.(map[string]any); is && both {
			value = merge(below, object)
		}
		merged[name] = value
	}
	return merged
}

// set is a value with another at a path within it. It changes nothing.
func set(in any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	object, _ := in.(map[string]any)
	name, list := strings.CutSuffix(path[0], "[]")
	if list {
		var first any
		if items, _ := object[name].([]any); len(items) > 0 {
			first = items[0]
		}
		return merge(object, map[string]any{name: []any{set(first, path[1:], value)}})
	}
	changed := maps.Clone(object)
	if changed == nil {
		changed = map[string]any{}
	}
	changed[name] = set(object[name], path[1:], value)
	return changed
}
