package doctor

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/shared/mesh"
)

// plain is a task's configuration in a Consul that is open to all.
const plain = `"consulServers": {"defaults": {"tls": false}}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"}, "service": {"name": "api", "port": 8080}`

func calls(names ...string) string {
	var list []string
	for i, name := range names {
		list = append(list, fmt.Sprintf(`{"destinationName": %q, "localBindAddress": "OWN", "localBindPort": %d}`, name, 9001+i))
	}
	return strings.Replace(plain, `"proxy": {`, `"proxy": {"upstreams": [`+strings.Join(list, ", ")+`], `, 1)
}

// addInstance has Consul have another task's service, with its sidecar.
func addInstance(t *testing.T, w *world, service, status string) {
	t.Helper()
	node := mesh.NodeName(service + fmt.Sprint(time.Now().UnixNano()))
	for _, part := range []*api.AgentService{
		{ID: service, Service: service, Port: 1},
		{ID: service + "-p", Service: mesh.ProxyService(service), Kind: api.ServiceKindConnectProxy, Port: 2, Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: service, DestinationServiceID: service}},
	} {
		_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{
			Node: node, Address: "127.0.0.9", Service: part,
			Check: &api.AgentCheck{Node: node, CheckID: part.ID, Name: part.ID, Status: status, ServiceID: part.ID},
		}, nil)
		must(t, err)
	}
}

// TestATaskThatNeverRegistered has faults that stop the init container. It is
// asked in the place of that, with its configuration.
func TestATaskThatNeverRegistered(t *testing.T) {
	w := newWorld(t, consultest.Start(t))
	list := func(value string) func(*testing.T, *task) {
		return func(t *testing.T, _ *task) { w.change(t, func() { w.parameters[serversParameter] = value }) }
	}
	for name, test := range map[string]struct {
		plant func(*testing.T, *task)
		want  Cause
		found string
	}{
		"no servers parameter":        {func(t *testing.T, _ *task) { w.change(t, func() { delete(w.parameters, serversParameter) }) }, ListMissing, serversParameter},
		"a parameter that is no list": {list("consul.internal"), ListUnusable, `"consul.internal" is not an IP address`},
		"an empty parameter":          {list(" "), ListUnusable, "not an IP address"},
		"SSM denies":                  {func(t *testing.T, _ *task) { w.change(t, func() { w.refuses = "AccessDeniedException" }) }, ListForbidden, "ssm:GetParameter"},
		"SSM throttles":               {func(t *testing.T, _ *task) { w.change(t, func() { w.refuses = "ThrottlingException" }) }, ListUnread, "ThrottlingException"},
		"SSM is silent":               {func(t *testing.T, _ *task) { silence(t, w) }, ListUnread, "NAT"},
		"no credentials": {func(t *testing.T, _ *task) {
			t.Setenv("AWS_ACCESS_KEY_ID", "")
			t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/role")
		}, CredentialsMissing, "taskRoleArn"},
		"a name that nobody knows": {func(_ *testing.T, k *task) {
			k.configure(strings.Replace(plain, `{"defaults"`, `{"hosts": "consul.invalid", "defaults"`, 1))
		}, HostsUnresolved, "consul.invalid"},
		"nothing at the HTTP port":     {list("127.8.0.0"), ServersUnreachable, "127.8.0.0:8500: connection refused"},
		"the HTTP port is blocked":     {func(t *testing.T, k *task) { list(deaf(t, 8500).String())(t, k) }, ServersUnreachable, "security group"},
		"a server that does not speak": {func(t *testing.T, k *task) { list(mute(t, 8500).String())(t, k) }, ServersUnreachable, "does not answer in time"},
		"another program's port":       {func(t *testing.T, k *task) { list(stranger(t).String())(t, k) }, ConsulFails, "HTTP status 404"},
		"TLS where there is none": {func(t *testing.T, k *task) {
			k.env[config.CACertVariable] = authority(t)
			k.configure(strings.Replace(plain, `{"tls": false}`, `{"tls": true}, "http": {"port": 8500}, "grpc": {"port": 8502}`, 1))
		}, TLSMissing, "8500"},
		"a configuration that is none":    {func(_ *testing.T, k *task) { k.configure(`"service": {"name": "API"}`) }, ConfigurationInvalid, "service.port"},
		"no metadata endpoint":            {func(_ *testing.T, k *task) { delete(k.env, taskmeta.Variable) }, MetadataMissing, taskmeta.Variable},
		"a metadata endpoint that is ill": {func(_ *testing.T, k *task) { k.set(func() { k.known = 500 }) }, MetadataSilent, "HTTP status 500"},
		"a task that is stopping":         {func(_ *testing.T, k *task) { k.set(func() { k.desired = "STOPPED" }) }, TaskStopping, "STOPPED"},
		"nothing else":                    {func(*testing.T, *task) {}, StateMissing, "ended with exit code 1"},
	} {
		t.Run(name, func(t *testing.T) {
			k := w.newTask(t, plain)
			k.set(func() { k.exitCode = "1" })
			test.plant(t, k)
			k.expect(t, test.want, test.found)
		})
	}
}

