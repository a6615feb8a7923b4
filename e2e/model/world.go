package model

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/mesh"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
)

const (
	region  = "eu-west-1"
	account = "123456789012"

	// tick is the least by which the clock moves. It is longer than any of a
	// check's pauses in these runs, jitter included: what is due doesn't depend
	// on chance, only on whether the clock has moved.
	tick = 2 * time.Second

	// longestLag is how far what ECS describes is behind its own truth.
	longestLag = 2 * tick

	// longestUnheard is how long a task's metadata may be behind ECS's events.
	longestUnheard = 5 * tick

	// remembered is how long ECS knows a task that has stopped.
	remembered = time.Hour

	// longestHidden is for how long ECS may deny a new task now and then. The
	// sweep counts on it to be over after 5 minutes.
	longestHidden = 4 * time.Minute
)

// Where a task is, in ECS's words.
const (
	provisioning   = "PROVISIONING"
	pending        = "PENDING"
	activating     = "ACTIVATING"
	running        = "RUNNING"
	deactivating   = "DEACTIVATING"
	stopping       = "STOPPING"
	deprovisioning = "DEPROVISIONING"
	stopped        = "STOPPED"
)

// world is ECS, and what tasks see of it. Processes read it while the run
// waits for them; only the run changes it.
type world struct {
	mu       sync.Mutex
	now      time.Time
	tasks    []*task // all that ever were
	places   []place
	queue    []*message
	messages int // that ever were
}

// place is where one task at a time can be.
type place struct {
	vpcID   string
	address string
	ec2     bool // only tasks on EC2 are started there
}

// newWorld has two VPCs, some of whose addresses are the same. Only tasks on EC2
// have those: they know their VPC. Another task would take the one in the other
// VPC for its successor, and never register again.
func newWorld() *world {
	w := &world{now: time.Date(2026, time.March, 1, 0, 0, 0, 0, time.UTC)}
	for n := range 12 {
		address, both := fmt.Sprintf("10.0.12.%d", 10+n), n < 3
		w.places = append(w.places, place{"vpc-0a1b2c3d4e5f60718", address, both})
		if both {
			w.places = append(w.places, place{"vpc-0918f7e6d5c4b3a29", address, both})
		}
	}
	return w
}

// task is a task as it is in truth.
type task struct {
	id      string
	cluster string
	service string
	place   place
	ec2     bool // on Fargate otherwise, where a task isn't told its VPC

	states     []state // the last is the truth
	stopCode   string
	stopReason string
	stopStep   int       // at which ECS decided to stop it; 0 is never
	heard      time.Time // when its metadata says so
	hidden     time.Time // until when ECS may deny it

	containers  bool // there are any that run, or may be started
	orphan      bool // ECS has lost its instance, where it runs on
	initialized bool // the init container ran to its end
	healthy     bool // what the application says

	restored   int // the step in which its check registered it again; 0 is never
	restoredAt time.Time

	volume  volume.Volume
	front   *front
	process *process // the one at work in it
}

// state is what ECS says of a task from some time on.
type state struct {
	at            time.Time
	last, desired string
	version       int
}

func (t *task) arn() string {
	return fmt.Sprintf("arn:aws:ecs:%s:%s:task/%s/%s", region, account, t.cluster, t.id)
}

func clusterARN(name string) string {
	return fmt.Sprintf("arn:aws:ecs:%s:%s:cluster/%s", region, account, name)
}

func (t *task) node() string { return mesh.NodeName(t.id) }

func (t *task) truth() state { return t.states[len(t.states)-1] }

// wanted holds while ECS wants the task to run.
func (t *task) wanted() bool { return t.truth().desired == running }

// heardBy tells whether its metadata says at a time that ECS is stopping it. An
// instance that ECS has lost never hears of that.
func (t *task) heardBy(at time.Time) bool {
	return !t.wanted() && !t.orphan && !at.Before(t.heard)
}

