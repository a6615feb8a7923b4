// Package hook answers ECS, which asks at certain stages of a deployment whether
// it is to go on. At POST_SCALE_UP a deployment waits until Consul has the new
// tasks, passing. At PRE_SCALE_UP and PRODUCTION_TRAFFIC_SHIFT the mesh's traffic
// is kept where ECS has it, and moved where ECS moves it.
//
// What ECS does, by its developer guide ("Lambda hooks for Amazon ECS service
// deployments", lambda-lifecycle-hooks) and API reference, and by the event in
// the AWS News Blog's post on blue/green deployments of July 2025:
//
//   - Hooks are in a service's deploymentConfiguration.lifecycleHooks, each with
//     hookTargetArn, roleArn, lifecycleStages and hookDetails. They belong to the
//     strategies BLUE_GREEN, LINEAR and CANARY, which have these stages.
//   - roleArn is a role that ecs.amazonaws.com may assume, with
//     lambda:InvokeFunction.
//   - The event has executionId, lifecycleStage, resourceArn (the service
//     deployment's), executionDetails (serviceArn, targetServiceRevisionArn,
//     testTrafficWeights, productionTrafficWeights: percent by the revision's
//     ARN, empty at other stages), and hookDetails.
//   - The answer has hookStatus, callBackDelay (seconds, 30 by default) and
//     hookDetails. With IN_PROGRESS, hookDetails are merged and come with the
//     next event of the same hook in the same deployment, and no other.
//   - No hookStatus, another one, or a function that fails: ECS rolls back.
//   - timeoutConfiguration bounds a hook: timeoutInMinutes, 1440 by default, then
//     action, ROLLBACK by default. ECS's words for that name no reason, so this
//     function has a limit of its own, and logs what it waited for.
//   - LINEAR and CANARY ask at PRODUCTION_TRAFFIC_SHIFT at each step.
//   - There is no stage for a rollback. TEST_TRAFFIC_SHIFT and
//     PRODUCTION_TRAFFIC_SHIFT are asked about again, with weights that go back;
//     targetServiceRevisionArn stays the new revision's.
//   - At POST_SCALE_UP the new tasks run and are healthy, and have no traffic of
//     ECS's. A mesh is not ECS's, and has them from when they pass.
//   - Of a service without load balancer and Service Connect, ECS shifts nothing.
//     Whether its weights are empty then is not documented: see weights.
package hook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/invocation"
)

// delay is when ECS asks again. Tasks are checked every five seconds, and a
// deployment takes minutes.
const delay = 15 * time.Second

// deployments is ECS; see ECS for the errors.
type deployments interface {
	Deployment(ctx context.Context, arn string) (Deployment, error)
	Revisions(ctx context.Context, arns ...string) (map[string]Revision, error)
	Tasks(ctx context.Context, cluster, service string, of Revision) ([]Task, error)
}

// nodes is Consul's catalog.
type nodes interface {
	Registered(ctx context.Context, nodes ...string) (map[string]catalog.Registered, error)
}

// traffic is where Consul sends a service's requests.
type traffic interface {
	Protocol(ctx context.Context, service string) (string, error)
	Split(ctx context.Context, service string, split Split) (wait string, err error)
}

// Hook answers for deployments.
type Hook struct {
	Deployments deployments
	Nodes       nodes
	Traffic     traffic
	Limit       time.Duration // how long a step of a stage may be IN_PROGRESS
	Services    []string      // those whose traffic may be shifted, by their names in Consul
	Now         func() time.Time
	Log         *slog.Logger

	// Plan takes in what would be answered, where Traffic changes nothing either:
	// every deployment goes on. nil: what is decided is answered.
	Plan *dryrun.Plan
}

// verdict is an answer, and why.
type verdict struct {
	status Status
	reason string
	unread *unread // what could not be asked, or done
	back   bool    // the deployment goes back
}

// unread is what somebody doesn't answer.
type unread struct {
	what string
	err  error
}

// Those who are asked.
const (
	inECS    = "the deployment in ECS"
	inConsul = "the service in Consul"
)

func verdictf(status Status, format string, args ...any) verdict {
	return verdict{status: status, reason: fmt.Sprintf(format, args...)}
}

// Handle answers one event. It can be asked the same again at any time. There is
// no error: to ECS it would be no more than FAILED.
func (h *Hook) Handle(ctx context.Context, text json.RawMessage) (Answer, error) {
	now := h.Now()
	e, err := parse(text, now)
	if err != nil && h.Plan != nil {
		return h.goOn(ctx, verdictf(Failed, "%s", err)), nil
	}
	if err != nil {
		h.Log.ErrorContext(ctx, "the deployment is to be rolled back", "reason", err.Error())
		return Answer{Status: Failed, Details: map[string]any{reasonDetail: err.Error()}}, nil
	}
	ctx = invocation.About(ctx, slog.String(invocation.EventID, e.Deployment)) // it has no other
	work, cancel := invocation.WorkContext(ctx)
	defer cancel()
	v := h.briefly().decide(work, e)
	step := e.step(v.back)
	v = h.bound(v, now.Sub(e.since[step]))
	if h.Plan != nil {
		h.foresee(ctx, e, v)
		return h.goOn(ctx, v), nil
	}

	log := h.Log.With("stage", e.Stage, "service", e.Execution.Service, "deployment", e.Deployment, "revision", e.Execution.Target, "reason", v.reason)
	answer := Answer{Status: v.status, Details: map[string]any{reasonDetail: v.reason}}
	switch v.status {
	case Succeeded:
		log.InfoContext(ctx, "the deployment goes on")
	case InProgress:
		log.InfoContext(ctx, "the deployment waits")
		answer.Delay = int(delay / time.Second)
		// All that came, in case that ECS replaces where it says that it merges.
		details := maps.Clone(e.details)
		maps.Copy(details, answer.Details)
		details[sinceDetail+step] = e.since[step].UTC().Format(time.RFC3339)
		answer.Details = details
	case Failed:
		log.ErrorContext(ctx, "the deployment is to be rolled back")
	}
	return answer, nil
}

func (h *Hook) decide(ctx context.Context, e event) verdict {
	switch e.Stage {
	case PostScaleUp:
		return h.gate(ctx, e)
	case PreScaleUp, ProductionTrafficShift:
		return h.shift(ctx, e)
	}
	return verdictf(Failed, "there is nothing to do at the stage %q: this hook is for %s, and for %s and %s", e.Stage, PostScaleUp, PreScaleUp, ProductionTrafficShift)
}

// bound ends waiting.
func (h *Hook) bound(v verdict, waited time.Duration) verdict {
	if v.status == InProgress && waited >= h.Limit {
		v.status, v.reason = Failed, fmt.Sprintf("it waited for %s: %s", waited.Round(time.Second), v.reason)
	}
	return v
}

// failure is the verdict where something could not be asked, or done. What was
// refused is refused the next time, too; anything else may pass. That ECS doesn't
// know the deployment that it asks about passes as well: what it describes is a copy
// that lags behind.
func failure(what string, err error) verdict {
	v := verdict{status: InProgress, reason: err.Error(), unread: &unread{what, err}}
	if isRefused(err) || consul.Permanent(err) || errors.Is(err, consul.ErrHidden) {
		v.status = Failed
	}
	return v
}
