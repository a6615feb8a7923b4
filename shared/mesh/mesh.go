// Package mesh holds the names that tie an ECS task to its entries in Consul's
// catalog. Everything that writes or reads the catalog takes its names from
// here, so that a task's own events are enough to find what it registered.
package mesh

import (
	"fmt"
	"strings"
	"time"
)

// Names in Consul's catalog.
const (
	// NodePrefix starts the name of every node that stands for a task.
	NodePrefix = "ecs-"

	// LifecycleCheckID is the node-level check that exists, critical, only
	// while a task is stopping. Registration and health checks never touch
	// it, so neither can undo a drain.
	LifecycleCheckID = "ecsmesh-lifecycle"

	// LifecycleCheckName is what Consul's UI shows for LifecycleCheckID.
	LifecycleCheckName = "ECS task lifecycle"

	// LifecycleCheckNotes say there what the check is, and its output why.
	LifecycleCheckNotes = "ECS is stopping this task, so the mesh sends it no new work. Its node goes once it has stopped."
)

// Keys of a task node's meta.
const (
	MetaSyntheticNode = "synthetic-node" // "true": no Consul agent runs there
	MetaTaskARN       = "ecsmesh-task-arn"
	MetaClusterARN    = "ecsmesh-cluster-arn"
	MetaFamily        = "ecsmesh-family"
	MetaRevision      = "ecsmesh-revision" // of the family
	MetaLaunchType    = "ecsmesh-launch-type"
	MetaZone          = "ecsmesh-availability-zone"
	MetaVPCID         = "ecsmesh-vpc-id"
	MetaConsole       = "ecsmesh-console"       // URL of the task's page in the ECS console
	MetaRegisteredAt  = "ecsmesh-registered-at" // RFC 3339, UTC
)

// InitContainer is the container that a task of the mesh has.
const InitContainer = "ecsmesh-init"

// ClientAgentContainer is the container of a task that runs a Consul agent of the
// task's own.
const ClientAgentContainer = "consul-client"

// FilterTasks is what the nodes of tasks have in common, as a filter of Consul's:
// their names, and that nobody or a task's own Consul agent runs there.
const FilterTasks = `(Node matches "^` + NodePrefix + `" and (Meta["` + MetaSyntheticNode + `"] == "true" or "` + MetaTaskARN + `" in Meta))`

// RegisteredAt is when a task registered, by its own clock, from its node's
// meta; the zero time where that doesn't say.
func RegisteredAt(meta map[string]string) time.Time {
	at, err := time.Parse(time.RFC3339, meta[MetaRegisteredAt])
	if err != nil {
		return time.Time{}
	}
	return at
}

// Keys of a service instance's meta.
const (
	ServiceMetaTaskID  = "task-id"
	ServiceMetaTaskARN = "task-arn"
	ServiceMetaSource  = "source"

	// These are for people, who see an instance's meta and not its node's.
	ServiceMetaTaskDefinition = "ecsmesh-task-definition" // FAMILY:REVISION
	ServiceMetaConsole        = "ecsmesh-console"         // as MetaConsole

	// Source is the value of ServiceMetaSource.
	Source = "ecsmesh"
)

// NodeName is the Consul node of a task.
func NodeName(taskID string) string { return NodePrefix + taskID }

// ServiceID is the ID of a task's service instance.
func ServiceID(service, taskID string) string { return service + "-" + taskID }

// ProxyID is the ID of the sidecar proxy of a service instance.
func ProxyID(serviceID string) string { return serviceID + "-sidecar-proxy" }

// ProxyService is the name under which a service's sidecars are registered.
func ProxyService(service string) string { return service + "-sidecar-proxy" }

// CheckID is the ID of a service-level check, from the check's or the
// container's name.
func CheckID(serviceID, name string) string { return serviceID + "-" + name }

// EnvoyCheckID is the ID of the check that says whether a sidecar takes traffic.
func EnvoyCheckID(proxyID string) string { return proxyID + "-envoy" }

// TaskARN is the parsed Amazon Resource Name of an ECS task.
type TaskARN struct {
	Partition string // aws, aws-cn, aws-us-gov, …
	Region    string
	Account   string
	Cluster   string // empty in the old, short form (task/ID)
	ID        string
}

// ParseTaskARN reads arn:PARTITION:ecs:REGION:ACCOUNT:task/CLUSTER/ID and the
// old short form without the cluster.
func ParseTaskARN(arn string) (TaskARN, error) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[2] != "ecs" {
		return TaskARN{}, fmt.Errorf("parse task ARN %q: want arn:PARTITION:ecs:REGION:ACCOUNT:task/CLUSTER/ID", arn)
	}
	parsed := TaskARN{Partition: parts[1], Region: parts[3], Account: parts[4]}
	resource := strings.Split(parts[5], "/")
	switch {
	case resource[0] == "task" && len(resource) == 3:
		parsed.Cluster, parsed.ID = resource[1], resource[2]
	case resource[0] == "task" && len(resource) == 2:
		parsed.ID = resource[1]
	}
	if !isTaskID(parsed.ID) {
		return TaskARN{}, fmt.Errorf("parse task ARN %q: no task ID at its end", arn)
	}
	return parsed, nil
}

// TaskID is the ID of the task with this ARN; "" where it is no task's.
func TaskID(arn string) string {
	task, err := ParseTaskARN(arn)
	if err != nil {
		return ""
	}
	return task.ID
}

// isTaskID holds for what ECS gives out: 32 hexadecimal digits, or a UUID in
// old accounts. The letters are kept wide, the length too; what matters is
// that an ID is safe as part of a node's name.
func isTaskID(id string) bool {
	if id == "" {
		return false
	}
	for _, r := range id {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' {
			return false
		}
	}
	return true
}

// ClusterARN is the ARN of the task's cluster, or "" where the task's own ARN
// doesn't name it.
func (t TaskARN) ClusterARN() string {
	if t.Cluster == "" {
		return ""
	}
	return fmt.Sprintf("arn:%s:ecs:%s:%s:cluster/%s", t.Partition, t.Region, t.Account, t.Cluster)
}