// seen is what ECS says at a time; false is that it doesn't know the task.
func (t *task) seen(at time.Time) (state, bool) {
	for i := len(t.states) - 1; i >= 0; i-- {
		if s := t.states[i]; !s.at.After(at) {
			return s, s.last != stopped || at.Sub(s.at) < remembered
		}
	}
	return state{}, false
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// change puts a task into another state.
func (w *world) change(t *task, last, desired string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	version := 1
	if len(t.states) > 0 {
		version = t.truth().version + 1
	}
	t.states = append(t.states, state{w.now, last, desired, version})
}

// with changes what processes can see of a task.
func (w *world) with(t *task, change func(*task)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(t)
}

func (w *world) task(id string) *task {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tasks {
		if t.id == id {
			return t
		}
	}
	return nil
}

// selected are the tasks that fulfil a condition, the oldest first.
func (w *world) selected(condition func(*task) bool) []*task {
	var found []*task
	for _, t := range w.tasks {
		if condition(t) {
			found = append(found, t)
		}
	}
	return found
}

// freePlace is one where no task is, and where none was a moment ago.
func (m *model) freePlace() (place, bool) {
	var free []place
	for _, p := range m.places {
		users := m.selected(func(t *task) bool {
			return t.place == p && (t.truth().last != stopped || !t.truth().at.Before(m.now))
		})
		if len(users) == 0 {
			free = append(free, p)
		}
	}
	return oneOf(m, free)
}

// describe is ECS's API as one sweep sees it.
type describe struct {
	m     *model
	p     *process
	asked map[string]time.Time // by task ID, when first
}

var _ ecs.DescribeTasksAPIClient = (*describe)(nil)

// ListTasks is for reports, for which nobody asks here.
func (d *describe) ListTasks(context.Context, *ecs.ListTasksInput, ...func(*ecs.Options)) (*ecs.ListTasksOutput, error) {
	return nil, &types.InvalidParameterException{Message: aws.String("the model lists no tasks")}
}

// DescribeTasks answers with copies of the truth that lag behind, each task's
// by as much as it likes, at every call anew.
func (d *describe) DescribeTasks(ctx context.Context, in *ecs.DescribeTasksInput, _ ...func(*ecs.Options)) (*ecs.DescribeTasksOutput, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f := d.p.ask(&call{process: d.p, what: fmt.Sprintf("DescribeTasks of %s", strings.Join(in.Tasks, ", "))}, d.m.over); f != carryOut {
		return nil, &types.ServerException{Message: aws.String("Rate exceeded")}
	}
	out := &ecs.DescribeTasksOutput{}
	for _, arn := range in.Tasks {
		t := d.m.task(arn[strings.LastIndexByte(arn, '/')+1:])
		s, known := d.look(t)
		if !known {
			out.Failures = append(out.Failures, types.Failure{Arn: &arn, Reason: aws.String("MISSING")})
			d.m.note("ECS describes %s: MISSING", t.id)
			continue
		}
		described := types.Task{TaskArn: &arn, LastStatus: &s.last, DesiredStatus: &s.desired}
		if s.desired == stopped {
			described.StopCode, described.StoppedReason = types.TaskStopCode(t.stopCode), &t.stopReason
		}
		out.Tasks = append(out.Tasks, described)
		d.m.note("ECS describes %s: %s, wanted %s", t.id, s.last, s.desired)
	}
	return out, nil
}

// look is what one copy of the truth says of a task.
func (d *describe) look(t *task) (s state, known bool) {
	now := d.m.clock()
	first, again := d.asked[t.id]
	if !again {
		d.asked[t.id] = now
	} else if next := first.Add(longestLag + tick); now.Before(next) {
		// The sweep has paused between its looks. The model does it here, since
		// it is the model's clock on which the pause has to be seen.
		d.m.advance(next.Sub(now))
		now = next
	}
	s, known = t.seen(now.Add(-time.Duration(d.m.rng.IntN(int(longestLag/tick)+1)) * tick))
	switch {
	case d.m.calm:
	case now.Before(t.hidden) && d.m.chance(70):
		known = false
	case !again && d.m.chance(8): // a moment later it isn't so
		known = false
	}
	return s, known
}

// serveMetadata is every task's metadata endpoint, /TASK-ID. That the task is to
// stop it says a little later than ECS.
func (m *model) serveMetadata(w http.ResponseWriter, r *http.Request) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	t := m.task(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	truth, vpcID := t.truth(), ""
	if t.ec2 {
		vpcID = t.place.vpcID
	}
	if !t.heardBy(m.now) {
		truth.desired = running
	}
	_ = json.NewEncoder(w).Encode(map[string]any{ // who asked may be gone
		"Cluster":       clusterARN(t.cluster),
		"TaskARN":       t.arn(),
		"Family":        t.service,
		"Revision":      "1",
		"DesiredStatus": truth.desired,
		"KnownStatus":   truth.last,
		"VPCID":         vpcID,
		"Containers": []any{map[string]any{
			"Name":     "envoy",
			"Networks": []any{map[string]any{"NetworkMode": "awsvpc", "IPv4Addresses": []string{t.place.address}}},
		}},
	})
}

// serveEnvoyAndApps is Envoy's /ready, the same for all tasks, and every
// application's health, /TASK-ID.
func (m *model) serveEnvoyAndApps(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ready" {
		return
	}
	t := m.task(strings.TrimPrefix(r.URL.Path, "/"))
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}
