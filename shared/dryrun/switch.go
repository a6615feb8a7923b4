package dryrun

import "fmt"

// Switch is the part of a function's environment that says whether it is a
// dry run. It is made to be embedded in the configuration of every function
// that changes anything; see environment.Parse.
type Switch struct {
	DryRun Mode `env:"DRY_RUN" want:"true, false or nothing"`
	Local  bool `env:"AWS_SAM_LOCAL" envDefault:"false" want:"true or false"` // `sam local invoke` sets it
}

// Dry tells whether nothing may be changed: so it is said, or the function runs
// on somebody's own machine and nothing is said.
func (s Switch) Dry() bool { return s.DryRun == On || s.DryRun == "" && s.Local }

// Mode says whether a function only tells what it would do. "" leaves that to
// where it runs.
type Mode string

// The modes.
const (
	On  Mode = "true"
	Off Mode = "false"
)

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) error {
	switch mode := Mode(text); mode {
	case On, Off, "":
		*m = mode
		return nil
	}
	return fmt.Errorf("%q is neither true nor false", text)
}
