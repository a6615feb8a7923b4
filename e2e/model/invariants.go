package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ecsmesh/e2e/consultest"
	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/mesh"

	"github.com/hashicorp/consul/api"
)

// entry is what the catalog says of a task's node.
type entry struct {
	present bool
	drain   uint64 // index of the check that drains it; 0 is none

	// Steps since when it has been so: there, and there without a drain.
	presentSince, workingSince int
}

func (e entry) working() bool { return e.present && e.drain == 0 }

// see reads the catalog after a step in which it may have changed, and returns
// what it was before.
func (m *model) see() (before map[string]entry) {
	options := &api.QueryOptions{RequireConsistent: true}
	nodes, _, err := m.consul.Client.Catalog().Nodes(options)
	if err != nil {
		m.fail("read the catalog: %v", err)
	}
	checks, _, err := m.consul.Client.Health().State(api.HealthCritical, &api.QueryOptions{
		RequireConsistent: true, Filter: fmt.Sprintf("CheckID == %q", mesh.LifecycleCheckID),
	})
	if err != nil {
		m.fail("read the catalog: %v", err)
	}
	before = m.catalog
	m.catalog = map[string]entry{}
	for _, node := range nodes {
		if strings.HasPrefix(node.Node, mesh.NodePrefix) {
			m.catalog[node.Node] = entry{present: true}
		}
	}
	for _, check := range checks {
		m.catalog[check.Node] = entry{present: true, drain: check.ModifyIndex}
	}
	for name, now := range m.catalog {
		was := before[name]
		now.presentSince, now.workingSince = was.presentSince, was.workingSince
		if !was.present {
			now.presentSince = m.step
		}
		if !was.working() {
			now.workingSince = m.step
		}
		m.catalog[name] = now
	}
	m.mostNodes = max(m.mostNodes, len(m.catalog))
	return before
}

// observe looks at what a process's request has done to the catalog, and fails
// if a task was harmed.
func (m *model) observe(p *process) {
	before := m.see()
	names := map[string]bool{}
	for name := range before {
		names[name] = true
	}
	for name := range m.catalog {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, is := before[name], m.catalog[name]
		id := strings.TrimPrefix(name, mesh.NodePrefix)
		t := m.task(id)
		if was.String() != is.String() {
			m.noteOf(p, "· %s was %s and is %s", id, was, is)
			m.happened[p.actor()+": "+is.word()]++
		}
		// A node may come back before a request is repeated, and be removed twice.
		if was.present && !is.present && !slices.Contains(p.removed, id) {
			p.removed = append(p.removed, id)
		}
		switch {
		case was.present && !is.present && t.wanted():
			m.violated(id, "%s removed the node of a task that ECS wants to run", p.name)
		case was.present && !is.present && p.task != t && t.truth().last != stopped:
			m.violated(id, "%s removed the node of a task that has not stopped yet", p.name)
		case was.drain == 0 && is.drain != 0 && t.wanted():
			m.violated(id, "%s drained a task that ECS wants to run", p.name)
		case !was.present && is.present:
			m.judgeRegistration(p, t)
		case is.present && was.drain != 0 && is.drain == 0:
			m.judgeUndrain(p, t, was)
		}
		if is.drain != 0 && is.drain != was.drain {
			m.ownDrains[is.drain] = true
		}
	}
}

// judgeRegistration is for a node that is new. That ECS is stopping a task counts
// from when the task's own metadata says so.
func (m *model) judgeRegistration(p *process, t *task) {
	switch {
	case p.task != t:
		m.violated(t.id, "%s registered another task", p.name)
	case p.knewOfStop(t):
		m.violated(t.id, "%s registered a task, and knew that ECS is stopping it", p.name)
	case t.initialized && m.successor(t, p.began):
		m.violated(t.id, "%s registered again a task whose address another has", p.name)
	}
	if t.initialized && t.process == p { // not by a request that was held back
		t.restored, t.restoredAt = m.step, m.clock()
	}
}

// knewOfStop tells whether a process that runs in a task could know, when it
// began, that ECS is stopping it.
func (p *process) knewOfStop(t *task) bool { return t.heardBy(p.beganAt) && t.stopStep < p.began }

// successor tells whether a task of which it is known that it has the address
// now was registered before a step.
func (m *model) successor(t *task, step int) bool {
	return len(m.selected(func(other *task) bool {
		e := m.catalog[other.node()]
		return other != t && other.place == t.place && other.ec2 && t.ec2 && other.wanted() && e.present && e.presentSince < step
	})) > 0
}

// longestRegret is how long a task is sure to take back what it registered, if it
// hears only afterwards that ECS was stopping it.
const longestRegret = 2 * longestUnheard

// judgeCheck is for a check's run that has ended undisturbed: if it knows that
// ECS is stopping the task, then what this run or one just before has registered
// is not there any more.
func (m *model) judgeCheck(p *process) {
	t, is := p.task, m.catalog[p.task.node()]
	if !is.working() || is.presentSince != t.restored {
		return
	}
	switch {
	case t.restored >= p.began && t.heardBy(m.clock()):
		m.violated(t.id, "%s registered a task that ECS is stopping, and left it so", p.name)
	case t.restored < p.began && p.knewOfStop(t) && p.beganAt.Sub(t.restoredAt) <= longestRegret:
		m.violated(t.id, "%s did not take back that the task was registered though ECS was stopping it", p.name)
	}
}

