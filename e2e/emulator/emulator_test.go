package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const ecsEndpoint = "http://127.0.0.1:9"

func TestStackDeliversEvents(t *testing.T) {
	t.Run("where everything is allowed", func(t *testing.T) { testDelivery(t, start(t), ecsEndpoint) })
	t.Run("where IAM is enforced", func(t *testing.T) { testDelivery(t, startEnforcing(t, ecsEndpoint), "") })
}

func testDelivery(t *testing.T, e *Emulator, functionsECS string) {
	records, outputs := deployStack(t, e)

	t.Run("a custom resource is created", func(t *testing.T) {
		if outputs["Recorded"] != "Create" {
			t.Errorf("the function's answer was %q, want Create", outputs["Recorded"])
		}
	})

	t.Run("an event arrives as it was put", func(t *testing.T) {
		event := `{"version": "0", "id": "first", "detail-type": "ECS Task State Change", "source": "aws.ecs",
			"account": "111111111111", "time": "2023-05-02T15:29:11Z", "region": "eu-west-1", "resources": ["arn:aws:ecs:task"],
			"detail": {"desiredStatus": "STOPPED", "version": 6, "containers": [{"name": "ecsmesh-init", "exitCode": 0}]}}`
		put(t, e, event)
		got := awaitRecord(t, records.queue, func(r record) bool { return strings.Contains(r.body(), "first") })
		if diff := cmp.Diff(parse(t, event), parse(t, got.body())); diff != "" {
			t.Errorf("event differs (-put +arrived):\n%s", diff)
		}
		if got.Endpoint != functionsECS {
			t.Errorf("the function's ECS endpoint is %q, want %q", got.Endpoint, functionsECS)
		}
	})

	t.Run("an event of another kind does not", func(t *testing.T) {
		put(t, e, `{"id": "running", "source": "aws.ecs", "detail": {"desiredStatus": "RUNNING"}}`)
		put(t, e, `{"id": "after", "source": "aws.ecs", "detail": {"desiredStatus": "STOPPED"}}`)
		awaitRecord(t, records.queue, func(r record) bool { return strings.Contains(r.body(), "after") })
		for _, r := range read(t, records.queue) {
			if strings.Contains(r.body(), "running") {
				t.Errorf("the rule let through %s", r.body())
			}
		}
	})

	t.Run("a failed message is retried and then set aside", func(t *testing.T) {
		put(t, e, `{"id": "fail", "source": "aws.ecs", "detail": {"desiredStatus": "STOPPED"}}`)
		queue := sqs.NewFromConfig(e.Config())
		dead, err := queue.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl:                    aws.String(outputs["DeadLettersUrl"]),
			WaitTimeSeconds:             20,
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"ApproximateReceiveCount"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(dead.Messages) != 1 || !strings.Contains(aws.ToString(dead.Messages[0].Body), `"fail"`) {
			t.Fatalf("dead letters: %v, want the one message that failed", dead.Messages)
		}
		tries := 0
		for _, r := range read(t, records.queue) {
			tries += strings.Count(r.body(), `"fail"`)
		}
		if tries != 2 {
			t.Errorf("the function got the message %d times, want 2 as maxReceiveCount says", tries)
		}
	})

	t.Run("events wait for a function with reserved concurrency", func(t *testing.T) {
		before := len(read(t, records.single))
		const events = 3
		for i := range events {
			put(t, e, fmt.Sprintf(`{"id": "busy-%d", "source": "aws.ecs", "detail": {"desiredStatus": "STOPPED"}}`, i))
		}
		var got []record
		await(t, "three events", func() bool { got = read(t, records.single); return len(got) >= before+events })
		for i := 1; i < len(got); i++ {
			if gap := got[i].At.Sub(got[i-1].At); gap < singleSleep {
				t.Errorf("invocation %d began %v after the one before it, which took %v", i, gap, singleSleep)
			}
		}
	})
}