// silence has AWS not answer.
func silence(t *testing.T, w *world) {
	t.Helper()
	w.change(t, func() { w.silent = make(chan struct{}) })
}

// mute is an address that takes connections and says nothing.
func mute(t *testing.T, port int) netip.Addr {
	t.Helper()
	k := netip.AddrFrom4([4]byte{127, 9, byte(time.Now().UnixNano()), 7})
	listener, err := net.Listen("tcp", netip.AddrPortFrom(k, uint16(port)).String())
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return k
}

// stranger is a web server at Consul's port.
func stranger(t *testing.T) netip.Addr {
	t.Helper()
	at := netip.AddrFrom4([4]byte{127, 9, byte(time.Now().UnixNano()), 8})
	listener, err := net.Listen("tcp", netip.AddrPortFrom(at, 8500).String())
	must(t, err)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return at
}

// TestATaskInTheMesh has faults that befall one task while it runs, with a real
// Envoy, one after the other; each is undone.
func TestATaskInTheMesh(t *testing.T) {
	w := newWorld(t, consultest.Start(t))
	client := w.consul.Client
	k := w.start(t, `"healthSyncContainers": ["app"], `+strings.Replace(plain, `"port": 8080`, `"port": 8080, "checks": [{"name": "health", "http": "http://OWN:8080/"}]`, 1))
	k.leave() // an application's container has no configuration

	t.Run("nothing is wrong", func(t *testing.T) {
		report := k.expect(t, none)
		if report.State != OK {
			t.Errorf("it is %s", report.State)
		}
		var text strings.Builder
		must(t, report.WriteJSON(&text))
		var back Report
		must(t, json.Unmarshal([]byte(text.String()), &back))
		if back.State != OK || len(back.Sections) != len(report.Sections) {
			t.Errorf("as JSON: %s", &text)
		}
	})
	t.Run("the list of servers is gone", func(t *testing.T) {
		w.change(t, func() { delete(w.parameters, serversParameter) })
		k.expect(t, ListMissing)
		k.set(func() { k.app = 500 }) // does more harm now
		k.expect(t, CheckFails)
		k.set(func() { k.app = 200 })
	})
	t.Run("the application answers 500", func(t *testing.T) {
		k.set(func() { k.app = 500 })
		defer k.set(func() { k.app = 200 })
		must(t, k.check(t)) // Consul knows, and that is a consequence
		k.expect(t, CheckFails, "500 Internal Server Error", `"health"`)
	})
	t.Run("its container is not healthy", func(t *testing.T) {
		k.set(func() { k.health = "UNHEALTHY" })
		defer k.set(func() { k.health = "HEALTHY" })
		must(t, k.check(t))
		k.expect(t, ContainerUnhealthy, "container app: UNHEALTHY")
	})
	t.Run("Consul was not told", func(t *testing.T) {
		k.expect(t, ConsulUntold, "health")
		k.await(t)
		k.expect(t, none)
	})
	t.Run("the task is drained while it runs", func(t *testing.T) {
		_, err := client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-" + k.id, SkipNodeUpdate: true,
			Check: &api.AgentCheck{Node: "ecs-" + k.id, CheckID: mesh.LifecycleCheckID, Name: mesh.LifecycleCheckName, Status: api.HealthCritical, Output: "stopping"}}, nil)
		must(t, err)
		k.expect(t, Drained, "sweep")
		k.set(func() { k.desired = "STOPPED" })
		k.expect(t, TaskStopping)
		k.set(func() { k.desired = "RUNNING" })
		_, err = client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-" + k.id, CheckID: mesh.LifecycleCheckID}, nil)
		must(t, err)
	})
	t.Run("somebody has put its node into maintenance", func(t *testing.T) {
		_, err := client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-" + k.id, SkipNodeUpdate: true,
			Check: &api.AgentCheck{Node: "ecs-" + k.id, CheckID: "_node_maintenance", Name: "Node Maintenance Mode", Status: api.HealthCritical, Output: "a test of ours"}}, nil)
		must(t, err)
		must(t, k.check(t))
		k.expect(t, Drained, "_node_maintenance", "a test of ours", "not ecsmesh's")
		k.set(func() { k.app = 500 }) // both at once
		k.expect(t, Drained, "_node_maintenance")
		k.set(func() { k.app = 200 })
		_, err = client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-" + k.id, CheckID: "_node_maintenance"}, nil)
		must(t, err)
		k.expect(t, none)
	})
	t.Run("Envoy is told to fail its health checks", func(t *testing.T) {
		k.tellEnvoy(t, "/healthcheck/fail")
		k.expect(t, EnvoyDraining, "/healthcheck/ok")
		k.tellEnvoy(t, "/healthcheck/ok")
		k.expect(t, none)
	})
	t.Run("the volume is another task's as well", func(t *testing.T) {
		own := k.id
		k.set(func() { k.id = strings.Repeat("d", 32) })
		k.expect(t, StateUnusable, own, strings.Repeat("d", 32), "volume of its own")
		k.set(func() { k.id = own })
	})
	t.Run("another node has the address", func(t *testing.T) {
		_, err := client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-other", Address: k.address,
			NodeMeta: map[string]string{mesh.MetaSyntheticNode: "true", mesh.MetaTaskARN: "arn:other"}}, nil)
		must(t, err)
		k.expect(t, AddressTaken, "ecs-other", "arn:other")
		_, err = client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-other"}, nil)
		must(t, err)
	})
	t.Run("the volume's state folder is closed", func(t *testing.T) {
		must(t, os.Chmod(k.path("state"), 0o755))
		k.expect(t, VolumeUnwritable, "state")
		must(t, os.Chmod(k.path("state"), 0o777))
	})
	t.Run("nobody looks after it", func(t *testing.T) {
		kept, err := os.ReadFile(k.volume.Upkeep())
		must(t, err)
		must(t, k.volume.WriteJSON(k.volume.Upkeep(), map[string]any{"LookAt": time.Now().Add(-time.Hour)}))
		k.expect(t, HealthCheckIdle, "1h0m ago")
		must(t, k.volume.Write(k.volume.Upkeep(), kept))
	})
	t.Run("the clock is wrong", func(t *testing.T) {
		k.now = func() time.Time { return time.Now().Add(20 * time.Minute) }
		k.expect(t, ClockWrong, "ahead")
		k.now = func() time.Time { return time.Now().Add(-90 * time.Hour) } // longer than certificates live
		k.expect(t, ClockWrong, "3 days behind")
		k.now = nil
	})
	t.Run("the certificate", func(t *testing.T) { certificates(t, k) })
	t.Run("what was registered is not there", func(t *testing.T) {
		_, err := client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-" + k.id}, nil)
		must(t, err)
		k.expect(t, TaskUnregistered, "its node is gone")
	})
	t.Run("what was registered is otherwise", func(t *testing.T) {
		state, err := check.ReadTask(k.volume)
		must(t, err)
		state.Registration.Service.Service.Port = 1
		_, err = state.Registration.Write(t.Context(), client)
		must(t, err)
		k.expect(t, RegistrationDamaged, "Port")
		state, err = check.ReadTask(k.volume)
		must(t, err)
		_, err = state.Registration.Write(t.Context(), client)
		must(t, err)
		must(t, os.Remove(k.volume.Checks()))
		k.await(t)
		k.expect(t, none)
	})
	t.Run("what was left is damaged", func(t *testing.T) {
		kept, err := os.ReadFile(k.volume.Task())
		must(t, err)
		must(t, k.volume.Write(k.volume.Task(), []byte("{}")))
		k.expect(t, StateUnusable, "replace the task")
		must(t, k.volume.Write(k.volume.Task(), kept))
	})
	t.Run("Consul is frozen", func(t *testing.T) {
		w.consul.Freeze()
		k.expect(t, ServersUnreachable, "accepts connections and does not answer")
		w.consul.Unfreeze()
	})
	t.Run("Consul is gone", func(t *testing.T) {
		w.consul.Stop()
		k.soon(t, ServersUnreachable, "connection refused")
	})
}

