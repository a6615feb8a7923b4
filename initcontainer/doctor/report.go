package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// State is how something is.
type State string

// The states. Unknown is what can't be seen from here, or not any more once
// something before it is wrong.
const (
	OK      State = "ok"
	Wrong   State = "wrong"
	Unknown State = "unknown"
)

// Finding is one fact, and what it means.
type Finding struct {
	State State  `json:"state"`
	Wrong string `json:"wrong,omitempty"` // what is wrong, in the words of the runbook
	Fact  string `json:"fact"`
	Do    string `json:"do,omitempty"` // what to do about it

	// Later tells that it does no harm yet.
	Later bool `json:"later,omitempty"`

	cause Cause
}

// Section is what was found out about one thing. Sections come in the order in
// which a task starts.
type Section struct {
	Name     string    `json:"name"`
	State    State     `json:"state"` // wrong if any of its findings is, else unknown if any is
	Findings []Finding `json:"findings"`
}

// Report is all that was found out.
type Report struct {
	State State    `json:"state"`           // as that of a section
	First *Finding `json:"first,omitempty"` // nil, where nothing is wrong

	Sections []Section `json:"sections"`
}

// Cause is the first thing that is wrong; false where nothing is.
func (r Report) Cause() (Cause, bool) {
	if r.First == nil {
		return none, false
	}
	return r.First.cause, true
}

// settle finds the first thing that is wrong, and adds up the states.
func (r *Report) settle() {
	states := map[State]bool{}
	for i := range r.Sections {
		section := &r.Sections[i]
		within := map[State]bool{}
		for j := range section.Findings {
			finding := &section.Findings[j]
			within[finding.State], states[finding.State] = true, true
			if finding.State == Wrong && (r.First == nil || finding.before(*r.First)) {
				r.First = finding
			}
		}
		section.State = worst(within)
	}
	r.State = worst(states)
}

// before tells whether a finding explains another one, and not the reverse. What
// does harm only later explains nothing of what is wrong now.
func (f Finding) before(other Finding) bool {
	if f.Later != other.Later {
		return other.Later
	}
	return f.cause < other.cause
}

func worst(found map[State]bool) State {
	switch {
	case found[Wrong]:
		return Wrong
	case found[Unknown]:
		return Unknown
	}
	return OK
}

// heading is what is wrong as the beginning of a sentence.
func heading(wrong string) string { return strings.ToUpper(wrong[:1]) + wrong[1:] }

// WriteJSON writes the report for machines.
func (r Report) WriteJSON(to io.Writer) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// WriteText writes the report for a person: first what to do, then the rest.
func (r Report) WriteText(to io.Writer) error {
	var text strings.Builder
	switch {
	case r.First != nil:
		fmt.Fprintf(&text, "The first thing that is wrong: %s.\n", r.First.Wrong)
		fmt.Fprintf(&text, "Found: %s\n", r.First.Fact)
		fmt.Fprintf(&text, "To do: %s\n", r.First.Do)
		if r.First.Later {
			text.WriteString("It does no harm yet, and nothing else is wrong.\n")
		}
		fmt.Fprintf(&text, "docs/runbook.md has more under: %s\n", heading(r.First.Wrong))
	case r.State == Unknown:
		text.WriteString("Nothing is wrong as far as can be seen from here; what is not known is below.\n")
	default:
		text.WriteString("Nothing is wrong.\n")
	}
	for _, section := range r.Sections {
		fmt.Fprintf(&text, "\n%s: %s\n", section.Name, section.State)
		for _, finding := range section.Findings {
			switch {
			case finding.State != Wrong:
				fmt.Fprintf(&text, "  %-8s %s\n", finding.State, finding.Fact)
			case r.First != nil && finding.cause == r.First.cause && finding.Fact == r.First.Fact:
				fmt.Fprintf(&text, "  %-8s %s, see above\n", finding.State, finding.Wrong)
			default:
				fmt.Fprintf(&text, "  %-8s %s: %s\n  %-8s to do: %s\n", finding.State, finding.Wrong, finding.Fact, "", finding.Do)
			}
		}
	}
	_, err := io.WriteString(to, text.String())
	return err
}
