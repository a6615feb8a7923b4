package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/functiontest"
	"ecsmesh/functions/deployment-hook/hook"
	"ecsmesh/shared/mesh"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

const (
	cluster = "apps"

	// rules are those that setup-acl gives this function, with one service of
	// which traffic may be shifted.
	rules = `node_prefix "ecs-" { policy = "read" }
service_prefix "" { policy = "read" }
service "api" { policy = "write" intentions = "deny" }
`
)

// world is a service api in ECS, of which revision 1 runs and 2 comes, and Consul.
type world struct {
	*functiontest.World
	t           *testing.T
	ecs         *ecs.Fake
	service     *ecs.Service
	blue, green ecs.ServiceRevision
	deployment  ecs.ServiceDeployment
	time        time.Duration // of an invocation
	handle      func(context.Context, json.RawMessage) (hook.Answer, error)
}

// definition is a task's in the mesh, with shell scripts for containers.
func definition(revision int, init string) ecs.TaskDefinition {
	no := false
	return ecs.TaskDefinition{
		ARN:    definitionARN(revision),
		Family: "api", Revision: revision, NetworkMode: "awsvpc",
		Containers: []ecs.ContainerDefinition{
			{Name: init, Image: "shell", Command: []string{"true"}, Essential: &no},
			{Name: "api", Image: "shell", Command: []string{"trap 'exit 0' TERM; while :; do sleep 0.05; done"}},
		},
	}
}

func definitionARN(revision int) string {
	return fmt.Sprintf("arn:aws:ecs:%s:%s:task-definition/api:%d", emulator.Region, emulator.AccountID, revision)
}

func start(t *testing.T, rules string) *world {
	t.Helper()
	fake, err := ecs.Start(ecs.Options{
		Dir: t.TempDir(), Region: emulator.Region, Account: emulator.AccountID,
		Images: map[string]ecs.Image{"shell": {Entrypoint: []string{"/bin/sh", "-c"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fake.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{World: functiontest.Start(t, rules, fake.URL()), t: t, ecs: fake, time: 30 * time.Second}
	w.service = fake.CreateService(ecs.ServiceOptions{Name: "api", Cluster: cluster, LaunchType: ecs.LaunchTypeFargate})
	w.blue = w.service.NewRevision(definitionARN(1))
	w.launch(1, mesh.InitContainer)
	w.green = w.service.NewRevision(definitionARN(2))
	w.deployment = w.service.Deploy(w.green, 2, w.blue)
	w.Variables["DEPLOYMENT_HOOK_SERVICES"] = "api,ledger"
	w.Variables["DEPLOYMENT_HOOK_LIMIT_MINUTES"] = "1"
	w.handle = functiontest.Handler(t, w.World, wire)
	return w
}

// launch runs a task of a revision, and returns its ID when it is RUNNING.
func (w *world) launch(revision int, init string) string {
	w.t.Helper()
	task, err := w.ecs.RunTask(definition(revision, init), ecs.TaskOptions{Cluster: cluster, Group: "service:api", LaunchType: ecs.LaunchTypeFargate})
	if err == nil {
		task, err = w.ecs.Wait(w.t.Context(), task.TaskARN, ecs.Task.Running)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return task.ID()
}

// register has a task in Consul as ecsmesh-init does, with checks of a status.
func (w *world) register(id, status string) {
	w.t.Helper()
	service, proxy := mesh.ServiceID("api", id), mesh.ProxyID(mesh.ServiceID("api", id))
	for _, registration := range []*api.CatalogRegistration{
		{
			Service: &api.AgentService{ID: service, Service: "api", Port: 8080},
			Checks:  api.HealthChecks{{Node: mesh.NodeName(id), CheckID: mesh.CheckID(service, "tcp"), Name: "tcp", ServiceID: service, Status: status, Output: "connection refused"}},
		},
		{
			Service: &api.AgentService{
				Kind: api.ServiceKindConnectProxy, ID: proxy, Service: mesh.ProxyService("api"), Port: 20000,
				Proxy: &api.AgentServiceConnectProxyConfig{DestinationServiceName: "api", DestinationServiceID: service},
			},
			Checks: api.HealthChecks{{Node: mesh.NodeName(id), CheckID: mesh.EnvoyCheckID(proxy), Name: "Envoy", ServiceID: proxy, Status: status}},
		},
	} {
		registration.Node, registration.Address = mesh.NodeName(id), "10.0.0.1"
		registration.NodeMeta = map[string]string{mesh.MetaSyntheticNode: "true"}
		if _, err := w.Consul.Client.Catalog().Register(registration, nil); err != nil {
			w.t.Fatal(err)
		}
	}
}

// ask invokes the function, and wants an answer for a reason.
func (w *world) ask(event json.RawMessage, want hook.Status, reason string) hook.Answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), w.time)
	defer cancel()
	answer, err := w.handle(ctx, event)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := fmt.Sprint(answer.Details["ecsmesh-reason"]); answer.Status != want || !strings.Contains(got, reason) {
		w.t.Fatalf("got %s because %s; want %s because %s\n%s", answer.Status, got, want, reason, w.Log)
	}
	return answer
}

func (w *world) event(stage string, details map[string]any) json.RawMessage {
	return w.deployment.HookEvent(stage, nil, details)
}

// TestADeploymentWaitsForConsul goes from the scaled-up service to the passing one.
func TestADeploymentWaitsForConsul(t *testing.T) {
	w := start(t, rules)
	w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "ECS has 0 of 2 tasks")
	first := w.launch(2, mesh.InitContainer)
	w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "ECS has 1 of 2 tasks; task "+first+" is not registered in Consul")
	second := w.launch(2, mesh.InitContainer)
	w.register(first, api.HealthPassing)
	w.register(second, api.HealthCritical)
	waits := w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "task "+second+": the check api-"+second+"-tcp is critical: connection refused")
	// Nobody asks for the task from before, which is not even registered.
	w.register(second, api.HealthPassing)
	for range 2 {
		w.ask(w.event(hook.PostScaleUp, waits.Details), hook.Succeeded, "2 tasks pass in Consul")
	}
	// One that is drained doesn't pass.
	drain := &api.AgentCheck{Node: mesh.NodeName(first), CheckID: mesh.LifecycleCheckID, Name: "it stops", Status: api.HealthCritical}
	if _, err := w.Consul.Client.Catalog().Register(&api.CatalogRegistration{Node: drain.Node, Address: "10.0.0.1", SkipNodeUpdate: true, Check: drain}, nil); err != nil {
		t.Fatal(err)
	}
	w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "the check ecsmesh-lifecycle is critical")
}

