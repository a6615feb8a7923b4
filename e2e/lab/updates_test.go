package lab_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/shared/mesh"
)

// TestUpdatesLoseNoEvent changes the stack in every way while tasks stop all the
// time, and has requests between tasks that live through it all.
//
// The emulator changes in place what AWS changes in place, makes the new of what
// is replaced before it deletes the old, and rolls back what fails, as AWS does.
// But it changes one resource after the other and in no time, where AWS takes
// seconds, and does what doesn't depend on each other at the same time; a change
// of a queue counts at once, where AWS takes up to a minute. So what AWS
// replaces, and in which order, is held by the template's own tests.
func TestUpdatesLoseNoEvent(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{Servers: 1, Retry: retry})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	web, apis := startMesh(t, l, 3)
	load := lab.StartLoad(t.Context(), web, 20)
	stops := startStops(t, l)

	update := func(change func(string) string, parameters map[string]string) func(*testing.T) {
		return func(t *testing.T) {
			must(t, l.Update(t.Context(), change, parameters))
			stops.awaitMore(t)
		}
	}
	var steps []step
	for _, s := range []struct {
		name       string
		parameters map[string]string
	}{
		{"larger batches", map[string]string{"TaskEventsBatchSize": "1000", "TaskEventsBatchingWindowSeconds": "1"}},
		{"another patience", map[string]string{"TaskEventsVisibilityTimeoutSeconds": "600", "TaskEventsMaxReceives": "100"}},
		{"other schedules and logs", map[string]string{
			"SweepScheduleExpression": "rate(1 hour)", "PublishServersScheduleState": "DISABLED", "PublishServersReservedConcurrency": "none",
			"LogLevel": "DEBUG", "LogRetentionInDays": "1",
		}},
		{"servers outside of ECS", map[string]string{
			"ConsulServerClusterArn": "", "ConsulServerServiceName": "", "ConsulSeedAddresses": servers[0].Address().String(),
		}},
		{"servers in ECS again, and client agents", map[string]string{"ClientAgents": "ENABLED"}},
		{"into a VPC", map[string]string{"VpcSubnetIds": "subnet-0a1b2c3d", "VpcSecurityGroupIds": "sg-0a1b2c3d"}},
		{"out of it, with another brake", map[string]string{"SweepMaxDeletedTasks": "1", "SweepMaxDeletedPercent": "1"}},
	} {
		steps = append(steps, step{s.name, update(nil, s.parameters)})
	}

	// Another list of servers is empty at first, and events wait.
	anotherList := func(t *testing.T) {
		must(t, l.Update(t.Context(), nil, map[string]string{"ServersParameterName": "/another/list"}))
		time.Sleep(retry)
		must(t, l.Sweep(t.Context(), ""))
		stops.awaitMore(t)
		must(t, l.Update(t.Context(), nil, nil))
	}

	// A secret that isn't there has setup-acl fail, after other things were changed.
	failing := func(t *testing.T) {
		err := l.Update(t.Context(), replaced("Timeout: 30", "Timeout: 20"), map[string]string{
			"ConsulManagementTokenSecretArn":     "arn:aws:secretsmanager:us-east-1:000000000000:secret:missing-a1B2c3",
			"TaskRoleArns":                       "arn:aws:iam::000000000000:role/*",
			"TaskEventsVisibilityTimeoutSeconds": "900", "TaskEventsBatchSize": "1",
		})
		if err == nil || !strings.Contains(err.Error(), "UPDATE_ROLLBACK_COMPLETE") || !strings.Contains(err.Error(), "read the management token") {
			t.Errorf("got %v, want a rollback that says why", err)
		}
		stops.awaitMore(t)
	}

	// What a new version may bring. A queue's policy has to come with it.
	code := replaced("Description: Drains stopping tasks", "MemorySize: 192\n      Description: Drains, by new code, stopping tasks")
	pattern := replaced("          desiredStatus: [STOPPED]\n", "          desiredStatus: [STOPPED]\n          lastStatus: [{exists: true}]\n")
	queue := func(template string) string {
		id := regexp.MustCompile(`(Id: )?\bTaskEventsQueue(Policy)?\b`)
		return id.ReplaceAllStringFunc(template, func(found string) string {
			if strings.HasPrefix(found, "Id: ") {
				return found
			}
			return strings.Replace(found, "TaskEventsQueue", "TaskEventsNewQueue", 1)
		})
	}

	steps = append(steps,
		step{"another list of servers", anotherList},
		step{"an update that fails", failing},
		step{"another version of a function", update(code, nil)},
		step{"another pattern of the rule", update(pattern, nil)},
		step{"another queue", func(t *testing.T) {
			old := l.Outputs["TaskEventsQueueUrl"]
			stops.hold() // what is in a queue goes with it: see the next test
			awaitQueuesEmpty(t, l)
			stops.release()
			update(queue, nil)(t)
			if l.Outputs["TaskEventsQueueUrl"] == old {
				t.Error("it is the same")
			}
		}},
		step{"all back", func(t *testing.T) {
			stops.hold()
			awaitQueuesEmpty(t, l)
			stops.release()
			update(nil, nil)(t)
		}},
	)
	inTurn(t, steps...)

	sent := stops.end(t)
	awaitMeshNodes(t, l, append(slices.Clone(apis), web)...) // no event is lost, and none that lives is deleted
	awaitQueuesEmpty(t, l)
	for _, task := range append(slices.Clone(apis), web) {
		if check, err := lifecycle(t.Context(), l, task); err == nil {
			t.Errorf("a task that lives is drained: %+v", check)
		}
	}
	must(t, l.WaitPassing(t.Context(), "api", apis...))
	requests := load.Stop()
	noFailures(t, requests)
	t.Logf("%d tasks stopped, %d requests were answered", sent, len(requests))
}

