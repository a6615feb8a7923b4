package model

import (
	"context"
	"slices"
	"strings"
	"time"
)

// process is one of ours at work: an invocation of a function, an init
// container, a run of a check. It runs by itself up to its next remote call,
// and there it waits until the run lets it go on, or kills it. All the others
// wait meanwhile, so what happens has an order.
type process struct {
	name     string
	task     *task // in which it runs; nil for a function
	front    *front
	concerns []string // IDs of the tasks in whose traces it belongs; none is all
	began    int      // the step
	beganAt  time.Time

	ctx    context.Context
	cancel context.CancelFunc
	killed bool // its context was ended
	faulty bool // a call of it was interfered with

	removed []string // IDs of the tasks that it removed, each once

	// signals has one for each call that it makes, and nil when it has ended.
	// Each start and each answer is followed by exactly one.
	signals chan *call
	calls   []*call // that wait for their fate
	ended   func()  // looks at what came of it
}

// actor is which of ours it is.
func (p *process) actor() string {
	actor, _, _ := strings.Cut(p.name, " ")
	return actor
}

// call is a remote call of a process.
type call struct {
	process *process
	what    string
	request *request      // to Consul; nil for others
	until   int           // the step before which it isn't decided
	fate    chan fate     // what becomes of it
	done    chan struct{} // closed when that has become of it
	gaveUp  bool          // its caller did, after a real time-out
}

// fate is what becomes of a call.
type fate int

const (
	carryOut   fate = iota
	refuse          // it doesn't arrive, and the caller gets an error
	loseAnswer      // it is carried out, and the caller gets an error
	holdBack        // likewise, but it is carried out later
	kill            // the caller is killed before it arrives
	killAfter       // the caller is killed when it has been carried out
)

func (f fate) String() string {
	return [...]string{
		carryOut:   "is carried out",
		refuse:     "does not arrive",
		loseAnswer: "is carried out, and its answer is lost",
		holdBack:   "is held back",
		kill:       "does not arrive, as the caller is killed",
		killAfter:  "is carried out, and the caller is killed",
	}[f]
}

func (f fate) arrives() bool { return f == carryOut || f == loseAnswer || f == killAfter }

// start runs a process up to its first call. What it comes to is looked at when
// it ends, unless it was killed.
func (m *model) start(p *process, run func(context.Context), ended func()) {
	p.began, p.beganAt, p.ended = m.step, m.clock(), ended
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.signals = make(chan *call, 1000)
	if p.task != nil {
		p.task.process = p
	}
	p.front.process.Store(p)
	m.processes = append(m.processes, p)
	m.noteOf(p, "begins")
	m.running.Go(func() {
		run(p.ctx)
		p.signals <- nil
	})
	if m.await(p) {
		m.end(p)
	}
}

// ask is called by a process, in whichever goroutine, and returns when the fate
// of its call has been decided.
func (p *process) ask(c *call, over <-chan struct{}) fate {
	c.fate, c.done = make(chan fate, 1), make(chan struct{})
	p.signals <- c
	select {
	case f := <-c.fate:
		return f
	case <-over:
		return refuse
	}
}

// await waits for a process's next call, and returns true if it has ended
// instead.
func (m *model) await(p *process) (ended bool) {
	select {
	case c := <-p.signals:
		if c == nil {
			return true
		}
		if c.changes() && m.chance(40) { // a slow one, so that more can happen meanwhile
			c.until = m.step + m.rng.IntN(longestWait)
		}
		p.calls = append(p.calls, c)
		return false
	case <-time.After(hang):
		m.fail("%s hangs", p.name)
		return false
	}
}

// goOn decides the fate of a process's call, and lets the process go on to the
// next.
func (m *model) goOn(p *process) {
	c := p.calls[0] // there are others only when it didn't wait for the answer
	m.decide(c, m.fate(c))
}

// fate is chosen at random. What changes nothing can't be lost half-way.
func (m *model) fate(c *call) fate {
	draw := m.rng.IntN(1000)
	switch {
	case m.calm:
		return carryOut
	case draw < 30:
		return refuse
	case draw < 60:
		return kill
	case !c.changes():
		return carryOut
	case draw < 90:
		return loseAnswer
	case draw < 110:
		return holdBack
	case draw < 140:
		return killAfter
	}
	return carryOut
}

func (m *model) decide(c *call, f fate) {
	p := c.process
	p.calls = p.calls[1:]
	m.noteOf(p, "· %s %s", c.what, f)
	p.faulty = p.faulty || f != carryOut
	if f == kill || f == killAfter {
		p.killed = true
		p.cancel()
	}
	if f == holdBack {
		m.late = append(m.late, c)
	}
	c.fate <- f
	if c.request != nil {
		<-c.done
		p.faulty = p.faulty || c.gaveUp
	}
	ended := m.await(p)
	if c.changes() && f.arrives() {
		m.observe(p)
	}
	if ended {
		m.end(p)
	}
}

func (m *model) end(p *process) {
	p.cancel()
	p.front.process.Store(nil)
	if p.task != nil {
		p.task.process = nil
	}
	m.processes = slices.DeleteFunc(m.processes, func(other *process) bool { return other == p })
	m.noteOf(p, "ends")
	p.ended()
}

// stopProcess kills the process in a task, as ECS does with its containers.
func (m *model) stopProcess(t *task) {
	for t.process != nil {
		f := kill
		if t.process.calls[0].changes() && m.chance(50) {
			f = killAfter
		}
		m.decide(t.process.calls[0], f)
	}
}

// finish lets all processes go on until they have ended.
func (m *model) finish() {
	for len(m.processes) > 0 {
		m.goOn(m.processes[0])
	}
}
