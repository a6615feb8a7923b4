package publisher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fakeECS is one ECS service, listed pageSize tasks at a time.
type fakeECS struct {
	tasks    []types.Task
	pageSize int
	missing  map[string]bool // ARNs that DescribeTasks doesn't know
	silent   map[string]bool // ARNs that DescribeTasks leaves out without a word

	failList     func(page int) error
	failDescribe func(call int) error

	describeCalls []int // how many tasks each asked for
}

var _ ecsAPI = (*fakeECS)(nil)

func (f *fakeECS) ListTasks(_ context.Context, in *ecs.ListTasksInput, _ ...func(*ecs.Options)) (*ecs.ListTasksOutput, error) {
	if *in.Cluster != "consul" || *in.ServiceName != "consul-server" || in.DesiredStatus != types.DesiredStatusRunning {
		return nil, fmt.Errorf("asked for cluster %s, service %s, desired status %s", *in.Cluster, *in.ServiceName, in.DesiredStatus)
	}
	page := 0
	if in.NextToken != nil {
		page, _ = strconv.Atoi(*in.NextToken)
	}
	if f.failList != nil {
		if err := f.failList(page); err != nil {
			return nil, err
		}
	}
	start := page * f.pageSize
	end := min(start+f.pageSize, len(f.tasks))
	out := &ecs.ListTasksOutput{}
	for _, task := range f.tasks[start:end] {
		out.TaskArns = append(out.TaskArns, *task.TaskArn)
	}
	if end < len(f.tasks) {
		out.NextToken = aws.String(strconv.Itoa(page + 1))
	}
	return out, nil
}

func (f *fakeECS) DescribeTasks(_ context.Context, in *ecs.DescribeTasksInput, _ ...func(*ecs.Options)) (*ecs.DescribeTasksOutput, error) {
	f.describeCalls = append(f.describeCalls, len(in.Tasks))
	if f.failDescribe != nil {
		if err := f.failDescribe(len(f.describeCalls)); err != nil {
			return nil, err
		}
	}
	if *in.Cluster != "consul" || len(in.Tasks) == 0 || len(in.Tasks) > 100 {
		return nil, fmt.Errorf("asked for %d tasks of cluster %s", len(in.Tasks), *in.Cluster)
	}
	out := &ecs.DescribeTasksOutput{}
	for _, task := range f.tasks {
		switch arn := *task.TaskArn; {
		case !slices.Contains(in.Tasks, arn) || f.silent[arn]:
		case f.missing[arn]:
			out.Failures = append(out.Failures, types.Failure{Arn: &arn, Reason: aws.String("MISSING")})
		default:
			out.Tasks = append(out.Tasks, task)
		}
	}
	return out, nil
}

func serverARN(n int) string {
	return fmt.Sprintf("arn:aws:ecs:eu-west-1:123456789012:task/consul/%032x", n)
}

func newFakeECS(tasks, pageSize int) *fakeECS {
	f := &fakeECS{pageSize: pageSize}
	for n := range tasks {
		f.tasks = append(f.tasks, types.Task{TaskArn: aws.String(serverARN(n)), LastStatus: aws.String("RUNNING"), DesiredStatus: aws.String("RUNNING")})
	}
	return f
}

func newService(f *fakeECS) *ecsService {
	return &ecsService{client: f, cluster: "consul", service: "consul-server", log: slog.New(slog.DiscardHandler)}
}

func TestRunningReadsAllPages(t *testing.T) {
	fake := newFakeECS(230, 90)
	tasks, err := newService(fake).running(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) != 230 {
		t.Errorf("got %d tasks, want 230", len(tasks))
	}
	if diff := cmp.Diff([]int{100, 100, 30}, fake.describeCalls); diff != "" {
		t.Errorf("tasks a DescribeTasks call (-want +got):\n%s", diff)
	}
}

func TestRunningWithoutTasks(t *testing.T) {
	fake := newFakeECS(0, 100)
	tasks, err := newService(fake).running(t.Context())
	if err != nil || len(tasks) != 0 || len(fake.describeCalls) != 0 {
		t.Errorf("got %v, %v after %d DescribeTasks calls; want none", tasks, err, len(fake.describeCalls))
	}
}

func TestRunningCountsATaskOnTwoPagesOnce(t *testing.T) {
	fake := newFakeECS(3, 2)
	fake.tasks[2] = fake.tasks[1]
	fake.tasks = append(fake.tasks, types.Task{TaskArn: aws.String(serverARN(9))})
	fake.failDescribe = func(int) error { fake.tasks = slices.Delete(fake.tasks, 2, 3); return nil } // ECS has it once
	tasks, err := newService(fake).running(t.Context())
	if err != nil || len(tasks) != 3 {
		t.Errorf("got %d tasks, %v; want 3", len(tasks), err)
	}
}

