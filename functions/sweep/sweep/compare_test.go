package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/publisher"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

// fakeLeader answers for servers, by their addresses; one that is not there is
// silent.
type fakeLeader map[string]string

var _ leader = fakeLeader{}

// Leader implements leader.
func (f fakeLeader) Leader(_ context.Context, server netip.Addr) (string, error) {
	leader, ok := f[server.String()]
	if !ok {
		return "", errors.New("no answer within 3s\nof any kind")
	}
	return leader, nil
}

// launch puts a task into ECS, with the containers named.
func (f *fakeECS) launch(arn, last, desired, revision string, containers ...string) {
	f.set(arn, last, desired)
	task := f.tasks[arn]
	task.TaskDefinitionArn = aws.String("arn:aws:ecs:eu-west-1:123456789012:task-definition/" + revision)
	for _, name := range containers {
		task.Containers = append(task.Containers, types.Container{Name: &name})
	}
	f.tasks[arn] = task
}

// enter registers a task an hour ago, with more meta than register.
func (r *realMesh) enter(t *testing.T, arn, address string, meta map[string]string) {
	t.Helper()
	registration := &api.CatalogRegistration{Node: nodeOf(arn), Address: address, NodeMeta: map[string]string{
		mesh.MetaSyntheticNode: "true", mesh.MetaTaskARN: arn, mesh.MetaVPCID: "vpc-1", mesh.MetaFamily: "api", mesh.MetaRevision: "7",
		mesh.MetaRegisteredAt: time.Now().Add(-time.Hour).UTC().Format(time.RFC3339),
	}}
	for key, value := range meta {
		registration.NodeMeta[key] = value
	}
	if _, err := r.client.Catalog().Register(registration, nil); err != nil {
		t.Fatal(err)
	}
}

