package sweep

import (
	"strings"
	"testing"
	"time"

	"ecsmesh/shared/catalog"
)

const (
	taskID  = "f9811b73ac5d1a8db842634fc0f871e0"
	uuid    = "c13b4cb4-0f1f-4fe4-a297-1f76ae5a47ad" // an ID as old accounts have it
	apps    = "arn:aws:ecs:eu-west-1:123456789012:cluster/apps"
	taskARN = "arn:aws:ecs:eu-west-1:123456789012:task/apps/" + taskID
)

func TestLocate(t *testing.T) {
	here := home{region: "eu-west-1", partition: "aws", account: "123456789012"}
	for name, test := range map[string]struct {
		node catalog.Node
		home home
		want string // the cluster's ARN
		left Reason
	}{
		"a task": {catalog.Node{TaskARN: taskARN}, here, apps, ""},
		"a task whose meta names another cluster, too": {
			catalog.Node{TaskARN: taskARN, ClusterARN: "arn:aws:ecs:eu-west-1:123456789012:cluster/other"}, here, apps, "",
		},
		"an old ARN": {
			catalog.Node{Name: "ecs-" + uuid, TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/" + uuid, ClusterARN: apps}, here, apps, "",
		},
		"an old ARN without a cluster":              {catalog.Node{Name: "ecs-" + uuid, TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/" + uuid}, here, "", UnreadableMeta},
		"an old ARN with a cluster's name":          {catalog.Node{Name: "ecs-" + uuid, TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/" + uuid, ClusterARN: "apps"}, here, "", UnreadableMeta},
		"an old ARN with another account's cluster": {catalog.Node{Name: "ecs-" + uuid, TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/" + uuid, ClusterARN: "arn:aws:ecs:eu-west-1:210987654321:cluster/apps"}, here, "", UnreadableMeta},
		"an old ARN with another Region's cluster":  {catalog.Node{Name: "ecs-" + uuid, TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/" + uuid, ClusterARN: "arn:aws:ecs:us-east-1:123456789012:cluster/apps"}, here, "", UnreadableMeta},
		"no ARN":                                      {catalog.Node{}, here, "", UnreadableMeta},
		"no task's ARN":                               {catalog.Node{TaskARN: apps}, here, "", UnreadableMeta},
		"another node's ARN":                          {catalog.Node{Name: "ecs-" + uuid, TaskARN: taskARN}, here, "", UnreadableMeta},
		"a cluster that ECS would refuse":             {catalog.Node{TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/a*b/" + taskID}, here, "", UnreadableMeta},
		"a cluster's name that is too long":           {catalog.Node{TaskARN: "arn:aws:ecs:eu-west-1:123456789012:task/" + strings.Repeat("a", 256) + "/" + taskID}, here, "", UnreadableMeta},
		"a partition that ECS would refuse":           {catalog.Node{TaskARN: "arn:awz:ecs:eu-west-1:123456789012:task/apps/" + taskID}, here, "", UnreadableMeta},
		"another Region":                              {catalog.Node{TaskARN: "arn:aws:ecs:us-east-1:123456789012:task/apps/" + taskID}, here, "", OtherRegion},
		"another Region's partition":                  {catalog.Node{TaskARN: "arn:aws-cn:ecs:cn-north-1:123456789012:task/apps/" + taskID}, here, "", OtherRegion},
		"another account":                             {catalog.Node{TaskARN: "arn:aws:ecs:eu-west-1:210987654321:task/apps/" + taskID}, here, "", OtherAccount},
		"another account, where ours is unknown":      {catalog.Node{TaskARN: "arn:aws:ecs:eu-west-1:210987654321:task/apps/" + taskID}, home{region: "eu-west-1"}, "arn:aws:ecs:eu-west-1:210987654321:cluster/apps", ""},
		"another Region, where our account's unknown": {catalog.Node{TaskARN: "arn:aws:ecs:us-east-1:123456789012:task/apps/" + taskID}, home{region: "eu-west-1"}, "", OtherRegion},
	} {
		t.Run(name, func(t *testing.T) {
			if test.node.Name == "" {
				test.node.Name = "ecs-" + taskID
			}
			got, v := locate(test.node, test.home)
			if got != test.want || v.left != test.left || v.action != 0 {
				t.Errorf("got %q and %+v, want %q and %q", got, v, test.want, test.left)
			}
			if (v.why == "") != (test.left == "") {
				t.Errorf("the reason %q has the words %q", v.left, v.why)
			}
		})
	}
}

func TestDecide(t *testing.T) {
	now := time.Date(2025, time.November, 4, 15, 0, 0, 0, time.UTC)
	const (
		stopped  = "STOPPED"
		drain    = catalog.Drain
		remove   = catalog.Delete
		undrain  = catalog.Undrain
		nothing  = catalog.Action(0)
		isUp     = 0
		isDrain  = 7
		sure     = false
		doubtful = true
	)
	old := now.Add(-time.Hour)
	for name, test := range map[string]struct {
		drained      uint64
		registeredAt time.Time
		answer       Answer
		action       catalog.Action
		doubtful     bool
		left         Reason
	}{
		"runs":                              {isUp, old, Answer{LastStatus: running, DesiredStatus: running}, nothing, sure, ""},
		"runs, just registered":             {isUp, now, Answer{LastStatus: running, DesiredStatus: running}, nothing, sure, ""},
		"runs, drained":                     {isDrain, old, Answer{LastStatus: running, DesiredStatus: running}, undrain, doubtful, ""},
		"starts":                            {isUp, old, Answer{LastStatus: "PROVISIONING", DesiredStatus: running}, nothing, sure, ""},
		"pending":                           {isUp, old, Answer{LastStatus: "PENDING", DesiredStatus: running}, nothing, sure, ""},
		"activating":                        {isUp, old, Answer{LastStatus: "ACTIVATING", DesiredStatus: running}, nothing, sure, ""},
		"pending, drained":                  {isDrain, old, Answer{LastStatus: "PENDING", DesiredStatus: running}, nothing, sure, DrainedNotRunning},
		"activating, drained":               {isDrain, old, Answer{LastStatus: "ACTIVATING", DesiredStatus: running}, nothing, sure, DrainedNotRunning},
		"to stop, and runs":                 {isUp, old, Answer{LastStatus: running, DesiredStatus: stopped}, drain, sure, ""},
		"to stop, and runs, drained":        {isDrain, old, Answer{LastStatus: running, DesiredStatus: stopped}, nothing, sure, ""},
		"to stop before it ran":             {isUp, old, Answer{LastStatus: "PENDING", DesiredStatus: stopped}, drain, sure, ""},
		"deactivating":                      {isUp, old, Answer{LastStatus: "DEACTIVATING", DesiredStatus: stopped}, drain, sure, ""},
		"stopping":                          {isUp, old, Answer{LastStatus: "STOPPING", DesiredStatus: stopped}, drain, sure, ""},
		"stopping, drained":                 {isDrain, old, Answer{LastStatus: "STOPPING", DesiredStatus: stopped}, nothing, sure, ""},
		"deprovisioning":                    {isUp, old, Answer{LastStatus: "DEPROVISIONING", DesiredStatus: stopped}, drain, sure, ""},
		"stopped":                           {isUp, old, Answer{LastStatus: stopped, DesiredStatus: stopped}, remove, sure, ""},
		"stopped, drained":                  {isDrain, old, Answer{LastStatus: stopped, DesiredStatus: stopped}, remove, sure, ""},
		"stopped by itself":                 {isUp, old, Answer{LastStatus: stopped, DesiredStatus: running}, remove, sure, ""},
		"stopped, just registered":          {isUp, now, Answer{LastStatus: stopped, DesiredStatus: stopped}, remove, sure, ""},
		"stopped, registered who knows":     {isUp, time.Time{}, Answer{LastStatus: stopped, DesiredStatus: stopped}, remove, sure, ""},
		"deleted":                           {isUp, old, Answer{LastStatus: "DELETED", DesiredStatus: stopped}, remove, sure, ""},
		"missing":                           {isUp, old, Answer{Failure: missing}, remove, doubtful, ""},
		"missing, drained":                  {isDrain, old, Answer{Failure: missing}, remove, doubtful, ""},
		"missing, 5 minutes old":            {isUp, now.Add(-5 * time.Minute), Answer{Failure: missing}, nothing, sure, RegisteredRecently},
		"missing, a second older":           {isUp, now.Add(-5*time.Minute - time.Second), Answer{Failure: missing}, remove, doubtful, ""},
		"missing, just registered":          {isUp, now, Answer{Failure: missing}, nothing, sure, RegisteredRecently},
		"missing, of the future":            {isUp, now.Add(time.Second), Answer{Failure: missing}, nothing, sure, RegistrationUndated},
		"missing, of the far future":        {isUp, now.Add(100 * time.Hour), Answer{Failure: missing}, nothing, sure, RegistrationUndated},
		"missing, undated":                  {isUp, time.Time{}, Answer{Failure: missing}, nothing, sure, RegistrationUndated},
		"another failure":                   {isUp, old, Answer{Failure: "ACCESS_DENIED"}, nothing, sure, EcsUnclear},
		"no answer":                         {isUp, old, Answer{}, nothing, sure, EcsUnclear},
		"no answer, drained":                {isDrain, old, Answer{}, nothing, sure, EcsUnclear},
		"no last status":                    {isUp, old, Answer{DesiredStatus: running}, nothing, sure, EcsUnclear},
		"no last status, drained":           {isDrain, old, Answer{DesiredStatus: running}, nothing, sure, EcsUnclear},
		"no desired status":                 {isUp, old, Answer{LastStatus: running}, nothing, sure, EcsUnclear},
		"no desired status, drained":        {isDrain, old, Answer{LastStatus: running}, nothing, sure, EcsUnclear},
		"a desired status of its own":       {isDrain, old, Answer{LastStatus: running, DesiredStatus: "PENDING"}, nothing, sure, EcsUnclear},
		"stopping, though it is to run":     {isUp, old, Answer{LastStatus: "STOPPING", DesiredStatus: running}, nothing, sure, ""},
		"stopping and drained, but to run":  {isDrain, old, Answer{LastStatus: "STOPPING", DesiredStatus: running}, nothing, sure, DrainedNotRunning},
		"a status of the future, to run":    {isUp, old, Answer{LastStatus: "HIBERNATING", DesiredStatus: running}, nothing, sure, ""},
		"a status of the future, to stop":   {isUp, old, Answer{LastStatus: "HIBERNATING", DesiredStatus: stopped}, drain, sure, ""},
		"a status of the future and a wish": {isUp, old, Answer{LastStatus: running, DesiredStatus: "HIBERNATING"}, nothing, sure, EcsUnclear},
	} {
		t.Run(name, func(t *testing.T) {
			test.answer.StopReason = ""
			if test.answer.DesiredStatus == stopped {
				test.answer.StopReason = "UserInitiated: Task stopped by user"
			}
			node := catalog.Node{Name: "ecs-" + taskID, TaskARN: taskARN, RegisteredAt: test.registeredAt, DrainIndex: test.drained}
			got := decide(node, test.answer, now)
			if got.action != test.action || got.doubtful != test.doubtful || got.left != test.left || got.why == "" {
				t.Errorf("got %+v, want %v, doubtful %v, left %q, and why", got, test.action, test.doubtful, test.left)
			}
			if got.action == drain && got.why != test.answer.StopReason {
				t.Errorf("the check would say %q, want the stop's reason as its event gives it", got.why)
			}
		})
	}
}

func TestConfirm(t *testing.T) {
	var (
		gone     = verdict{action: catalog.Delete, doubtful: true, why: "ECS does not know it"}
		runsOn   = verdict{action: catalog.Undrain, doubtful: true, why: "ECS says it is RUNNING and wanted RUNNING"}
		stopped  = verdict{action: catalog.Delete, why: "ECS says it is STOPPED and wanted STOPPED"}
		stopping = verdict{action: catalog.Drain, why: "UserInitiated"}
		fine     = verdict{why: "ECS says it is RUNNING and wanted RUNNING"}
		unclear  = leave(EcsUnclear, "ECS did not answer about it")
	)
	for name, test := range map[string]struct {
		first, second, want verdict
	}{
		"missing twice":                      {gone, gone, gone},
		"runs, drained, twice":               {runsOn, runsOn, runsOn},
		"missing, then stopped":              {gone, stopped, stopped},
		"missing, then stopping":             {gone, stopping, stopping},
		"missing, then it runs":              {gone, fine, fine},
		"missing, then unclear":              {gone, unclear, unclear},
		"missing, then it runs, drained":     {gone, runsOn, verdict{left: NotConfirmed}},
		"runs, drained, then missing":        {runsOn, gone, verdict{left: NotConfirmed}},
		"runs, drained, then stopping, done": {runsOn, fine, fine},
		"runs, drained, then stopped":        {runsOn, stopped, stopped},
		"runs, drained, then unclear":        {runsOn, unclear, unclear},
	} {
		t.Run(name, func(t *testing.T) {
			got := confirm(test.first, test.second)
			if got.left == NotConfirmed {
				got.why = ""
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
