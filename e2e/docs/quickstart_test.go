package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	cloudformationtypes "github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/tools"
)

// TestQuickStartAsItIsWritten runs every command of docs/quick-start.md, in its
// order, in one shell as its reader would, against the emulator of AWS: with the
// real AWS CLI, the real Makefile, the real templates and functions. What is
// replaced is in testdata/quick-start: Docker, SAM, and the question for one's
// public address. ECS runs no task there; it says of Consul's server that it runs.
func TestQuickStartAsItIsWritten(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	q := newQuickStart(ctx, t)
	all := q.steps(t)
	q.run(ctx, t, strings.Join(all[:len(all)-1], "\n"))

	if !strings.Contains(q.printed, "\n"+serverAddress+"\n") {
		t.Errorf("the list of servers was not printed:\n%s", q.printed)
	}
	stacks := q.stacks(ctx, t)
	if want := []string{"consul", "ecsmesh", "hello", "mesh-tasks"}; !slices.Equal(stacks, want) {
		t.Errorf("the stacks are %q, want %q", stacks, want)
	}
	image := emulator.AccountID + ".dkr.ecr." + emulator.Region + ".amazonaws.com/ecsmesh-init:1"
	docker, err := os.ReadFile(filepath.Join(q.dir, "docker.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`(?m)^login --username AWS `, `(?m)^build .*--tag ` + image + ` `, `(?m)^push ` + image + `$`} {
		if !regexp.MustCompile(want).Match(docker) {
			t.Errorf("docker was not called as %s:\n%s", want, docker)
		}
	}
	q.isMeshTask(ctx, t, "hello", image)
	q.isMeshTask(ctx, t, "mesh-tasks-api", image)

	q.run(ctx, t, all[len(all)-1])
	if left := q.stacks(ctx, t); len(left) > 0 {
		t.Errorf("the stacks %q are left", left)
	}
	if _, err := ssm.NewFromConfig(q.aws.Config()).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/ecsmesh/consul-servers")}); err == nil {
		t.Error("the list of servers is left")
	}
	clusters, err := ecs.NewFromConfig(q.aws.Config()).DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{"mesh"}})
	if err == nil && slices.ContainsFunc(clusters.Clusters, func(c ecstypes.Cluster) bool { return aws.ToString(c.Status) == "ACTIVE" }) {
		t.Error("the cluster is left")
	}
}

// serverAddress is where the Consul server is said to be. Nobody answers there.
const serverAddress = "127.77.0.10"

// quickStart is a reader's shell, in a checkout of which the rest doesn't see what
// is written.
type quickStart struct {
	aws     *emulator.Emulator
	dir     string // of what is replaced, and of what that writes down
	work    string // the checkout
	env     []string
	printed string
}

