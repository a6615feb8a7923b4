package check

import (
	"math/rand/v2"
	"net/netip"
	"time"
)

// upkeep is what the runs remember of looking after the task. Most of its
// pauses are multiples of a run's refresh, which is a minute by default.
type upkeep struct {
	// LookedAt is when Consul was asked for the task's registration and for
	// its own servers, and LookAt when it is next.
	LookedAt time.Time `json:",omitzero"`
	LookAt   time.Time

	// Lost is true from when the registration was found gone until the next
	// look: there is nothing to which health could be told.
	Lost bool `json:",omitempty"`

	// Servers are those that Envoy has now, where they are not the first.
	Servers []netip.Addr `json:",omitempty"`

	// AskAt is when the source of servers is asked, and AskPause what passes
	// until it is asked again. AskAt is zero as long as a server answers.
	AskAt    time.Time     `json:",omitzero"`
	AskPause time.Duration `json:",omitempty"`

	// Renewed tells that the ACL token is not the first, and RenewAt when it is
	// renewed next; zero: never. RenewTriedAt is when that was tried last, and
	// RenewPause what passes until it is tried again.
	Renewed      bool          `json:",omitempty"`
	RenewAt      time.Time     `json:",omitzero"`
	RenewTriedAt time.Time     `json:",omitzero"`
	RenewPause   time.Duration `json:",omitempty"`

	// TokenKnown is true once Consul took the token: one that it doesn't know
	// later is lost, and not just on its way.
	TokenKnown bool `json:",omitempty"`

	// AgentBehind is true from when Envoy is about to get another token until
	// the task's own agent has it, too.
	AgentBehind bool `json:",omitempty"`

	// Drained is true once the task's own agent knows that the task is stopping.
	Drained bool `json:",omitempty"`

	// TriedAt is when the task tried last to register again, and WatchUntil
	// until when it is watched whether ECS was stopping it meanwhile.
	TriedAt    time.Time `json:",omitzero"`
	WatchUntil time.Time `json:",omitzero"`

	// Restored is about registrations that were gone, Mended about those that
	// were there and differed: whoever changes a tag again and again must not
	// keep a task out that is lost later.
	Restored, Mended restoration
}

// restoration is when registering again succeeded last, and what has to pass
// until it is done again.
type restoration struct {
	At    time.Time     `json:",omitzero"`
	Pause time.Duration `json:",omitempty"`
}

const (
	// SSM allows an account 40 reads a second. When Consul is gone for 5,000
	// tasks at once, their first reads are spread over these many refreshes
	// and, as long as the list stays, the following ones over more.
	firstAsk      = 4
	longestAsking = 8

	// ECS's events may be ahead of what it says within the task.
	watched = 30 * time.Second

	// A registration that stood for so long after it was restored has not
	// been taken away by the sweep: the next loss begins anew.
	stood = 2 * time.Hour

	// longestToken is the longest life that Consul gives a token.
	longestToken = 24 * time.Hour

	// longestRestoring bounds a pause that doubles.
	longestRestoring = 24 * time.Hour
)

// newUpkeep begins with the task: it was registered a moment ago.
func newUpkeep(now time.Time, refresh time.Duration) upkeep {
	return upkeep{LookAt: now.Add(between(refresh/2, refresh*3/2))}
}

// mend takes back what a clock that went back, or a damaged file, would make
// wait for too long.
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
	if u.RenewAt.Sub(now) > longestToken {
		u.RenewAt = now
	}
	u.RenewPause = min(u.RenewPause, longestRenew)
	if u.WatchUntil.Sub(now) > watched {
		u.WatchUntil = now.Add(watched)
	}
	// It is not known how much has passed since.
	for _, past := range []*time.Time{&u.LookedAt, &u.RenewTriedAt, &u.TriedAt, &u.Restored.At, &u.Mended.At} {
		if past.After(now) {
			*past = now
		}
	}
	u.Restored.Pause = min(u.Restored.Pause, longestRestoring)
	u.Mended.Pause = min(u.Mended.Pause, longestRestoring)
	return u
}

func (u upkeep) lookDue(now time.Time) bool { return !now.Before(u.LookAt) }

