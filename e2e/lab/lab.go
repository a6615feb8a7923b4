// Package lab puts a whole mesh together on one host: a small ECS that runs
// tasks as processes, an AWS emulator with the project's own stack deployed
// from template.yaml, and ECS tasks from examples: real Consul servers, and
// tasks of the mesh with real Envoys. Nothing in it is a stand-in but
// AWS itself, and the application.
//
// Each lab has a block of loopback addresses, a folder and processes of its
// own, so several run side by side.
package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/emulator"
	"ecsmesh/e2e/tools"
	"ecsmesh/shared/parameter"
	"ecsmesh/shared/serverlist"
)

// Names in the lab's AWS account.
const (
	ConsulCluster    = "consul"
	ConsulService    = "consul-server"
	MeshCluster      = "mesh"
	ServersParameter = "/ecsmesh/consul-servers"
	Stack            = "ecsmesh"        // template.yaml
	ServersStack     = "consul-servers" // examples/consul-servers.yaml, or consul-dev.yaml
	MeshStack        = "mesh-tasks"     // examples/mesh-tasks.yaml
	deprovisioning   = time.Second      // Fargate's is about 22 s
	deliveryTimeout  = 10 * time.Second
)

// Options of a lab. The zero value is good.
type Options struct {
	// Dir holds everything that the lab writes: a new temporary folder by
	// default, which Close removes. A folder that is given stays.
	Dir string

	// Second is how long a second of a task definition lasts, such as those
	// of Envoy's health check: a real one by default.
	Second time.Duration

	// Events stands between ECS and EventBridge. It may hand an event on
	// late, twice or not at all. By default each is delivered at once.
	Events func(ctx context.Context, event ecs.Event, deliver func(ecs.Event))

	// Retry is after how long the queue hands out an event again that could not
	// be handled. By default it is what template.yaml has, which are minutes.
	Retry time.Duration

	// Parameters of template.yaml beside those that say where Consul is.
	Parameters map[string]string

	// Servers is the number of Consul servers, which has to be odd: 3 by
	// default.
	Servers int

	// Dev is one Consul server of examples/consul-dev.yaml, in place of those
	// of examples/consul-servers.yaml.
	Dev bool

	// Secure is Consul with TLS and ACLs that deny by default, and an AWS that
	// allows what IAM's policies allow, and no more.
	Secure bool
}

// Lab is a running lab.
type Lab struct {
	ECS      *ecs.Fake
	Emulator *emulator.Emulator
	Servers  *ecs.Service // the Consul servers
	Web, API *ecs.Service // the mesh tasks
	Dir      string
	Outputs  map[string]string // of template.yaml's stack

	root      string // of the checkout
	temporary bool
	block     netip.Prefix
	consuls   int       // Consul servers
	security  *security // nil: open to all
	servers   *serverlist.Parameter

	parameters map[string]string // of template.yaml, beside the lab's own
	retry      time.Duration

	stacks       sync.Mutex // one change at a time
	gossipKeyARN string     // of the secret that the servers' stack made

	mu     sync.Mutex
	faults []error // of work that nobody waits for
}

// Start starts a lab without any task: ECS, the emulator, and in it the stack
// that users deploy. Close ends it. When ctx ends during the start, Start
// cleans up and returns an error.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	l, err := newLab(opts)
	if err != nil {
		return nil, fmt.Errorf("start the lab: %w", err)
	}
	if err := l.start(ctx, opts); err != nil {
		return nil, errors.Join(fmt.Errorf("start the lab: %w", err), l.Close())
	}
	return l, nil
}

func newLab(opts Options) (*Lab, error) {
	root, err := tools.Root()
	if err != nil {
		return nil, err
	}
	l := &Lab{root: root, Dir: opts.Dir, consuls: cmp.Or(opts.Servers, 3)}
	if l.Dir != "" {
		return l, os.MkdirAll(l.Dir, 0o755)
	}
	l.temporary = true
	l.Dir, err = os.MkdirTemp("", "ecsmesh-lab-")
	return l, err
}