// TestAForcedDeploymentHasTasksOfItsOwn has a revision with the task definition of
// the one from before, whose task is no task of it.
func TestAForcedDeploymentHasTasksOfItsOwn(t *testing.T) {
	w := start(t, rules)
	w.deployment = w.service.Deploy(w.service.NewRevision(definitionARN(1)), 1, w.blue)
	w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "ECS has 0 of 1 tasks")
	w.register(w.launch(1, mesh.InitContainer), api.HealthPassing)
	w.ask(w.event(hook.PostScaleUp, nil), hook.Succeeded, "1 tasks pass in Consul")
}

func TestADeploymentWithoutTheMeshGoesOn(t *testing.T) {
	w := start(t, rules)
	w.deployment = w.service.Deploy(w.green, 0, w.blue)
	w.ask(w.event(hook.PostScaleUp, nil), hook.Succeeded, "is to have no tasks")
	w.deployment = w.service.Deploy(w.green, 1, w.blue)
	w.launch(2, "setup")
	w.ask(w.event(hook.PostScaleUp, nil), hook.Succeeded, "none of the new revision's 1 tasks is in the mesh")
}

// TestWaitingEndsInTime is asked again two minutes after the first time.
func TestWaitingEndsInTime(t *testing.T) {
	w := start(t, rules)
	id := w.launch(2, mesh.InitContainer)
	w.deployment = w.service.Deploy(w.green, 1, w.blue)
	waits := w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "not registered")
	for key := range waits.Details {
		if strings.HasPrefix(key, "ecsmesh-since-") {
			waits.Details[key] = time.Now().Add(-2 * time.Minute).Format(time.RFC3339)
		}
	}
	w.ask(w.event(hook.PostScaleUp, waits.Details), hook.Failed, ": task "+id+" is not registered in Consul")
	if !strings.Contains(w.Log.String(), `"reason":"it waited for 2m`) {
		t.Errorf("the log has no reason:\n%s", w.Log)
	}
}

