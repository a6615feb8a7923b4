package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// enterprise plays Consul Enterprise before a Consul that isn't: it notes, of
// each request, what that says of namespaces and partitions, passes the rest on,
// and says in its answers where the services are.
type enterprise struct {
	namespace, partition string
	behind               http.Handler

	mu       sync.Mutex
	requests map[string][]string // by method and path: where namespace and partition stood
}

func (e *enterprise) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var said []string
	query := r.URL.Query()
	for _, name := range []string{"ns", "partition"} {
		said = append(said, fmt.Sprintf("?%s=%s", name, query.Get(name)))
		query.Del(name)
	}
	r.URL.RawQuery = query.Encode()
	if r.Method == http.MethodPut {
		var body any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		said = append(said, takeTenants(body, "")...)
		plain, _ := json.Marshal(body)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(plain)), int64(len(plain))
	}
	slices.Sort(said)
	e.mu.Lock()
	key := r.Method + " " + r.URL.Path
	e.requests[key] = slices.Compact(slices.Sorted(slices.Values(append(e.requests[key], said...))))
	e.mu.Unlock()

	answer := httptest.NewRecorder()
	e.behind.ServeHTTP(answer, r)
	for name, values := range answer.Header() {
		if name != "Content-Length" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(answer.Code)
	content := answer.Body.String()
	if strings.HasPrefix(r.URL.Path, "/v1/catalog/node-services/") {
		content = strings.ReplaceAll(content, `"EnableTagOverride"`, fmt.Sprintf(`"Namespace": %q, "Partition": %q, "EnableTagOverride"`, e.namespace, e.partition))
	}
	fmt.Fprint(w, content)
}

// takeTenants takes out of a body what the Community Edition doesn't know, and
// returns where it stood.
func takeTenants(value any, path string) (found []string) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			at := path + "." + name
			if name == "Namespace" || name == "Partition" {
				found = append(found, fmt.Sprintf("%s=%s", at, inner))
				delete(v, name)
				continue
			}
			found = append(found, takeTenants(inner, at)...)
		}
	case []any:
		for _, inner := range v {
			found = append(found, takeTenants(inner, path+"[]")...)
		}
	}
	return found
}

// TestATenantIsNamedInEveryRequest has a task of a namespace and a partition be
// registered, be checked and looked after, and be registered again.
func TestATenantIsNamedInEveryRequest(t *testing.T) {
	w := newWorld(t)
	behind, err := url.Parse("http://" + netip.AddrPortFrom(w.consul.Addr, 8500).String())
	if err != nil {
		t.Fatal(err)
	}
	e := &enterprise{namespace: "team", partition: "east", behind: httputil.NewSingleHostReverseProxy(behind), requests: map[string][]string{}}
	front := httptest.NewServer(e)
	t.Cleanup(front.Close)
	at := netip.MustParseAddrPort(front.Listener.Addr().String())
	w.configure(fmt.Sprintf(`"consulServers": {"hosts": %q, "defaults": {"tls": false}, "http": {"port": %d}},
		"service": {"name": "api", "port": 8080, "namespace": "team", "partition": "east"}, "proxy": {"upstreams": [{"destinationName": "db", "destinationNamespace": "default", "localBindPort": 1}]}`, at.Addr(), at.Port()))
	if code, log := w.register(t); code != 0 {
		t.Fatalf("exit %d:\n%s", code, log)
	}
	for _, text := range []string{`"namespace": "team"`, `"partition": "east"`} {
		if bootstrap := w.files(t)["/envoy-bootstrap.json"]; !strings.Contains(bootstrap, text) {
			t.Errorf("no %s in %s", text, bootstrap)
		}
	}
	check := func() string {
		command := w.command("check", "-refresh=1s")
		command.Path = filepath.Join(w.volume, "bin/ecsmesh-init") // by which it finds its volume
		_, log := finish(t, command)
		return log
	}
	await(t, "the registration to be looked at", func() error {
		log := check()
		if strings.Contains(log, "damaged") || strings.Contains(log, "registered again") {
			t.Fatalf("what is whole was mended:\n%s", log)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.requests["GET /v1/health/node/ecs-"+taskID] == nil || e.requests["PUT /v1/txn"] == nil {
			return fmt.Errorf("so far %v", e.requests)
		}
		return nil
	})
	if _, err := w.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-" + taskID}, nil); err != nil {
		t.Fatal(err)
	}
	await(t, "the task to be registered again", func() error {
		if log := check(); !strings.Contains(log, "registered again") {
			return fmt.Errorf("the log is\n%s", log)
		}
		return nil
	})
	query := []string{"?ns=team", "?partition=east"}
	want := map[string][]string{
		"GET /v1/catalog/nodes":                       query,
		"GET /v1/catalog/node-services/ecs-" + taskID: query,
		"GET /v1/health/node/ecs-" + taskID:           query,
		"PUT /v1/catalog/register": append([]string{
			".Checks[].Namespace=team", ".Checks[].Partition=east", ".Partition=east", ".Service.Namespace=team", ".Service.Partition=east",
		}, query...),
		"PUT /v1/txn": append([]string{"[].Check.Check.Namespace=team", "[].Check.Check.Partition=east"}, query...),
	}
	for _, places := range want {
		slices.Sort(places)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if diff := cmp.Diff(want, e.requests); diff != "" {
		t.Error(diff)
	}
}

// TestTenantsNeedConsulEnterprise has a Consul that isn't.
func TestTenantsNeedConsulEnterprise(t *testing.T) {
	for tenant, want := range map[string]string{
		`"namespace": "team"`: "Namespaces are a Consul Enterprise feature",
		`"partition": "east"`: "Partitions are a Consul Enterprise feature",
	} {
		w := newWorld(t)
		w.configure(fmt.Sprintf(`"service": {"name": "api", "port": 8080, %s}, "consulServers": {"hosts": %q, "defaults": {"tls": false}}`, tenant, w.consul.Addr))
		code, log := w.register(t)
		if code != 1 || !strings.Contains(lastLine(log), want) || !strings.Contains(lastLine(log), "remove service.namespace and service.partition") {
			t.Errorf("%s: exit %d:\n%s", tenant, code, log)
		}
		if nodes := w.nodes(t); len(nodes) > 0 {
			t.Errorf("%s: %v are in the catalog", tenant, nodes)
		}
		w.configure(fmt.Sprintf(`"service": {"name": "api", "port": 8080, "namespace": "default", "partition": "default"}, "consulServers": {"hosts": %q, "defaults": {"tls": false}}`, w.consul.Addr))
		if code, log := w.register(t); code != 0 {
			t.Errorf("the default ones: exit %d:\n%s", code, log)
		}
	}
}
