package cloudwatch

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

var (
	start = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	drain = ID{"ecsmesh", "TasksDrained", map[string]string{"FunctionName": "f"}}
)

func TestTakeInMakesMetricsOfALine(t *testing.T) {
	var m Metrics
	lines := []string{
		`{"_aws":{"Timestamp":1767322800000,"CloudWatchMetrics":[{"Namespace":"ecsmesh","Dimensions":[["FunctionName"]],"Metrics":[{"Name":"TasksDrained","Unit":"Count"},{"Name":"Slow","Unit":"Milliseconds"}]}]},"FunctionName":"f","TasksDrained":2,"Slow":[3,5]}`,
		`{"level":"INFO","message":"nothing to measure"}`,
		"START RequestId: 1",
	}
	for _, line := range lines {
		if err := m.TakeIn([]byte(line), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := m.Points(drain, start, start.Add(time.Second)); len(got) != 1 || got[0].Value != 2 || !got[0].At.Equal(start) {
		t.Errorf("TasksDrained is %v", got)
	}
	if got := m.IDs(); len(got) != 2 || got[0] != "ecsmesh Slow FunctionName=f" {
		t.Errorf("the metrics are %q", got)
	}
}

func TestTakeInRefusesWhatCloudWatchDrops(t *testing.T) {
	head := `{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"ecsmesh","Dimensions":[["FunctionName"]],"Metrics":[{"Name":"N"}]}]},`
	for line, want := range map[string]string{
		head + `"N":1}`:                          "dimension FunctionName has no text",
		head + `"FunctionName":"","N":1}`:        "dimension FunctionName has no text",
		head + `"FunctionName":"f"}`:             "neither a number",
		head + `"FunctionName":"f","N":"1"}`:     "neither a number",
		head + `"FunctionName":"f","N":[]}`:      "0 values",
		`{"_aws":{"Timestamp":"now"},"N":[1,2]}`: "read metrics",
	} {
		var m Metrics
		if err := m.TakeIn([]byte(line), time.Time{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", line, err, want)
		}
	}
}

func TestStatistics(t *testing.T) {
	var points []Point
	for _, value := range []float64{4, 1, 3, 2, 10} {
		points = append(points, Point{start, value})
	}
	for name, want := range map[string]float64{
		"Sum": 20, "Average": 4, "Minimum": 1, "Maximum": 10, "SampleCount": 5, "p0": 1, "p50": 3, "p100": 10, "p75": 4, "p90": 7.6,
	} {
		if got, ok := Statistic(name, points); !ok || got < want-1e-9 || got > want+1e-9 {
			t.Errorf("%s is %v, %v, want %v", name, got, ok, want)
		}
	}
	if _, ok := Statistic("Sum", nil); ok {
		t.Error("nothing has a sum")
	}
}

// Each row has a value for each of the last minutes, the newest last; - is none.
func TestStateCountsPeriods(t *testing.T) {
	for name, test := range map[string]struct {
		minutes         string
		periods, needed int
		missing         string
		want            State
	}{
		"all breach":                  {"5 5 5", 3, 0, "notBreaching", Alarm},
		"one of three does not":       {"5 0 5", 3, 0, "notBreaching", Calm},
		"two of three are enough":     {"5 0 5", 3, 2, "notBreaching", Alarm},
		"the threshold is no breach":  {"1 1 1", 3, 0, "notBreaching", Calm},
		"silence is good":             {"- - -", 3, 0, "notBreaching", Calm},
		"silence is bad":              {"- - -", 3, 0, "breaching", Alarm},
		"silence and a breach":        {"5 - 5", 3, 0, "notBreaching", Calm},
		"what is old does not count":  {"5 5 0", 1, 0, "notBreaching", Calm},
		"what is new counts":          {"0 0 5", 1, 0, "notBreaching", Alarm},
		"a value among silence is ok": {"- 0 -", 3, 0, "breaching", Calm},
	} {
		t.Run(name, func(t *testing.T) {
			var m Metrics
			values := strings.Fields(test.minutes)
			for i, value := range values {
				if value != "-" {
					m.Put(drain, start.Add(time.Duration(i)*time.Minute), float64(value[0]-'0'))
				}
			}
			m.Put(ID{"ecsmesh", "TasksDrained", map[string]string{"FunctionName": "another"}}, start.Add(2*time.Minute), 9)
			alarm := MetricAlarm{
				Namespace: "ecsmesh", MetricName: "TasksDrained", Dimensions: []struct{ Name, Value string }{{"FunctionName", "f"}},
				Statistic: "Sum", Period: 60, EvaluationPeriods: test.periods, DatapointsToAlarm: test.needed,
				Threshold: 1, ComparisonOperator: "GreaterThanThreshold", TreatMissingData: test.missing,
			}
			got, err := m.StateOf(alarm, start.Add(time.Duration(len(values))*time.Minute))
			if err != nil || got != test.want {
				t.Errorf("it is %s, %v, want %s", got, err, test.want)
			}
		})
	}
	if _, err := (&Metrics{}).StateOf(MetricAlarm{TreatMissingData: "ignore", ComparisonOperator: "GreaterThanThreshold"}, start); err == nil {
		t.Error("an alarm that ignores missing data is taken for one that this knows")
	}
}

func TestParseDashboardRefusesWhatCloudWatchIgnores(t *testing.T) {
	for body, want := range map[string]string{
		`{"widgets": [{"type": "text", "hight": 3}]}`:                                                    "hight",
		`{"widgets": [{"type": "metric", "properties": {"metrics": [["ecsmesh"]]}}]}`:                    "namespace, name",
		`{"widgets": [{"type": "metric", "properties": {"metrics": [["a", "b", "c", {}]]}}]}`:            "namespace, name",
		`{"widgets": [{"type": "metric", "properties": {"metrics": [["a", {}, "b"]]}}]}`:                 "has to be last",
		`{"widgets": [{"type": "metric", "properties": {"metrics": [["a", "b", {"colour": "#fff"}]]}}]}`: "colour",
		`{"widgets": [`: "unexpected EOF",
	} {
		if _, err := ParseDashboard([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", body, err, want)
		}
	}
}

// It stays an image when there is nothing to show, or very much.
func TestDrawIsXML(t *testing.T) {
	d, err := ParseDashboard([]byte(`{"widgets": [
		{"type": "text", "width": 24, "height": 2, "properties": {"markdown": "# a <b>\nc & d"}},
		{"type": "alarm", "y": 2, "width": 24, "height": 3, "properties": {"title": "Alarms", "alarms": ["arn:aws:cloudwatch:r:1:alarm:x-Drift"]}},
		{"type": "metric", "y": 5, "width": 8, "height": 6, "properties": {"title": "Tasks", "stat": "Sum", "period": 60,
			"annotations": {"horizontal": [{"label": "most", "value": 3}]},
			"metrics": [["ecsmesh", "TasksDrained", "FunctionName", "f", {"label": "drained"}], ["ecsmesh", "None"]]}},
		{"type": "log", "y": 11, "width": 24, "height": 4, "properties": {"title": "Errors"}}
	]}`))
	if err != nil {
		t.Fatal(err)
	}
	var full Metrics
	for i := range 1000 {
		full.Put(drain, start.Add(time.Duration(i)*time.Second), float64(i%7*1000))
	}
	for name, view := range map[string]View{
		"empty": {Metrics: &Metrics{}, From: start, To: start.Add(time.Hour)},
		"full": {
			Metrics: &full, From: start, To: start.Add(20 * time.Minute), States: map[string]State{"x-Drift": Alarm},
			Logs: []string{"<error>", strings.Repeat("long ", 200), "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"},
		},
	} {
		svg := d.Draw(view)
		decoder := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if name == "full" != strings.Contains(svg, ">ALARM<") || name == "full" != strings.Contains(svg, `class="axis"`) {
			t.Errorf("%s is drawn as\n%s", name, svg)
		}
	}
}