func (l *Lab) start(ctx context.Context, opts Options) error {
	images, err := l.images(ctx)
	if err != nil {
		return err
	}
	block, listener, err := claimBlock()
	if err != nil {
		return err
	}
	l.block = block
	if opts.Secure {
		if l.security, err = newSecurity(filepath.Join(l.Dir, "consul")); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	emulatorAddress := block.Addr().Next().Next()
	ecsURL := "http://" + listener.Addr().String()
	l.Emulator, err = emulator.Start(ctx, emulator.Options{
		Dir:         filepath.Join(l.Dir, "aws"),
		Address:     emulatorAddress.String(),
		ECSEndpoint: ecsURL,
		EnforceIAM:  opts.Secure,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	credentials := l.roleCredentials
	if !opts.Secure {
		credentials = nil
	}
	l.ECS, err = ecs.Start(ecs.Options{
		Credentials:    credentials,
		Secret:         l.secret,
		Dir:            filepath.Join(l.Dir, "tasks"),
		Listener:       listener,
		Addresses:      netip.PrefixFrom(tasksBase(block), 16),
		Images:         images,
		Environment:    map[string]string{"AWS_ENDPOINT_URL": l.Emulator.URL()},
		Events:         l.events(opts),
		Deprovisioning: deprovisioning,
		Second:         opts.Second,
		Region:         emulator.Region,
		Account:        emulator.AccountID,
	})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	l.ECS.CreateCluster(MeshCluster)
	defineServer := l.defineServer
	if opts.Dev {
		l.consuls, defineServer = 1, l.defineDevServer
	}
	l.Servers = l.ECS.CreateService(ecs.ServiceOptions{Name: ConsulService, Cluster: ConsulCluster, Define: defineServer})
	l.Web = l.ECS.CreateService(ecs.ServiceOptions{Name: "web", Cluster: MeshCluster, Define: l.defineMeshTask("web")})
	l.API = l.ECS.CreateService(ecs.ServiceOptions{Name: "api", Cluster: MeshCluster, Define: l.defineMeshTask("api")})
	l.servers = serverlist.New(parameter.NewStore(l.Emulator.Config()), ServersParameter)
	l.parameters, l.retry = opts.Parameters, opts.Retry
	if l.security != nil {
		if err := l.publishSecurity(ctx); err != nil {
			return err
		}
	}
	return l.deployStack(ctx, l.template(), nil)
}

// tasksBase is the address before those of the tasks: 127.X.1.0.
func tasksBase(block netip.Prefix) netip.Addr {
	b := block.Addr().As4()
	return netip.AddrFrom4([4]byte{b[0], b[1], 1, 0})
}

// functions are those of template.yaml, each with what it runs of `make build`'s.
func functions() map[string]string {
	return map[string]string{
		"PublishServersFunction":  "publish-servers/bootstrap",
		"DeregisterTasksFunction": "deregister-tasks/bootstrap",
		"SweepFunction":           "sweep/bootstrap",
		"DeploymentHookFunction":  "deployment-hook/bootstrap",
		"SetupAclFunction":        "setup-acl/bootstrap",
		"MeshTaskFunction":        "mesh-task/bootstrap",
	}
}

func (l *Lab) template() string { return filepath.Join(l.root, "template.yaml") }

// Update deploys the stack again, as another version of the template has it,
// with parameters beside the lab's. The change may be nil.
func (l *Lab) Update(ctx context.Context, change func(template string) string, parameters map[string]string) error {
	if change == nil {
		return l.deployStack(ctx, l.template(), parameters)
	}
	content, err := os.ReadFile(l.template())
	if err != nil {
		return err
	}
	changed := filepath.Join(l.Dir, "template.yaml")
	if err := os.WriteFile(changed, []byte(change(string(content))), 0o600); err != nil {
		return err
	}
	return l.deployStack(ctx, changed, parameters)
}

// deployStack deploys a template, with the functions that `make build` made.
// More are parameters that come with a change of the stack.
func (l *Lab) deployStack(ctx context.Context, template string, more map[string]string) error {
	code := map[string]string{}
	for function, program := range functions() {
		bootstrap, err := tools.Dist(program)
		if err != nil {
			return err
		}
		code[function] = filepath.Dir(bootstrap)
	}
	parameters := map[string]string{
		"ConsulServerClusterArn":  l.ECS.CreateCluster(ConsulCluster),
		"ConsulServerServiceName": ConsulService,
		"ServersParameterName":    ServersParameter,
	}
	if l.security != nil {
		parameters["ConsulTls"], parameters["ConsulCaParameterName"] = "ENABLED", CAParameter
	}
	maps.Copy(parameters, l.parameters)
	maps.Copy(parameters, more)
	outputs, err := l.Emulator.Deploy(ctx, Stack, template, code, parameters)
	if err != nil {
		return err
	}
	l.Outputs = outputs
	if l.retry == 0 {
		return nil
	}
	_, err = sqs.NewFromConfig(l.Emulator.Config()).SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{
		QueueUrl:   aws.String(outputs["TaskEventsQueueUrl"]),
		Attributes: map[string]string{"VisibilityTimeout": fmt.Sprint(l.retry.Seconds())},
	})
	if err != nil {
		return fmt.Errorf("have the queue try again after %s: %w", l.retry, err)
	}
	return nil
}

// Installed reports everything that a lab needs and that is not there.
func Installed() error {
	_, pythonErr := tools.Python()
	_, consulErr := tools.Consul()
	_, envoyErr := tools.Envoy()
	faults := []error{pythonErr, consulErr, envoyErr}
	for _, program := range append(slices.Sorted(maps.Values(functions())), "ecsmesh-init") {
		_, err := tools.Dist(program)
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// images says what stands for the images of the task definitions.
func (l *Lab) images(ctx context.Context) (map[string]ecs.Image, error) {
	consul, consulErr := tools.Consul()
	envoy, envoyErr := tools.Envoy()
	init, initErr := tools.Dist("ecsmesh-init")
	app, appErr := l.build(ctx, "app")
	dataplane, dataplaneErr := l.build(ctx, "dataplane")
	if err := errors.Join(consulErr, envoyErr, initErr, appErr, dataplaneErr); err != nil {
		return nil, err
	}
	return map[string]ecs.Image{
		consulImage: {Entrypoint: []string{consul}, Path: filepath.Dir(consul) + ":/usr/bin:/bin"},
		envoyImage:  {Entrypoint: []string{envoy}},
		initImage:   {Entrypoint: []string{init}},
		appImage:    {Entrypoint: []string{app}},

		dataplaneImage: {Entrypoint: []string{dataplane}, Path: filepath.Dir(envoy)},
		shellImage:     {Path: os.Getenv("PATH")},
	}, nil
}

// build builds the application, or what stands in for consul-dataplane: parts
// of the lab, and of no delivery.
func (l *Lab) build(ctx context.Context, program string) (string, error) {
	path := filepath.Join(l.Dir, program)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./e2e/"+program)
	cmd.Dir = l.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", program, err, out)
	}
	return path, nil
}

// events delivers ECS's events to EventBridge, through Options.Events.
func (l *Lab) events(opts Options) func(context.Context, ecs.Event) {
	between := opts.Events
	if between == nil {
		between = func(_ context.Context, event ecs.Event, deliver func(ecs.Event)) { deliver(event) }
	}
	return func(ctx context.Context, event ecs.Event) {
		between(ctx, event, func(e ecs.Event) { l.deliver(ctx, e.Envelope) })
	}
}

func (l *Lab) deliver(ctx context.Context, envelope json.RawMessage) {
	attempt, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	if err := l.Emulator.PutEvent(attempt, envelope); err != nil && ctx.Err() == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.faults = append(l.faults, fmt.Errorf("deliver a task event: %w", err))
	}
}

// ServerList is the parameter's value: the addresses that tasks will find.
func (l *Lab) ServerList(ctx context.Context) ([]netip.Addr, error) {
	return l.servers.Read(ctx)
}

// Close ends everything in the lab and makes sure of it: its error names each
// process that is left, and what went wrong unseen while the lab ran.
func (l *Lab) Close() error {
	var faults []error
	if l.ECS != nil {
		faults = append(faults, l.ECS.Close())
	}
	if l.Emulator != nil {
		faults = append(faults, l.Emulator.Stop())
	}
	faults = append(faults, leftovers(l.Dir))
	l.mu.Lock()
	faults = append(faults, l.faults...)
	l.mu.Unlock()
	if l.temporary {
		faults = append(faults, os.RemoveAll(l.Dir))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("close the lab: %w", err)
	}
	return nil
}
