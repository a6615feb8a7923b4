// Package cloudwatch is what the lab lacks of CloudWatch: it makes metrics of
// the functions' log lines in the embedded metric format, decides by them which
// of the template's alarms are on, and draws the template's dashboard. The
// emulator keeps alarms and dashboards, but takes no metrics from logs, and its
// alarms heed neither dimensions nor periods without data.
package cloudwatch

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// ID is a metric's identity.
type ID struct {
	Namespace  string
	Name       string
	Dimensions map[string]string
}

// String is a key: two metrics are one where it is the same.
func (id ID) String() string {
	var key strings.Builder
	fmt.Fprintf(&key, "%s %s", id.Namespace, id.Name)
	for _, name := range slices.Sorted(maps.Keys(id.Dimensions)) {
		fmt.Fprintf(&key, " %s=%s", name, id.Dimensions[name])
	}
	return key.String()
}

// Point is a value that was measured.
type Point struct {
	At    time.Time
	Value float64
}

// Metrics are all that was measured. The zero value is empty.
type Metrics struct {
	points map[string][]Point
}

// Put adds values that were measured at a time.
func (m *Metrics) Put(id ID, at time.Time, values ...float64) {
	if m.points == nil {
		m.points = map[string][]Point{}
	}
	for _, value := range values {
		m.points[id.String()] = append(m.points[id.String()], Point{at, value})
	}
}

// Points are what was measured of a metric in [from, to).
func (m *Metrics) Points(id ID, from, to time.Time) []Point {
	var found []Point
	for _, point := range m.points[id.String()] {
		if !point.At.Before(from) && point.At.Before(to) {
			found = append(found, point)
		}
	}
	return found
}

// IDs are the keys of all metrics, sorted.
func (m *Metrics) IDs() []string { return slices.Sorted(maps.Keys(m.points)) }

// Span is the time from the first measurement to the last.
func (m *Metrics) Span() (first, last time.Time) {
	for _, points := range m.points {
		for _, point := range points {
			if first.IsZero() || point.At.Before(first) {
				first = point.At
			}
			if point.At.After(last) {
				last = point.At
			}
		}
	}
	return first, last
}

// embedded is a log line in the embedded metric format:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
type embedded struct {
	AWS *struct {
		Timestamp         int64 // Unix time in milliseconds
		CloudWatchMetrics []struct {
			Namespace  string
			Dimensions [][]string
			Metrics    []struct{ Name string }
		}
	} `json:"_aws"`
}

// TakeIn adds the metrics of a log line, at the time that it carries; at, if it
// is not zero, stands in its place. A line without metrics adds none.
// What breaks the format, and what CloudWatch would drop without a word, is an
// error.
func (m *Metrics) TakeIn(line []byte, at time.Time) error {
	var format embedded
	var members map[string]json.RawMessage
	if !json.Valid(line) {
		return nil // Lambda's own lines
	}
	if err := json.Unmarshal(line, &members); err != nil {
		return fmt.Errorf("read the line %s: %w", line, err)
	}
	if members["_aws"] == nil {
		return nil
	}
	if err := json.Unmarshal(line, &format); err != nil {
		return fmt.Errorf("read metrics in %s: %w", line, err)
	}
	if at.IsZero() {
		at = time.UnixMilli(format.AWS.Timestamp)
	}
	for _, directive := range format.AWS.CloudWatchMetrics {
		for _, set := range directive.Dimensions {
			dimensions := map[string]string{}
			for _, name := range set {
				var value string
				if err := json.Unmarshal(members[name], &value); err != nil || value == "" {
					return fmt.Errorf("read metrics in %s: dimension %s has no text", line, name)
				}
				dimensions[name] = value
			}
			for _, metric := range directive.Metrics {
				values, err := values(members[metric.Name])
				if err != nil {
					return fmt.Errorf("read metric %s in %s: %w", metric.Name, line, err)
				}
				m.Put(ID{directive.Namespace, metric.Name, dimensions}, at, values...)
			}
		}
	}
	return nil
}

// values are those of a metric's member: a number, or up to 100 of them.
func values(member json.RawMessage) ([]float64, error) {
	var one float64
	if json.Unmarshal(member, &one) == nil {
		return []float64{one}, nil
	}
	var many []float64
	if err := json.Unmarshal(member, &many); err != nil {
		return nil, fmt.Errorf("%s is neither a number nor numbers", member)
	}
	if len(many) == 0 || len(many) > 100 {
		return nil, fmt.Errorf("it has %d values, and CloudWatch takes 1 to 100", len(many))
	}
	return many, nil
}

// Statistic is what CloudWatch makes of a period's points: Sum, Minimum,
// Maximum, Average, SampleCount, or a percentile such as p99. ok is false where
// there is no point.
func Statistic(name string, points []Point) (value float64, ok bool) {
	if len(points) == 0 {
		return 0, false
	}
	sorted := make([]float64, len(points))
	sum := 0.0
	for i, point := range points {
		sorted[i] = point.Value
		sum += point.Value
	}
	slices.Sort(sorted)
	switch name {
	case "SampleCount":
		return float64(len(points)), true
	case "Sum":
		return sum, true
	case "Average":
		return sum / float64(len(points)), true
	case "Minimum":
		return sorted[0], true
	case "Maximum":
		return sorted[len(sorted)-1], true
	}
	var percent float64
	if _, err := fmt.Sscanf(name, "p%f", &percent); err != nil || percent < 0 || percent > 100 {
		return math.NaN(), true // which no threshold and no plot takes for a value
	}
	rank := percent / 100 * float64(len(sorted)-1)
	low := int(rank)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (rank-float64(low))*(sorted[high]-sorted[low]), true
}
