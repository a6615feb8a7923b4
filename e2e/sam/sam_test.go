package sam

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/golden"
	"ecsmesh/e2e/tools"
)

// samTime outlasts any of SAM's commands here, but one that hangs.
const samTime = 5 * time.Minute

// The world of the tests, which TestMain makes.
var (
	root   string
	engine *docker
	host   string // folder with the stack built for this host's architecture
)

func TestMain(m *testing.M) {
	code, err := inWorld(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func inWorld(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), samTime)
	defer cancel()
	if root, err = tools.Root(); err != nil {
		return 1, err
	}
	// Docker keeps sockets there, whose paths have to be short.
	dir, err := os.MkdirTemp("", "sam")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if engine, err = startDocker(ctx, dir); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, engine.stop()) }()
	remove, err := engine.standIn(ctx)
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	if host, err = buildForHost(ctx, filepath.Join(dir, "build")); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// output is what a command of SAM's printed.
type output struct{ stdout, stderr string }

func (o output) String() string { return o.stdout + "\n" + o.stderr }

// python has SAM. Its program sam beside it only runs in the checkout where it was
// installed, by the path of then.
const python = ".tools/sam/bin/python"

// cli runs a command of SAM's at the root of the checkout, where samconfig.toml
// is. It has no AWS account but what env gives it.
func cli(ctx context.Context, env []string, args ...string) (output, error) {
	ctx, cancel := context.WithTimeout(ctx, samTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(root, python), slices.Concat([]string{"-m", "samcli"}, args, configFile())...)
	cmd.Dir = root
	cmd.Env = slices.Concat(environment(), engine.env, env)
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := output{stdout.String(), stderr.String()}
	if err != nil {
		err = fmt.Errorf("sam %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return out, err
}

// configFile names samconfig.toml, which SAM looks for beside the template.
func configFile() []string { return []string{"--config-file", filepath.Join(root, "samconfig.toml")} }

// environment is ours without what is of somebody's AWS account.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "AWS_") || strings.HasPrefix(variable, "SAM_")
	})
	return append(env, "SAM_CLI_TELEMETRY=0", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_DEFAULT_REGION=us-east-1", "COLUMNS=200")
}

// buildForHost builds the stack from a template that names this host's
// architecture, and is else the shipped one. Docker runs no other.
func buildForHost(ctx context.Context, build string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(build, 0o755); err != nil {
		return "", err
	}
	changed := strings.Replace(string(text), "Architectures: [arm64]", "Architectures: ["+architectures[runtime.GOARCH]+"]", 1)
	changed = strings.ReplaceAll(changed, "CodeUri: .", "CodeUri: "+root)
	template := filepath.Join(build, "host.yaml")
	if err := os.WriteFile(template, []byte(changed), 0o600); err != nil {
		return "", err
	}
	built := filepath.Join(build, "out")
	_, err = cli(ctx, []string{"TEMPLATE=" + template}, "build", "--template", template, "--build-dir", built)
	return filepath.Join(built, "template.yaml"), err
}

// functions are the logical IDs of the template's functions.
func functions(t *testing.T) []string {
	t.Helper()
	var template struct {
		Resources map[string]struct {
			Type string `yaml:"Type"`
		} `yaml:"Resources"`
	}
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &template); err != nil {
		t.Fatal(err)
	}
	var found []string
	for id, resource := range template.Resources {
		if resource.Type == "AWS::Serverless::Function" {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found
}

// The stack as users build it, for the architecture that the template names.
func TestBuild(t *testing.T) {
	build := t.TempDir()
	if _, err := cli(t.Context(), nil, "build", "--build-dir", build); err != nil {
		t.Fatal(err)
	}
	for _, function := range functions(t) {
		program(t, filepath.Join(build, function, "bootstrap"), elf.EM_AARCH64)
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	for _, function := range functions(t) {
		program(t, filepath.Join(filepath.Dir(host), function, "bootstrap"), machine)
	}
}

// program expects a static, stripped program for a machine.
func program(t *testing.T, path string, machine elf.Machine) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Errorf("read %s: %v", path, err)
		return
	}
	defer file.Close()
	if file.Machine != machine {
		t.Errorf("%s is for %s, want %s", path, file.Machine, machine)
	}
	if libraries, err := file.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("%s links to %v, %v, want nothing", path, libraries, err)
	}
	for _, part := range file.Progs {
		if part.Type == elf.PT_INTERP {
			t.Errorf("%s is not static: it has an interpreter", path)
		}
	}
	if file.Section(".symtab") != nil || file.Section(".debug_info") != nil {
		t.Errorf("%s is not stripped", path)
	}
}