func TestConsulAwayIsWaitedFor(t *testing.T) {
	w := start(t, rules)
	id := w.launch(2, mesh.InitContainer)
	w.deployment = w.service.Deploy(w.green, 1, w.blue)
	w.register(id, api.HealthPassing)
	w.ask(w.event(hook.PostScaleUp, nil), hook.Succeeded, "1 tasks pass")
	w.Consul.Freeze()
	t.Cleanup(w.Consul.Unfreeze)
	w.time = 8 * time.Second
	waits := w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "no Consul server answered in time")
	for key := range waits.Details {
		if strings.HasPrefix(key, "ecsmesh-since-") {
			waits.Details[key] = time.Now().Add(-2 * time.Minute).Format(time.RFC3339)
		}
	}
	w.ask(w.event(hook.PostScaleUp, waits.Details), hook.Failed, "no Consul server answered in time")
}

func TestWithoutRightsThereIsNothingToWaitFor(t *testing.T) {
	for name, test := range map[string]struct{ rules, reason string }{
		"none at all": {`key "a" { policy = "read" }`, "hidden by Consul's ACLs"},
		"no nodes":    {`service_prefix "" { policy = "read" }`, "hidden by Consul's ACLs"},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, test.rules)
			id := w.launch(2, mesh.InitContainer)
			w.deployment = w.service.Deploy(w.green, 1, w.blue)
			w.register(id, api.HealthPassing)
			w.ask(w.event(hook.PostScaleUp, nil), hook.Failed, test.reason)
		})
	}
}

// TestWhatECSSays has it refuse for good, and only for now.
func TestWhatECSSays(t *testing.T) {
	w := start(t, rules)
	for _, test := range []struct {
		fault  ecs.Fault
		want   hook.Status
		reason string
	}{
		{ecs.Fault{Action: "DescribeServiceDeployments", Code: "AccessDeniedException", Message: "not authorized"}, hook.Failed, "not authorized"},
		{ecs.Fault{Action: "DescribeServiceRevisions", Code: "AccessDeniedException", Message: "not authorized"}, hook.Failed, "not authorized"},
		{ecs.Fault{Action: "ListTasks", Code: "ServiceNotFoundException", Message: "Service not found."}, hook.Failed, "list the tasks of service api in cluster apps"},
		{ecs.Fault{Action: "ListTasks", Code: "ClusterNotFoundException", Message: "Cluster not found."}, hook.Failed, "Cluster not found."},
		{ecs.Fault{Action: "DescribeTasks", Status: 500, Code: "ServerException", Message: "Service Unavailable"}, hook.InProgress, "describe 1 tasks"},
	} {
		t.Run(test.fault.Action+" "+test.fault.Code, func(t *testing.T) {
			if test.fault.Status == 0 {
				test.fault.Status = 400
			}
			w.ecs.Fail(test.fault)
			defer w.ecs.ClearFaults()
			w.t = t
			w.ask(w.event(hook.PostScaleUp, nil), test.want, test.reason)
		})
	}
	w.t = t
	w.deployment.ARN += "x"
	w.ask(w.event(hook.PostScaleUp, nil), hook.InProgress, "ECS doesn't know it: MISSING")
}

