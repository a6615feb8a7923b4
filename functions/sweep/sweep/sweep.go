// Package sweep repairs what the events of stopping tasks missed: it compares
// Consul's catalog with what ECS says of the tasks in it, deletes those that are
// gone, drains those that stop, and takes back drains of tasks that run on.
//
// It reads Consul twice, asks ECS about 100 tasks a call, a few calls at once, and
// writes to Consul once for 128 changes. Where anything is unclear, it leaves a
// node as it is.
package sweep

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/metrics"
	"ecsmesh/shared/publisher"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

const (
	// maxWorkTime outlasts a throttled ECS, and ends within the function's
	// timeout of two minutes. What takes longer is left to the next run.
	maxWorkTime = 110 * time.Second

	// defaultCalls is how many calls of ECS are made at once: with some 200 ms
	// each, about the 20 a second that ECS allows an account.
	defaultCalls = 4

	// defaultPause gives ECS's answers time to catch up with its events: what
	// it describes is a copy that lags behind.
	defaultPause = 5 * time.Second
)

// servers publish the Consul servers' addresses; see publisher.Publisher.
type servers interface {
	Publish(context.Context) error
	Lists(context.Context) publisher.Lists
}

// leader is the way to each server of Consul's; see access.Access.Leader.
type leader interface {
	Leader(ctx context.Context, server netip.Addr) (leader string, err error)
}

// nodes are the tasks' nodes in Consul's catalog; see catalog.Catalog.
type nodes interface {
	Nodes(context.Context) ([]catalog.Node, error)
	Apply(context.Context, []catalog.Change) []catalog.Result
}

// tasks are what ECS knows; see ECS.
type tasks interface {
	Describe(ctx context.Context, cluster string, tasks []string) (map[string]Answer, error)
	List(ctx context.Context, cluster string, most int) (tasks []string, others bool, err error)
}

// Sweep is one function's sweep of one mesh.
type Sweep struct {
	Publisher servers
	Nodes     nodes
	Tasks     tasks
	Leader    leader // only a report asks

	// Region is where Tasks are; nodes of tasks elsewhere are left alone.
	Region string

	Brake   Brake
	Metrics *metrics.Writer
	Log     *slog.Logger

	// Plan takes in what would be changed, where Nodes and Publisher change
	// nothing; else nil. What can't be read is then no error.
	Plan *dryrun.Plan

	// Pause is how long after the first look at ECS the second is taken, at
	// what is believed only when seen twice; 0 is 5 s.
	Pause time.Duration

	// Calls is how many calls of ECS are made at once; 0 is 4.
	Calls int

	// Now is the clock; nil is the system's.
	Now func() time.Time
}

// finding is a node and what is to become of it.
type finding struct {
	catalog.Node
	cluster string // ARN of the task's cluster
	answer  Answer // ECS's last one about the task
	absent  bool   // a report's: Consul has no such node
	verdict
}

// Serve answers an invocation: one with the payload {"report": true} with a
// Report, and any other as Handle does.
func (s *Sweep) Serve(ctx context.Context, payload json.RawMessage) (any, error) {
	question, err := readQuestion(payload)
	if err != nil {
		s.Log.ErrorContext(ctx, "report", "error", err)
		return nil, err
	}
	if question == nil {
		return nil, s.Handle(ctx, payload)
	}
	work, cancel := invocation.WorkContextUpTo(ctx, maxWorkTime)
	defer cancel()
	report := s.Report(work, *question)
	s.Log.InfoContext(ctx, "reported", "summary", report.Summary)
	return report, nil
}

// Handle serves one invocation. The payload {"maxDeletes": N} takes the place of
// the brake's limit for this one; any other object has no meaning.
func (s *Sweep) Handle(ctx context.Context, payload json.RawMessage) error {
	ctx = invocation.AboutEvent(ctx, payload)
	work, cancel := invocation.WorkContextUpTo(ctx, maxWorkTime)
	defer cancel()
	err := s.run(work, payload)
	if err != nil {
		// Returned, it makes Lambda count a failure; what Lambda prints of it
		// has no level.
		s.Log.ErrorContext(ctx, "sweep", "error", err)
	}
	return err
}

// run publishes the servers, since with an outdated list Consul may not be found
// at all, and repairs the catalog whether or not that went well.
func (s *Sweep) run(ctx context.Context, payload json.RawMessage) error {
	override, err := readOverride(payload)
	if err != nil {
		return err
	}
	unpublished := s.publish(ctx)
	return errors.Join(unpublished, s.repair(ctx, override))
}

