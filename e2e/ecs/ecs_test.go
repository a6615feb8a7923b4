package ecs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/ecs"
)

// recorder keeps the events that ECS emits.
type recorder struct {
	mu     sync.Mutex
	events []ecs.Event
}

func (r *recorder) take(_ context.Context, e ecs.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// of returns a task's events.
func (r *recorder) of(arn string) []ecs.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []ecs.Event
	for _, e := range r.events {
		if e.Task.TaskARN == arn {
			list = append(list, e)
		}
	}
	return list
}

// start starts a Fake whose containers are shell scripts and whose seconds
// last 20 ms.
func start(t *testing.T, change ...func(*ecs.Options)) (*ecs.Fake, *recorder) {
	t.Helper()
	events := &recorder{}
	opts := ecs.Options{
		Dir:    t.TempDir(),
		Second: 20 * time.Millisecond,
		Images: map[string]ecs.Image{"shell": {Entrypoint: []string{"/bin/sh", "-c"}}},
		Events: events.take,
	}
	for _, c := range change {
		c(&opts)
	}
	fake, err := ecs.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := fake.Close(); err != nil {
			t.Error(err)
		}
	})
	return fake, events
}

func no() *bool { return new(bool) }

// forever is a script that ends at SIGTERM, with code 0.
const forever = `trap 'echo terminated; exit 0' TERM; echo started; while :; do sleep 0.01; done`

// define makes a task definition of containers.
func define(containers ...ecs.ContainerDefinition) ecs.TaskDefinition {
	for i := range containers {
		if containers[i].Image == "" {
			containers[i].Image = "shell"
		}
		if containers[i].StopTimeout == 0 {
			containers[i].StopTimeout = 120 // for a shell on a busy machine
		}
		containers[i].MountPoints = []ecs.MountPoint{{Volume: "shared", Path: "/shared"}}
	}
	return ecs.TaskDefinition{
		Family: "demo", Revision: 3, NetworkMode: "awsvpc", TaskRoleARN: "arn:aws:iam::000000000000:role/demo",
		Volumes: []ecs.Volume{{Name: "shared"}}, Containers: containers,
	}
}

func script(name, line string, change ...func(*ecs.ContainerDefinition)) ecs.ContainerDefinition {
	c := ecs.ContainerDefinition{Name: name, Command: []string{line}}
	for _, f := range change {
		f(&c)
	}
	return c
}

func dependsOn(name string, condition ecs.Condition) func(*ecs.ContainerDefinition) {
	return func(c *ecs.ContainerDefinition) {
		c.DependsOn = append(c.DependsOn, ecs.Dependency{Container: name, Condition: condition})
	}
}

func nonEssential(c *ecs.ContainerDefinition) { c.Essential = no() }

func healthCheck(check ecs.HealthCheck) func(*ecs.ContainerDefinition) {
	return func(c *ecs.ContainerDefinition) { c.HealthCheck = &check }
}

