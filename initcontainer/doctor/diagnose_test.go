package doctor

import (
	"errors"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/doctor/facts"
	"ecsmesh/initcontainer/envoy/admin"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
)

var now = time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)

// well are the facts of a task that nothing is wrong with.
func well() facts.Facts {
	const node, id = "ecs-1", "api-1"
	service := api.CatalogRegistration{Node: node, Service: &api.AgentService{ID: id, Service: "api", Port: 8080}, Checks: api.HealthChecks{{CheckID: "health", Name: "health"}}}
	sidecar := api.CatalogRegistration{Node: node, NodeMeta: map[string]string{mesh.MetaRegisteredAt: now.Add(-time.Hour).Format(time.RFC3339)},
		Service: &api.AgentService{ID: id + "-p", Service: "api-sidecar-proxy", Kind: api.ServiceKindConnectProxy, Proxy: &api.AgentServiceConnectProxyConfig{}},
		Checks:  api.HealthChecks{{CheckID: "envoy", Name: "Envoy"}}}
	port := func(number string) facts.Port { return facts.Port{Address: "10.0.0.1:" + number, Connected: true} }
	http1 := port("8501")
	http1.Status, http1.Leader, http1.Date = http.StatusOK, "10.0.0.1:8300", now
	return facts.Facts{
		Now:      now,
		Metadata: facts.Metadata{Container: "app", Task: taskmeta.Task{ARN: mesh.TaskARN{ID: "1"}, DesiredStatus: "RUNNING"}, Address: netip.MustParseAddr("10.0.1.5")},
		Volume:   facts.Volume{Path: "/ecsmesh", Free: 1 << 30, Size: 2 << 30, Files: 10, FreeFiles: 5, StateOpen: true},
		State: facts.State{
			Task:   &check.Task{Registration: registration.Registration{Service: service, Sidecar: sidecar}, Token: &check.Token{}},
			Memory: check.Memory{LookAt: now.Add(time.Minute), RenewAt: now.Add(30 * time.Minute), ToldAt: now.Add(-time.Minute)},
		},
		Servers: facts.Servers{
			Parameter: &facts.Parameter{Name: "/servers", Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
			Addrs:     []netip.Addr{netip.MustParseAddr("10.0.0.1")}, HTTPPort: 8501, GRPCPort: 8503, TLS: true, XDS: true,
			HTTP: []facts.Port{http1}, GRPC: []facts.Port{port("8503")},
		},
		Token: facts.Token{Wanted: true, Held: true, Asked: true, Services: []string{"api"}, Source: facts.TokenSource{Method: "tasks"},
			Rights: []facts.Right{{Resource: "service", Access: "write", Segment: "api", Allowed: true}, {Resource: "node", Access: "write", Segment: node, Allowed: true}}},
		Registration: facts.Registration{Asked: true, Found: registration.Found{Node: &api.Node{Node: node},
			Checks: api.HealthChecks{{CheckID: "health", Status: api.HealthPassing}, {CheckID: "envoy", Status: api.HealthPassing}}}, Roots: []string{"7"}},
		Upstreams: []facts.Upstream{{Name: "web", Instances: 2, Passing: 1, Allowed: true}},
		Envoy: &facts.Envoy{Admin: "127.0.0.1:19000", PublicListener: "10.0.1.5:20000", State: admin.State{
			Version: "1.40.0", State: admin.Live, Clusters: []admin.Cluster{{Name: serversCluster, Hosts: 1, Healthy: 1}},
			Stream:       admin.Stream{Known: true, Connected: true, Updated: now},
			Certificates: []admin.Certificate{{Serial: "1a", From: now.Add(-36 * time.Hour), Until: now.Add(36 * time.Hour)}, {Authority: true, Serial: "07"}},
		}},
		Application: facts.Application{Port: "127.0.0.1:8080", Results: []check.Result{{CheckID: "health", Name: "health", Status: api.HealthPassing}}},
	}
}

// all is everything at once that follows from servers that can't be reached.
func unreachable(f *facts.Facts) {
	f.Servers.HTTP[0] = facts.Port{Address: "10.0.0.1:8501", Err: syscall.ECONNREFUSED}
	f.Servers.GRPC[0] = facts.Port{Address: "10.0.0.1:8503", Err: syscall.ECONNREFUSED}
	f.Token = facts.Token{}
	f.Registration = facts.Registration{}
	f.Upstreams = nil
	f.Envoy.State.Stream.Connected = false
	f.Envoy.State.Certificates[0].Until = now.Add(-time.Hour)
	f.State.Memory.RenewAt = now.Add(-time.Hour)
}

func gone(f *facts.Facts) { f.State = facts.State{Missing: true, Err: fs.ErrNotExist} }

// down is an Envoy that has ended, with what follows from that.
func down(f *facts.Facts) {
	f.Envoy.Err, f.Envoy.ListenerErr, f.Envoy.State = syscall.ECONNREFUSED, syscall.ECONNREFUSED, admin.State{}
	critical(f)
	f.State.Memory.LookAt = now.Add(-time.Hour)
}

// critical is what Consul says of a task that doesn't work.
func critical(f *facts.Facts) {
	for _, check := range f.Registration.Found.Checks {
		check.Status = api.HealthCritical
	}
}

// closed is an application that doesn't listen.
func closed(f *facts.Facts) {
	f.Application.PortErr = syscall.ECONNREFUSED
	f.Application.Results[0].Status = api.HealthCritical
	critical(f)
}

// TestCausesComeBeforeWhatFollows plants a fault with all that follows from it,
// and several at once.
func TestCausesComeBeforeWhatFollows(t *testing.T) {
	forbidden := api.StatusError{Code: http.StatusForbidden, Body: "ACL not found"}
	for name, test := range map[string]struct {
		plant []func(*facts.Facts)
		want  Cause
	}{
		"nothing":               {nil, none},
		"an address is missing": {[]func(*facts.Facts){gone, func(f *facts.Facts) { f.Metadata.AddrErr = errors.New("bridge") }}, AddressMissing},
		"stopping, and so drained and out of the catalog": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Metadata.Task.DesiredStatus, f.Registration.Gone = "STOPPED", true
		}, down}, TaskStopping},
		"a volume that is not there": {[]func(*facts.Facts){gone, down, func(f *facts.Facts) { f.Volume.Err = fs.ErrNotExist }}, VolumeMissing},
		"a full volume, and so an old token": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Volume.Free, f.Token.AskErr = 0, forbidden
			f.Token.Rights, f.Envoy.State.Stream.Connected = nil, false
		}}, VolumeFull},
		"Envoy's own container can't write": {[]func(*facts.Facts){func(f *facts.Facts) { f.Volume.ReadOnly, f.Metadata.Container = true, "envoy" }}, VolumeUnwritable},
		"an application's container can't":  {[]func(*facts.Facts){func(f *facts.Facts) { f.Volume.ReadOnly = true }}, none},
		"no server, and all that follows":   {[]func(*facts.Facts){unreachable, closed}, ServersUnreachable},
		"a dead list, and no server":        {[]func(*facts.Facts){unreachable, func(f *facts.Facts) { f.Servers.Parameter.Err = errors.New("no list") }}, ListUnusable},
		"a dead list alone":                 {[]func(*facts.Facts){func(f *facts.Facts) { f.Servers.Parameter.Err = errors.New("no list") }}, ListUnusable},
		"a dead list, and no application":   {[]func(*facts.Facts){closed, func(f *facts.Facts) { f.Servers.Parameter.Err = errors.New("no list") }}, PortClosed},
		"one server of two": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Servers.HTTP = append(f.Servers.HTTP, facts.Port{Err: syscall.ECONNREFUSED})
			f.Servers.GRPC = append(f.Servers.GRPC, facts.Port{Err: syscall.ECONNREFUSED})
		}}, none},
		"no leader": {[]func(*facts.Facts){func(f *facts.Facts) { f.Servers.HTTP[0].Leader = "" }}, LeaderMissing},
		"no quorum": {[]func(*facts.Facts){func(f *facts.Facts) { f.Servers.HTTP[0].Status = 500; f.Registration = facts.Registration{} }}, LeaderMissing},
		"a clock that is one server's": {[]func(*facts.Facts){func(f *facts.Facts) {
			other := f.Servers.HTTP[0]
			other.Date = now.Add(-time.Hour)
			f.Servers.HTTP = append(f.Servers.HTTP, other)
		}}, none},
		"a login that AWS doesn't answer": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Token.AskErr, f.Token.Login = forbidden, &facts.Login{Err: consul.ErrNoAnswer}
		}}, LoginFails},
		"a token that is lost, and Envoy's stream": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Token.AskErr, f.Token.Rights, f.Envoy.State.Stream.Connected = forbidden, nil, false
		}}, TokenUnknown},
		"a token that nobody may see": {[]func(*facts.Facts){func(f *facts.Facts) { f.Token = facts.Token{Wanted: true, Err: fs.ErrPermission} }}, none},
		"another service's token, and no task": {[]func(*facts.Facts){gone, down, func(f *facts.Facts) {
			f.Token.Services, f.Token.Rights[0].Allowed = []string{"web"}, false
		}}, OtherService},
		"the blocked xDS port, and Envoy waits": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Servers.GRPC[0] = facts.Port{Err: syscall.ECONNREFUSED}
			f.Envoy.State.State, f.Envoy.State.Stream = "INITIALIZING", admin.Stream{Known: true}
			f.Envoy.ListenerErr = syscall.ECONNREFUSED
		}, closed}, XDSUnreachable},
		"Envoy is down, and the application waits": {[]func(*facts.Facts){down, closed}, EnvoyDown},
		"Envoy is old":                 {[]func(*facts.Facts){func(f *facts.Facts) { f.Envoy.State.Version, f.Envoy.State.Stream.Connected = "1.33.2", false }}, EnvoyTooOld},
		"consul-dataplane's is old":    {[]func(*facts.Facts){func(f *facts.Facts) { f.Envoy.State.Version, f.Envoy.State.Clusters = "1.29.0", nil }}, none},
		"Envoy waits":                  {[]func(*facts.Facts){func(f *facts.Facts) { f.Envoy.State.State = "INITIALIZING" }, critical}, EnvoyWaits},
		"Envoy's listener is not open": {[]func(*facts.Facts){func(f *facts.Facts) { f.Envoy.ListenerErr = syscall.ECONNREFUSED }, critical}, ListenerClosed},
		"another authority":            {[]func(*facts.Facts){func(f *facts.Facts) { f.Registration.Roots = []string{"8"} }}, RootReplaced},
		"a leaf that is about to end, without a stream": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Envoy.State.Stream.Connected, f.Envoy.State.Certificates[0].Until = false, now.Add(time.Minute)
		}}, EnvoyDisconnected},
		"a drain, and no application": {[]func(*facts.Facts){closed, func(f *facts.Facts) {
			f.Registration.Found.Checks = append(f.Registration.Found.Checks, &api.HealthCheck{CheckID: mesh.LifecycleCheckID, Status: api.HealthCritical})
		}}, Drained},
		"Consul was not told": {[]func(*facts.Facts){critical}, ConsulUntold},
		"nobody looks":        {[]func(*facts.Facts){critical, func(f *facts.Facts) { f.State.Memory.LookAt = now.Add(-time.Hour) }}, HealthCheckIdle},
		"nobody ever looked":  {[]func(*facts.Facts){critical, func(f *facts.Facts) { f.State.Memory = check.Memory{} }}, HealthCheckIdle},
		"an upstream of a peer that is not there": {[]func(*facts.Facts){func(f *facts.Facts) {
			f.Upstreams[0].Elsewhere = "peer east"
			f.Envoy.State.Clusters = append(f.Envoy.State.Clusters, admin.Cluster{Name: "web.default.east.external.x.consul", Hosts: 0})
		}}, UpstreamUnhealthy},
		"an upstream that entries redirect":       {[]func(*facts.Facts){func(f *facts.Facts) { f.Upstreams[0] = facts.Upstream{Name: "web", Configured: true, Allowed: true} }}, none},
		"… to where no intention of that name is": {[]func(*facts.Facts){func(f *facts.Facts) { f.Upstreams[0] = facts.Upstream{Name: "web", Configured: true} }}, none},
		"a neighbour in another VPC":              {[]func(*facts.Facts){func(f *facts.Facts) { f.Registration.Neighbours = []facts.Neighbour{{Node: "ecs-2", Distant: true}} }}, none},
		"an invalid configuration":                {[]func(*facts.Facts){gone, down, func(f *facts.Facts) { f.Configuration = facts.Configuration{Given: true, Err: &config.InvalidError{}} }}, ConfigurationInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			for _, plant := range test.plant {
				plant(&f)
			}
			report := Diagnose(f)
			if got, _ := report.Cause(); got != test.want {
				var text strings.Builder
				must(t, report.WriteText(&text))
				t.Errorf("got %q, want %q:\n%s", words[got], words[test.want], &text)
			}
		})
	}
}