func (s *Sweep) publish(ctx context.Context) error {
	ctx, cancel := share(ctx, 4)
	defer cancel()
	if err := s.Publisher.Publish(ctx); err != nil {
		return fmt.Errorf("publish servers: %w", err)
	}
	return nil
}

// repair makes the catalog say what ECS says.
func (s *Sweep) repair(ctx context.Context, override *int) error {
	nodes, err := s.read(ctx)
	if err != nil && s.Plan != nil {
		s.foresee(ctx, override, err)
		return nil
	}
	if err != nil {
		return err
	}
	findings := make([]*finding, len(nodes))
	for i, node := range nodes {
		findings[i] = &finding{Node: node}
	}
	incomplete := s.judge(ctx, findings)

	orphans := selected(findings, func(f *finding) bool { return f.action == catalog.Delete })
	limit := s.Brake.limit(len(nodes), override)
	var brake error
	switch {
	case incomplete != nil:
		// What ECS says in a bad moment is no ground for a delete.
		for _, f := range orphans {
			f.verdict = leave(EcsError, "%s, but not all questions were answered in this run", f.why)
		}
	case len(orphans) > limit:
		brake = braked(len(orphans), len(nodes), limit)
		for _, f := range orphans {
			f.verdict = leave(BrakeApplied, "%s, but too many would go at once", f.why)
		}
	}
	failed := s.apply(ctx, findings)
	s.report(ctx, findings, len(orphans), brake != nil)
	if brake != nil && s.Plan != nil {
		s.Plan.Would(ctx, dryrun.Step{Action: "refuse", What: "to delete any task, and report an error", Why: brake.Error()})
		brake = nil
	}
	return errors.Join(s.Plan.Tolerate(ctx, "all of the tasks in ECS", incomplete), brake, failed)
}

func (s *Sweep) read(ctx context.Context) ([]catalog.Node, error) {
	ctx, cancel := share(ctx, 4)
	defer cancel()
	ctx, stop := s.Plan.Limit(ctx)
	defer stop()
	nodes, err := s.Nodes.Nodes(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the mesh's nodes: %w", err)
	}
	return nodes, nil
}

// judge gives each finding its verdict, after a second look where that is
// needed. Its error says that ECS did not answer all that it was asked.
func (s *Sweep) judge(ctx context.Context, findings []*finding) error {
	home := s.home(ctx)
	for _, f := range findings {
		f.cluster, f.verdict = locate(f.Node, home)
	}
	err := s.look(ctx, selected(findings, func(f *finding) bool { return f.cluster != "" }),
		func(f *finding, v verdict) { f.verdict = v })

	doubtful := selected(findings, func(f *finding) bool { return f.doubtful })
	if len(doubtful) == 0 {
		return err
	}
	select {
	case <-ctx.Done(): // then so will the look be
	case <-time.After(cmp.Or(s.Pause, defaultPause)):
	}
	return errors.Join(err, s.look(ctx, doubtful, func(f *finding, v verdict) { f.verdict = confirm(f.verdict, v) }))
}

// home is taken from the function's own ARN, arn:PARTITION:lambda:REGION:ACCOUNT:…
func (s *Sweep) home(ctx context.Context) home {
	home := home{region: s.Region}
	if lambda, ok := lambdacontext.FromContext(ctx); ok {
		if parts := strings.Split(lambda.InvokedFunctionArn, ":"); len(parts) >= 7 && parts[2] == "lambda" {
			home.partition, home.account = parts[1], parts[4]
		}
	}
	return home
}

