package environment_test

import (
	"errors"
	"log/slog"
	"testing"

	"ecsmesh/shared/environment"

	"github.com/google/go-cmp/cmp"
)

type mode string

func (m *mode) UnmarshalText(text []byte) error {
	if string(text) != "careful" {
		return errors.New("unknown mode")
	}
	*m = mode(text)
	return nil
}

type config struct {
	Name  string     `env:"NAME,required,notEmpty"`
	Limit uint16     `env:"LIMIT" envDefault:"10" want:"a number from 0 to 65535"`
	Level slog.Level `env:"LOG_LEVEL" envDefault:"INFO" want:"DEBUG, INFO, WARN or ERROR"`
	Mode  mode       `env:"MODE" envDefault:"careful" want:"careful"`
}

// Validate implements environment.Config.
func (c config) Validate() error {
	if c.Name == "zero" && c.Limit != 0 {
		return errors.Join(errors.New("NAME is zero, so LIMIT must be 0"), errors.New("and another"))
	}
	return nil
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		variables map[string]string
		want      config
	}{
		"defaults":   {map[string]string{"NAME": "a"}, config{"a", 10, slog.LevelInfo, "careful"}},
		"empty":      {map[string]string{"NAME": "a", "LIMIT": "", "LOG_LEVEL": "", "MODE": ""}, config{"a", 10, slog.LevelInfo, "careful"}},
		"everything": {map[string]string{"NAME": "a", "LIMIT": "7", "LOG_LEVEL": "warn", "MODE": "careful", "PATH": "/usr/bin"}, config{"a", 7, slog.LevelWarn, "careful"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := environment.Parse[config](test.variables)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseReportsAllFaultsByTheirVariables(t *testing.T) {
	for name, test := range map[string]struct {
		variables map[string]string
		want      string
	}{
		"unset": {map[string]string{}, "NAME is not set"},
		"all wrong": {
			map[string]string{"NAME": "", "LIMIT": "65536", "LOG_LEVEL": "LOUD", "MODE": "reckless"},
			`NAME is empty; LIMIT is "65536", want a number from 0 to 65535; LOG_LEVEL is "LOUD", want DEBUG, INFO, WARN or ERROR; MODE is "reckless", want careful`,
		},
		"wrong together": {map[string]string{"NAME": "zero"}, "NAME is zero, so LIMIT must be 0; and another"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := environment.Parse[config](test.variables)
			if want := "read configuration from the environment: " + test.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

// notAStruct can't be parsed into.
type notAStruct string

// Validate implements environment.Config.
func (notAStruct) Validate() error { return nil }

func TestParseReportsAMistakeOfTheProgram(t *testing.T) {
	if _, err := environment.Parse[notAStruct](nil); err == nil {
		t.Error("no error")
	}
}