// TestNothingToGoBy has a container that knows nothing, and one that may not look.
func TestNothingToGoBy(t *testing.T) {
	f := well()
	f.State = facts.State{Err: fs.ErrPermission}
	f.Servers, f.Token, f.Registration, f.Envoy, f.Upstreams = facts.Servers{}, facts.Token{}, facts.Registration{}, nil, nil
	if report := Diagnose(f); report.State != Unknown {
		var text strings.Builder
		must(t, report.WriteText(&text))
		t.Errorf("it is %s:\n%s", report.State, &text)
	}
	if report := Diagnose(facts.Facts{}); len(report.Sections) == 0 {
		t.Error("there are no sections")
	}
}

// TestTheRunbookHasEveryCause looks for a section in the very words.
func TestTheRunbookHasEveryCause(t *testing.T) {
	root, err := tools.Root()
	must(t, err)
	files, err := filepath.Glob(filepath.Join(root, "docs", "runbook*.md"))
	must(t, err)
	headings := map[string]int{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		for line := range strings.Lines(string(content)) {
			if strings.HasPrefix(line, "#") {
				headings[strings.TrimSpace(strings.TrimLeft(line, "#"))]++
			}
		}
	}
	seen := map[string]bool{}
	for cause := none + 1; cause < causes; cause++ {
		switch text := cause.String(); {
		case text == "" || seen[text]:
			t.Errorf("the cause %d has no words of its own", cause)
		case headings[heading(text)] != 1:
			t.Errorf("the runbook has %d sections %q", headings[heading(text)], heading(text))
		}
		seen[cause.String()] = true
	}
}

func TestAbout(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1500 * time.Millisecond: "2s", 61 * time.Second: "1m1s", 3*time.Hour + 25*time.Minute + 9*time.Second: "3h25m", 50 * time.Hour: "2 days",
	} {
		if got := about(d); got != want {
			t.Errorf("%s is about %q, want %q", d, got, want)
		}
	}
}
