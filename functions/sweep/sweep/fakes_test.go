package sweep

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/publisher"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// fakeECS knows the tasks of some clusters, as ECS's API shows them.
type fakeECS struct {
	clusters map[string]bool       // by ARN
	tasks    map[string]types.Task // by ARN
	failures map[string]string     // reasons other than MISSING, by task ARN
	silent   map[string]bool       // tasks about which it says nothing, by ARN

	// before is called before each call, with its number; an error is its answer.
	before func(call int) error
	mu     sync.Mutex // one call at a time
	calls  []describeCall
}

type describeCall struct {
	Cluster string
	Tasks   int
}

var _ ecsAPI = (*fakeECS)(nil)

func newFakeECS(clusters ...string) *fakeECS {
	f := &fakeECS{clusters: map[string]bool{}, tasks: map[string]types.Task{}, failures: map[string]string{}, silent: map[string]bool{}}
	for _, cluster := range clusters {
		f.clusters[cluster] = true
	}
	return f
}

// set puts a task into a state.
func (f *fakeECS) set(arn, lastStatus, desiredStatus string) {
	task := types.Task{TaskArn: &arn, LastStatus: &lastStatus, DesiredStatus: &desiredStatus}
	if desiredStatus == "STOPPED" {
		task.StopCode = types.TaskStopCodeUserInitiated
		task.StoppedReason = aws.String("Task stopped by user")
	}
	f.tasks[arn] = task
}

// forget has ECS answer MISSING about a task.
func (f *fakeECS) forget(arn string) { delete(f.tasks, arn) }

func (f *fakeECS) DescribeTasks(ctx context.Context, in *ecs.DescribeTasksInput, _ ...func(*ecs.Options)) (*ecs.DescribeTasksOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, describeCall{*in.Cluster, len(in.Tasks)})
	if f.before != nil {
		if err := f.before(len(f.calls)); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(in.Tasks) == 0 || len(in.Tasks) > 100 {
		return nil, &types.InvalidParameterException{Message: aws.String(fmt.Sprintf("%d tasks", len(in.Tasks)))}
	}
	if !f.clusters[*in.Cluster] {
		return nil, &types.ClusterNotFoundException{Message: aws.String("Cluster not found.")}
	}
	out := &ecs.DescribeTasksOutput{}
	for _, arn := range in.Tasks {
		parsed, err := mesh.ParseTaskARN(arn)
		if err != nil || len(parsed.ID) < 32 || parsed.Cluster != "" && parsed.ClusterARN() != *in.Cluster {
			return nil, &types.InvalidParameterException{Message: aws.String("Invalid identifier: " + arn)}
		}
		task, known := f.tasks[arn]
		switch {
		case f.silent[arn]:
		case f.failures[arn] != "":
			out.Failures = append(out.Failures, types.Failure{Arn: &arn, Reason: aws.String(f.failures[arn])})
		case known:
			out.Tasks = append(out.Tasks, task)
		default:
			out.Failures = append(out.Failures, types.Failure{Arn: &arn, Reason: aws.String("MISSING")})
		}
	}
	slices.Reverse(out.Tasks) // ECS promises no order
	return out, nil
}

// ListTasks has two tasks on a page, sorted by ARN.
func (f *fakeECS) ListTasks(ctx context.Context, in *ecs.ListTasksInput, _ ...func(*ecs.Options)) (*ecs.ListTasksOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !f.clusters[*in.Cluster] {
		return nil, &types.ClusterNotFoundException{Message: aws.String("Cluster not found.")}
	}
	var arns []string
	for arn, task := range f.tasks {
		if strings.HasPrefix(arn, strings.Replace(*in.Cluster, ":cluster/", ":task/", 1)+"/") && *task.DesiredStatus == string(in.DesiredStatus) {
			arns = append(arns, arn)
		}
	}
	slices.Sort(arns)
	first, _ := slices.BinarySearch(arns, aws.ToString(in.NextToken))
	out := &ecs.ListTasksOutput{TaskArns: arns[first:min(first+2, len(arns))]}
	if first+2 < len(arns) {
		out.NextToken = &arns[first+2]
	}
	return out, nil
}

// fakeNodes is a catalog in memory, with Consul's indexes.
type fakeNodes struct {
	nodes   []catalog.Node
	index   uint64
	reasons map[string]string // of drains, by node
	hidden  error             // what reading answers
	refuse  map[string]error  // what changing a node answers
	before  func()            // called before changes are applied
	applied [][]catalog.Change
}

var _ nodes = (*fakeNodes)(nil)

func (f *fakeNodes) Nodes(ctx context.Context) ([]catalog.Node, error) {
	if f.hidden != nil {
		return nil, f.hidden
	}
	return slices.Clone(f.nodes), ctx.Err()
}

func (f *fakeNodes) Apply(ctx context.Context, changes []catalog.Change) []catalog.Result {
	if f.before != nil {
		f.before()
	}
	f.applied = append(f.applied, changes)
	results := make([]catalog.Result, len(changes))
	for i, c := range changes {
		if results[i].Err = ctx.Err(); results[i].Err == nil {
			results[i] = f.apply(c)
		}
	}
	return results
}

func (f *fakeNodes) apply(c catalog.Change) catalog.Result {
	i := slices.IndexFunc(f.nodes, func(n catalog.Node) bool { return n.Name == c.Node })
	switch {
	case f.refuse[c.Node] != nil:
		return catalog.Result{Err: f.refuse[c.Node]}
	case c.Action == catalog.Delete && i >= 0:
		f.nodes = slices.Delete(f.nodes, i, i+1)
	case c.Action == catalog.Drain && i < 0:
		return catalog.Result{Missing: true}
	case c.Action == catalog.Drain:
		f.index++
		f.nodes[i].DrainIndex = f.index
		f.reasons[c.Node] = c.Reason
	case c.Action == catalog.Undrain && (i < 0 || f.nodes[i].DrainIndex != c.Index):
		return catalog.Result{Stale: true}
	case c.Action == catalog.Undrain:
		f.nodes[i].DrainIndex = 0
	}
	return catalog.Result{}
}

// names are the nodes, those that are drained in parentheses.
func (f *fakeNodes) names() []string {
	names := []string{}
	for _, n := range f.nodes {
		if n.Drained() {
			n.Name = "(" + n.Name + ")"
		}
		names = append(names, strings.TrimSpace(n.Name))
	}
	return names
}

// fakePublisher counts how often it published.
type fakePublisher struct {
	err   error
	hangs bool
	calls int
	lists publisher.Lists
}

var _ servers = (*fakePublisher)(nil)

// Lists implements servers.
func (f *fakePublisher) Lists(context.Context) publisher.Lists { return f.lists }

func (f *fakePublisher) Publish(ctx context.Context) error {
	f.calls++
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}
