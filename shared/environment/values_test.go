package environment_test

import (
	"testing"

	"ecsmesh/shared/environment"
)

func TestPort(t *testing.T) {
	for text, want := range map[string]environment.Port{"1": 1, "8500": 8500, "65535": 65535} {
		var got environment.Port
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "65536", "http"} {
		var got environment.Port
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: got %d and no error", text, got)
		}
	}
}