func TestStackKeepsTaskDefinitionWhole(t *testing.T) {
	e := start(t)
	_, outputs := deployStack(t, e)
	out, err := ecs.NewFromConfig(e.Config()).DescribeTaskDefinition(t.Context(), &ecs.DescribeTaskDefinitionInput{
		TaskDefinition: aws.String(outputs["TaskDefinition"]),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := out.TaskDefinition
	want := &ecstypes.TaskDefinition{
		Family:                  aws.String("web"),
		Revision:                1,
		Cpu:                     aws.String("256"),
		Memory:                  aws.String("512"),
		NetworkMode:             ecstypes.NetworkModeAwsvpc,
		RequiresCompatibilities: []ecstypes.Compatibility{ecstypes.CompatibilityFargate},
		RuntimePlatform:         &ecstypes.RuntimePlatform{CpuArchitecture: ecstypes.CPUArchitectureArm64},
		TaskRoleArn:             aws.String(outputs["TaskRole"]),
		Volumes:                 []ecstypes.Volume{{Name: aws.String("ecsmesh")}},
		ContainerDefinitions: []ecstypes.ContainerDefinition{{
			Name:         aws.String("ecsmesh-init"),
			Image:        aws.String("ecsmesh-init"),
			Essential:    aws.Bool(false),
			StartTimeout: aws.Int32(60),
			MountPoints:  []ecstypes.MountPoint{{SourceVolume: aws.String("ecsmesh"), ContainerPath: aws.String("/ecsmesh")}},
			Environment:  []ecstypes.KeyValuePair{{Name: aws.String("CLUSTER"), Value: aws.String(outputs["Cluster"])}},
		}, {
			Name:         aws.String("envoy"),
			Image:        aws.String("envoy"),
			DependsOn:    []ecstypes.ContainerDependency{{ContainerName: aws.String("ecsmesh-init"), Condition: ecstypes.ContainerConditionSuccess}},
			HealthCheck:  &ecstypes.HealthCheck{Command: []string{"CMD", "/ecsmesh/bin/ecsmesh-init", "check"}, Interval: aws.Int32(5)},
			Ulimits:      []ecstypes.Ulimit{{Name: ecstypes.UlimitNameNofile, SoftLimit: 1024, HardLimit: 2048}},
			DockerLabels: map[string]string{"Kept-As-Is": "yes"},
			LogConfiguration: &ecstypes.LogConfiguration{
				LogDriver: ecstypes.LogDriverAwslogs,
				Options:   map[string]string{"awslogs-group": outputs["LogGroup"], "awslogs-region": Region},
			},
		}},
	}
	opts := []cmp.Option{
		cmpopts.IgnoreUnexported(ecstypes.TaskDefinition{}, ecstypes.RuntimePlatform{}, ecstypes.Volume{}, ecstypes.ContainerDefinition{},
			ecstypes.MountPoint{}, ecstypes.KeyValuePair{}, ecstypes.ContainerDependency{}, ecstypes.HealthCheck{}, ecstypes.Ulimit{}, ecstypes.LogConfiguration{}),
		cmpopts.IgnoreFields(ecstypes.TaskDefinition{}, "TaskDefinitionArn", "Status", "Compatibilities", "RegisteredAt", "RegisteredBy",
			"ExecutionRoleArn", "PidMode", "IpcMode", "PlacementConstraints"),
	}
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		t.Errorf("task definition differs (-want +got):\n%s", diff)
	}
}

func TestDeployUpdates(t *testing.T) {
	e := start(t)
	template := filepath.Join(t.TempDir(), "template.yaml")
	const body = `
Parameters: {Value: {Type: String}}
Resources: {Parameter: {Type: AWS::SSM::Parameter, Properties: {Name: /value, Type: String, Value: !Ref Value}}}
Outputs: {Name: {Value: !Ref Parameter}}
`
	if err := os.WriteFile(template, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"one", "one", "two"} {
		outputs, err := e.Deploy(t.Context(), "parameters", template, nil, map[string]string{"Value": value})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"Name": "/value"}, outputs); diff != "" {
			t.Errorf("outputs differ (-want +got):\n%s", diff)
		}
		if got, err := parameter(t, e, "/value"); err != nil || got != value {
			t.Errorf("the parameter is %q, %v, want %q", got, err, value)
		}
	}
}