func TestRunningReturnsAllOrNothing(t *testing.T) {
	throttled := errors.New("ThrottlingException")
	for name, test := range map[string]struct {
		spoil func(*fakeECS)
		want  string
	}{
		"the second page fails": {
			func(f *fakeECS) {
				f.failList = func(page int) error {
					if page == 1 {
						return throttled
					}
					return nil
				}
			},
			"list tasks of service consul-server in cluster consul: ThrottlingException",
		},
		"the second describe fails": {
			func(f *fakeECS) {
				f.failDescribe = func(call int) error {
					if call == 2 {
						return throttled
					}
					return nil
				}
			},
			"describe 20 tasks of service consul-server in cluster consul: ThrottlingException",
		},
		"a task is missing": {
			func(f *fakeECS) { f.missing = map[string]bool{serverARN(3): true} },
			"1 of them failed, first " + serverARN(3) + ": MISSING",
		},
		"a task is left out": {
			func(f *fakeECS) { f.silent = map[string]bool{serverARN(3): true} },
			"ECS answered for 99",
		},
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFakeECS(120, 100)
			test.spoil(fake)
			tasks, err := newService(fake).running(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want %q", err, test.want)
			}
			if tasks != nil {
				t.Errorf("got %d tasks beside the error", len(tasks))
			}
		})
	}
}

func TestServersLeavesOutTasksThatCannotBeCountedOn(t *testing.T) {
	fake := newFakeECS(4, 100)
	for n := range fake.tasks {
		fake.tasks[n].Containers = []types.Container{{NetworkInterfaces: []types.NetworkInterface{{PrivateIpv4Address: aws.String(fmt.Sprintf("10.0.1.%d", n))}}}}
	}
	fake.tasks[1].LastStatus = aws.String("PENDING")
	fake.tasks[2].Containers = nil
	var log bytes.Buffer
	service := newService(fake)
	service.log = slog.New(slog.NewTextHandler(&log, nil))

	got, err := service.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parse("10.0.1.0", "10.0.1.3"), got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, n := range []int{1, 2} {
		if !strings.Contains(log.String(), serverARN(n)) {
			t.Errorf("the log doesn't say why %s is left out: %s", serverARN(n), log.String())
		}
	}

	fake.failDescribe = func(int) error { return errors.New("ThrottlingException") }
	if got, err := service.Servers(t.Context()); err == nil || got != nil {
		t.Errorf("got %v, %v from an ECS that doesn't answer", got, err)
	}
}

func TestNewTask(t *testing.T) {
	attachment := func(name, value string) types.Attachment {
		return types.Attachment{
			Type: aws.String("ElasticNetworkInterface"),
			Details: []types.KeyValuePair{
				{Name: aws.String("subnetId"), Value: aws.String("subnet-0a1b2c3d")},
				{Name: aws.String(name), Value: aws.String(value)},
				{Name: aws.String("unset")},
			},
		}
	}
	base := types.Task{
		TaskArn: aws.String(serverARN(1)), LastStatus: aws.String("RUNNING"), DesiredStatus: aws.String("RUNNING"),
		HealthStatus: types.HealthStatusUnknown,
	}
	for name, test := range map[string]struct {
		change func(*types.Task)
		want   task
	}{
		"address in the attachment": {
			func(t *types.Task) { t.Attachments = []types.Attachment{attachment("privateIPv4Address", "10.0.1.10")} },
			task{IPv4: []string{"10.0.1.10"}},
		},
		"address in the other spelling": {
			func(t *types.Task) { t.Attachments = []types.Attachment{attachment("privateIpv4Address", "10.0.1.10")} },
			task{IPv4: []string{"10.0.1.10"}},
		},
		"IPv6 address in the attachment": {
			func(t *types.Task) {
				t.Attachments = []types.Attachment{attachment("privateIPv6Address", "2001:db8::a")}
			},
			task{IPv6: []string{"2001:db8::a"}},
		},
		"addresses with the containers": {
			func(t *types.Task) {
				t.Containers = []types.Container{
					{HealthStatus: types.HealthStatusUnhealthy, NetworkInterfaces: []types.NetworkInterface{{PrivateIpv4Address: aws.String("10.0.1.10"), Ipv6Address: aws.String("2001:db8::a")}}},
					{HealthStatus: types.HealthStatusHealthy},
				}
			},
			task{ContainerHealth: []string{"UNHEALTHY", "HEALTHY"}, IPv4: []string{"10.0.1.10"}, IPv6: []string{"2001:db8::a"}},
		},
		"no address": {func(*types.Task) {}, task{}},
	} {
		t.Run(name, func(t *testing.T) {
			described := base
			test.change(&described)
			test.want.ARN, test.want.LastStatus, test.want.DesiredStatus, test.want.Health = serverARN(1), "RUNNING", "RUNNING", "UNKNOWN"
			if diff := cmp.Diff(test.want, newTask(described)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