// certificates has another Envoy's admin interface stand before the real one,
// which says otherwise when its certificate begins and ends.
func certificates(t *testing.T, k *task) {
	state, err := check.ReadTask(k.volume)
	must(t, err)
	behind, err := url.Parse("http://" + state.Envoy.Admin)
	must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(behind)
	var ends time.Time
	served := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/certs" {
			proxy.ServeHTTP(w, r)
			return
		}
		recorder := httptest.NewRecorder()
		proxy.ServeHTTP(recorder, r)
		var lines []string
		for line := range strings.Lines(recorder.Body.String()) {
			switch {
			case strings.Contains(line, `"valid_from"`): // Consul's live for 72 hours
				line = fmt.Sprintf("\"valid_from\": %q,\n", ends.Add(-72*time.Hour).UTC().Format(time.RFC3339))
			case strings.Contains(line, `"expiration_time"`):
				line = fmt.Sprintf("\"expiration_time\": %q\n", ends.UTC().Format(time.RFC3339))
			}
			lines = append(lines, line)
		}
		fmt.Fprint(w, strings.Join(lines, ""))
	}))
	defer served.Close()
	kept := state
	state.Envoy.Admin = served.Listener.Addr().String()
	must(t, k.volume.WriteJSON(k.volume.Task(), state))
	for after, want := range map[time.Duration]Cause{-time.Hour: CertificateExpired, time.Hour: none, time.Minute: CertificateExpiring} {
		if ends = time.Now().Add(after); want == none {
			ends = ends.Add(60 * time.Hour)
		}
		k.expect(t, want, "api")
	}
	must(t, k.volume.WriteJSON(k.volume.Task(), kept))
}