func TestDeployNamesWhatFailed(t *testing.T) {
	e := start(t)
	template := filepath.Join(t.TempDir(), "template.yaml")
	const body = `
Resources:
  Good: {Type: AWS::SQS::Queue}
  Bad: {Type: AWS::SSM::Parameter, Properties: {Name: "not a name", Type: SecureString, Value: x}}
`
	if err := os.WriteFile(template, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := e.Deploy(t.Context(), "broken", template, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "Bad CREATE_FAILED") {
		t.Errorf("the error is %v, want it to name the resource Bad", err)
	}
	code := map[string]string{"QueueReader": t.TempDir(), "SingleReader": t.TempDir()}
	_, err = e.Deploy(t.Context(), "stack", "testdata/stack.yaml", code, map[string]string{"RecordFolder": t.TempDir(), "BatchSize": "11"})
	if err == nil || !strings.Contains(err.Error(), "batch window") {
		t.Errorf("the error is %v, want it to say that such a batch needs a window", err)
	}
	_, err = e.Deploy(t.Context(), "codeless", template, map[string]string{"Good": t.TempDir()}, nil)
	if err == nil || !strings.Contains(err.Error(), "no function Good") {
		t.Errorf("the error is %v, want it to say that Good is no function", err)
	}
}

func TestMatchesPattern(t *testing.T) {
	e := start(t)
	const event = `{"id": "1", "detail-type": "ECS Task State Change", "source": "aws.ecs", "account": "111111111111",
		"time": "2023-05-02T15:29:11Z", "region": "eu-west-1", "resources": [], "detail": {"containers": [{"name": "web"}, {"name": "ecsmesh-init"}]}}`
	for pattern, want := range map[string]bool{
		`{"source": ["aws.ecs"], "detail": {"containers": {"name": ["ecsmesh-init"]}}}`:                         true,
		`{"source": ["aws.ecs"], "detail": {"containers": {"name": ["other"]}}}`:                                false,
		`{"source": ["aws.ecs"], "detail": {"containers": {"name": ["ecsmesh-init"], "lastStatus": ["gone"]}}}`: false,
	} {
		if got, err := e.MatchesPattern(t.Context(), pattern, event); err != nil || got != want {
			t.Errorf("%s matches: %v, %v, want %v", pattern, got, err, want)
		}
	}
	if _, err := e.MatchesPattern(t.Context(), `{"source": "aws.ecs"}`, event); err == nil {
		t.Error("a pattern that AWS refuses was accepted")
	}
}

func TestFaults(t *testing.T) {
	e := start(t)
	fail := func(f Fault) {
		t.Helper()
		if err := e.Fail(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	code := func() string {
		t.Helper()
		_, err := parameter(t, e, "/missing")
		var refused smithy.APIError
		if !errors.As(err, &refused) {
			t.Fatalf("GetParameter: %v, want an error of the API", err)
		}
		return refused.ErrorCode()
	}
	fail(Fault{Action: "GetParameter", Code: "AccessDeniedException", Times: 2})
	fail(Fault{Action: "PutParameter", Code: "InternalServerError", Status: 500, Times: -1})
	for i, want := range []string{"AccessDeniedException", "AccessDeniedException", "ParameterNotFound"} {
		if got := code(); got != want {
			t.Errorf("call %d: %s, want %s", i, got, want)
		}
	}
	const delay = 200 * time.Millisecond
	fail(Fault{Action: "GetParameter", Delay: delay})
	began := time.Now()
	if got, took := code(), time.Since(began); got != "ParameterNotFound" || took < delay {
		t.Errorf("a delayed call: %s after %v, want ParameterNotFound after %v", got, took, delay)
	}
	fail(Fault{Action: "GetParameter", Code: "AccessDeniedException"})
	if err := e.ClearFaults(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := code(); got != "ParameterNotFound" {
		t.Errorf("a call after ClearFaults: %s, want ParameterNotFound", got)
	}
}

func TestEmulatorsRunSideBySide(t *testing.T) {
	a, b := start(t), start(t)
	template := filepath.Join(t.TempDir(), "template.yaml")
	const body = `Resources: {Parameter: {Type: AWS::SSM::Parameter, Properties: {Name: /only-in-a, Type: String, Value: here}}}`
	if err := os.WriteFile(template, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Deploy(t.Context(), "stack", template, nil, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := parameter(t, a, "/only-in-a"); err != nil || got != "here" {
		t.Errorf("the first emulator has %q, %v", got, err)
	}
	var missing interface{ ErrorCode() string }
	if _, err := parameter(t, b, "/only-in-a"); !errors.As(err, &missing) || missing.ErrorCode() != "ParameterNotFound" {
		t.Errorf("the second emulator answers %v, want ParameterNotFound", err)
	}
}

func TestStopLeavesNothingBehind(t *testing.T) {
	e := start(t)
	records, _ := deployStack(t, e)
	put(t, e, `{"id": "spawn", "source": "aws.ecs", "detail": {"desiredStatus": "STOPPED"}}`)
	awaitRecord(t, records.queue, func(record) bool { return true }) // a function's process runs now
	for range 2 {
		if err := e.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "end of the process group", func() bool { return errors.Is(syscall.Kill(-e.cmd.Process.Pid, 0), syscall.ESRCH) })
}

func TestEndsWithItsParent(t *testing.T) {
	e := start(t)
	if err := e.alive.Close(); err != nil { // as the kernel does when we die
		t.Fatal(err)
	}
	select {
	case <-e.exited:
	case <-time.After(30 * time.Second):
		t.Error("the emulator outlives its parent")
	}
}

func TestStartSaysWhatWentWrong(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hypercorn.py"), []byte(`raise SystemExit("no web server")`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "no web server") {
		t.Errorf("the error is %v, want it to have the end of the log", err)
	}
	if _, err := Start(t.Context(), Options{Dir: dir, Address: "192.0.2.1"}); err == nil {
		t.Error("an emulator listens on an address that this host does not have")
	}
}

func start(t *testing.T) *Emulator {
	t.Helper()
	return startWith(t, Options{ECSEndpoint: ecsEndpoint})
}

func startEnforcing(t *testing.T, ecsEndpoint string) *Emulator {
	t.Helper()
	return startWith(t, Options{ECSEndpoint: ecsEndpoint, EnforceIAM: true})
}

func startWith(t *testing.T, o Options) *Emulator {
	t.Helper()
	o.Dir = t.TempDir()
	e, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// singleSleep is how long SingleReader takes for an event, as the stack says.
const singleSleep = 300 * time.Millisecond

type recordFiles struct{ queue, single string }

func deployStack(t *testing.T, e *Emulator) (recordFiles, map[string]string) {
	t.Helper()
	code, dir := t.TempDir(), t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(code, "bootstrap"), "./testdata/recorder")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the recorder: %v\n%s", err, out)
	}
	outputs, err := e.Deploy(t.Context(), "stack", "testdata/stack.yaml",
		map[string]string{"QueueReader": code, "SingleReader": code}, map[string]string{"RecordFolder": dir})
	if err != nil {
		t.Fatal(err)
	}
	return recordFiles{queue: filepath.Join(dir, "queue"), single: filepath.Join(dir, "single")}, outputs
}

func put(t *testing.T, e *Emulator, event string) {
	t.Helper()
	if err := e.PutEvent(t.Context(), json.RawMessage(event)); err != nil {
		t.Fatal(err)
	}
}

// record is a line that the recorder wrote.
type record struct {
	At              time.Time
	Endpoint        string
	Event           struct{ Records []struct{ Body string } }
	aws.Credentials // of the function
}

// body is that of all of a batch's messages.
func (r record) body() string {
	bodies := make([]string, len(r.Event.Records))
	for i, message := range r.Event.Records {
		bodies[i] = message.Body
	}
	return strings.Join(bodies, "\n")
}

func read(t *testing.T, path string) []record {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var records []record
	for line := range bytes.Lines(file) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		records = append(records, r)
	}
	return records
}

func awaitRecord(t *testing.T, path string, wanted func(record) bool) record {
	t.Helper()
	var found record
	await(t, "an event in "+filepath.Base(path), func() bool {
		for _, r := range read(t, path) {
			if wanted(r) {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func parameter(t *testing.T, e *Emulator, name string) (string, error) {
	t.Helper()
	out, err := ssm.NewFromConfig(e.Config()).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String(name)})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.Parameter.Value), nil
}

func parse(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

// EventBridge asks for a queue's policy, and has no other try where that denies.
func TestQueuesTakeWhatTheirPoliciesLetIn(t *testing.T) {
	e := start(t)
	outputs, err := e.Deploy(t.Context(), "queues", "testdata/queues.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, e, `{"id": "stopped", "source": "aws.ecs", "detail": {}}`)
	for queue, want := range map[string]int{"AllowedUrl": 1, "DeniedUrl": 0, "UndeliveredUrl": 1} {
		out, err := sqs.NewFromConfig(e.Config()).ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(outputs[queue])})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) != want {
			t.Errorf("%s has %d messages, want %d", queue, len(out.Messages), want)
		}
	}
}