func run(t *testing.T, fake *ecs.Fake, def ecs.TaskDefinition, opts ecs.TaskOptions) ecs.Task {
	t.Helper()
	task, err := fake.RunTask(def, opts)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func wait(t *testing.T, fake *ecs.Fake, task ecs.Task, done func(ecs.Task) bool) ecs.Task {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	task, err := fake.Wait(ctx, task.TaskARN, done)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// waitForStart waits until a container has written "started": from there on
// its trap is in place.
func waitForStart(t *testing.T, fake *ecs.Fake, task ecs.Task, container string) {
	t.Helper()
	log := filepath.Join(fake.TaskDir(task), container+".log")
	until(t, "nothing is started in "+log, func() bool {
		body, _ := os.ReadFile(log) // there after the start
		return strings.Contains(string(body), "started\n")
	})
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestTaskGoesThroughItsStatesAndEmitsThemInOrder(t *testing.T) {
	t.Parallel()
	fake, events := start(t)
	task := run(t, fake, define(script("app", forever)), ecs.TaskOptions{Cluster: "mesh", Group: "service:app", StartedBy: "ecs-svc/1"})
	wait(t, fake, task, ecs.Task.Running)
	waitForStart(t, fake, task, "app")
	if err := fake.StopTask(task.TaskARN, ""); err != nil {
		t.Fatal(err)
	}
	stopped := wait(t, fake, task, ecs.Task.Stopped)

	if stopped.StopCode != ecs.StopCodeUserInitiated || stopped.StoppedReason != "Task stopped by user" {
		t.Errorf("stopped by %s: %s", stopped.StopCode, stopped.StoppedReason)
	}
	if code := stopped.Container("app").ExitCode; code == nil || *code != 0 {
		t.Errorf("exit code: %v, want 0", code)
	}
	for _, later := range [][2]ecs.Time{
		{stopped.CreatedAt, stopped.StartedAt}, {stopped.StartedAt, stopped.StoppingAt},
		{stopped.StoppingAt, stopped.ExecutionStoppedAt}, {stopped.ExecutionStoppedAt, stopped.StoppedAt},
	} {
		if later[0].IsZero() || later[1].Before(later[0].Time) {
			t.Errorf("times out of order: %v before %v", later[0], later[1])
		}
	}

	waitForStoppedEvent(t, events, task)
	type step struct {
		Version       int
		Last, Desired ecs.Status
	}
	var steps []step
	for _, e := range events.of(task.TaskARN) {
		steps = append(steps, step{e.Task.Version, e.Task.LastStatus, e.Task.DesiredStatus})
	}
	want := []step{
		{1, "PROVISIONING", "RUNNING"}, {2, "PENDING", "RUNNING"}, {3, "ACTIVATING", "RUNNING"}, {4, "RUNNING", "RUNNING"},
		{5, "DEACTIVATING", "STOPPED"}, {6, "STOPPING", "STOPPED"}, {7, "DEPROVISIONING", "STOPPED"}, {8, "STOPPED", "STOPPED"},
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// waitForStoppedEvent returns the task's events when the last one is there.
func waitForStoppedEvent(t *testing.T, events *recorder, task ecs.Task) []ecs.Event {
	t.Helper()
	var all []ecs.Event
	until(t, "no event says STOPPED", func() bool {
		all = events.of(task.TaskARN)
		return len(all) > 0 && all[len(all)-1].Task.Stopped()
	})
	return all
}

// until waits for a condition that nothing announces.
func until(t *testing.T, otherwise string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

func TestEventHasTheShapeOfECS(t *testing.T) {
	t.Parallel()
	fake, events := start(t)
	task := run(t, fake, define(script("app", "exit 3")), ecs.TaskOptions{Cluster: "mesh", Address: netip.MustParseAddr("127.0.9.9")})
	wait(t, fake, task, ecs.Task.Stopped)
	all := waitForStoppedEvent(t, events, task)

	var first, last map[string]any
	for raw, into := range map[*json.RawMessage]*map[string]any{
		&all[0].Envelope: &first, &all[len(all)-1].Envelope: &last,
	} {
		if err := json.Unmarshal(*raw, into); err != nil {
			t.Fatal(err)
		}
	}
	if first["source"] != "aws.ecs" || first["detail-type"] != "ECS Task State Change" {
		t.Errorf("source %v, detail-type %v", first["source"], first["detail-type"])
	}
	if diff := cmp.Diff([]any{task.TaskARN}, first["resources"]); diff != "" {
		t.Error(diff)
	}
	detail := last["detail"].(map[string]any)
	for field, want := range map[string]any{
		"stopCode": "EssentialContainerExited", "stoppedReason": "Essential container in task exited",
		"group": "family:demo", "launchType": "FARGATE", "lastStatus": "STOPPED", "desiredStatus": "STOPPED",
	} {
		if detail[field] != want {
			t.Errorf("%s = %v, want %v", field, detail[field], want)
		}
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000Z", detail["stoppedAt"].(string)); err != nil {
		t.Error(err)
	}
	if _, ok := first["detail"].(map[string]any)["stoppedAt"]; ok {
		t.Error("the first event knows when the task stopped")
	}
	if attachment := detail["attachments"].([]any)[0].(map[string]any); attachment["type"] != "eni" || attachment["status"] != "DELETED" {
		t.Errorf("attachment %v", attachment)
	}
	container := detail["containers"].([]any)[0].(map[string]any)
	if container["exitCode"] != 3.0 {
		t.Errorf("exit code %v, want 3", container["exitCode"])
	}
	if _, ok := first["detail"].(map[string]any)["containers"].([]any)[0].(map[string]any)["exitCode"]; ok {
		t.Error("the first event has an exit code")
	}
	if address := container["networkInterfaces"].([]any)[0].(map[string]any)["privateIpv4Address"]; address != "127.0.9.9" {
		t.Errorf("address %v", address)
	}
}

func TestContainersStartInTheOrderOfTheirDependencies(t *testing.T) {
	t.Parallel()
	fake, events := start(t)
	task := run(t, fake, define(
		script("app", `echo app >> /shared/order; `+forever, dependsOn("proxy", ecs.ConditionHealthy)),
		script("proxy", `echo proxy >> /shared/order; sleep 0.3; : > /shared/ready; `+forever, dependsOn("init", ecs.ConditionSuccess),
			healthCheck(ecs.HealthCheck{Command: []string{"CMD-SHELL", "test -e /shared/ready"}, Interval: 5})),
		script("init", `sleep 0.1; echo init >> /shared/order`, nonEssential),
	), ecs.TaskOptions{})

	got := wait(t, fake, task, ecs.Task.Running)
	if order := read(t, fake.TaskDir(task), "volumes", "shared", "order"); order != "init\nproxy\napp\n" && order != "init\nproxy\n" {
		t.Errorf("order of starts: %q", order)
	}
	if got.HealthStatus != ecs.HealthHealthy || !got.Ready() {
		t.Errorf("the task is %s", got.Summary())
	}
	// The exit of init is a change of the task, the health of proxy is none.
	for _, e := range events.of(task.TaskARN) {
		if e.Task.LastStatus == ecs.StatusPending && e.Task.Container("proxy").LastStatus == ecs.StatusRunning && e.Task.Container("app").LastStatus == ecs.StatusPending {
			t.Errorf("an event for a change of health: %s", e.Task.Summary())
		}
	}
	if v := got.Version; v != 5 {
		t.Errorf("version %d, want 5: PROVISIONING, PENDING, init's exit, ACTIVATING, RUNNING", v)
	}
}

func TestContainersStopInTheReverseOrder(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	order := filepath.Join(t.TempDir(), "order")
	ends := func(name string) string {
		return fmt.Sprintf(`trap 'sleep 0.1; echo %s >> %s; exit 0' TERM; echo started; while :; do sleep 0.01; done`, name, order)
	}
	task := run(t, fake, define(
		script("proxy", ends("proxy")),
		script("app", ends("app"), dependsOn("proxy", ecs.ConditionStart)),
	), ecs.TaskOptions{})
	wait(t, fake, task, ecs.Task.Running)
	waitForStart(t, fake, task, "proxy")
	waitForStart(t, fake, task, "app")
	if err := fake.StopTask(task.TaskARN, "bye"); err != nil {
		t.Fatal(err)
	}
	wait(t, fake, task, ecs.Task.Stopped)
	if got := read(t, order); got != "app\nproxy\n" {
		t.Errorf("order of ends: %q, want app before proxy", got)
	}
}

func TestContainerThatIgnoresSIGTERMIsKilled(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	task := run(t, fake, define(script("app", `trap '' TERM; echo started; while :; do sleep 0.01; done`, func(c *ecs.ContainerDefinition) { c.StopTimeout = 10 })), ecs.TaskOptions{})
	wait(t, fake, task, ecs.Task.Running)
	waitForStart(t, fake, task, "app")
	begun := time.Now()
	if err := fake.StopTask(task.TaskARN, ""); err != nil {
		t.Fatal(err)
	}
	stopped := wait(t, fake, task, ecs.Task.Stopped)
	if code := stopped.Container("app").ExitCode; code == nil || *code != 137 {
		t.Errorf("exit code %v, want 137", code)
	}
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("killed after %s, before its stopTimeout", took)
	}
}

func TestTaskStopsWhenADependencyCannotBeMet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		init   ecs.ContainerDefinition
		reason string
	}{
		"it fails":        {script("init", "exit 2", nonEssential), "exited (code 2)"},
		"it hangs":        {script("init", "sleep 60", nonEssential, func(c *ecs.ContainerDefinition) { c.StartTimeout = 5 }), "not SUCCESS after 5s"},
		"it has no image": {script("init", "", nonEssential, func(c *ecs.ContainerDefinition) { c.Image = "unknown" }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake, _ := start(t)
			def := define(c.init, script("app", forever, dependsOn("init", ecs.ConditionSuccess)))
			stopped := wait(t, fake, run(t, fake, def, ecs.TaskOptions{}), ecs.Task.Stopped)
			if stopped.StopCode != ecs.StopCodeTaskFailedToStart || !strings.Contains(stopped.Container("app").Reason, c.reason) {
				t.Errorf("the task is %s; want a reason with %q", stopped.Summary(), c.reason)
			}
			if stopped.Container("app").ExitCode != nil || !stopped.StartedAt.IsZero() {
				t.Error("the application ran")
			}
		})
	}
}

func TestHealthFollowsTheChecks(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	task := run(t, fake, define(script("app", forever, healthCheck(ecs.HealthCheck{
		Command: []string{"CMD", "/bin/sh", "-c", "echo checked; test -e /shared/good"}, Interval: 5, Retries: 2,
	}))), ecs.TaskOptions{})
	is := func(h ecs.Health) func(ecs.Task) bool {
		return func(task ecs.Task) bool { return task.HealthStatus == h && task.Container("app").HealthStatus == h }
	}
	wait(t, fake, task, is(ecs.HealthUnknown))
	wait(t, fake, task, is(ecs.HealthUnhealthy))
	good := filepath.Join(fake.TaskDir(task), "volumes", "shared", "good")
	if err := os.WriteFile(good, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait(t, fake, task, is(ecs.HealthHealthy))
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	got := wait(t, fake, task, is(ecs.HealthUnhealthy))
	if got.LastStatus != ecs.StatusRunning || got.Version != 4 {
		t.Errorf("health changed the task: %s, version %d", got.Summary(), got.Version)
	}
	if log := read(t, fake.TaskDir(task), "app.health.log"); !strings.Contains(log, "checked") {
		t.Errorf("log of the health check: %q", log)
	}
}

func TestHealthCheckThatHangsFails(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	task := run(t, fake, define(script("app", forever, healthCheck(ecs.HealthCheck{
		Command: []string{"CMD-SHELL", "sleep 60"}, Interval: 5, Timeout: 2, Retries: 1,
	}))), ecs.TaskOptions{})
	wait(t, fake, task, func(task ecs.Task) bool { return task.HealthStatus == ecs.HealthUnhealthy })
}

func TestContainerGetsItsOwnEnvironmentAndWhatECSAdds(t *testing.T) {
	t.Setenv("FROM_THE_LAB_ITSELF", "must not be seen")
	for launchType, want := range map[string]string{
		ecs.LaunchTypeFargate: `AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_DEFAULT_REGION AWS_ENDPOINT_URL AWS_EXECUTION_ENV AWS_REGION CONFIG ECS_CONTAINER_METADATA_URI_V4 HOSTNAME PATH PWD `,
		ecs.LaunchTypeEC2:     `AWS_CONTAINER_CREDENTIALS_FULL_URI AWS_ENDPOINT_URL AWS_EXECUTION_ENV CONFIG ECS_CONTAINER_METADATA_URI_V4 HOSTNAME PATH PWD `,
	} {
		t.Run(launchType, func(t *testing.T) {
			fake, _ := start(t, func(o *ecs.Options) {
				o.Environment = map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}
			})
			def := define(script("app", `env | cut -d= -f1 | grep -v -e ^_ -e SHLVL -e OLDPWD | sort | tr '\n' ' '; echo; echo "$CONFIG"; echo ok > /shared/file && cat /shared/file`))
			def.Containers[0].Environment = []ecs.KeyValue{{Name: "CONFIG", Value: `{"dir": "/shared", "other": "/shared-not", "deep": "/opt/shared"}`}}
			task := run(t, fake, def, ecs.TaskOptions{LaunchType: launchType})
			wait(t, fake, task, ecs.Task.Stopped)
			home := fake.TaskDir(task)
			config := fmt.Sprintf(`{"dir": "%s/volumes/shared", "other": "/shared-not", "deep": "/opt/shared"}`, home)
			if diff := cmp.Diff(want+"\n"+config+"\nok\n", read(t, home, "app.log")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(home, "volumes")); !os.IsNotExist(err) {
				t.Errorf("the volumes outlive the task: %v", err)
			}
		})
	}
}

func TestMetadataAndCredentials(t *testing.T) {
	t.Parallel()
	for _, launchType := range []string{ecs.LaunchTypeFargate, ecs.LaunchTypeEC2} {
		t.Run(launchType, func(t *testing.T) {
			t.Parallel()
			fake, _ := start(t)
			def := define(
				script("init", "exit 0", nonEssential),
				script("app", `echo $ECS_CONTAINER_METADATA_URI_V4 $AWS_CONTAINER_CREDENTIALS_FULL_URI; `+forever,
					healthCheck(ecs.HealthCheck{Command: []string{"CMD-SHELL", "true"}, Interval: 5})),
			)
			task := run(t, fake, def, ecs.TaskOptions{Cluster: "mesh", Group: "service:demo", LaunchType: launchType})
			task = wait(t, fake, task, ecs.Task.Ready)
			uri, credentials, _ := strings.Cut(strings.SplitN(read(t, fake.TaskDir(task), "app.log"), "\n", 2)[0], " ")

			var meta struct {
				Cluster, TaskARN, Family, Revision, ServiceName, DesiredStatus, KnownStatus, LaunchType, VPCID string
				Containers                                                                                     []struct {
					Name, KnownStatus string
					ExitCode          *int
					Health            *struct{ Status string }
					Networks          []struct{ IPv4Addresses []string }
				}
			}
			get(t, uri+"/task", &meta)
			cluster, vpc := task.ClusterARN, ""
			if launchType == ecs.LaunchTypeEC2 {
				cluster, vpc = "mesh", "vpc-0ec5"
			}
			for _, field := range [][2]string{
				{meta.Cluster, cluster}, {meta.VPCID, vpc}, {meta.TaskARN, task.TaskARN}, {meta.Family, "demo"}, {meta.Revision, "3"}, {meta.ServiceName, "demo"},
				{meta.DesiredStatus, "RUNNING"}, {meta.KnownStatus, "RUNNING"}, {meta.LaunchType, launchType},
			} {
				if field[0] != field[1] {
					t.Errorf("metadata has %q, want %q", field[0], field[1])
				}
			}
			if len(meta.Containers) != 2 {
				t.Fatalf("%d containers, want 2", len(meta.Containers))
			}
			if c := meta.Containers[0]; c.KnownStatus != "STOPPED" || c.ExitCode == nil || *c.ExitCode != 0 || c.Health != nil {
				t.Errorf("init: %+v", c)
			}
			if c := meta.Containers[1]; c.KnownStatus != "RUNNING" || c.ExitCode != nil || c.Health == nil || c.Health.Status != "HEALTHY" ||
				c.Networks[0].IPv4Addresses[0] != task.Address().String() {
				t.Errorf("app: %+v", c)
			}
			var own struct{ Name string }
			if get(t, uri, &own); own.Name != "app" {
				t.Errorf("the container's own metadata is that of %q", own.Name)
			}
			var role struct {
				RoleArn     string
				AccessKeyID string `json:"AccessKeyId"`
			}
			if get(t, credentials, &role); role.RoleArn != def.TaskRoleARN || role.AccessKeyID == "" {
				t.Errorf("credentials: %+v", role)
			}

			fake.Fail(ecs.Fault{Action: "TaskMetadata", Times: 1, Status: http.StatusTooManyRequests})
			if status := get(t, uri+"/task", &meta); status != http.StatusTooManyRequests {
				t.Errorf("status %d, want the fault's", status)
			}
			if err := fake.StopTask(task.TaskARN, ""); err != nil {
				t.Fatal(err)
			}
			wait(t, fake, task, ecs.Task.Stopped)
			if status := get(t, uri+"/task", &meta); status != http.StatusNotFound {
				t.Errorf("status %d for a stopped task, want 404", status)
			}
		})
	}
}

func get(t *testing.T, url string, into any) (status int) {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // the test's own server
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, into); err != nil {
			t.Fatalf("%s: %s: %v", url, body, err)
		}
	}
	return resp.StatusCode
}

// call makes an API call and returns its answer, or the error's name.
func call(t *testing.T, fake *ecs.Fake, action string, in map[string]any) (out map[string]any, code string) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fake.URL(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113."+action)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	code, _ = out["__type"].(string)
	return out, code
}

func TestListTasksPagesAndFilters(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	var servers []ecs.Task
	for range 5 {
		servers = append(servers, run(t, fake, define(script("server", forever)), ecs.TaskOptions{Cluster: "consul", Group: "service:server"}))
	}
	run(t, fake, define(script("other", forever)), ecs.TaskOptions{Cluster: "consul", Group: "service:other"})
	run(t, fake, define(script("other", forever)), ecs.TaskOptions{Cluster: "mesh", Group: "service:server"})
	wait(t, fake, servers[0], ecs.Task.Running)
	if err := fake.StopTask(servers[0].TaskARN, ""); err != nil {
		t.Fatal(err)
	}

	seen := map[any]int{}
	pages := 0
	in := map[string]any{"cluster": "consul", "serviceName": "server", "maxResults": 2}
	for {
		out, code := call(t, fake, "ListTasks", in)
		if code != "" {
			t.Fatal(code)
		}
		pages++
		for _, arn := range out["taskArns"].([]any) {
			seen[arn]++
		}
		if in["nextToken"] = out["nextToken"]; in["nextToken"] == nil {
			break
		}
	}
	want := map[any]int{}
	for _, s := range servers[1:] {
		want[s.TaskARN] = 1
	}
	if diff := cmp.Diff(want, seen); diff != "" || pages != 2 {
		t.Errorf("%d pages, tasks (-want +got):\n%s", pages, diff)
	}
	out, _ := call(t, fake, "ListTasks", map[string]any{"cluster": "consul", "serviceName": "server", "desiredStatus": "STOPPED"})
	if diff := cmp.Diff([]any{servers[0].TaskARN}, out["taskArns"]); diff != "" {
		t.Errorf("stopping tasks (-want +got):\n%s", diff)
	}
}

func TestAPIRefusals(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	fake.CreateCluster("mesh")
	fake.Fail(ecs.Fault{Action: "ListTasks", Times: 1, Status: http.StatusBadRequest, Code: "ThrottlingException", Message: "Rate exceeded"})
	for _, c := range []struct {
		action string
		in     map[string]any
		code   string
	}{
		{"ListTasks", map[string]any{"cluster": "mesh"}, "ThrottlingException"},
		{"ListTasks", map[string]any{"cluster": "mesh"}, ""},
		{"ListTasks", map[string]any{"cluster": "nowhere"}, "ClusterNotFoundException"},
		{"ListTasks", map[string]any{}, "ClusterNotFoundException"},
		{"ListTasks", map[string]any{"cluster": "mesh", "serviceName": "nothing"}, "ServiceNotFoundException"},
		{"ListTasks", map[string]any{"cluster": "mesh", "maxResults": 101}, "InvalidParameterException"},
		{"DescribeTasks", map[string]any{"cluster": "mesh", "tasks": []string{}}, "InvalidParameterException"},
		{"DescribeTasks", map[string]any{"cluster": "mesh", "tasks": make([]string, 101)}, "InvalidParameterException"},
		{"DescribeTasks", map[string]any{"cluster": "nowhere", "tasks": []string{"x"}}, "ClusterNotFoundException"},
		{"StopTask", map[string]any{"cluster": "mesh", "task": "x"}, "InvalidParameterException"},
		{"ListServices", map[string]any{}, "UnknownOperationException"},
	} {
		if _, code := call(t, fake, c.action, c.in); code != c.code {
			t.Errorf("%s %v: %q, want %q", c.action, c.in, code, c.code)
		}
	}
}

func TestDescribeTasksReportsMissingOnes(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	fake.CreateCluster("other")
	task := run(t, fake, define(script("app", forever)), ecs.TaskOptions{Cluster: "mesh"})
	wait(t, fake, task, ecs.Task.Running)

	out, _ := call(t, fake, "DescribeTasks", map[string]any{"cluster": "mesh", "tasks": []string{task.ID(), "0123"}})
	got := out["tasks"].([]any)[0].(map[string]any)
	if _, ok := got["createdAt"].(float64); !ok || got["taskArn"] != task.TaskARN {
		t.Errorf("task %v: want its ARN, and numbers for times", got)
	}
	if attachment := got["attachments"].([]any)[0].(map[string]any); attachment["type"] != "ElasticNetworkInterface" {
		t.Errorf("attachment %v", attachment)
	}
	missing := []any{map[string]any{"arn": "arn:aws:ecs:us-east-1:000000000000:task/mesh/0123", "reason": "MISSING"}}
	if diff := cmp.Diff(missing, out["failures"]); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}

	// Asked in another cluster, a task is missing, and so is a forgotten one.
	out, _ = call(t, fake, "DescribeTasks", map[string]any{"cluster": "other", "tasks": []string{task.TaskARN}})
	if len(out["failures"].([]any)) != 1 {
		t.Errorf("in another cluster: %v", out)
	}
	if _, code := call(t, fake, "StopTask", map[string]any{"cluster": "mesh", "task": task.ID(), "reason": "test"}); code != "" {
		t.Error(code)
	}
	if stopped := wait(t, fake, task, ecs.Task.Stopped); stopped.StoppedReason != "test" {
		t.Errorf("stopped reason %q", stopped.StoppedReason)
	}
	fake.Forget(task.TaskARN)
	out, _ = call(t, fake, "DescribeTasks", map[string]any{"cluster": "mesh", "tasks": []string{task.TaskARN}})
	if len(out["failures"].([]any)) != 1 {
		t.Errorf("forgotten: %v", out)
	}
}

