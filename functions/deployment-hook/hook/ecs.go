package hook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ecsmesh/shared/mesh"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
)

// describeLimit is how many tasks DescribeTasks takes in one call.
const describeLimit = 100

// Deployment is a service deployment.
type Deployment struct {
	Status  string   // IN_PROGRESS, ROLLBACK_IN_PROGRESS, …
	Wanted  int      // how many tasks the new revision is to have
	Sources []string // ARNs of the revisions from before; none at a service's first deployment
}

// Over holds for a deployment that ECS has given up, or is about to.
func (d Deployment) Over() bool { return d.RollsBack() || strings.HasPrefix(d.Status, "STOP") }

// Ended holds for a deployment that is history: another may have come since.
func (d Deployment) Ended() bool {
	return slices.Contains([]types.ServiceDeploymentStatus{
		types.ServiceDeploymentStatusSuccessful, types.ServiceDeploymentStatusStopped,
		types.ServiceDeploymentStatusRollbackSuccessful, types.ServiceDeploymentStatusRollbackFailed,
	}, types.ServiceDeploymentStatus(d.Status))
}

// RollsBack holds for a deployment that goes back, or has gone.
func (d Deployment) RollsBack() bool { return strings.HasPrefix(d.Status, "ROLLBACK_") }

// Revision is a service revision.
type Revision struct {
	TaskDefinition string // its ARN
	CreatedAt      time.Time
}

// Task is a task of a service that ECS wants to run.
type Task struct {
	ID      string
	Status  string
	Running bool
	InMesh  bool // it has ecsmesh's init container
}

// client is the part of the SDK's that is used.
type client interface {
	DescribeServiceDeployments(context.Context, *ecs.DescribeServiceDeploymentsInput, ...func(*ecs.Options)) (*ecs.DescribeServiceDeploymentsOutput, error)
	DescribeServiceRevisions(context.Context, *ecs.DescribeServiceRevisionsInput, ...func(*ecs.Options)) (*ecs.DescribeServiceRevisionsOutput, error)
	ecs.ListTasksAPIClient
	ecs.DescribeTasksAPIClient
}

// ECS answers for the caller's account and Region.
type ECS struct{ client client }

// NewECS returns ECS as the client reaches it.
func NewECS(client client) *ECS { return &ECS{client} }

// errUnknown is for what ECS doesn't know.
var errUnknown = errors.New("ECS doesn't know it")

// isRefused tells whether ECS understood the question, and will never answer it
// otherwise.
func isRefused(err error) bool {
	var answer smithy.APIError
	return errors.As(err, &answer) && slices.Contains([]string{
		"AccessDeniedException", "ClusterNotFoundException", "InvalidParameterException",
		"ServiceNotActiveException", "ServiceNotFoundException", "UnsupportedFeatureException",
	}, answer.ErrorCode())
}

// Deployment describes a service deployment.
func (e *ECS) Deployment(ctx context.Context, arn string) (Deployment, error) {
	out, err := e.client.DescribeServiceDeployments(ctx, &ecs.DescribeServiceDeploymentsInput{ServiceDeploymentArns: []string{arn}})
	if err == nil && (len(out.ServiceDeployments) != 1 || out.ServiceDeployments[0].TargetServiceRevision == nil) {
		err = unknown(out.Failures) // without a target it would pass for one of no tasks
	}
	if err != nil {
		return Deployment{}, fmt.Errorf("describe the service deployment %s: %w", arn, err)
	}
	found := out.ServiceDeployments[0]
	d := Deployment{Status: string(found.Status), Wanted: int(found.TargetServiceRevision.RequestedTaskCount)}
	for _, source := range found.SourceServiceRevisions {
		d.Sources = append(d.Sources, aws.ToString(source.Arn))
	}
	return d, nil
}

// Revisions describes service revisions, at most 20, by their ARNs: all of them,
// or it is an error.
func (e *ECS) Revisions(ctx context.Context, arns ...string) (map[string]Revision, error) {
	out, err := e.client.DescribeServiceRevisions(ctx, &ecs.DescribeServiceRevisionsInput{ServiceRevisionArns: arns})
	revisions := map[string]Revision{}
	if err == nil {
		for _, found := range out.ServiceRevisions {
			revisions[aws.ToString(found.ServiceRevisionArn)] = Revision{TaskDefinition: aws.ToString(found.TaskDefinition), CreatedAt: aws.ToTime(found.CreatedAt)}
		}
		if slices.ContainsFunc(arns, func(arn string) bool { return revisions[arn].TaskDefinition == "" }) {
			err = unknown(out.Failures)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("describe the service revisions %s: %w", strings.Join(arns, ", "), err)
	}
	return revisions, nil
}

func unknown(failures []types.Failure) error {
	err := errUnknown
	for _, failure := range failures {
		err = fmt.Errorf("%w: %s %s", err, aws.ToString(failure.Reason), aws.ToString(failure.Detail))
	}
	return err
}

// Tasks returns the tasks of a revision that ECS wants to run. Revisions may have
// the same task definition; no task is older than its revision.
func (e *ECS) Tasks(ctx context.Context, cluster, service string, of Revision) ([]Task, error) {
	var arns []string
	pages := ecs.NewListTasksPaginator(e.client, &ecs.ListTasksInput{Cluster: &cluster, ServiceName: &service})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the tasks of service %s in cluster %s: %w", service, cluster, err)
		}
		arns = append(arns, page.TaskArns...)
	}
	var tasks []Task
	for some := range slices.Chunk(arns, describeLimit) {
		out, err := e.client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &cluster, Tasks: some})
		if err != nil {
			return nil, fmt.Errorf("describe %d tasks of service %s in cluster %s: %w", len(some), service, cluster, err)
		}
		for _, task := range out.Tasks {
			if aws.ToString(task.TaskDefinitionArn) == of.TaskDefinition && !aws.ToTime(task.CreatedAt).Before(of.CreatedAt) &&
				aws.ToString(task.DesiredStatus) == running {
				tasks = append(tasks, newTask(task))
			}
		}
	}
	return tasks, nil
}

const running = string(types.DesiredStatusRunning)

func newTask(task types.Task) Task {
	return Task{
		ID:      lastPart(aws.ToString(task.TaskArn)),
		Status:  aws.ToString(task.LastStatus),
		Running: aws.ToString(task.LastStatus) == running,
		InMesh:  slices.ContainsFunc(task.Containers, func(c types.Container) bool { return aws.ToString(c.Name) == mesh.InitContainer }),
	}
}
