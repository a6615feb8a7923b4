// Package doctor names the first thing that is wrong with a task of the mesh,
// from within one of its containers.
//
// A task starts step by step, and each step needs those before it: without
// Consul's servers there is no token, without a token no registration, without
// that no configuration of Envoy's. So one fault looks like many, of which the
// first is the one to mend. What there is to see is gathered first, all of it;
// the diagnosis is a pure function of that.
package doctor

import (
	"context"
	"fmt"
	"io"

	"ecsmesh/initcontainer/doctor/facts"
)

// Exit codes. They are those of the program, of which ECS Exec doesn't tell.
const (
	ExitHealthy = 0
	ExitWrong   = 1
	ExitUnknown = 2 // nothing is seen to be wrong, and not all can be seen
)

// Run looks at the task and prints what it found. It changes nothing. The error
// is that of printing.
func Run(ctx context.Context, from facts.Source, asJSON bool, to io.Writer) (code int, err error) {
	report := Diagnose(from.Gather(ctx))
	write := report.WriteText
	if asJSON {
		write = report.WriteJSON
	}
	if err := write(to); err != nil {
		return ExitUnknown, fmt.Errorf("print the report: %w", err)
	}
	return map[State]int{OK: ExitHealthy, Wrong: ExitWrong, Unknown: ExitUnknown}[report.State], nil
}
