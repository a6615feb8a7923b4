package publisher

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"ecsmesh/shared/invocation"
	"ecsmesh/shared/mesh"
)

// describeLimit is how many tasks DescribeTasks takes in one call.
const describeLimit = 100

// ecsAPI is what is needed of the ECS client.
type ecsAPI interface {
	ecs.ListTasksAPIClient
	ecs.DescribeTasksAPIClient
}

// ecsService is an ECS service whose tasks are Consul servers.
type ecsService struct {
	client  ecsAPI
	cluster string
	service string
	log     *slog.Logger
}

// Servers returns the addresses of the service's tasks that clients can count
// on.
func (s *ecsService) Servers(ctx context.Context) ([]netip.Addr, error) {
	tasks, err := s.running(ctx)
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	for _, t := range tasks {
		addr, err := serverAddr(t)
		if err != nil {
			s.log.InfoContext(ctx, "left out a server task", "taskArn", t.ARN, invocation.TaskID, mesh.TaskID(t.ARN), "reason", err)
			continue
		}
		servers = append(servers, addr)
	}
	return servers, nil
}

// running returns the service's tasks that ECS wants to run, all of them or an
// error.
func (s *ecsService) running(ctx context.Context) ([]task, error) {
	arns, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	var tasks []task
	for chunk := range slices.Chunk(arns, describeLimit) {
		out, err := s.client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &s.cluster, Tasks: chunk})
		if err != nil {
			return nil, fmt.Errorf("describe %d tasks of %s: %w", len(chunk), s, err)
		}
		if len(out.Failures) > 0 {
			first := out.Failures[0]
			return nil, fmt.Errorf("describe %d tasks of %s: %d of them failed, first %s: %s", len(chunk), s,
				len(out.Failures), aws.ToString(first.Arn), strings.TrimSpace(aws.ToString(first.Reason)+" "+aws.ToString(first.Detail)))
		}
		if len(out.Tasks) != len(chunk) {
			return nil, fmt.Errorf("describe %d tasks of %s: ECS answered for %d", len(chunk), s, len(out.Tasks))
		}
		for _, t := range out.Tasks {
			tasks = append(tasks, newTask(t))
		}
	}
	return tasks, nil
}

func (s *ecsService) list(ctx context.Context) ([]string, error) {
	var arns []string
	pages := ecs.NewListTasksPaginator(s.client, &ecs.ListTasksInput{
		Cluster:       &s.cluster,
		ServiceName:   &s.service,
		DesiredStatus: types.DesiredStatusRunning,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list tasks of %s: %w", s, err)
		}
		arns = append(arns, page.TaskArns...)
	}
	// Pages shift while tasks come and go, and may show one twice.
	slices.Sort(arns)
	return slices.Compact(arns), nil
}

func (s *ecsService) String() string {
	return fmt.Sprintf("service %s in cluster %s", s.service, s.cluster)
}

// newTask takes from ECS's answer what the decision needs. With awsvpc
// networking the addresses stand in the network interface's attachment and
// with each container, spelt differently; in other modes they stand nowhere.
func newTask(t types.Task) task {
	result := task{
		ARN:           aws.ToString(t.TaskArn),
		LastStatus:    aws.ToString(t.LastStatus),
		DesiredStatus: aws.ToString(t.DesiredStatus),
		Health:        string(t.HealthStatus),
	}
	for _, attachment := range t.Attachments {
		for _, detail := range attachment.Details {
			value := aws.ToString(detail.Value)
			switch strings.ToLower(aws.ToString(detail.Name)) {
			case "privateipv4address":
				result.IPv4 = append(result.IPv4, value)
			case "privateipv6address", "ipv6address":
				result.IPv6 = append(result.IPv6, value)
			}
		}
	}
	for _, container := range t.Containers {
		result.ContainerHealth = append(result.ContainerHealth, string(container.HealthStatus))
		for _, network := range container.NetworkInterfaces {
			if network.PrivateIpv4Address != nil {
				result.IPv4 = append(result.IPv4, *network.PrivateIpv4Address)
			}
			if network.Ipv6Address != nil {
				result.IPv6 = append(result.IPv6, *network.Ipv6Address)
			}
		}
	}
	return result
}