// TestTheSweepMakesGoodWhatAStackTookAlong deletes the stack with events in its
// queue, which go with it, and has a task stop while there is no rule.
func TestTheSweepMakesGoodWhatAStackTookAlong(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{Servers: 1, Retry: retry})
	web, apis := startMesh(t, l, 3)
	queued, unseen, live := apis[0], apis[1], apis[2]

	// Events wait, since the functions find no list of servers.
	must(t, l.Update(t.Context(), nil, map[string]string{"ServersParameterName": "/another/list"}))
	stop := func(task ecs.Task) {
		t.Helper()
		must(t, l.API.Stop(task.TaskARN))
		_, err := l.WaitTask(t.Context(), task, ecs.Task.Stopped)
		must(t, err)
	}
	stop(queued)

	cfn, name := cloudformation.NewFromConfig(l.Emulator.Config()), aws.String(lab.Stack)
	_, err := cfn.DeleteStack(t.Context(), &cloudformation.DeleteStackInput{StackName: name})
	must(t, err)
	gone := cloudformation.NewStackDeleteCompleteWaiter(cfn, func(o *cloudformation.StackDeleteCompleteWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, time.Second
	})
	must(t, gone.Wait(t.Context(), &cloudformation.DescribeStacksInput{StackName: name}, lab.Patience))
	stop(unseen)

	must(t, l.Update(t.Context(), nil, nil))
	awaitMeshNodes(t, l, web, queued, unseen, live)
	must(t, l.Sweep(t.Context(), ""))
	awaitMeshNodes(t, l, web, live)
	must(t, l.WaitPublished(t.Context(), servers...))
	stop(live)
	awaitMeshNodes(t, l, web) // by its event
	awaitQueuesEmpty(t, l)
}

// replaced changes one place of a template, which has to be there.
func replaced(before, after string) func(string) string {
	return func(template string) string {
		if !strings.Contains(template, before) {
			panic(fmt.Sprintf("template.yaml has no %q", before))
		}
		return strings.Replace(template, before, after, 1)
	}
}

// stops are tasks that register and stop, all the time.
type stops struct {
	l      *lab.Lab
	cancel context.CancelFunc
	ended  chan struct{}
	held   sync.Mutex // while no task may stop

	mu    sync.Mutex
	nodes []string // of the tasks that stopped
	fault error
}

// stopInterval is the time between two tasks that stop.
const stopInterval = 50 * time.Millisecond

func startStops(t *testing.T, l *lab.Lab) *stops {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &stops{l: l, cancel: cancel, ended: make(chan struct{})}
	t.Cleanup(cancel)
	go func() {
		defer close(s.ended)
		tick := time.NewTicker(stopInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.held.Lock()
			// What has begun is ended, or a task would stay without a stop.
			node, err := s.one(context.WithoutCancel(ctx))
			s.held.Unlock()
			s.mu.Lock()
			s.nodes, s.fault = append(s.nodes, node), errors.Join(s.fault, err)
			s.mu.Unlock()
		}
	}()
	return s
}

// one has a task register and stop.
func (s *stops) one(ctx context.Context) (node string, err error) {
	consul, err := s.l.Consul()
	if err != nil {
		return "", err
	}
	id := fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())
	arn := "arn:aws:ecs:us-east-1:000000000000:task/" + lab.MeshCluster + "/" + id
	node = mesh.NodeName(id)
	_, err = consul.Catalog().Register(&api.CatalogRegistration{
		Node: node, Address: "10.1.2.3",
		NodeMeta: map[string]string{
			mesh.MetaSyntheticNode: "true", mesh.MetaTaskARN: arn, mesh.MetaRegisteredAt: time.Now().UTC().Format(time.RFC3339),
		},
		Service: &api.AgentService{ID: mesh.ServiceID("worker", id), Service: "worker"},
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return node, fmt.Errorf("register %s: %w", node, err)
	}
	for _, lastStatus := range []string{"RUNNING", "STOPPED"} {
		event, err := json.Marshal(map[string]any{
			"version": "0", "id": id, "source": "aws.ecs", "detail-type": "ECS Task State Change", "account": "000000000000", "region": "us-east-1",
			"time": time.Now().UTC().Format(time.RFC3339), "resources": []string{arn},
			"detail": map[string]any{
				"taskArn": arn, "lastStatus": lastStatus, "desiredStatus": "STOPPED", "containers": []map[string]string{{"name": "ecsmesh-init"}},
			},
		})
		if err == nil {
			err = s.l.Emulator.PutEvent(ctx, event)
		}
		if err != nil {
			return node, fmt.Errorf("stop %s: %w", node, err)
		}
	}
	return node, nil
}

// hold returns when no task stops, until release.
func (s *stops) hold()    { s.held.Lock() }
func (s *stops) release() { s.held.Unlock() }

// awaitMore waits until ten tasks that stopped from now on are gone from Consul.
func (s *stops) awaitMore(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	before := len(s.nodes)
	s.mu.Unlock()
	must(t, lab.Await(t.Context(), "the end of ten more tasks", func(ctx context.Context) error {
		left, err := s.l.MeshNodes(ctx)
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		gone := 0
		for _, node := range s.nodes[before:] {
			if !slices.Contains(left, node) {
				gone++
			}
		}
		if gone < 10 {
			return fmt.Errorf("of %d that stopped, %d are gone", len(s.nodes)-before, gone)
		}
		return nil
	}))
}

// end returns how many tasks stopped.
func (s *stops) end(t *testing.T) int {
	t.Helper()
	s.cancel()
	<-s.ended
	must(t, s.fault)
	return len(s.nodes)
}
