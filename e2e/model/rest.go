package model

import "time"

// mostChecks bounds how often a live task's check has to run, with pauses that
// double, until the task is whole. Its own pauses double with each loss.
const mostChecks = 16

// comeToRest ends all that is under way, without any more faults: requests that
// were held back arrive, tasks go where they were going, and what is left of
// events is delivered or lost. Then the live tasks run their checks.
func (m *model) comeToRest() {
	m.begin()
	m.calm = true
	m.note("all comes to rest")
	m.finish()
	for m.deliverLate() {
	}
	for m.endOrphan() {
	}
	for m.moveOn() || m.runInit() {
		m.finish()
		m.begin()
	}
	for len(m.queue) > 0 {
		m.begin()
		if m.chance(50) {
			m.loseMessage()
		} else {
			m.deliver()
		}
		m.finish()
	}
	m.advance(10 * time.Minute) // what is younger, the sweep leaves alone

	live := m.selected((*task).wanted)
	for _, t := range live {
		m.with(t, func(t *task) { t.healthy = true })
	}
	pause := tick
	for range mostChecks {
		whole := true
		for _, t := range live {
			m.begin()
			m.runCheck(t)
			m.finish()
			whole = whole && m.fault(t, true) == ""
		}
		if whole {
			return
		}
		m.advance(pause)
		pause *= 2
	}
}

// sweepNow runs a sweep undisturbed. The operator lets it delete all that is
// dead: after a snapshot was restored that may be too many for the brake.
func (m *model) sweepNow() {
	m.begin()
	m.invokeSweep(true)
	m.finish()
}
