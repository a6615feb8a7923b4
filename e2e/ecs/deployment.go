package ecs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"time"
)

// maxDescribed is ECS's limit for DescribeServiceDeployments and
// DescribeServiceRevisions.
const maxDescribed = 20

// ServiceRevision is one as DescribeServiceRevisions returns it.
type ServiceRevision struct {
	ARN            string `json:"serviceRevisionArn"`
	ServiceARN     string `json:"serviceArn"`
	ClusterARN     string `json:"clusterArn"`
	TaskDefinition string `json:"taskDefinition"`
	LaunchType     string `json:"launchType,omitempty"`
	CreatedAt      Time   `json:"createdAt"`
}

// ServiceDeployment is one as DescribeServiceDeployments returns it.
type ServiceDeployment struct {
	ARN             string            `json:"serviceDeploymentArn"`
	ServiceARN      string            `json:"serviceArn"`
	ClusterARN      string            `json:"clusterArn"`
	CreatedAt       Time              `json:"createdAt"`
	StartedAt       Time              `json:"startedAt"`
	Status          string            `json:"status"` // IN_PROGRESS, ROLLBACK_IN_PROGRESS, SUCCESSFUL, …
	SourceRevisions []RevisionSummary `json:"sourceServiceRevisions"`
	TargetRevision  RevisionSummary   `json:"targetServiceRevision"`
}

// RevisionSummary is a revision's part in a deployment.
type RevisionSummary struct {
	ARN       string `json:"arn"`
	Requested int    `json:"requestedTaskCount"`
	Running   int    `json:"runningTaskCount"`
	Pending   int    `json:"pendingTaskCount"`
}

// NewRevision makes a revision of the service with a task definition, by its ARN.
// It is younger than all tasks that there are.
func (s *Service) NewRevision(taskDefinition string) ServiceRevision {
	n, _ := rand.Int(rand.Reader, big.NewInt(9e18)) // never fails
	f := s.fake
	revision := ServiceRevision{
		ARN:            f.arn(fmt.Sprintf("service-revision/%s/%s/%019d", s.opts.Cluster, s.opts.Name, n)),
		ServiceARN:     s.arn(),
		ClusterARN:     f.arn("cluster/" + s.opts.Cluster),
		TaskDefinition: taskDefinition,
		LaunchType:     s.opts.LaunchType,
		CreatedAt:      Time{time.Now()},
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.revisions[revision.ARN] = revision
	return revision
}

// Deploy records a deployment of a revision that is to have so many tasks, after
// others. It starts and stops none: the caller plays the deployment.
func (s *Service) Deploy(target ServiceRevision, tasks int, sources ...ServiceRevision) ServiceDeployment {
	f := s.fake
	d := ServiceDeployment{
		ARN:             f.arn(fmt.Sprintf("service-deployment/%s/%s/%s", s.opts.Cluster, s.opts.Name, rand.Text()[:21])),
		ServiceARN:      s.arn(),
		ClusterARN:      f.arn("cluster/" + s.opts.Cluster),
		CreatedAt:       Time{time.Now()},
		StartedAt:       Time{time.Now()},
		Status:          "IN_PROGRESS",
		SourceRevisions: []RevisionSummary{},
		TargetRevision:  RevisionSummary{ARN: target.ARN, Requested: tasks},
	}
	for _, source := range sources {
		d.SourceRevisions = append(d.SourceRevisions, RevisionSummary{ARN: source.ARN})
	}
	f.SetDeployment(d)
	return d
}

func (s *Service) arn() string { return s.fake.arn("service/" + s.opts.Cluster + "/" + s.opts.Name) }

// SetDeployment changes a deployment: its status, or how many tasks it has.
func (f *Fake) SetDeployment(d ServiceDeployment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deployments[d.ARN] = d
}

// HookEvent is what ECS sends a Lambda function at a stage of the deployment.
// Weights are percent by a revision's ARN, of stages that shift production
// traffic. Details may be nil.
func (d ServiceDeployment) HookEvent(stage string, weights map[string]float64, details map[string]any) json.RawMessage {
	if weights == nil {
		weights = map[string]float64{}
	}
	event := map[string]any{
		"executionId": newUUID(), "lifecycleStage": stage, "resourceArn": d.ARN,
		"executionDetails": map[string]any{
			"serviceArn": d.ServiceARN, "targetServiceRevisionArn": d.TargetRevision.ARN,
			"testTrafficWeights": map[string]float64{}, "productionTrafficWeights": weights,
		},
	}
	if details != nil {
		event["hookDetails"] = details
	}
	text, _ := json.Marshal(event) // of texts and numbers
	return text
}

type describeServiceRevisionsInput struct {
	ARNs []string `json:"serviceRevisionArns"`
}

type describeServiceRevisionsOutput struct {
	Revisions []ServiceRevision `json:"serviceRevisions"`
	Failures  []failure         `json:"failures"`
}

func (f *Fake) describeServiceRevisions(_ context.Context, in describeServiceRevisionsInput) (describeServiceRevisionsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found, failures, err := described(in.ARNs, f.revisions, "serviceRevisionArns")
	return describeServiceRevisionsOutput{found, failures}, err
}

type describeServiceDeploymentsInput struct {
	ARNs []string `json:"serviceDeploymentArns"`
}

type describeServiceDeploymentsOutput struct {
	Deployments []ServiceDeployment `json:"serviceDeployments"`
	Failures    []failure           `json:"failures"`
}

func (f *Fake) describeServiceDeployments(_ context.Context, in describeServiceDeploymentsInput) (describeServiceDeploymentsOutput, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found, failures, err := described(in.ARNs, f.deployments, "serviceDeploymentArns")
	return describeServiceDeploymentsOutput{found, failures}, err
}

func described[T any](arns []string, all map[string]T, field string) ([]T, []failure, error) {
	if len(arns) < 1 || len(arns) > maxDescribed {
		return nil, nil, invalid("%s must contain between 1 and %d entries.", field, maxDescribed)
	}
	found, failures := []T{}, []failure{}
	for _, arn := range arns {
		if one, ok := all[arn]; ok {
			found = append(found, one)
		} else {
			failures = append(failures, failure{arn, "MISSING"})
		}
	}
	return found, failures, nil
}
