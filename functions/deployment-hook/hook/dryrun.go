package hook

import (
	"context"
	"fmt"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/dryrun"

	"github.com/hashicorp/consul/api"
)

// brief bounds each question by the time that a plan has for reading.
type brief struct {
	plan *dryrun.Plan
	deployments
	nodes
	traffic
}

// briefly is the hook that asks so, in a dry run.
func (h *Hook) briefly() *Hook {
	if h.Plan == nil {
		return h
	}
	b, brisk := brief{h.Plan, h.Deployments, h.Nodes, h.Traffic}, *h
	brisk.Deployments, brisk.Nodes, brisk.Traffic = b, b, b
	return &brisk
}

func (b brief) Deployment(ctx context.Context, arn string) (Deployment, error) {
	ctx, cancel := b.plan.Limit(ctx)
	defer cancel()
	return b.deployments.Deployment(ctx, arn)
}

func (b brief) Revisions(ctx context.Context, arns ...string) (map[string]Revision, error) {
	ctx, cancel := b.plan.Limit(ctx)
	defer cancel()
	return b.deployments.Revisions(ctx, arns...)
}

func (b brief) Tasks(ctx context.Context, cluster, service string, of Revision) ([]Task, error) {
	ctx, cancel := b.plan.Limit(ctx)
	defer cancel()
	return b.deployments.Tasks(ctx, cluster, service, of)
}

func (b brief) Registered(ctx context.Context, names ...string) (map[string]catalog.Registered, error) {
	ctx, cancel := b.plan.Limit(ctx)
	defer cancel()
	return b.nodes.Registered(ctx, names...)
}

func (b brief) Protocol(ctx context.Context, service string) (string, error) {
	ctx, cancel := b.plan.Limit(ctx)
	defer cancel()
	return b.traffic.Protocol(ctx, service)
}

func (b brief) Split(ctx context.Context, service string, split Split) (string, error) {
	ctx, cancel := b.plan.Limit(ctx)
	defer cancel()
	return b.traffic.Split(ctx, service, split)
}

// foresee puts into the plan what could not be read for a verdict, and what the
// function would have been after.
func (h *Hook) foresee(ctx context.Context, e event, v verdict) {
	if v.unread == nil {
		return
	}
	h.Plan.Unread(ctx, v.unread.what, v.unread.err)
	if e.Stage == PostScaleUp {
		h.Plan.Would(ctx, dryrun.Step{Action: "wait for", What: "the tasks of " + e.Execution.Target, Why: "each is to be registered in Consul with its Envoy, and to pass"})
		return
	}
	name, _ := e.details[serviceDetail].(string)
	weights, why := map[string]float64{}, "all of the traffic is for the new revision, or on the way back for the one from before"
	switch given := e.Execution.ProductionWeights; {
	case e.Stage == PreScaleUp:
		weights[subsetName(e.Execution.Target)] = 0
		why = "the traffic stays at the revision from before until ECS moves it"
	case len(given) > 0:
		for arn, weight := range given {
			weights[subsetName(arn)] = weight
		}
		why = "the traffic goes as ECS moves it"
	}
	h.Plan.Would(ctx, dryrun.Step{Action: "write", What: entryName(api.ServiceResolver, name), Why: "it is to have a subset for each revision of the deployment"})
	step := dryrun.Step{Action: "write", What: entryName(api.ServiceSplitter, name), Why: why}
	if len(weights) > 0 {
		step.Detail = weights
	}
	h.Plan.Would(ctx, step)
}

// goOn puts into the plan what would be answered, and answers what does a
// deployment nothing.
func (h *Hook) goOn(ctx context.Context, v verdict) Answer {
	reason := v.reason
	if v.unread != nil && v.status == InProgress { // the plan has the error
		reason = v.unread.what + " could not be read"
	}
	h.Plan.Would(ctx, dryrun.Step{Action: "answer", What: "ECS", Why: reason, Detail: v.status})
	return Answer{Status: Succeeded, Details: map[string]any{reasonDetail: fmt.Sprintf("dry run; it would have been %s: %s", v.status, reason)}}
}

// foresee puts into the plan what write does.
func (s *Splitter) foresee(ctx context.Context, entry api.ConfigEntry, index uint64) error {
	step := dryrun.Step{Action: "write", What: entryName(entry.GetKind(), entry.GetName())}
	switch entry := entry.(type) {
	case *api.ServiceResolverConfigEntry:
		filters := map[string]string{}
		for name, subset := range entry.Subsets {
			filters[name] = subset.Filter
		}
		step.Why, step.Detail = "it is to have a subset for each revision of the deployment", filters
	case *api.ServiceSplitterConfigEntry:
		weights := map[string]float32{}
		for _, split := range entry.Splits {
			weights[split.ServiceSubset] = split.Weight // "": any task
		}
		step.Why, step.Detail = "the traffic goes as ECS moves it", weights
	}
	s.Plan.Would(ctx, step)
	return s.Plan.Consul().Do(ctx, func(ctx context.Context, client *api.Client) error {
		_, _, err := client.ConfigEntries().CAS(entry, index, (&api.WriteOptions{Partition: s.Partition}).WithContext(ctx))
		return err
	})
}

func entryName(kind, name string) string { return "Consul's " + kind + " " + name }
