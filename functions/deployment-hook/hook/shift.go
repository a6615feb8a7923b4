package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Split says which part of a service's requests each revision's tasks get.
type Split struct {
	// Subsets are those that may be in use, by their names: the revisions of this
	// deployment.
	Subsets map[string]Subset

	// Weights are percent of the requests by the name of a subset, 100 in all.
	Weights map[string]float64

	// Back: the traffic moves back to where it was before the deployment.
	Back bool

	// Hold: there are no new tasks yet, and there are to be none before each
	// connection's requests go where they are wanted.
	Hold bool
}

// Subset is the tasks of one revision of a task definition.
type Subset struct{ Family, Revision string }

// shift keeps the mesh's traffic at the revision from before, until ECS moves its
// own, and then moves it as ECS does.
func (h *Hook) shift(ctx context.Context, e event) verdict {
	name, _ := e.details[serviceDetail].(string)
	if !slices.Contains(h.Services, name) {
		return verdictf(Failed, "hookDetails has the service %q, want one of those whose traffic may be shifted: %s (DeploymentHookServices)", name, cmp.Or(strings.Join(h.Services, ", "), "none"))
	}
	deployment, err := h.Deployments.Deployment(ctx, e.Deployment)
	if err != nil {
		return failure(inECS, err)
	}
	v := h.move(ctx, e, name, deployment)
	v.back = deployment.RollsBack()
	return v
}

// move has a service's traffic go as a deployment has it.
func (h *Hook) move(ctx context.Context, e event, name string, deployment Deployment) verdict {
	if e.Stage == PreScaleUp && deployment.Over() {
		return verdictf(Failed, "the deployment is %s, so there is nothing to prepare", deployment.Status)
	}
	if deployment.Ended() {
		return verdictf(Failed, "the deployment is %s, so the traffic of %s is another's", deployment.Status, name)
	}
	weights, err := weights(e, deployment)
	if err != nil {
		return verdict{status: Failed, reason: err.Error()}
	}
	back := e.Stage == ProductionTrafficShift && weights[e.Execution.Target] == 0
	if !back {
		// Before anything is written, and at a service's first deployment before it has
		// tasks: of the splitter Consul says so with a status that is worth waiting for.
		protocol, err := h.Traffic.Protocol(ctx, name)
		if err != nil {
			return failure(inConsul, err)
		}
		if protocol == "tcp" {
			return verdictf(Failed, "the service %s speaks tcp, of which Consul splits nothing: give it Protocol http in its service-defaults", name)
		}
	}
	if e.Stage == PreScaleUp && len(deployment.Sources) == 0 {
		return verdictf(Succeeded, "it is the service's first deployment: all traffic is for the new revision")
	}
	split := Split{
		Subsets: map[string]Subset{}, Weights: map[string]float64{},
		Back: back, Hold: e.Stage == PreScaleUp,
	}
	arns := slices.Sorted(maps.Keys(weights))
	revisions, err := h.Deployments.Revisions(ctx, arns...)
	if err != nil {
		return failure(inECS, err)
	}
	for _, arn := range arns {
		family, revision, ok := strings.Cut(lastPart(revisions[arn].TaskDefinition), ":")
		if !ok {
			return verdictf(Failed, "the task definition of %s is %q, want …/FAMILY:REVISION", arn, revisions[arn].TaskDefinition)
		}
		split.Subsets[subsetName(arn)] = Subset{family, revision}
		split.Weights[subsetName(arn)] = weights[arn]
	}
	wait, err := h.Traffic.Split(ctx, name, split)
	if errors.Is(err, errForeign) || errors.Is(err, errChanged) && !split.Back {
		return verdict{status: Failed, reason: err.Error()}
	}
	if err != nil {
		// That includes a change on the way back: the next call sees what it is, and
		// to give up would leave the traffic at the revision that failed.
		return failure(inConsul, err)
	}
	if wait != "" {
		return verdict{status: InProgress, reason: wait}
	}
	var parts []string
	for _, subset := range slices.Sorted(maps.Keys(split.Weights)) {
		parts = append(parts, fmt.Sprintf("%s%% for %s", strconv.FormatFloat(split.Weights[subset], 'f', -1, 64), subset))
	}
	return verdictf(Succeeded, "the traffic of %s: %s", name, strings.Join(parts, ", "))
}

// weights are percent of the traffic that each of the deployment's revisions is
// to have, by its ARN. ECS gives them where it shifts traffic itself; where it
// has none to shift, all of it is for one revision.
func weights(e event, deployment Deployment) (map[string]float64, error) {
	target := e.Execution.Target
	weights := map[string]float64{target: 0}
	for _, source := range deployment.Sources {
		weights[source] = 0
	}
	if given := e.Execution.ProductionWeights; e.Stage == ProductionTrafficShift && len(given) > 0 {
		var sum float64
		for arn, weight := range given {
			if _, ok := weights[arn]; !ok && weight != 0 {
				return nil, fmt.Errorf("productionTrafficWeights has %s, which is no revision of the deployment", arn)
			}
			if weight < 0 {
				return nil, fmt.Errorf("productionTrafficWeights has %v for %s, want 0 to 100", weight, arn)
			}
			weights[arn] = weight
			sum += weight
		}
		if math.Abs(sum-100) > 0.01 {
			return nil, fmt.Errorf("productionTrafficWeights are %v together, want 100", sum)
		}
		return weights, nil
	}
	if len(deployment.Sources) > 0 && (e.Stage == PreScaleUp || deployment.RollsBack()) {
		if len(deployment.Sources) > 1 {
			return nil, fmt.Errorf("the deployment comes after %d revisions, %s, and nothing says which has the traffic: wait until one is left", len(deployment.Sources), strings.Join(deployment.Sources, ", "))
		}
		weights[deployment.Sources[0]] = 100
		return weights, nil
	}
	weights[target] = 100
	return weights, nil
}

// subsetPrefix starts the names of all subsets that are made here.
const subsetPrefix = "revision-"

// subsetName is that of a service revision: its ID is a number, or another word
// that is a part of a DNS name.
func subsetName(revision string) string {
	return subsetPrefix + strings.ToLower(lastPart(revision))
}