// Every kind of difference is there once, and among what is all right.
func TestReportOnConsul(t *testing.T) {
	r := newRealMesh(t)
	r.Publisher = &fakePublisher{lists: publisher.Lists{
		Parameter: "/ecsmesh/consul-servers", Published: []netip.Addr{netip.MustParseAddr("10.0.1.2"), netip.MustParseAddr("10.0.1.1")},
		Source: "service consul-server in cluster consul", Current: []netip.Addr{netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("10.0.1.3")},
	}}
	r.Leader = fakeLeader{"10.0.1.1": "10.0.1.1:8300", "10.0.1.3": "10.0.1.1:8300"}

	const inMesh = mesh.InitContainer
	up, stopped, gone, stopping, mistaken := arnOf(apps, 1), arnOf(apps, 2), arnOf(apps, 3), arnOf(apps, 4), arnOf(apps, 5)
	twin, otherVPC, renamed, unreadable := arnOf(apps, 6), arnOf(apps, 7), arnOf(apps, 8), arnOf(apps, 9)
	lost, starting, stranger := arnOf(jobs, 10), arnOf(jobs, 11), arnOf(jobs, 12)
	away := strings.ReplaceAll(arnOf(apps, 13), "eu-west-1", "us-east-1")
	job := arnOf(jobs, 14)
	drained := arnOf(apps, 15)
	for i, arn := range []string{up, stopped, gone, stopping, mistaken, twin, otherVPC, renamed, unreadable, away, job, drained} {
		address, meta := fmt.Sprintf("10.0.12.%d", i+1), map[string]string{}
		switch arn {
		case twin:
			address = "10.0.12.1" // up's
		case otherVPC:
			address, meta[mesh.MetaVPCID] = "10.0.12.1", "vpc-2"
		case unreadable:
			meta[mesh.MetaTaskARN] = "none"
		}
		r.enter(t, arn, address, meta)
	}
	for arn, status := range map[string][2]string{
		up: {"RUNNING", "RUNNING"}, stopped: {"STOPPED", "STOPPED"}, stopping: {"RUNNING", "STOPPED"}, mistaken: {"RUNNING", "RUNNING"},
		twin: {"RUNNING", "RUNNING"}, otherVPC: {"RUNNING", "RUNNING"}, job: {"RUNNING", "RUNNING"}, lost: {"RUNNING", "RUNNING"},
		starting: {"PENDING", "RUNNING"}, drained: {"DEACTIVATING", "STOPPED"},
	} {
		r.ecs.launch(arn, status[0], status[1], "api:7", "app", inMesh)
	}
	r.ecs.launch(renamed, "RUNNING", "RUNNING", "api:8", inMesh)
	r.ecs.launch(stranger, "RUNNING", "RUNNING", "cron:1", "app")
	r.drain(t, mistaken)
	r.drain(t, drained)

	before := indexes(t, r.client)
	r.proxy.take()
	answer, err := r.Serve(t.Context(), json.RawMessage(`{"report": true}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range r.proxy.take() {
		if !strings.HasPrefix(request, "GET ") {
			t.Errorf("it asked Consul for %s", request)
		}
	}
	if diff := cmp.Diff(before, indexes(t, r.client)); diff != "" {
		t.Errorf("the report changed something (-before +after):\n%s", diff)
	}
	report := answer.(Report)
	want := "Of the mesh's 14 tasks in 2 clusters, ECS and Consul differ on 9: 1 running but not registered, 2 dead but registered, " +
		"1 running but drained, 1 stopping but not drained, 2 with the address of another, 1 of another task definition than Consul says, 1 unclear. " +
		"Beside them, the clusters run 1 task. " +
		"The list of Consul's servers is outdated: it has 10.0.1.1, 10.0.1.2, and they are 10.0.1.1, 10.0.1.3; 2 of 3 answer, not 10.0.1.2."
	if report.Summary != want {
		t.Errorf("the summary is\n%s\nwant\n%s", report.Summary, want)
	}
	type found struct {
		Kind        Kind
		ECS, Consul string
	}
	differences := map[string][]found{}
	for _, d := range report.Differences {
		differences[d.Node] = append(differences[d.Node], found{d.Difference, d.ECS, d.Consul})
		if d.Means == "" || d.Next == "" {
			t.Errorf("%+v does not say what it means, or what to do", d)
		}
	}
	const none = "not known: "
	if diff := cmp.Diff(map[string][]found{
		nodeOf(lost):       {{RunningUnregistered, "RUNNING", "absent"}},
		nodeOf(stopped):    {{DeadRegistered, "STOPPED", "registered"}},
		nodeOf(gone):       {{DeadRegistered, "MISSING", "registered"}},
		nodeOf(mistaken):   {{RunningDrained, "RUNNING", "drained"}},
		nodeOf(stopping):   {{StoppingUndrained, "RUNNING, wanted STOPPED", "registered"}},
		nodeOf(up):         {{AddressTwice, "RUNNING", "registered"}},
		nodeOf(twin):       {{AddressTwice, "RUNNING", "registered"}},
		nodeOf(renamed):    {{OtherRevision, "RUNNING", "registered"}},
		nodeOf(unreadable): {{Unclear, none + `parse task ARN "none": want arn:PARTITION:ecs:REGION:ACCOUNT:task/CLUSTER/ID`, "registered"}},
	}, differences); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	lines := map[string]TaskLine{}
	for _, line := range report.Tasks {
		lines["ecs-"+line.Task] = line
	}
	for arn, want := range map[string]TaskLine{
		up:       {Cluster: "apps", Revision: "api:7", ECS: "RUNNING", Consul: "registered", Difference: AddressTwice},
		job:      {Cluster: "jobs", Revision: "api:7", ECS: "RUNNING", Consul: "registered"},
		otherVPC: {Cluster: "apps", Revision: "api:7", ECS: "RUNNING", Consul: "registered"},
		starting: {Cluster: "jobs", Revision: "api:7", ECS: "PENDING, wanted RUNNING", Consul: "absent"},
		drained:  {Cluster: "apps", Revision: "api:7", ECS: "DEACTIVATING, wanted STOPPED", Consul: "drained"},
		away:     {Revision: "api:7", ECS: none + "its task is in Region us-east-1", Consul: "registered"},
	} {
		want.Task = id(arn)
		if diff := cmp.Diff(want, lines[nodeOf(arn)]); diff != "" {
			t.Errorf("the line of %s (-want +got):\n%s", arn, diff)
		}
	}
	if len(lines) != 14 || report.Tasks[0].Difference == "" || report.Tasks[13].Difference != "" {
		t.Errorf("of 14 tasks, those first that differ, there are %d: %+v", len(lines), report.Tasks)
	}
	if text, err := json.Marshal(report); err != nil || !strings.HasPrefix(string(text), `{"summary":"Of the mesh's 14 tasks`) {
		t.Errorf("the answer begins %.60s (%v)", text, err)
	}

	t.Run("after a sweep", func(t *testing.T) {
		if err := r.Handle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		after := r.Report(t.Context(), question{})
		for _, kind := range []string{"dead but", "but drained", "but not drained"} {
			if strings.Contains(after.Summary, kind) {
				t.Errorf("the sweep left something: %s", after.Summary)
			}
		}
	})
}

// report is the fixture's, whose servers are all right.
func (f *fixture) report(t *testing.T, payload string) Report {
	t.Helper()
	one := netip.MustParseAddr("10.0.1.1")
	f.publisher.lists = publisher.Lists{Parameter: "/p", Published: []netip.Addr{one}, Source: "ECS", Current: []netip.Addr{one}}
	f.Leader = fakeLeader{"10.0.1.1": "10.0.1.1:8300"}
	answer, err := f.Serve(t.Context(), json.RawMessage(payload))
	if err != nil {
		t.Fatal(err)
	}
	return answer.(Report)
}

const fineServers = "The list of Consul's servers is right; 1 of 1 answer."

func TestReportOfAMeshThatIsAllRight(t *testing.T) {
	f := newFixture()
	for n := range 5 {
		f.ecs.launch(arnOf(apps, n), "RUNNING", "RUNNING", "api:7", mesh.InitContainer)
		f.register(arnOf(apps, n))
	}
	report := f.report(t, `{"report": true}`)
	if want := "ECS and Consul agree on all of the mesh's 5 tasks in 1 cluster. " + fineServers; report.Summary != want || len(report.Differences) > 0 {
		t.Errorf("got %q, want %q; %+v", report.Summary, want, report.Differences)
	}
	if f.publisher.calls > 0 || len(f.nodes.applied) > 0 || f.metrics.Len() > 0 {
		t.Errorf("a report published %d times, changed %v and counted %s", f.publisher.calls, f.nodes.applied, &f.metrics)
	}
}

// The clusters are known from Consul, and where that has lost all, from who asks.
func TestReportOfAMeshThatConsulLost(t *testing.T) {
	f := newFixture()
	f.ecs.launch(arnOf(apps, 1), "RUNNING", "RUNNING", "api:7", mesh.InitContainer)
	if report := f.report(t, `{"report": true}`); !strings.HasPrefix(report.Summary, "ECS and Consul agree on all of the mesh's 0 tasks in 0 clusters.") {
		t.Errorf("got %q", report.Summary)
	}
	if report := f.report(t, `{"report": true, "clusters": ["`+apps+`"]}`); len(report.Differences) != 1 || report.Differences[0].Difference != RunningUnregistered {
		t.Errorf("got %+v", report.Differences)
	}
	missing := f.report(t, `{"report": true, "clusters": ["`+apps+`x"]}`)
	if len(missing.Unanswered) != 1 || !strings.Contains(missing.Unanswered[0], "there is no such cluster") || !strings.Contains(missing.Summary, "see unanswered, 1 line.") {
		t.Errorf("got %q, %q", missing.Summary, missing.Unanswered)
	}
}

// latecomer is a catalog in which a task registers after it was read once.
type latecomer struct {
	*fakeNodes
	node  catalog.Node
	reads int
}

// Nodes implements nodes.
func (l *latecomer) Nodes(ctx context.Context) ([]catalog.Node, error) {
	l.reads++
	if l.reads == 2 {
		l.nodes = append(l.nodes, l.node)
	}
	return l.fakeNodes.Nodes(ctx)
}

func TestATaskThatRegistersMeanwhileIsNoDifference(t *testing.T) {
	f := newFixture()
	for n := range 2 {
		f.ecs.launch(arnOf(apps, n), "RUNNING", "RUNNING", "api:7", mesh.InitContainer)
	}
	f.register(arnOf(apps, 0))
	f.Nodes = &latecomer{fakeNodes: f.nodes, node: catalog.Node{Name: nodeOf(arnOf(apps, 1)), TaskARN: arnOf(apps, 1), RegisteredAt: f.Now()}}
	report := f.report(t, `{"report": true}`)
	if len(report.Differences) > 0 || len(report.Tasks) != 2 || report.Tasks[1].Consul != "registered" {
		t.Errorf("got %+v", report)
	}
}

func TestReportWithoutConsul(t *testing.T) {
	f := newFixture()
	f.ecs.launch(arnOf(apps, 1), "RUNNING", "RUNNING", "api:7", mesh.InitContainer)
	f.nodes.hidden = fmt.Errorf("list nodes: %w", consul.ErrNoAnswer)
	report := f.report(t, `{"report": true, "clusters": ["`+apps+`"]}`)
	want := "Consul's catalog could not be read, so ECS and Consul are not compared. ECS has 1 task of the mesh in the clusters asked about. " +
		fineServers + " Not all could be read: see unanswered, 1 line."
	if report.Summary != want || len(report.Differences) > 0 || report.Tasks[0].Consul != "not known" {
		t.Errorf("got %q, %+v; want %q", report.Summary, report, want)
	}
}

func TestReportWithoutECS(t *testing.T) {
	f := newFixture()
	f.register(arnOf(apps, 1))
	f.ecs.before = func(int) error { return errors.New("AccessDenied") }
	report := f.report(t, `{"report": true}`)
	if len(report.Differences) != 1 || report.Differences[0].Difference != Unclear || !strings.Contains(strings.Join(report.Unanswered, ""), "AccessDenied") {
		t.Errorf("got %+v", report)
	}
}

// What the sweep would refuse, the report says.
func TestReportKnowsTheBrake(t *testing.T) {
	f := newFixture()
	for n := range 20 {
		f.ecs.launch(arnOf(apps, n), "STOPPED", "STOPPED", "api:7", mesh.InitContainer)
		f.register(arnOf(apps, n))
	}
	for payload, want := range map[string]string{
		`{"report": true}`:                   `the sweep refuses to delete 20 nodes at once, since one run may delete 10; if the tasks are really gone, invoke it once with {"maxDeletes": 20}`,
		`{"report": true, "maxDeletes": 20}`: "the next sweep deletes its node",
	} {
		if got := f.report(t, payload).Differences[0].Next; got != want {
			t.Errorf("%s: got %q, want %q", payload, got, want)
		}
	}
}

// Lambda takes no answer over 6 MB.
func TestALargeReportFits(t *testing.T) {
	v := view{consulKnown: true, now: time.Now()}
	long := strings.Repeat("<é>", 200)
	for n := range 30_000 {
		v.findings = append(v.findings, &finding{
			Node:    catalog.Node{Name: fmt.Sprintf("ecs-%d%s", n, long), TaskARN: long, Revision: long, Address: "10.0.0.1"},
			verdict: leave(UnreadableMeta, "%s", long),
		})
	}
	report := v.report(nil)
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	if kept := len(report.Differences) + len(report.Tasks); len(text) > 6_000_000 || kept < 1000 || report.LeftOut != 90_000-kept {
		t.Errorf("it has %d bytes and %d lines, and left out %d lines", len(text), kept, report.LeftOut)
	}
	if !strings.HasPrefix(report.Summary, "Of the mesh's 30000 tasks in 0 clusters, ECS and Consul differ on 30000: 30000 with the address of another, 30000 unclear.") {
		t.Errorf("the summary is %q", report.Summary)
	}
}

func TestQuestions(t *testing.T) {
	for payload, want := range map[string]string{
		`{"report": "yes"}`:                      `report is "yes", want true or false`,
		`{"report": true, "clusters": "apps"}`:   `clusters is "apps", want a list`,
		`{"report": true, "clusters": ["apps"]}`: `clusters[0] is "apps", want the ARN of an ECS cluster`,
		`{"report": true, "maxDeletes": -1}`:     `maxDeletes is -1, want a whole number`,
	} {
		f := newFixture()
		if _, err := f.Serve(t.Context(), json.RawMessage(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", payload, err, want)
		}
	}
	for _, payload := range []string{``, `{}`, `{"report": false}`, `{"source": "ecsmesh.schedule"}`} {
		f := newFixture()
		if answer, err := f.Serve(t.Context(), json.RawMessage(payload)); err != nil || answer != nil || f.publisher.calls != 1 {
			t.Errorf("%s is no sweep: %v, %v", payload, answer, err)
		}
	}
}

func TestServersReport(t *testing.T) {
	addrs := func(texts ...string) (list []netip.Addr) {
		for _, text := range texts {
			list = append(list, netip.MustParseAddr(text))
		}
		return list
	}
	for name, test := range map[string]struct {
		lists  publisher.Lists
		leader fakeLeader
		want   string
	}{
		"nothing published":   {publisher.Lists{Current: addrs("10.0.0.1")}, fakeLeader{"10.0.0.1": "a"}, "No list of Consul's servers is published; 1 of 1 answer."},
		"none usable":         {publisher.Lists{Published: addrs("10.0.0.1")}, nil, "None of Consul's servers is usable, and the last list of them stays; 0 of 1 answer, not 10.0.0.1."},
		"SSM does not answer": {publisher.Lists{Current: addrs("10.0.0.1"), PublishedError: errors.New("throttled")}, fakeLeader{"10.0.0.1": "a"}, "The list of Consul's servers could not be compared with who they are; 1 of 1 answer."},
		"two clusters":        {publisher.Lists{Published: addrs("10.0.0.1", "10.0.0.2"), Current: addrs("10.0.0.2", "10.0.0.1")}, fakeLeader{"10.0.0.1": "a", "10.0.0.2": "b"}, "The list of Consul's servers is right; 2 of 2 answer, and they name 2 leaders: a, b."},
	} {
		f := newFixture()
		f.publisher.lists, f.Leader = test.lists, test.leader
		if report := f.Report(t.Context(), question{}); report.Servers.Summary != test.want || !strings.Contains(report.Summary, test.want) {
			t.Errorf("%s: got %q, want %q", name, report.Servers.Summary, test.want)
		}
	}
}