func newQuickStart(ctx context.Context, t *testing.T) *quickStart {
	t.Helper()
	root := checkout(t)
	q := &quickStart{dir: t.TempDir(), work: t.TempDir()}
	servers := &serverTasks{}
	front := httptest.NewServer(servers)
	t.Cleanup(front.Close)
	var err error
	q.aws, err = emulator.Start(ctx, emulator.Options{Dir: t.TempDir(), ECSEndpoint: front.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.aws.Stop(); err != nil {
			t.Error(err)
		}
	})
	behind, err := url.Parse(q.aws.URL())
	if err != nil {
		t.Fatal(err)
	}
	servers.rest = httputil.NewSingleHostReverseProxy(behind)

	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if err := os.Symlink(filepath.Join(root, entry.Name()), filepath.Join(q.work, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
	replaced, err := filepath.Glob(filepath.Join(root, "e2e/docs/testdata/quick-start/*"))
	if err != nil || len(replaced) == 0 {
		t.Fatalf("nothing is replaced, %v", err)
	}
	for _, file := range replaced {
		if err := os.Symlink(file, filepath.Join(q.dir, filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	python, err := tools.AWSCLI()
	if err != nil {
		t.Fatal(err)
	}
	realMake, err := exec.LookPath("make")
	if err != nil {
		t.Fatal(err)
	}
	q.env = []string{
		"PATH=" + q.dir + ":" + os.Getenv("PATH"), "HOME=" + q.dir, "TMPDIR=" + t.TempDir(),
		"AWS_ENDPOINT_URL=" + q.aws.URL(), "AWS_ENDPOINT_URL_ECS=" + front.URL,
		"AWS_ACCESS_KEY_ID=" + emulator.AccountID, "AWS_SECRET_ACCESS_KEY=test",
		"AWS_REGION=" + emulator.Region, "AWS_DEFAULT_REGION=" + emulator.Region,
		"AWS_PYTHON=" + python, "QUICK_START=" + q.dir, "REAL_MAKE=" + realMake,
	}
	q.pack(ctx, t)
	return q
}

// pack does what SAM does before it deploys: it puts the functions that were built
// into S3, and their places into the template.
func (q *quickStart) pack(ctx context.Context, t *testing.T) {
	t.Helper()
	template := readFile(t, "template.yaml")
	functions := regexp.MustCompile(`(?m)^build-([A-Za-z]+): NAME = (.+)$`).FindAllStringSubmatch(readFile(t, "Makefile"), -1)
	if len(functions) < 4 {
		t.Fatalf("the Makefile builds %d functions", len(functions))
	}
	for _, function := range functions {
		bootstrap, err := tools.Dist(function[2] + "/bootstrap")
		if err != nil {
			t.Fatal(err)
		}
		head, body, found := strings.Cut(template, "\n  "+function[1]+":\n    Type: AWS::Serverless::Function\n")
		if !found {
			t.Fatalf("template.yaml has no %s", function[1])
		}
		body = strings.Replace(body, "CodeUri: .", "CodeUri: "+filepath.Dir(bootstrap), 1)
		template = head + "\n  " + function[1] + ":\n    Type: AWS::Serverless::Function\n" + body
	}
	file := filepath.Join(q.dir, "template.yaml")
	if err := os.WriteFile(file, []byte(template), 0o600); err != nil {
		t.Fatal(err)
	}
	q.run(ctx, t, "aws s3 mb s3://code\naws cloudformation package --template-file "+file+" --s3-bucket code --output-template-file $QUICK_START/packaged.yaml")
}

// steps are the commands below each heading.
func (q *quickStart) steps(t *testing.T) []string {
	t.Helper()
	text := readFile(t, "docs", "quick-start.md")
	found, err := document{"docs/quick-start.md", text}.blocks()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text, "\n")
	var steps []string
	last := ""
	for _, b := range found {
		at := b.line - 1
		for !strings.HasPrefix(lines[at], "## ") {
			at--
		}
		if lines[at] != last {
			steps, last = append(steps, ""), lines[at]
		}
		steps[len(steps)-1] += b.text
	}
	if len(steps) != 8 {
		t.Fatalf("it has %d steps with commands", len(steps))
	}
	return steps
}

// run runs commands where those before them ended: with their variables and
// functions.
func (q *quickStart) run(ctx context.Context, t *testing.T, commands string) {
	t.Helper()
	const script = `
set -euo pipefail
shopt -s inherit_errexit
if [[ -e $QUICK_START/shell ]]; then source "$QUICK_START/shell"; fi
COMMANDS
{ declare -p VPC SUBNETS REGISTRY CLIENTS GROUP; declare -f; } >"$QUICK_START/shell" 2>/dev/null || true
`
	shell := exec.CommandContext(ctx, "bash", "-c", strings.Replace(script, "COMMANDS", commands, 1))
	shell.Dir, shell.Env = q.work, q.env
	var out bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &out
	if err := shell.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	q.printed += out.String()
}

func (q *quickStart) stacks(ctx context.Context, t *testing.T) []string {
	t.Helper()
	listed, err := cloudformation.NewFromConfig(q.aws.Config()).ListStacks(ctx, &cloudformation.ListStacksInput{
		StackStatusFilter: []cloudformationtypes.StackStatus{cloudformationtypes.StackStatusCreateComplete},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, stack := range listed.StackSummaries {
		names = append(names, aws.ToString(stack.StackName))
	}
	slices.Sort(names)
	return names
}

// isMeshTask looks at what ECS has of a task definition.
func (q *quickStart) isMeshTask(ctx context.Context, t *testing.T, family, initImage string) {
	t.Helper()
	described, err := ecs.NewFromConfig(q.aws.Config()).DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: aws.String(family)})
	if err != nil {
		t.Error(err)
		return
	}
	images := map[string]string{}
	for _, c := range described.TaskDefinition.ContainerDefinitions {
		images[aws.ToString(c.Name)] = aws.ToString(c.Image)
	}
	if images["ecsmesh-init"] != initImage || images["envoy"] == "" || len(images) != 3 {
		t.Errorf("%s has the containers %v", family, images)
	}
}

// serverTasks is ECS's answer to who asks for tasks: one, of Consul. For the rest
// it asks the emulator.
type serverTasks struct{ rest http.Handler }

func (s *serverTasks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const arn = "arn:aws:ecs:" + emulator.Region + ":" + emulator.AccountID + ":task/mesh/0123456789abcdef0123456789abcdef"
	type object = map[string]any
	var answer object
	switch _, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), "."); action {
	case "ListTasks":
		answer = object{"taskArns": []string{arn}}
	case "DescribeTasks":
		answer = object{"failures": []any{}, "tasks": []any{object{
			"taskArn": arn, "lastStatus": "RUNNING", "desiredStatus": "RUNNING", "healthStatus": "HEALTHY", "group": "service:consul-server",
			"attachments": []any{object{"type": "ElasticNetworkInterface", "status": "ATTACHED", "details": []any{
				object{"name": "networkInterfaceId", "value": "eni-0123456789abcdef0"}, object{"name": "privateIPv4Address", "value": serverAddress},
			}}},
			"containers": []any{object{"name": "consul", "lastStatus": "RUNNING", "networkInterfaces": []any{object{"privateIpv4Address": serverAddress}}}},
		}}}
	case "StopTask":
		answer = object{"task": object{"taskArn": arn, "desiredStatus": "STOPPED"}}
	default:
		s.rest.ServeHTTP(w, r)
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(answer)
}