// judgeBrake is for a sweep that had to mind its brake.
func (m *model) judgeBrake(p *process) {
	if most := max(brake.MaxTasks, m.mostNodes*brake.MaxPercent/100); len(p.removed) > most {
		m.violated(p.removed[0], "%s removed %d tasks at once, and must not remove more than %d", p.name, len(p.removed), most)
	}
}

// judgeUndrain is for a drain that was taken back. A task may be stopped a
// moment after ECS was asked: then what was taken back must have been another's
// drain, and not one that the stop had set.
func (m *model) judgeUndrain(p *process, t *task, was entry) {
	switch {
	case t.wanted():
	case m.ownDrains[was.drain]:
		m.violated(t.id, "%s took back the drain of a task that ECS is stopping", p.name)
	case t.stopStep < p.began:
		m.violated(t.id, "%s undrained a task that ECS had decided to stop before", p.name)
	}
}

// word is what the node's task is, as far as the mesh knows.
func (e entry) word() string {
	switch {
	case !e.present:
		return "absent"
	case e.drain != 0:
		return "drained"
	}
	return "working"
}

func (e entry) String() string { return fmt.Sprintf("%s (%d)", e.word(), e.drain) }

// node is that of the event's task, if it is one.
func (msg *message) node() string {
	if msg.task == nil {
		return ""
	}
	return msg.task.node()
}

// about says in short what a message says.
func (msg *message) about() string {
	switch {
	case msg.broken:
		return "a message that can't be read"
	case msg.task == nil:
		return "an event of something else"
	}
	return fmt.Sprintf("the event that %s is %s, wanted %s", msg.task.id, msg.state.last, msg.state.desired)
}

// judgeAnswer compares what deregister-tasks answered with what it did, and
// returns the messages that come again: those that it reported and, since SQS
// may do so, now and then one that it didn't.
func (m *model) judgeAnswer(p *process, messages []*message, answer any, err error) (again []*message) {
	failed, malformed := reported(answer)
	if err := errors.Join(err, malformed); err != nil {
		m.fail("%s failed as a whole: %v", p.name, err)
	}
	for _, msg := range messages {
		is := m.catalog[msg.node()]
		ours := msg.task != nil && msg.state.desired == stopped
		switch {
		case msg.broken && !failed[msg.id]:
			m.fail("a message that can't be read is taken for handled")
		case msg.broken:
		case failed[msg.id] && !ours:
			m.fail("reported as failed: %s, which asks for nothing", msg.about())
		case failed[msg.id] && is.present && is.presentSince > p.began: // it came just then: better once more
		case failed[msg.id] && !p.faulty:
			m.violated(msg.task.id, "reported as failed, though nothing was in the way: %s", msg.about())
		case !failed[msg.id] && ours:
			m.expectHandled(p, msg)
		}
		if failed[msg.id] || !m.calm && m.chance(5) {
			again = append(again, msg)
		}
	}
	return again
}

// expectHandled expects that the task was out of the mesh, as far as the event
// asks for it, at some time while it was handled. Later it may have come back:
// its own container may have been registering it.
func (m *model) expectHandled(p *process, msg *message) {
	is := m.catalog[msg.task.node()]
	switch {
	case msg.state.last == stopped && is.present && is.presentSince <= p.began:
		m.violated(msg.task.id, "taken for handled, but the node is there: %s", msg.about())
	case is.working() && is.workingSince <= p.began:
		m.violated(msg.task.id, "taken for handled, but the task is not drained: %s", msg.about())
	}
}

// expectTruth expects, when all has come to rest, that the catalog says what
// ECS says: the tasks that live, whole, undrained and passing, and no others.
func (m *model) expectTruth() {
	m.see()
	for name := range m.catalog {
		id := strings.TrimPrefix(name, mesh.NodePrefix)
		if t := m.task(id); !t.wanted() {
			m.violated(id, "after all, the node of a task that ECS has stopped is in the catalog")
		}
	}
	for _, t := range m.selected((*task).wanted) {
		if fault := m.fault(t, false); fault != "" {
			m.violated(t.id, "after all, the live task is not as it should be: %s", fault)
		}
	}
}

// fault says what is wrong with a live task's registration; "" is nothing. That
// it is drained is one, if it must not be.
func (m *model) fault(t *task, mayBeDrained bool) string {
	var known check.Task
	if err := volume.ReadJSON(t.volume.Task(), &known); err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	servers, err := consul.NewServers([]netip.Addr{m.consul.Addr}, consul.Options{Port: consultest.HTTPPort})
	if err != nil {
		return err.Error()
	}
	found, err := known.Registration.Read(ctx, servers)
	if err != nil {
		return err.Error()
	}
	if damage := known.Registration.Damage(found); damage != "" {
		return damage
	}
	passing := map[string]bool{}
	for _, check := range found.Checks {
		if check.CheckID == mesh.LifecycleCheckID && !mayBeDrained {
			return "it is drained: " + check.Output
		}
		passing[check.CheckID] = check.Status == api.HealthPassing
	}
	for _, check := range known.Registration.Checks() {
		if !passing[check.CheckID] {
			return "it doesn't pass " + check.CheckID
		}
	}
	return ""
}
