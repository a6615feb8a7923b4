package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compileSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// validate says what the schema has against a document.
func validate(schema *jsonschema.Schema, document string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

const minimalGateway = `{"consulServers": {"defaults": {"tls": false}}, "gateway": {"kind": "mesh-gateway"}}`

// TestTheSchemaHasTheReadersFields fails when a field is added to one of both
// and not to the other.
func TestTheSchemaHasTheReadersFields(t *testing.T) {
	var bases []string
	for _, topology := range []string{Direct, ClientAgent, Dataplane} {
		for _, kind := range []string{"service", "gateway"} {
			bases = append(bases, encode(map[string]any{"topology": topology, kind: map[string]any{}}))
		}
	}
	inReader := readerFields(bases...)
	inSchema := map[string]bool{}
	for path, field := range schemaFields(t) {
		inSchema[path] = true
		if field.text("description") == "" {
			t.Errorf("%s has no description in schema.json", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(inReader)) {
		if !inSchema[path] {
			t.Errorf("schema.json lacks %s, which is read", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(inSchema)) {
		if !inReader[path] {
			t.Errorf("schema.json has %s, which is not read", path)
		}
	}
	if len(inReader) < 100 {
		t.Errorf("only %d fields were found", len(inReader))
	}
}

// around is a valid document in which a field's value can be tried.
func around(path string) []string {
	const service = `{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080`
	at := func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+".") }
	switch {
	case at("service.checks[].tcp"):
		return []string{service + `, "checks": [{"name": "a", "tcp": "127.0.0.1:1"}]}}`}
	case at("service.checks[].grpc"):
		return []string{service + `, "checks": [{"name": "a", "grpc": "127.0.0.1:1"}]}}`}
	case at("service.checks[]"):
		return []string{service + `, "checks": [{"name": "a", "http": "http://127.0.0.1"}]}}`}
	case at("service"):
		return []string{service + `}}`}
	case at("proxy.upstreams[].localBindSocketPath"), at("proxy.upstreams[].localBindSocketMode"):
		return []string{service + `}, "proxy": {"upstreams": [{"destinationName": "a", "localBindSocketPath": "/a"}]}}`}
	case at("proxy.expose.paths[]"):
		return []string{service + `}, "proxy": {"expose": {"paths": [{"path": "/a", "listenerPort": 3, "localPathPort": 4}]}}}`}
	case at("consulClient"):
		return []string{service + `}, "topology": "client-agent"}`}
	case at("proxy.upstreams[]"):
		return []string{service + `}, "proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 2}]}}`}
	case at("gateway"):
		return []string{minimalGateway}
	case at("dataplane"):
		return []string{service + `}, "topology": "dataplane"}`}
	case at("transparentProxy"):
		return []string{service + `}, "transparentProxy": {"enabled": false}}`}
	}
	return []string{minimal, minimalGateway}
}

// onlyTheReaderRefuses has values that the schema has nothing against. A list
// with an entry that isn't needed is a failure.
func onlyTheReaderRefuses() map[string][]string {
	noName := []string{`"a/b"`}
	values := map[string][]string{
		"consulServers.hosts": noName, "gateway.lanAddress.address": noName, "gateway.wanAddress.address": noName,
		"consulClient.autoEncrypt": {`true`}, // TLS is off around it
	}
	for _, name := range []string{
		"envoy_statsd_url", "envoy_dogstatsd_url", "envoy_stats_config_json", "envoy_tracing_json",
		"envoy_extra_stats_sinks_json", "envoy_extra_static_clusters_json", "envoy_extra_static_listeners_json",
	} {
		values["proxy.config."+name] = []string{`"x"`, `"a/b"`, `"consul"`, `"ecsmesh-init"`} // neither URLs nor Envoy's JSON
		values["gateway.proxy.config."+name] = values["proxy.config."+name]
	}
	return values
}

// TestTheSchemaRefusesWhatTheReaderRefuses tries values of every type, and those
// around every limit, in every field.
func TestTheSchemaRefusesWhatTheReaderRefuses(t *testing.T) {
	schema, ca := compileSchema(t), newCA(t)
	exceptions := onlyTheReaderRefuses()
	for path, field := range schemaFields(t) {
		var found []string
		differ := map[string][]string{}
		for _, base := range around(path) {
			if _, err := Read(env(Variable, base, CACertVariable, ca)); err != nil {
				t.Fatalf("%s can't be tried in %s, which is not valid itself: %v", path, base, err)
			}
			for _, value := range append(values(field), advised(base, path)...) {
				document := encode(with(base, path, value))
				_, byReader := Read(env(Variable, document, CACertVariable, ca))
				bySchema := validate(schema, document)
				switch {
				case byReader == nil && bySchema != nil:
					differ["the reader takes, and the schema refuses"] = append(differ["the reader takes, and the schema refuses"], document)
				case byReader != nil && bySchema == nil && !slices.Contains(exceptions[path], encode(value)):
					differ["the schema takes, and the reader refuses"] = append(differ["the schema takes, and the reader refuses"], document)
				case byReader != nil && bySchema == nil:
					found = append(found, encode(value))
				}
			}
		}
		for how, documents := range differ { // the first says enough
			t.Errorf("%s: %s this, and %d more: %s", path, how, len(documents)-1, documents[0])
		}
		for _, value := range exceptions[path] {
			if !slices.Contains(found, value) {
				t.Errorf("%s: the schema refuses %s, or the reader takes it", path, value)
			}
			found = slices.DeleteFunc(found, func(other string) bool { return other == value })
		}
	}
}

// values are those that are tried in a field: of every type, and what the
// schema says of it.
func values(f field) []any {
	values := []any{
		nil, "", "x", "a/b", "consul", "ecsmesh-init", true, false, 0, 1, -1, 1.5, 65535, 65536, 1 << 31,
		[]any{}, []any{"x"}, []any{1}, []any{nil}, []any{"ecsmesh-init"}, []any{map[string]any{}},
		map[string]any{}, map[string]any{"x": "y"}, map[string]any{"x": 1}, map[string]any{"x": nil}, map[string]any{"x y": []any{"z"}}, map[string]any{"x": []any{"z"}},
	}
	enum, _ := f["enum"].([]any)
	values = append(values, enum...)
	if standard := f["default"]; standard != nil {
		values = append(values, standard)
	}
	for _, limit := range []string{"minimum", "maximum"} {
		if number, ok := f[limit].(float64); ok {
			values = append(values, number-1, number, number+1)
		}
	}
	return values
}

// advised are the values that the reader itself says it wants, and those around
// the limits that it names.
func advised(base, path string) []any {
	var values []any
	for _, wrong := range []any{"x", -1} {
		_, err := Read(env(Variable, encode(with(base, path, wrong))))
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			continue
		}
		for _, fault := range invalid.Faults {
			if index.ReplaceAllString(fault.Path, "[]") != path {
				continue
			}
			if list, is := strings.CutPrefix(fault.Want, "want one of "); is {
				for name := range strings.SplitSeq(list, ", ") {
					values = append(values, name)
				}
			}
			var least, most int
			if _, err := fmt.Sscanf(fault.Want, "want a whole number from %d to %d", &least, &most); err == nil {
				values = append(values, least-1, least, most, most+1)
			}
		}
	}
	return values
}

func encode(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // the test made it
	}
	return string(text)
}

// TestTheSchemasDefaultsAreTheReaders reads each default, and nothing in its
// place. Where there is none, nothing is as good as "" or false.
func TestTheSchemasDefaultsAreTheReaders(t *testing.T) {
	type outcome struct {
		Config Config
		Error  string
	}
	read := func(base, path string, value any) outcome {
		cfg, err := Read(env(Variable, encode(with(base, path, value))))
		cfg.Proxy.Config, cfg.Warnings = nil, nil // they have what was given
		return outcome{cfg, text(err)}
	}
	tried := 0
	for path, field := range schemaFields(t) {
		standard := field["default"]
		if standard == nil && field["pattern"] == nil && field.mayBeNull() {
			switch types := field.types(); {
			case slices.Contains(types, "string"):
				standard = ""
			case slices.Contains(types, "boolean"):
				standard = false
			}
		}
		if standard == nil {
			continue
		}
		tried++
		base := around(path)[0]
		if diff := cmp.Diff(read(base, path, nil), read(base, path, standard), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s: %v is not its default (-nothing +that):\n%s", path, standard, diff)
		}
	}
	if tried < 40 {
		t.Errorf("only %d were tried", tried)
	}
}