func (u upkeep) askDue(now time.Time) bool { return !u.AskAt.IsZero() && !now.Before(u.AskAt) }

func (u upkeep) watching() bool { return !u.WatchUntil.IsZero() }

func (u upkeep) watchOver(now time.Time) bool { return !now.Before(u.WatchUntil) }

// of is the restoration of a registration that is gone, or is not.
func (u *upkeep) of(gone bool) *restoration {
	if gone {
		return &u.Restored
	}
	return &u.Mended
}

// restoreAt is when the task may register again: a refresh after it tried, a
// little less since it tries somewhat later than it looks.
func (u upkeep) restoreAt(refresh time.Duration, gone bool) time.Time {
	next := u.TriedAt.Add(refresh * 9 / 10)
	last := u.of(gone)
	if again := last.At.Add(last.Pause); again.After(next) {
		return again
	}
	return next
}

// looked plans the next look: at most one in every refresh, and not all tasks
// at the same time.
func (u upkeep) looked(now time.Time, refresh time.Duration) upkeep {
	u.LookedAt = now
	u.LookAt = now.Add(between(refresh, refresh*3/2))
	return u
}

// answered notes that a Consul server answered.
func (u upkeep) answered() upkeep {
	u.AskAt, u.AskPause = time.Time{}, 0
	return u
}

// silent notes that none did, or may.
func (u upkeep) silent(now time.Time, refresh time.Duration) upkeep {
	if u.AskAt.IsZero() {
		u.AskPause = firstAsk * refresh
		u.AskAt = now.Add(between(0, u.AskPause))
	}
	return u
}

// asked plans the next time that the source is asked.
func (u upkeep) asked(now time.Time) upkeep {
	u.AskAt = now.Add(between(u.AskPause*3/4, u.AskPause*5/4))
	return u
}

// unchanged notes that the source has the servers that are known.
func (u upkeep) unchanged(now time.Time, refresh time.Duration) upkeep {
	u.AskPause = min(2*u.AskPause, longestAsking*refresh)
	return u.asked(now)
}

// renewing notes that another token is about to be asked for.
// As long as there is none, the pauses double.
func (u upkeep) renewing(now time.Time, refresh time.Duration) upkeep {
	u.RenewTriedAt = now
	u.RenewPause = min(max(2*u.RenewPause, min(renewPause, refresh)), longestRenew)
	return u
}

// renewed plans the next renewal, somewhat earlier than is due: tasks that
// started together need not log in together for ever.
func (u upkeep) renewed(now, due time.Time) upkeep {
	u.Renewed, u.RenewAt, u.RenewPause, u.TokenKnown = true, due, 0, false
	if !due.IsZero() {
		u.RenewAt = due.Add(-between(0, min(due.Sub(now)/10, time.Minute)))
	}
	return u
}

// lost notes that a write found the registration gone, and looks sooner than
// planned, if the last look is long enough ago.
func (u upkeep) lost(refresh time.Duration) upkeep {
	u.Lost = true
	if soonest := u.LookedAt.Add(refresh); soonest.Before(u.LookAt) {
		u.LookAt = soonest
	}
	return u
}

// tried notes that the task is about to register again. Only one that was gone
// can have missed its drain.
func (u upkeep) tried(now time.Time, gone bool) upkeep {
	u.TriedAt = now
	if gone {
		u.WatchUntil = now.Add(watched)
	}
	return u
}

// restored notes that it did. As long as the registration keeps vanishing the
// pauses double: a task that ECS has given up, on an instance that it lost,
// must not fight the sweep for ever.
func (u upkeep) restored(now time.Time, refresh time.Duration, gone bool) upkeep {
	u.Lost = false
	last := u.of(gone)
	last.At = now
	last.Pause = min(max(2*last.Pause, refresh), longestRestoring)
	return u
}

// whole notes that the registration is as it should be.
func (u upkeep) whole(now time.Time) upkeep {
	for _, last := range []*restoration{&u.Restored, &u.Mended} {
		if now.Sub(last.At) > max(stood, 4*last.Pause) {
			*last = restoration{}
		}
	}
	return u
}

func between(least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + rand.N(most-least)
}