// TestEnvoyInTrouble has faults of Envoy's own way to Consul.
func TestEnvoyInTrouble(t *testing.T) {
	w := newWorld(t, consultest.Start(t))
	grpc := func(port int) string {
		return strings.Replace(plain, `{"tls": false}`, `{"tls": false}, "grpc": {"port": `+strconv.Itoa(port)+`}`, 1)
	}
	t.Run("it does not run", func(t *testing.T) {
		k := w.newTask(t, plain)
		must(t, k.register(t))
		k.leave()
		k.expect(t, EnvoyDown, "19000") // and the application's port, a consequence
	})
	t.Run("it has ended", func(t *testing.T) {
		k := w.newTask(t, plain)
		must(t, k.register(t))
		k.serve(t)
		stop := k.startEnvoy(t)
		k.await(t)
		k.leave()
		k.expect(t, none)
		stop()
		k.expect(t, EnvoyDown, "connection refused")
	})
	t.Run("its listeners are drained", func(t *testing.T) {
		k := w.start(t, plain)
		k.leave()
		k.tellEnvoy(t, "/drain_listeners?inboundonly")
		k.soon(t, ListenerClosed, "connection refused", "/drain_listeners", "replace the task")
	})
	t.Run("nothing is at the xDS port", func(t *testing.T) {
		k := w.newTask(t, grpc(8599))
		must(t, k.register(t))
		k.startEnvoy(t)
		k.serve(t)
		k.leave()
		k.soon(t, XDSUnreachable, "8599: connection refused")
	})
	t.Run("the xDS port is blocked", func(t *testing.T) {
		k := w.newTask(t, grpc(8598))
		must(t, k.register(t))
		deafAt(t, w.consul.Addr, 8598)
		k.startEnvoy(t)
		k.serve(t)
		k.leave()
		k.soon(t, XDSUnreachable, "security group")
	})
	t.Run("what is at the xDS port does not speak", func(t *testing.T) {
		// It accepts nothing, so the kernel holds who connects.
		listener, err := net.Listen("tcp", net.JoinHostPort(w.consul.Addr.String(), "8597"))
		must(t, err)
		defer listener.Close()
		k := w.newTask(t, grpc(8597))
		must(t, k.register(t))
		k.startEnvoy(t)
		k.serve(t)
		k.leave()
		k.soon(t, XDSUnreachable, "accepts connections and does not answer")
	})
	t.Run("what is at the xDS port is no Consul", func(t *testing.T) {
		listener, err := net.Listen("tcp", net.JoinHostPort(w.consul.Addr.String(), "8596"))
		must(t, err)
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		other := &http.Server{Handler: http.NotFoundHandler(), Protocols: protocols}
		go func() { _ = other.Serve(listener) }()
		defer other.Close()
		k := w.newTask(t, grpc(8596))
		must(t, k.register(t))
		k.startEnvoy(t)
		k.serve(t)
		k.leave()
		k.soon(t, EnvoyDisconnected, "it never had an update")
	})
	t.Run("it can't listen where it should", func(t *testing.T) {
		k := w.newTask(t, plain)
		must(t, k.register(t))
		k.serve(t)
		taken, err := net.Listen("tcp", net.JoinHostPort(k.address, "20000"))
		must(t, err)
		defer taken.Close()
		k.startEnvoy(t)
		k.leave()
		k.soon(t, EnvoyRejects, "20000")
	})
}

