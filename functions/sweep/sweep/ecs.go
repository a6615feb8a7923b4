package sweep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ecsmesh/shared/mesh"
	"ecsmesh/shared/taskevent"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

// describeLimit is how many tasks DescribeTasks takes in one call.
const describeLimit = 100

// ErrNoCluster is returned for a cluster that ECS doesn't know, or no more.
var ErrNoCluster = errors.New("there is no such cluster")

// ErrRefused is returned for a call that ECS refuses for what it asks.
var ErrRefused = errors.New("ECS refuses the question")

// Answer is what ECS says of one task. The zero Answer is none.
type Answer struct {
	LastStatus    string // where the task is
	DesiredStatus string // where ECS wants it
	StopReason    string // why it stops, in the words of its events; see taskevent.Event.StopReason
	Revision      string // its task definition, as FAMILY:REVISION
	InMesh        bool   // it has ecsmesh's init container

	// Failure is why ECS says nothing else: MISSING for a task that it doesn't
	// know, which a wrong cluster or Region also gives.
	Failure string
}

// ECS answers for the tasks of the caller's account and Region.
type ECS struct {
	client ecsAPI
}

// ecsAPI is what is needed of the ECS client.
type ecsAPI interface {
	ecs.DescribeTasksAPIClient
	ecs.ListTasksAPIClient
}

// NewECS returns ECS as the client reaches it.
func NewECS(client ecsAPI) *ECS { return &ECS{client: client} }

// Describe asks, in one call, about at most 100 tasks of a cluster, all given by
// their ARNs. It returns the answers by the tasks' ARNs; of some there may be
// none. It returns ErrNoCluster where there is no such cluster, and ErrRefused
// where one of the ARNs is malformed.
func (e *ECS) Describe(ctx context.Context, cluster string, tasks []string) (map[string]Answer, error) {
	out, err := e.client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: tasks})
	var noCluster *types.ClusterNotFoundException
	var refused *types.InvalidParameterException
	switch {
	case errors.As(err, &noCluster):
		err = fmt.Errorf("%w (%w)", ErrNoCluster, err)
	case errors.As(err, &refused):
		err = fmt.Errorf("%w (%w)", ErrRefused, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: ECS throttled the calls, or was not reached, until the time was up", err)
	}
	if err != nil {
		return nil, fmt.Errorf("describe %d tasks of %s: %w", len(tasks), cluster, err)
	}
	// ECS may answer with the long form of an ARN to the short one. Within a
	// cluster, the ID says which task it is.
	asked := map[string]string{}
	for _, arn := range tasks {
		asked[id(arn)] = arn
	}
	answers := map[string]Answer{}
	for _, failure := range out.Failures {
		if arn, ok := asked[id(aws.ToString(failure.Arn))]; ok {
			answers[arn] = Answer{Failure: aws.ToString(failure.Reason)}
		}
	}
	for _, task := range out.Tasks {
		if arn, ok := asked[id(aws.ToString(task.TaskArn))]; ok {
			answers[arn] = newAnswer(task)
		}
	}
	return answers, nil
}

func newAnswer(task types.Task) Answer {
	stop := taskevent.Event{StopCode: string(task.StopCode), StoppedReason: aws.ToString(task.StoppedReason), StoppingAt: aws.ToTime(task.StoppingAt)}
	return Answer{
		LastStatus:    aws.ToString(task.LastStatus),
		DesiredStatus: aws.ToString(task.DesiredStatus),
		StopReason:    stop.StopReason(),
		Revision:      id(aws.ToString(task.TaskDefinitionArn)),
		InMesh: slices.ContainsFunc(task.Containers, func(c types.Container) bool {
			return aws.ToString(c.Name) == mesh.InitContainer
		}),
	}
}

// List returns the ARNs of a cluster's tasks that are to run, sorted and each
// once, but no more than about most: then there are others. It returns
// ErrNoCluster where there is no such cluster.
func (e *ECS) List(ctx context.Context, cluster string, most int) (tasks []string, others bool, err error) {
	pages := ecs.NewListTasksPaginator(e.client, &ecs.ListTasksInput{Cluster: &cluster, DesiredStatus: types.DesiredStatusRunning})
	for pages.HasMorePages() && len(tasks) < most {
		page, err := pages.NextPage(ctx)
		var noCluster *types.ClusterNotFoundException
		if errors.As(err, &noCluster) {
			err = fmt.Errorf("%w (%w)", ErrNoCluster, err)
		}
		if err != nil {
			return nil, false, fmt.Errorf("list tasks of %s: %w", cluster, err)
		}
		tasks = append(tasks, page.TaskArns...)
	}
	// Pages shift while tasks come and go, and may show one twice.
	slices.Sort(tasks)
	return slices.Compact(tasks), pages.HasMorePages(), nil
}

// id is the last part of a task's ARN.
func id(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