// look asks ECS about the findings' tasks, each in its own cluster, and hands
// over a verdict for each. Tasks whose call failed are left alone, and the
// error says so; that there is no such cluster is an answer.
func (s *Sweep) look(ctx context.Context, findings []*finding, found func(*finding, verdict)) error {
	ctx, cancel := share(ctx, 2)
	defer cancel()
	var (
		asked   = questions(findings)
		answers = make([]map[string]Answer, len(asked))
		failed  = make([]error, len(asked))
		calls   sync.WaitGroup
		atOnce  = make(chan struct{}, cmp.Or(s.Calls, defaultCalls))
	)
	for i, question := range asked {
		atOnce <- struct{}{}
		calls.Go(func() {
			ctx, cancel := s.Plan.Limit(ctx)
			defer cancel()
			answers[i], failed[i] = s.Tasks.Describe(ctx, question[0].cluster, taskARNs(question))
			<-atOnce
		})
	}
	calls.Wait()
	var errs []error
	for i, question := range asked {
		err := failed[i]
		noCluster := errors.Is(err, ErrNoCluster)
		noTask := errors.Is(err, ErrRefused) && question[0].unusual()
		if err != nil && !noCluster && !noTask {
			errs = append(errs, err)
		}
		for _, f := range question {
			f.answer = answers[i][f.TaskARN]
			switch {
			case noCluster:
				found(f, leave(ClusterNotFound, "ECS knows no %s", f.cluster))
			case noTask:
				found(f, leave(UnreadableMeta, "its meta names a task whose ID may be none: %s", f.TaskARN))
			case err != nil:
				found(f, leave(EcsError, "ECS could not be asked about it"))
			default:
				found(f, decide(f.Node, f.answer, s.now()))
			}
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("ask ECS: %d of %d calls failed, so nothing is deleted in this run; first: %w", len(errs), len(asked), errs[0])
	}
	return nil
}

func taskARNs(findings []*finding) []string {
	arns := make([]string, len(findings))
	for i, f := range findings {
		arns[i] = f.TaskARN
	}
	return arns
}

// apply changes the catalog, and turns the verdict of what could not be changed
// into the reason.
func (s *Sweep) apply(ctx context.Context, findings []*finding) error {
	acts := selected(findings, func(f *finding) bool { return f.action != 0 })
	if len(acts) == 0 {
		return nil
	}
	changes := make([]catalog.Change, len(acts))
	for i, f := range acts {
		changes[i] = catalog.Change{Node: f.Name, Task: f.TaskARN, Action: f.action, Agent: f.Agent, Reason: f.why, Index: f.DrainIndex}
	}
	var errs []error
	for i, result := range s.Nodes.Apply(ctx, changes) {
		switch f := acts[i]; {
		case result.Planned:
			f.verdict = leave(DryRun, "%s", f.why)
		case result.Err != nil:
			errs = append(errs, result.Err)
			f.verdict = leave(ConsulError, "%s, but Consul did not %s it", f.why, f.action)
		case result.Stale:
			f.verdict = leave(DrainChanged, "%s, but its drain is gone or new", f.why)
		case result.Missing:
			f.verdict = verdict{} // deregistered meanwhile
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("change the catalog: %d of %d changes were not made; first: %w", len(errs), len(changes), errs[0])
	}
	return nil
}

// foresee puts into the plan what a sweep is, where Consul can't be read.
func (s *Sweep) foresee(ctx context.Context, override *int, unread error) {
	s.Plan.Unread(ctx, "Consul's catalog", unread)
	most := fmt.Sprintf("%d tasks, or %d percent of the mesh where that is more", s.Brake.MaxTasks, s.Brake.MaxPercent)
	if override != nil {
		most = fmt.Sprintf("%d tasks, as the payload says", *override)
	}
	s.Plan.Would(ctx, dryrun.Step{
		Action: "compare",
		What:   "the nodes in Consul whose names begin with " + mesh.NodePrefix + " with the tasks in ECS",
		Why:    "to delete those of tasks that stopped, drain those of tasks that stop, and take back drains of tasks that run",
		Note:   "no more would be deleted at once than " + most,
	})
}

func (s *Sweep) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// share returns a context for one step: it gets a part of the time that is left
// to ctx, which has a deadline, so that a step that hangs leaves something for
// the next.
func share(ctx context.Context, parts int) (context.Context, context.CancelFunc) {
	deadline, _ := ctx.Deadline()
	return context.WithTimeout(ctx, time.Until(deadline)/time.Duration(parts))
}

func selected(findings []*finding, wanted func(*finding) bool) []*finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f *finding) bool { return !wanted(f) })
}

// questions divides the findings into those of one call each: of one cluster,
// and as many as ECS takes. One malformed ID makes ECS refuse a whole call, and
// anyone who can register a node can write one into its meta: so the unusual
// ones are asked about apart.
func questions(findings []*finding) [][]*finding {
	type kind struct {
		cluster string
		unusual bool
	}
	byKind := map[kind][]*finding{}
	var kinds []kind
	for _, f := range findings {
		k := kind{f.cluster, f.unusual()}
		if byKind[k] == nil {
			kinds = append(kinds, k)
		}
		byKind[k] = append(byKind[k], f)
	}
	var all [][]*finding
	for _, k := range kinds {
		all = slices.AppendSeq(all, slices.Chunk(byKind[k], describeLimit))
	}
	return all
}

// unusual tells whether a task's ID looks like none of ECS's, which are 32
// hexadecimal digits or, in old accounts, a UUID.
func (f *finding) unusual() bool { return !usualID.MatchString(id(f.TaskARN)) }

var usualID = regexp.MustCompile(`^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