func TestServiceReplacesATaskOnlyWhenTheNewOneIsReady(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	service := fake.CreateService(ecs.ServiceOptions{Name: "api", Cluster: "mesh", Define: func(_ context.Context, address netip.Addr) (ecs.TaskDefinition, error) {
		def := define(script("app", forever, healthCheck(ecs.HealthCheck{Command: []string{"CMD-SHELL", "true"}, Interval: 5})))
		def.Containers[0].Environment = []ecs.KeyValue{{Name: "LISTEN_ADDR", Value: address.String()}}
		return def, nil
	}})
	old, err := service.Launch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wait(t, fake, old, ecs.Task.Ready)
	fresh, err := service.Replace(t.Context(), old.TaskARN)
	if err != nil {
		t.Fatal(err)
	}
	stopped, _ := fake.Task(old.TaskARN)
	if stopped.StopCode != ecs.StopCodeServiceSchedulerInitiated || !strings.HasPrefix(stopped.StartedBy, "ecs-svc/") {
		t.Errorf("old task: %s by %s", stopped.StopCode, stopped.StartedBy)
	}
	if stopped.StoppingAt.Before(fresh.StartedAt.Time) || fresh.Address() == old.Address() {
		t.Errorf("old %s stopped at %v, new %s started at %v", old.Address(), stopped.StoppingAt, fresh.Address(), fresh.StartedAt)
	}
	if diff := cmp.Diff([]string{fresh.TaskARN}, service.Tasks()); diff != "" {
		t.Error(diff)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	def := ecs.TaskDefinition{NetworkMode: "bridge", Containers: []ecs.ContainerDefinition{
		{Name: "a", Image: "x", Essential: no(), DependsOn: []ecs.Dependency{{"b", "HEALTHY"}, {"c", "START"}, {"b", "LATER"}}},
		{Name: "b", Essential: no(), StopTimeout: 121, StartTimeout: 1, Secrets: []ecs.Secret{{Name: "TOKEN"}}, MountPoints: []ecs.MountPoint{{"v", "/v"}}},
		{Name: "d", Image: "x", Essential: no(), HealthCheck: &ecs.HealthCheck{Command: []string{"true"}, Interval: 1, Timeout: 61, Retries: 11, StartPeriod: 301}},
	}}
	err := def.Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		"family: missing", "networkMode", "at least one container must be essential",
		"[a].dependsOn: HEALTHY of \"b\"", "[a].dependsOn: no container \"c\"", "condition \"LATER\"",
		"[b].image", "[b].stopTimeout", "[b].startTimeout", "[b].secrets", "no volume \"v\"",
		"command [\"true\"]", "interval: 1", "timeout: 61", "retries: 11", "startPeriod: 301",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in:\n%v", want, err)
		}
	}
	circle := define(script("a", "", dependsOn("b", "START")), script("b", "", dependsOn("a", "START")), script("c", ""))
	if err := circle.Validate(); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("a circle: %v", err)
	}
	essential := define(script("a", ""), script("b", "", dependsOn("a", "SUCCESS")))
	if err := essential.Validate(); err == nil || !strings.Contains(err.Error(), "essential container \"a\"") {
		t.Errorf("SUCCESS of an essential container: %v", err)
	}
}

func TestCloseLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	fake, _ := start(t)
	marker := fmt.Sprintf("86%d", time.Now().UnixNano()%1e9)
	task := run(t, fake, define(script("app", "trap '' TERM; sleep "+marker+" & sleep "+marker)), ecs.TaskOptions{})
	wait(t, fake, task, ecs.Task.Running)
	until(t, "the container's process never ran", func() bool { return alive(marker) })
	if err := fake.Close(); err != nil {
		t.Fatal(err)
	}
	// By itself it would live for weeks; what was killed is gone in a moment.
	until(t, "a container's process is left", func() bool { return !alive(marker) })
	if _, err := fake.RunTask(define(script("app", forever)), ecs.TaskOptions{}); err == nil {
		t.Error("a closed Fake starts tasks")
	}
}

// alive tells whether a process has the marker as an argument.
func alive(marker string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		line, _ := os.ReadFile(file) // may be gone already
		if bytes.Contains(line, []byte("\x00"+marker+"\x00")) {
			return true
		}
	}
	return false
}

// TestMain lets the test binary play a program that runs a task and is killed.
func TestMain(m *testing.M) {
	if marker := os.Getenv("ECS_TEST_RUN_AND_WAIT"); marker != "" {
		dir, err := os.MkdirTemp("", "ecs")
		if err != nil {
			os.Exit(1)
		}
		fake, err := ecs.Start(ecs.Options{Dir: dir, Images: map[string]ecs.Image{"sleep": {Entrypoint: []string{"sleep"}}}})
		if err != nil {
			os.Exit(1)
		}
		if _, err := fake.RunTask(define(ecs.ContainerDefinition{Name: "a", Image: "sleep", Command: []string{marker}}), ecs.TaskOptions{}); err != nil {
			os.Exit(1)
		}
		select {}
	}
	os.Exit(m.Run())
}

func TestNothingOutlivesAKilledProgram(t *testing.T) {
	t.Parallel()
	marker := fmt.Sprintf("87%d", time.Now().UnixNano()%1e9)
	self := exec.Command(os.Args[0])
	self.Env = append(os.Environ(), "ECS_TEST_RUN_AND_WAIT="+marker, "TMPDIR="+t.TempDir())
	if err := self.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the container's process never ran", func() bool { return alive(marker) })
	if err := self.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = self.Wait()
	until(t, "the container's process outlived SIGKILL", func() bool { return !alive(marker) })
}
