package facts

import "testing"

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"api", "api", 0}, {"payment", "payments", 1}, {"paymetns", "payments", 2}, {"api", "web", 3}, {"", "db", 2}} {
		for _, got := range []int{distance(test.a, test.b), distance(test.b, test.a)} {
			if got != test.want {
				t.Errorf("%q and %q are %d apart, want %d", test.a, test.b, got, test.want)
			}
		}
	}
}

func TestSerial(t *testing.T) {
	for written, want := range map[string]string{"07": "7", "1A2B": "1a2b", "1a2b": "1a2b", "": ""} {
		if got := Serial(written); got != want {
			t.Errorf("%q is %q, want %q", written, got, want)
		}
	}
}