func TestValidate(t *testing.T) {
	out, err := cli(t.Context(), nil, "validate", "--lint", "--region", "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.stdout, "is a valid SAM Template") {
		t.Errorf("sam validate says %s", out)
	}
	broken := filepath.Join(t.TempDir(), "template.yaml")
	text, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, bytes.Replace(text, []byte("VisibilityTimeout:"), []byte("VisibilityTimeuot:"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := cli(t.Context(), nil, "validate", "--lint", "--region", "us-east-1", "--template", broken); err == nil || !strings.Contains(out.String(), "VisibilityTimeuot") {
		t.Errorf("a misspelt property passes: %v, %s", err, out)
	}
}

// macroFunction changes nothing anywhere, and so is never dry.
const macroFunction = "MeshTaskFunction"

// reportEvent asks the sweep what it sees, which changes nothing, either.
const reportEvent = "sweep-report"

// invocations are the files of events/ that each function is for.
var invocations = map[string][]string{
	"DeploymentHookFunction":  {"deployment-hook-post-scale-up", "deployment-hook-pre-scale-up", "deployment-hook-rollback", "deployment-hook-traffic-shift"},
	"DeregisterTasksFunction": {"mesh-task-essential-exited", "mesh-task-spot-stopping", "mesh-task-stopped", "mesh-task-stopping", "sqs-batch"},
	macroFunction:             {"macro"},
	"PublishServersFunction":  {"schedule", "server-task-running", "server-task-stopping"},
	"SetupAclFunction":        {"setup-acl-create", "setup-acl-delete"},
	"SweepFunction":           {"schedule", "sweep-override", reportEvent},
}

func TestEveryEventAndFunctionIsInvoked(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "events", "*"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for function, events := range invocations {
		if !slices.Contains(functions(t), function) {
			t.Errorf("the template has no function %s", function)
		}
		for _, event := range events {
			used[event+".json"] = true
		}
	}
	for _, file := range files {
		if !used[filepath.Base(file)] {
			t.Errorf("no function is invoked with %s", file)
		}
		delete(used, filepath.Base(file))
	}
	for event := range used {
		t.Errorf("there is no events/%s", event)
	}
	for _, function := range functions(t) {
		if len(invocations[function]) == 0 {
			t.Errorf("%s is invoked with no file of events/", function)
		}
	}
}

// invoke runs a function in Docker, as samconfig.toml has it.
func invoke(t *testing.T, function, event string) output {
	t.Helper()
	out, err := cli(t.Context(), nil, "local", "invoke", function, "--template", host, "--event", event)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// answer is what a function prints in a dry run.
type answer struct {
	DryRun            bool              `json:"dryRun"`
	Would             []map[string]any  `json:"would"`
	CouldNotRead      []string          `json:"couldNotRead"`
	Requests          []json.RawMessage `json:"requests"`
	BatchItemFailures []json.RawMessage `json:"batchItemFailures"`
}

// Nobody's AWS account and no Consul are there: what a function would do with
// each event is in the golden files, and in its log.
func TestGoldenLocalInvoke(t *testing.T) {
	for function, events := range invocations {
		if function == macroFunction {
			continue
		}
		for _, event := range events {
			if event == reportEvent {
				continue
			}
			t.Run(function+"/"+event, func(t *testing.T) {
				out := invoke(t, function, filepath.Join("events", event+".json"))
				var got answer
				if err := json.Unmarshal([]byte(out.stdout), &got); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if !got.DryRun || len(got.Would) == 0 {
					t.Errorf("it prints no plan: %s", out)
				}
				var all map[string]any
				if err := json.Unmarshal([]byte(out.stdout), &all); err != nil {
					t.Fatal(err)
				}
				// Why something can't be read is the network's affair.
				all["couldNotRead"] = what(got.CouldNotRead)
				text, err := json.MarshalIndent(all, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				golden.Expect(t, filepath.Join("testdata", function+"-"+event+".json"), append(text, '\n'))
				for attempt := 1; ; attempt++ {
					missing := checkLog(t, out.stderr, got)
					if missing == "" {
						break
					}
					// The SAM CLI attaches to a container that runs already. What that writes
					// until then, the line with START first, may be lost on a busy machine.
					if attempt == 5 || strings.Contains(out.stderr, "START RequestId: ") {
						t.Fatalf("%s\n%s", missing, out.stderr)
					}
					t.Logf("once more, as the log has no beginning: %s", missing)
					out = invoke(t, function, filepath.Join("events", event+".json"))
				}
			})
		}
	}
}

// The macro answers as it does CloudFormation.
func TestLocalInvokeOfTheMacro(t *testing.T) {
	out := invoke(t, macroFunction, filepath.Join("events", "macro.json"))
	var got struct {
		Status   string
		Fragment struct {
			Resources map[string]struct{ Type string }
		}
	}
	if err := json.Unmarshal([]byte(out.stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got.Status != "success" || got.Fragment.Resources["WebTaskDefinitionEcsMeshPolicy"].Type != "AWS::IAM::Policy" {
		t.Errorf("the macro's answer is %s", out)
	}
}

// The report says what it could not see, which is all here.
func TestLocalInvokeOfTheReport(t *testing.T) {
	out := invoke(t, "SweepFunction", filepath.Join("events", reportEvent+".json"))
	var got struct {
		Summary    string
		Unanswered []string
		Would      []any
	}
	if err := json.Unmarshal([]byte(out.stdout), &got); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(got.Summary, "Consul's catalog could not be read") || len(got.Unanswered) == 0 || len(got.Would) > 0 {
		t.Errorf("the report is %s", out)
	}
}

func what(unread []string) []string {
	names := make([]string, len(unread))
	for i, text := range unread {
		names[i], _, _ = strings.Cut(text, ": ")
	}
	return names
}

// checkLog expects a line for each step of the plan and for each thing that was
// not to be had, and that nothing is said to be done.
//
// It returns what the log has too little, or too much, of.
func checkLog(t *testing.T, log string, got answer) string {
	t.Helper()
	var would, unread, faults int
	for line := range strings.Lines(log) {
		var entry struct{ Level, Message string }
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch {
		case strings.HasPrefix(entry.Message, "would "):
			would++
		case strings.HasPrefix(entry.Message, "could not read "):
			unread++
		case entry.Level == "ERROR":
			faults++
		}
		for _, claim := range []string{"drained", "deregistered", "published servers", "made what"} {
			if strings.Contains(entry.Message, claim) {
				t.Errorf("the log claims that something was done: %s", line)
			}
		}
		for _, metric := range []string{`"TasksDrained":1`, `"TasksDeregistered":1`, `"ServersPublished"`} {
			if strings.Contains(line, metric) {
				t.Errorf("a metric claims that something was done: %s", line)
			}
		}
	}
	// What nobody can read is an error in a dry run, too.
	if faults != len(got.BatchItemFailures) {
		return fmt.Sprintf("the log has %d errors, and %d messages are refused", faults, len(got.BatchItemFailures))
	}
	if would != len(got.Would) || unread != len(got.CouldNotRead) {
		return fmt.Sprintf("the log has %d lines of what would be done and %d of what could not be read, want %d and %d",
			would, unread, len(got.Would), len(got.CouldNotRead))
	}
	return ""
}

// SAM's exit code is 0 whatever the function does; what it prints says more.
func TestLocalInvokeWithTheWrongEvent(t *testing.T) {
	for name, test := range map[string]struct{ function, event, want string }{
		"a list":                      {"DeregisterTasksFunction", `[]`, "decode"},
		"a batch of another source":   {"DeregisterTasksFunction", `{"Records": [{"eventSource": "aws:kinesis"}]}`, `eventSource is "aws:kinesis", want aws:sqs`},
		"an override that is no such": {"SweepFunction", `{"maxDeletes": "many"}`, "maxDeletes"},
		"an event of a task":          {"SetupAclFunction", `{"source": "aws.ecs"}`, `CloudFormation asks to "" the resource, want Create, Update or Delete`},
	} {
		t.Run(name, func(t *testing.T) {
			event := filepath.Join(t.TempDir(), "event.json")
			if err := os.WriteFile(event, []byte(test.event), 0o600); err != nil {
				t.Fatal(err)
			}
			out := invoke(t, test.function, event)
			var failure struct{ ErrorMessage string }
			if err := json.Unmarshal([]byte(out.stdout), &failure); err != nil || !strings.Contains(failure.ErrorMessage, test.want) {
				t.Errorf("it says %q, want %q (%v)\n%s", failure.ErrorMessage, test.want, err, out)
			}
		})
	}
}
