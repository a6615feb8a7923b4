// Package metrics publishes CloudWatch metrics from a Lambda function: one line
// in CloudWatch's embedded metric format, from which CloudWatch makes metrics
// as it takes in the function's log. There is no API to call or wait for.
package metrics

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"ecsmesh/shared/invocation"
)

// Namespace holds all metrics of the project.
const Namespace = "ecsmesh"

// functionDimension tells the metrics of several stacks in one account apart.
const functionDimension = "FunctionName"

// maxValues is how many values CloudWatch takes for a metric in one line.
const maxValues = 100

// Metric is a named measurement: a number, or a series of them.
type Metric struct {
	name   string
	unit   string // one of CloudWatch's
	values []float64
	series bool
}

// Count is a metric of one number of things.
func Count(name string, n int) Metric {
	return Metric{name: name, unit: "Count", values: []float64{float64(n)}}
}

// Milliseconds is a series of durations, which may be empty.
func Milliseconds(name string, durations ...time.Duration) Metric {
	values := make([]float64, len(durations))
	for i, d := range durations {
		values[i] = float64(d.Milliseconds())
	}
	return Metric{name: name, unit: "Milliseconds", values: values, series: true}
}

// Writer writes metrics of one function.
type Writer struct {
	out        io.Writer
	dimensions []dimension
	now        func() time.Time
}

// dimension is a name-value pair that is part of a metric's identity.
type dimension struct{ name, value string }

// NewWriter returns a Writer to out, which for a function is its standard
// output; function is its name.
func NewWriter(out io.Writer, function string) *Writer {
	return &Writer{out: out, dimensions: []dimension{{functionDimension, function}}, now: time.Now}
}

// With returns a Writer of the same function's metrics with one dimension more,
// for numbers that are broken down. CloudWatch doesn't add them up: a total is
// written without it. Each value that ever occurs is a metric of its own, so let
// there be few.
func (w *Writer) With(name, value string) *Writer {
	narrower := *w
	narrower.dimensions = append(slices.Clip(w.dimensions), dimension{name, value})
	return &narrower
}

// Write writes the metrics in one line, and in more where one of them has more
// values than fit. A series without values is left out. Each line has as well,
// for who looks for an event or a task, what invocation.About put into the
// context: CloudWatch keeps that with the line, and makes no metrics of it.
func (w *Writer) Write(ctx context.Context, metrics ...Metric) error {
	for len(metrics) > 0 {
		var (
			definitions []map[string]string
			rest        []Metric
			line        = map[string]any{}
			dimensions  = make([]string, len(w.dimensions))
		)
		for _, attr := range invocation.Attrs(ctx) {
			line[attr.Key] = attr.Value.Any()
		}
		for i, d := range w.dimensions {
			line[d.name], dimensions[i] = d.value, d.name
		}
		for _, metric := range metrics {
			if len(metric.values) == 0 {
				continue
			}
			definitions = append(definitions, map[string]string{"Name": metric.name, "Unit": metric.unit})
			if !metric.series {
				line[metric.name] = metric.values[0]
				continue
			}
			fits := min(len(metric.values), maxValues)
			line[metric.name] = metric.values[:fits]
			metric.values = metric.values[fits:]
			rest = append(rest, metric)
		}
		metrics = rest
		if definitions == nil {
			return nil
		}
		line["_aws"] = map[string]any{
			"Timestamp": w.now().UnixMilli(),
			"CloudWatchMetrics": []any{map[string]any{
				"Namespace":  Namespace,
				"Dimensions": [][]string{dimensions},
				"Metrics":    definitions,
			}},
		}
		// One Write for each line, so that concurrent log lines stay whole.
		data, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("encode metrics: %w", err)
		}
		if _, err := w.out.Write(append(data, '\n')); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
	}
	return nil
}