// splits are percent of api's requests by the revision of their tasks.
func (w *world) splits() map[string]float32 {
	w.t.Helper()
	entry, _, err := w.Consul.Client.ConfigEntries().Get(api.ServiceSplitter, "api", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	splits := map[string]float32{}
	for _, split := range entry.(*api.ServiceSplitterConfigEntry).Splits {
		if split.Weight > 0 {
			splits[strings.TrimPrefix(split.ServiceSubset, "revision-")] = split.Weight
		}
	}
	return splits
}

func lastPart(revision ecs.ServiceRevision) string {
	return revision.ARN[strings.LastIndexByte(revision.ARN, '/')+1:]
}

// age has all Envoys know of the splitter of api for long.
func (w *world) age() {
	w.t.Helper()
	entry, _, err := w.Consul.Client.ConfigEntries().Get(api.ServiceSplitter, "api", nil)
	if err == nil {
		entry.GetMeta()["introduced"] = time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
		_, _, err = w.Consul.Client.ConfigEntries().Set(entry, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestTrafficIsShiftedAndComesBack plays a deployment's stages, each twice, and one
// after its time.
func TestTrafficIsShiftedAndComesBack(t *testing.T) {
	w := start(t, rules)
	service := map[string]any{"service": "api"}
	if _, _, err := w.Consul.Client.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "api", Protocol: "tcp"}, nil); err != nil {
		t.Fatal(err)
	}
	w.ask(w.event(hook.PreScaleUp, service), hook.Failed, "the service api speaks tcp")
	if _, _, err := w.Consul.Client.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "api", Protocol: "http"}, nil); err != nil {
		t.Fatal(err)
	}
	w.ask(w.event(hook.PreScaleUp, service), hook.InProgress, "it is the service's first splitter: until ")
	if diff := cmp.Diff(map[string]float32{"": 100}, w.splits()); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	w.age()
	w.ask(w.event(hook.PreScaleUp, service), hook.InProgress, "the Envoys learn of it before there are new tasks")
	blue, green := lastPart(w.blue), lastPart(w.green)
	weights := func(blue, green float64) map[string]float64 {
		return map[string]float64{w.blue.ARN: blue, w.green.ARN: green}
	}
	forth, half, back := weights(0, 100), weights(50, 50), weights(100, 0)
	for _, step := range []struct {
		what  string
		event json.RawMessage
		want  map[string]float32
	}{
		{"before the scale-up", w.event(hook.PreScaleUp, service), map[string]float32{blue: 100}},
		{"a step", w.deployment.HookEvent(hook.ProductionTrafficShift, half, service), map[string]float32{blue: 50, green: 50}},
		{"the shift", w.deployment.HookEvent(hook.ProductionTrafficShift, forth, service), map[string]float32{green: 100}},
		{"the rollback", w.deployment.HookEvent(hook.ProductionTrafficShift, back, service), map[string]float32{blue: 100}},
		{"the shift without one before", w.deployment.HookEvent(hook.ProductionTrafficShift, forth, service), map[string]float32{green: 100}},
		{"a rollback of which ECS gives no weights", nil, map[string]float32{blue: 100}},
	} {
		if step.event == nil {
			w.deployment.Status = "ROLLBACK_IN_PROGRESS"
			w.ecs.SetDeployment(w.deployment)
			step.event = w.event(hook.ProductionTrafficShift, service)
		}
		for range 2 {
			w.ask(step.event, hook.Succeeded, "the traffic of api: ")
			if diff := cmp.Diff(step.want, w.splits()); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", step.what, diff)
			}
		}
	}

	// What another changes is left alone, with a word.
	entry, _, err := w.Consul.Client.ConfigEntries().Get(api.ServiceSplitter, "api", nil)
	if err != nil {
		t.Fatal(err)
	}
	theirs := entry.(*api.ServiceSplitterConfigEntry)
	theirs.Meta = nil
	if _, _, err := w.Consul.Client.ConfigEntries().Set(theirs, nil); err != nil {
		t.Fatal(err)
	}
	w.ask(w.deployment.HookEvent(hook.ProductionTrafficShift, forth, service), hook.Failed, "it is not this function's")
	if diff := cmp.Diff(map[string]float32{blue: 100}, w.splits()); diff != "" {
		t.Errorf("the other's (-want +got):\n%s", diff)
	}
}

// TestOnlyTheServicesThatAreNamedMayBeShifted has two named to the function, and
// one to Consul.
func TestOnlyTheServicesThatAreNamedMayBeShifted(t *testing.T) {
	w := start(t, rules)
	if _, _, err := w.Consul.Client.ConfigEntries().Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "ledger", Protocol: "http"}, nil); err != nil {
		t.Fatal(err)
	}
	w.ask(w.event(hook.PreScaleUp, map[string]any{"service": "web"}), hook.Failed, `hookDetails has the service "web"`)
	w.ask(w.event(hook.ProductionTrafficShift, map[string]any{"service": "ledger"}), hook.Failed, "Permission denied")
}

