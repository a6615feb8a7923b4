package sweep

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/taskevent"
)

// minAge is how old a registration must be before ECS not knowing its task
// means that there is none: ECS's own views of a new task differ for a moment.
const minAge = 5 * time.Minute

// running is ECS's word for a task that runs, or is to run.
const running = "RUNNING"

// missing is the failure that ECS reports for a task it doesn't know. A task
// that stopped is known for about an hour.
const missing = "MISSING"

// Reason is why a node was left as it is though it may need something.
type Reason string

// The reasons. They are a metric's dimension, so let there be few.
const (
	OtherRegion         Reason = "OtherRegion"         // another Region's sweep sees to it
	OtherAccount        Reason = "OtherAccount"        // another account's sweep sees to it
	UnreadableMeta      Reason = "UnreadableMeta"      // the node doesn't say which task it is
	ClusterNotFound     Reason = "ClusterNotFound"     // ECS knows no such cluster
	EcsError            Reason = "EcsError"            // a question to ECS went unanswered
	EcsUnclear          Reason = "EcsUnclear"          // ECS's answer says neither this nor that
	RegisteredRecently  Reason = "RegisteredRecently"  // ECS doesn't know the task, perhaps not yet
	RegistrationUndated Reason = "RegistrationUndated" // ECS doesn't know the task, new or not
	DrainedNotRunning   Reason = "DrainedNotRunning"   // ECS wants the task to run, and it does not (yet)
	NotConfirmed        Reason = "NotConfirmed"        // the second look showed something else
	BrakeApplied        Reason = "BrakeApplied"        // too many would have been deleted
	DrainChanged        Reason = "DrainChanged"        // the drain was set anew, or is gone
	DryRun              Reason = "DryRun"              // nothing is changed in a dry run
	ConsulError         Reason = "ConsulError"         // Consul did not make the change
)

// verdict is what is to become of a node. The zero verdict is to do nothing.
type verdict struct {
	action   catalog.Action // 0 for none
	doubtful bool           // to be done only if a second look shows the same
	left     Reason         // why it is left though it may need something
	why      string         // in words
}

func leave(reason Reason, format string, args ...any) verdict {
	return verdict{left: reason, why: fmt.Sprintf(format, args...)}
}

// home is where the function runs. ECS is asked only about its own Region and
// account: it would not know the tasks of others, and they would seem dead.
type home struct {
	region    string
	partition string // this and the account are "" where they are unknown
	account   string
}

// locate returns the ARN of the cluster in which ECS is to be asked about a
// node's task, or "" and why it can't be asked. No malformed ARN gets through:
// anyone who can register a node could stop the sweep otherwise.
func locate(node catalog.Node, home home) (cluster string, why verdict) {
	task, err := mesh.ParseTaskARN(node.TaskARN)
	switch {
	case err != nil:
		return "", leave(UnreadableMeta, "%v", err)
	case mesh.NodeName(task.ID) != node.Name:
		return "", leave(UnreadableMeta, "its meta names another task: %s", node.TaskARN)
	case task.Region != home.region:
		return "", leave(OtherRegion, "its task is in Region %s", task.Region)
	case home.partition != "" && task.Partition != home.partition:
		return "", leave(UnreadableMeta, "its task's ARN is of partition %s, which has no Region %s", task.Partition, task.Region)
	case home.account != "" && task.Account != home.account:
		return "", leave(OtherAccount, "its task is in account %s", task.Account)
	}
	// Always the whole ARN: a bare name means a cluster of the caller's own.
	cluster = cmp.Or(task.ClusterARN(), node.ClusterARN)
	name, ok := strings.CutPrefix(cluster, fmt.Sprintf("arn:%s:ecs:%s:%s:cluster/", task.Partition, task.Region, task.Account))
	if !ok || !isClusterName(name) {
		return "", leave(UnreadableMeta, "its task's cluster is %q, want the ARN of a cluster of the task's account and Region", cluster)
	}
	return cluster, verdict{}
}

// isClusterName holds for what ECS takes as a cluster's name.
func isClusterName(name string) bool {
	strange := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	}
	return name != "" && len(name) <= 255 && !strings.ContainsFunc(name, strange)
}

// decide says what is to become of a node, given what ECS answered about its
// task. ECS never takes a stop back, so a stop is believed at once. That a task
// is unknown, or runs after all, is believed when it is seen twice.
func decide(node catalog.Node, answer Answer, now time.Time) verdict {
	state := taskevent.Event{LastStatus: answer.LastStatus, DesiredStatus: answer.DesiredStatus}.Meaning()
	says := fmt.Sprintf("ECS says it is %s and wanted %s", answer.LastStatus, answer.DesiredStatus)
	switch {
	case answer == Answer{}:
		return leave(EcsUnclear, "ECS did not answer about it")
	case answer.Failure == missing:
		return absent(node, now)
	case answer.Failure != "":
		return leave(EcsUnclear, "ECS answered about it: %s", answer.Failure)
	case state == taskevent.Delete:
		return verdict{action: catalog.Delete, why: says}
	case state == taskevent.Drain && node.Drained():
		return verdict{why: says}
	case state == taskevent.Drain:
		return verdict{action: catalog.Drain, why: answer.StopReason}
	case answer.LastStatus == "" || answer.DesiredStatus != running:
		return leave(EcsUnclear, "ECS says it is %q and wanted %q", answer.LastStatus, answer.DesiredStatus)
	case !node.Drained():
		return verdict{why: says}
	case answer.LastStatus != running:
		return leave(DrainedNotRunning, "it is drained, and %s", says)
	}
	return verdict{action: catalog.Undrain, doubtful: true, why: says}
}

// absent decides about the node of a task that ECS doesn't know.
func absent(node catalog.Node, now time.Time) verdict {
	age := now.Sub(node.RegisteredAt)
	switch {
	case node.RegisteredAt.IsZero():
		return leave(RegistrationUndated, "ECS does not know it, and when it was registered is unreadable")
	case age < 0:
		return leave(RegistrationUndated, "ECS does not know it, and it was registered in the future, at %s: clocks differ", node.RegisteredAt)
	case age <= minAge:
		return leave(RegisteredRecently, "ECS does not know it, and it was registered only %s ago", age.Round(time.Second))
	}
	return verdict{action: catalog.Delete, doubtful: true, why: "ECS does not know it"}
}

// confirm is the verdict after a second look: what both agree on, or what the
// second shows without a doubt.
func confirm(first, second verdict) verdict {
	if second.doubtful && second.action != first.action {
		return leave(NotConfirmed, "first %s, then %s", first.why, second.why)
	}
	return second
}
