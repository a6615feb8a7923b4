package sweep

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestBrakeLimit(t *testing.T) {
	three := 3
	for name, test := range map[string]struct {
		brake    Brake
		nodes    int
		override *int
		want     int
	}{
		"a small mesh":                    {Brake{10, 30}, 20, nil, 10},
		"an empty mesh":                   {Brake{10, 30}, 0, nil, 10},
		"a large mesh":                    {Brake{10, 30}, 1000, nil, 300},
		"where both are the same":         {Brake{30, 30}, 100, nil, 30},
		"a share that is no whole number": {Brake{10, 30}, 39, nil, 11},
		"nothing at all":                  {Brake{0, 0}, 1000, nil, 0},
		"everything":                      {Brake{0, 100}, 1000, nil, 1000},
		"an override that allows less":    {Brake{10, 30}, 1000, &three, 3},
		"an override that allows more":    {Brake{0, 0}, 1000, &three, 3},
	} {
		if got := test.brake.limit(test.nodes, test.override); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
}

func TestReadOverride(t *testing.T) {
	for payload, want := range map[string]int{
		`{"maxDeletes":0}`:                     0,
		`{"maxDeletes": 41, "by": "an admin"}`: 41,
	} {
		if got, err := readOverride(json.RawMessage(payload)); err != nil || got == nil || *got != want {
			t.Errorf("%s: got %v, %v; want %d", payload, got, err, want)
		}
	}
	for _, payload := range []string{``, `{}`, `null`, `{"source":"aws.scheduler","detail":{"maxDeletes":3}}`} {
		if got, err := readOverride(json.RawMessage(payload)); err != nil || got != nil {
			t.Errorf("%s: got %v, %v; want no override", payload, got, err)
		}
	}
	for payload, want := range map[string]string{
		`{"maxDeletes":-1}`:    "maxDeletes is -1, want a whole number, 0 or more",
		`{"maxDeletes":1.5}`:   "maxDeletes is 1.5",
		`{"maxDeletes":1e3}`:   "maxDeletes is 1e3",
		`{"maxDeletes":"41"}`:  `maxDeletes is "41"`,
		`{"maxDeletes":null}`:  "maxDeletes is null",
		`{"maxDeletes":true}`:  "maxDeletes is true",
		`{"maxDeletes":[41]}`:  "maxDeletes is [41]",
		`41`:                   "no JSON object",
		`"{\"maxDeletes\":3}"`: "no JSON object",
		`[]`:                   "no JSON object",
		`maxDeletes=41`:        "no JSON object",
		`{"maxDeletes":` + strings.Repeat("9", 400) + `}`: "maxDeletes is 99999999999999999999, want",
	} {
		if got, err := readOverride(json.RawMessage(payload)); err == nil || got != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v; want an error with %q", payload, got, err, want)
		}
	}
}
