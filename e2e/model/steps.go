package model

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

// kind is a kind of step.
type kind struct {
	weight int               // how often it happens, compared with the others
	do     func(*model) bool // false if there was nothing to do it to
}

// kinds are all steps but those of processes that are already at work.
func kinds() []kind {
	return []kind{
		// ECS
		{12, (*model).startTask},
		{30, (*model).moveOn},
		{10, (*model).stopTask},
		{2, (*model).crashTask},
		{1, (*model).loseInstance},
		{1, (*model).endOrphan},
		{2, (*model).changeHealth},
		// ours
		{15, (*model).runInit},
		{40, (*model).runSomeCheck},
		{15, (*model).deliver},
		{8, (*model).runSweep},
		// what goes wrong
		{3, (*model).loseMessage},
		{1, (*model).sendJunk},
		{5, (*model).deliverLate},
		{8, (*model).drainByHand},
		{4, (*model).deleteByHand},
		{1, (*model).takeSnapshot},
		{1, (*model).restoreSnapshot},
		// time
		{15, (*model).passSeconds},
		{6, (*model).passMinutes},
	}
}

func (m *model) pick() kind {
	all, sum := kinds(), 0
	for _, k := range all {
		sum += k.weight
	}
	n := m.rng.IntN(sum)
	for _, k := range all {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	return kind{}
}

// inTheWay are, in most cases, those of the tasks for which a process is
// about to write something, if there are any: what happens to them matters most
// now.
func (m *model) inTheWay(tasks []*task) []*task {
	spokenOf := func(t *task) bool {
		return slices.ContainsFunc(m.processes, func(p *process) bool {
			return p.calls[0].changes() && strings.Contains(p.calls[0].what, t.id)
		})
	}
	var found []*task
	for _, t := range tasks {
		if spokenOf(t) {
			found = append(found, t)
		}
	}
	if len(found) == 0 || m.chance(20) {
		return tasks
	}
	return found
}

// startTask has ECS start a task, at an address that may have been another's.
func (m *model) startTask() bool {
	where, ok := m.freePlace()
	if !ok {
		return false
	}
	t := &task{
		id:         fmt.Sprintf("%032x", len(m.tasks)+1),
		cluster:    []string{"apps", "jobs"}[m.rng.IntN(2)],
		service:    []string{"api", "web"}[m.rng.IntN(2)],
		place:      where,
		ec2:        where.ec2 || m.chance(50),
		containers: true,
		healthy:    true,
		front:      m.newFront(),
	}
	if m.chance(20) {
		t.hidden = m.now.Add(time.Duration(m.rng.Int64N(int64(longestHidden))))
	}
	t.volume = m.newVolume(t.id)
	m.mu.Lock()
	m.tasks = append(m.tasks, t)
	m.mu.Unlock()
	m.change(t, provisioning, running)
	m.note("%s starts at %s in %s, on EC2: %v", t.id, where.address, where.vpcID, t.ec2)
	return true
}

// moveOn has ECS take a task to its next state.
func (m *model) moveOn() bool {
	t, ok := oneOf(m, m.selected(func(t *task) bool { return next(t) != "" }))
	if ok {
		m.move(t)
	}
	return ok
}

func (m *model) move(t *task) {
	to := next(t)
	if to == deprovisioning { // its containers have stopped, and give the address back
		m.stopProcess(t)
		m.with(t, func(t *task) { t.containers = false })
	}
	m.change(t, to, t.truth().desired)
	m.tell(t)
}

// next is where ECS takes a task next; "" where it stays. It doesn't run before
// its init container has ended well.
func next(t *task) string {
	at, wanted := t.truth().last, t.wanted()
	switch {
	case at == provisioning && wanted:
		return pending
	case at == pending && wanted && t.initialized:
		return activating
	case at == activating && wanted:
		return running
	case at == running && !wanted:
		return deactivating
	case at == deactivating:
		return stopping
	case at == deprovisioning:
		return stopped
	case at != stopped && !wanted:
		return deprovisioning
	}
	return ""
}

// decideToStop has ECS want a task no more.
func (m *model) decideToStop(t *task, last, code, reason string) {
	unheard := time.Duration(0)
	if m.chance(50) {
		unheard = time.Duration(m.rng.Int64N(int64(longestUnheard)))
	}
	m.with(t, func(t *task) {
		t.stopCode, t.stopReason, t.stopStep, t.heard = code, reason, m.step, m.now.Add(unheard)
	})
	m.change(t, last, stopped)
	m.tell(t)
}

func (m *model) stopTask() bool {
	t, ok := oneOf(m, m.inTheWay(m.selected((*task).wanted)))
	if ok {
		m.decideToStop(t, t.truth().last, "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/1105815016245936099)")
	}
	return ok
}

// crashTask has all containers end before ECS hears of it.
func (m *model) crashTask() bool {
	t, ok := oneOf(m, m.selected(func(t *task) bool { return t.wanted() && t.truth().last == running }))
	if ok {
		m.stopProcess(t)
		m.with(t, func(t *task) { t.containers = false })
		m.decideToStop(t, deprovisioning, "EssentialContainerExited", "Essential container in task exited")
	}
	return ok
}

// loseInstance has ECS give a task up whose instance it doesn't reach. The task
// runs on, and its metadata doesn't say that it is to stop.
func (m *model) loseInstance() bool {
	t, ok := oneOf(m, m.selected(func(t *task) bool { return t.ec2 && t.wanted() && t.truth().last == running }))
	if ok {
		m.with(t, func(t *task) { t.orphan = true })
		m.decideToStop(t, stopped, "TerminationNotice", "Host EC2 instance terminated")
	}
	return ok
}

func (m *model) endOrphan() bool {
	t, ok := oneOf(m, m.selected(func(t *task) bool { return t.orphan && t.containers }))
	if ok {
		m.stopProcess(t)
		m.with(t, func(t *task) { t.containers = false })
		m.note("%s, the orphan, ends", t.id)
	}
	return ok
}

func (m *model) changeHealth() bool {
	t, ok := oneOf(m, m.selected(func(t *task) bool { return t.containers }))
	if ok {
		m.with(t, func(t *task) { t.healthy = !t.healthy })
		m.note("%s is healthy: %v", t.id, t.healthy)
	}
	return ok
}

func (m *model) canBegin() bool { return len(m.processes) < mostProcesses }

// runInit runs an init container, the first time or again after it failed or
// was killed. It may have been started just before ECS decides to stop the task.
func (m *model) runInit() bool {
	t, ok := oneOf(m, m.selected(func(t *task) bool {
		return t.containers && t.process == nil && !t.initialized && t.truth().last == pending
	}))
	if !ok || !m.canBegin() {
		return false
	}
	m.initialize(t)
	return true
}

func (m *model) runSomeCheck() bool {
	t, ok := oneOf(m, m.selected(func(t *task) bool { return t.containers && t.process == nil && t.initialized }))
	if !ok || !m.canBegin() {
		return false
	}
	m.runCheck(t)
	return true
}

// deliver hands up to 10 messages to deregister-tasks, in any order.
func (m *model) deliver() bool {
	for _, f := range m.deregister {
		if f.busy() || len(m.queue) == 0 || !m.canBegin() {
			continue
		}
		var messages []*message
		for range 1 + m.rng.IntN(10) {
			if m.chance(50) {
				// The newest: it is soonest that events meet others at work.
				messages = append(messages, m.queue[len(m.queue)-1])
				m.queue = m.queue[:len(m.queue)-1]
			} else if msg, ok := take(m, &m.queue); ok {
				messages = append(messages, msg)
			}
			if len(m.queue) == 0 {
				break
			}
		}
		m.invokeDeregister(f, messages)
		return true
	}
	return false
}

func (m *model) runSweep() bool {
	if m.sweeper.busy() || !m.canBegin() {
		return false
	}
	m.invokeSweep(m.chance(10))
	return true
}

func (m *model) loseMessage() bool {
	msg, ok := take(m, &m.queue)
	if ok {
		m.note("lost: %s", msg.about())
	}
	return ok
}

// sendJunk sends what is no event of a task.
func (m *model) sendJunk() bool {
	if m.chance(50) {
		m.send(&message{body: `{"source": "aws.ecs", "detail-type": "ECS Deployment State Change", "detail": {}}`})
	} else {
		m.send(&message{body: `{"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {"taskArn": 1`, broken: true})
	}
	return true
}

// deliverLate has a request arrive that was held back.
func (m *model) deliverLate() bool {
	c, ok := take(m, &m.late)
	if !ok {
		return false
	}
	m.note("%s: %s, held back at first, is carried out", c.process.name, c.what)
	if _, _, err := m.pass(c.request); err != nil {
		m.fail("%s: %v", c.what, err)
	}
	m.observe(c.process)
	return true
}

// drainByHand has somebody drain a task that runs.
func (m *model) drainByHand() bool {
	t, ok := oneOf(m, m.inTheWay(m.selected(func(t *task) bool { return t.wanted() && m.catalog[t.node()].working() })))
	if !ok {
		return false
	}
	m.note("somebody drains %s", t.id)
	_, err := m.consul.Client.Catalog().Register(&api.CatalogRegistration{
		Node: t.node(), SkipNodeUpdate: true,
		Check: &api.AgentCheck{
			Node: t.node(), CheckID: mesh.LifecycleCheckID, Name: mesh.LifecycleCheckName,
			Status: api.HealthCritical, Output: "drained by hand",
		},
	}, nil)
	if err != nil {
		m.fail("drain %s: %v", t.id, err)
	}
	m.see()
	return true
}

// deleteByHand has somebody delete the node of a task that runs, or a part.
func (m *model) deleteByHand() bool {
	t, ok := oneOf(m, m.inTheWay(m.selected(func(t *task) bool { return t.wanted() && m.catalog[t.node()].present })))
	if !ok {
		return false
	}
	gone := &api.CatalogDeregistration{Node: t.node()}
	if m.chance(30) {
		gone.ServiceID = mesh.ProxyID(mesh.ServiceID(t.service, t.id))
	}
	m.note("somebody deletes %s %s", t.id, gone.ServiceID)
	if _, err := m.consul.Client.Catalog().Deregister(gone, nil); err != nil {
		m.fail("delete %s: %v", t.id, err)
	}
	m.see()
	return true
}

// mostSnapshots is how many are kept.
const mostSnapshots = 3

func (m *model) takeSnapshot() bool {
	reader, _, err := m.consul.Client.Snapshot().Save(nil)
	if err != nil {
		m.fail("take a snapshot: %v", err)
	}
	defer reader.Close()
	snapshot, err := io.ReadAll(reader)
	if err != nil {
		m.fail("take a snapshot: %v", err)
	}
	if len(m.snapshots) == mostSnapshots {
		take(m, &m.snapshots)
	}
	m.snapshots = append(m.snapshots, snapshot)
	m.note("snapshot taken")
	return true
}

// restoreSnapshot has Consul forget what was written since an earlier moment.
func (m *model) restoreSnapshot() bool {
	snapshot, ok := take(m, &m.snapshots)
	if !ok {
		return false
	}
	m.note("snapshot restored")
	if err := m.consul.Client.Snapshot().Restore(nil, bytes.NewReader(snapshot)); err != nil {
		m.fail("restore a snapshot: %v", err)
	}
	m.see()
	return true
}

func (m *model) passSeconds() bool {
	m.advance(tick)
	return true
}

// passMinutes has nobody at work meanwhile: none of ours works for so long.
func (m *model) passMinutes() bool {
	if len(m.processes) > 0 {
		return false
	}
	m.advance(time.Duration(1+m.rng.IntN(40)) * time.Minute)
	return true
}
