package check

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// upkeep is what the runs remember of looking after the task. All of its
// pauses are multiples of a run's refresh, which is a minute by default.
type upkeep struct {
	// LookAt is when Consul is asked next for the task's registration and for
	// its own servers.
	LookAt time.Time

	// Servers are those that Envoy has now, where they are not the first.
	Servers []netip.Addr `json:",omitempty"`

	// AskAt is when the source of servers is asked, and AskPause what passes
	// until it is asked again. AskAt is zero as long as a server answers.
	AskAt    time.Time     `json:",omitzero"`
	AskPause time.Duration `json:",omitempty"`

	// RestoredAt is when the task was registered again for the last time, and
	// RestorePause what has to pass until the next.
	RestoredAt   time.Time     `json:",omitzero"`
	RestorePause time.Duration `json:",omitempty"`
}

const (
	// SSM allows an account 40 reads a second. When Consul is gone for 5,000
	// tasks at once, their first reads are spread over these many refreshes
	// and the following ones come ever more rarely.
	firstAsk      = 4
	longestAsking = 16

	// A registration that stood for so many refreshes after it was restored
	// has not been taken away by the sweep: the next loss begins anew.
	stood = 30

	// longestRestoring bounds a pause that doubles. No task lives so long.
	longestRestoring = 10 * 365 * 24 * time.Hour
)

// newUpkeep begins with the task: it was registered a moment ago.
func newUpkeep(now time.Time, refresh time.Duration) upkeep {
	return upkeep{LookAt: now.Add(between(refresh/2, refresh*3/2))}
}

// mend takes back what a clock that went back would make wait for too long.
func (u upkeep) mend(now time.Time, refresh time.Duration) upkeep {
	if u.LookAt.Sub(now) > 2*refresh {
		u.LookAt = now
	}
	if u.AskAt.Sub(now) > 2*longestAsking*refresh {
		u.AskAt = now
	}
	if !u.AskAt.IsZero() {
		u.AskPause = min(max(u.AskPause, refresh), longestAsking*refresh)
	}
	if u.RestoredAt.After(now) {
		u.RestoredAt = now // it is not known how much of the pause has passed
	}
	return u
}

func (u upkeep) lookDue(now time.Time) bool { return !now.Before(u.LookAt) }

func (u upkeep) askDue(now time.Time) bool { return !u.AskAt.IsZero() && !now.Before(u.AskAt) }

func (u upkeep) restoreDue(now time.Time) bool {
	return u.RestoredAt.IsZero() || !now.Before(u.RestoredAt.Add(u.RestorePause))
}

// looked plans the next look: at most one in every refresh, and not all tasks
// at the same time.
func (u upkeep) looked(now time.Time, refresh time.Duration) upkeep {
	u.LookAt = now.Add(between(refresh, refresh*3/2))
	return u
}

// answered notes that a Consul server answered.
func (u upkeep) answered() upkeep {
	u.AskAt, u.AskPause = time.Time{}, 0
	return u
}

// silent notes that none did.
func (u upkeep) silent(now time.Time, refresh time.Duration) upkeep {
	if u.AskAt.IsZero() {
		u.AskPause = firstAsk * refresh
		u.AskAt = now.Add(between(0, u.AskPause))
	}
	return u
}

// asked plans the next time that the source is asked.
func (u upkeep) asked(now time.Time, refresh time.Duration) upkeep {
	u.AskAt = now.Add(between(u.AskPause*3/4, u.AskPause*5/4))
	u.AskPause = min(2*u.AskPause, longestAsking*refresh)
	return u
}

// lost looks sooner than planned: a write found the registration gone.
func (u upkeep) lost(now time.Time) upkeep {
	soonest := now
	if next := u.RestoredAt.Add(u.RestorePause); !u.RestoredAt.IsZero() && next.After(now) {
		soonest = next
	}
	if soonest.Before(u.LookAt) {
		u.LookAt = soonest
	}
	return u
}

// whole notes that the registration is as it should be.
func (u upkeep) whole(now time.Time, refresh time.Duration) upkeep {
	if !u.RestoredAt.IsZero() && now.Sub(u.RestoredAt) > stood*refresh {
		u.RestoredAt, u.RestorePause = time.Time{}, 0
	}
	return u
}

// restored notes that the task registers again. As long as the registration
// keeps vanishing the pauses double: a task that ECS has given up, on an
// instance that it lost, must not fight the sweep for ever.
func (u upkeep) restored(now time.Time, refresh time.Duration) upkeep {
	u.RestoredAt = now
	u.RestorePause = min(max(2*u.RestorePause, refresh), longestRestoring)
	return u
}

func between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + rand.N(most-least)
}