// TestADryRunWritesNothing goes through all stages, with a Consul that has nothing
// of this function's yet, and one that has.
func TestADryRunWritesNothing(t *testing.T) {
	w := start(t, rules)
	live := w.handle
	w.Variables["DRY_RUN"] = "true"
	dry := functiontest.Handler(t, w.World, wire)
	service := map[string]any{"service": "api"}
	entries := w.Consul.Client.ConfigEntries()
	if _, _, err := entries.Set(&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "api", Protocol: "http"}, nil); err != nil {
		t.Fatal(err)
	}
	w.register(w.launch(2, mesh.InitContainer), api.HealthPassing)
	shift := w.deployment.HookEvent(hook.ProductionTrafficShift, map[string]float64{w.blue.ARN: 0, w.green.ARN: 100}, service)
	blue, green := "revision-"+lastPart(w.blue), "revision-"+lastPart(w.green)

	// plan asks twice, and returns how the splitter and the resolver would be, and
	// what ECS would get.
	plan := func(event json.RawMessage) (would []string) {
		t.Helper()
		w.handle = dry
		before := w.indexes()
		for range 2 {
			w.ask(event, hook.Succeeded, "dry run; it would have been ")
			document := w.Plan.Take()
			if len(document.CouldNotRead) > 0 {
				t.Errorf("it could not read %v", document.CouldNotRead)
			}
			would = nil
			for _, step := range document.Would {
				would = append(would, fmt.Sprintf("%s %s: %v", step.Action, step.What, step.Detail))
			}
			if got, want := len(document.Requests), len(would)-1; got != want { // all but the answer
				t.Errorf("the plan has %d requests, want %d: %s", got, want, document.Requests)
			}
			for _, request := range document.Requests {
				if request.Request != "PUT /v1/config" || !strings.Contains(string(request.Body), `"Name":"api"`) {
					t.Errorf("the plan has %s %s", request.Request, request.Body)
				}
			}
		}
		if diff := cmp.Diff(before, w.indexes()); diff != "" {
			t.Errorf("Consul's indexes (-before +after):\n%s", diff)
		}
		w.handle = live
		return would
	}
	expect := func(event json.RawMessage, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, plan(event)); diff != "" {
			t.Errorf("the plan (-want +got):\n%s", diff)
		}
	}
	filter := func(revision int) string {
		return fmt.Sprintf(`Node.Meta["ecsmesh-family"] == "api" and Node.Meta["ecsmesh-revision"] == "%d"`, revision)
	}
	resolver := fmt.Sprintf("write Consul's service-resolver api: %v", map[string]string{"any-revision": "", blue: filter(1), green: filter(2)})

	expect(w.event(hook.PostScaleUp, nil), "answer ECS: IN_PROGRESS") // it has 1 of 2 tasks
	expect(w.event(hook.PreScaleUp, service), resolver,
		fmt.Sprintf("write Consul's service-splitter api: %v", map[string]float32{"": 100, blue: 0, green: 0}), "answer ECS: IN_PROGRESS")

	w.ask(w.event(hook.PreScaleUp, service), hook.InProgress, "until ")
	w.age()
	w.ask(w.event(hook.PreScaleUp, service), hook.InProgress, "the Envoys learn")
	w.ask(w.event(hook.PreScaleUp, service), hook.Succeeded, "the traffic of api")
	expect(w.event(hook.PreScaleUp, service), "answer ECS: SUCCEEDED")
	expect(shift, fmt.Sprintf("write Consul's service-splitter api: %v", map[string]float32{"": 0, blue: 0, green: 100}), "answer ECS: SUCCEEDED")
	if diff := cmp.Diff(map[string]float32{lastPart(w.blue): 100}, w.splits()); diff != "" {
		t.Errorf("the traffic (-want +got):\n%s", diff)
	}
	for _, line := range []string{`"message":"would write","what":"Consul's service-splitter api"`, `"message":"would answer","what":"ECS"`} {
		if !strings.Contains(w.Log.String(), line) {
			t.Errorf("the log has no %s:\n%s", line, w.Log)
		}
	}
}

// indexes are when Consul last changed the tasks' nodes, and what the function may
// write.
func (w *world) indexes() map[string]uint64 {
	w.t.Helper()
	indexes := map[string]uint64{}
	for _, kind := range []string{api.ServiceSplitter, api.ServiceResolver, api.ServiceDefaults} {
		entries, _, err := w.Consul.Client.ConfigEntries().List(kind, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, entry := range entries {
			indexes[kind+" "+entry.GetName()] = entry.GetModifyIndex()
		}
	}
	nodes, _, err := w.Consul.Client.Catalog().Nodes(&api.QueryOptions{Filter: `Node matches "^ecs-"`}) // Consul's own comes when it likes
	if err != nil {
		w.t.Fatal(err)
	}
	for _, node := range nodes {
		indexes[node.Node] = node.ModifyIndex
	}
	return indexes
}