// TestTheServiceItselfAndItsUpstreams has faults of what the user has written.
func TestTheServiceItselfAndItsUpstreams(t *testing.T) {
	w := newWorld(t, consultest.Start(t))
	t.Run("nothing listens at the port", func(t *testing.T) {
		k := w.newTask(t, plain)
		must(t, k.register(t))
		k.startEnvoy(t)
		k.leave()
		eventually(t, "Envoy", func() error { return k.check(t) })
		k.expect(t, PortClosed, k.address+":8080", "connection refused")
	})
	t.Run("a port that is not the application's", func(t *testing.T) {
		// Its checks pass, and requests still fail.
		k := w.newTask(t, strings.Replace(plain, `"port": 8080`, `"port": 8081, "checks": [{"name": "health", "http": "http://OWN:8080/"}]`, 1))
		k.begin(t)
		k.leave()
		k.expect(t, PortClosed, "8081", "service.port (8081)")
	})
	addInstance(t, w, "payments", api.HealthPassing)
	addInstance(t, w, "orders", api.HealthCritical)
	_, err := w.consul.Client.Catalog().Register(&api.CatalogRegistration{Node: "vm", Address: "127.0.0.8", Service: &api.AgentService{ID: "legacy", Service: "legacy", Port: 1}}, nil)
	must(t, err)
	for name, test := range map[string]struct {
		upstream string
		want     Cause
		found    string
	}{
		"that is well":              {"payments", none, ""},
		"with a name that is wrong": {"payment", UpstreamUnknown, `it has "payments"`},
		"without a healthy task":    {"orders", UpstreamUnhealthy, "1 instances, none passing"},
		"outside of the mesh":       {"legacy", UpstreamUnhealthy, "none of which has a sidecar"},
	} {
		t.Run("an upstream "+name, func(t *testing.T) {
			k := w.start(t, calls(test.upstream))
			k.leave()
			k.expect(t, test.want, test.found)
		})
	}
	for name, resolver := range map[string]*api.ServiceResolverConfigEntry{
		"a subset without a task": {DefaultSubset: "v2", Subsets: map[string]api.ServiceResolverSubset{"v2": {Filter: `Service.Meta.version == "2"`}}},
		"a service that is none":  {Redirect: &api.ServiceResolverRedirect{Service: "nobody"}},
	} {
		t.Run("an upstream whose calls go to "+name, func(t *testing.T) {
			resolver.Kind, resolver.Name = api.ServiceResolver, "payments"
			_, _, err := w.consul.Client.ConfigEntries().Set(resolver, nil)
			must(t, err)
			k := w.start(t, calls("payments"))
			k.leave()
			k.soon(t, UpstreamUnhealthy, "payments", "configuration entries", "service-resolver")
			_, err = w.consul.Client.ConfigEntries().Delete(api.ServiceResolver, "payments", nil)
			must(t, err)
			k.soon(t, none)
		})
	}
	t.Run("an intention that denies", func(t *testing.T) {
		k := w.start(t, calls("payments"))
		k.leave()
		intend := func(intention *api.SourceIntention) {
			t.Helper()
			_, _, err := w.consul.Client.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{Kind: api.ServiceIntentions, Name: "payments", Sources: []*api.SourceIntention{intention}}, nil)
			must(t, err)
		}
		intend(&api.SourceIntention{Name: "api", Action: api.IntentionActionDeny})
		k.expect(t, UpstreamForbidden, "from api to payments")
		_, _, err := w.consul.Client.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "payments", Protocol: "http"}, nil)
		must(t, err)
		intend(&api.SourceIntention{Name: "api", Permissions: []*api.IntentionPermission{{Action: api.IntentionActionAllow, HTTP: &api.IntentionHTTPPermission{PathPrefix: "/"}}}})
		k.expect(t, none)
		intend(&api.SourceIntention{Name: "api", Action: api.IntentionActionAllow})
		k.expect(t, none)
	})
	t.Run("a gateway has neither", func(t *testing.T) {
		k := w.newTask(t, `"consulServers": {"defaults": {"tls": false}}, "gateway": {"kind": "mesh-gateway", "name": "gate"}, "proxy": {"adminBindAddress": "OWN"}`)
		must(t, k.register(t))
		k.startEnvoy(t)
		k.leave()
		k.await(t)
		report := k.expect(t, none)
		for _, section := range report.Sections {
			if section.Name == "application" || section.Name == "upstreams" {
				t.Errorf("it has the section %s: %+v", section.Name, section.Findings)
			}
		}
	})
}
