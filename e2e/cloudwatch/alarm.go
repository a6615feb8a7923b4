package cloudwatch

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// State is an alarm's.
type State string

// States of an alarm. There is no INSUFFICIENT_DATA: none of ours takes missing
// data for that.
const (
	Calm  State = "OK"
	Alarm State = "ALARM"
)

// MetricAlarm is an alarm, as PutMetricAlarm has it.
type MetricAlarm struct {
	AlarmName, AlarmDescription string
	Namespace, MetricName       string
	Dimensions                  []struct{ Name, Value string }
	Statistic                   string
	ExtendedStatistic           string // in place of Statistic: p99
	Period                      int    // seconds
	EvaluationPeriods           int
	DatapointsToAlarm           int // 0: all of them
	Threshold                   float64
	ComparisonOperator          string
	TreatMissingData            string
	AlarmActions, OKActions     []string
}

// Alarms are those of the account that cfg is for, by name.
func Alarms(ctx context.Context, cfg aws.Config) (map[string]MetricAlarm, error) {
	var out struct{ MetricAlarms []MetricAlarm }
	if err := call(ctx, cfg, "monitoring", "GraniteServiceVersion20100801.DescribeAlarms", map[string]any{"MaxRecords": 100}, &out); err != nil {
		return nil, fmt.Errorf("describe alarms: %w", err)
	}
	alarms := map[string]MetricAlarm{}
	for _, alarm := range out.MetricAlarms {
		alarms[alarm.AlarmName] = alarm
	}
	return alarms, nil
}

// StateOf is the state that CloudWatch gives an alarm by the periods that ended
// before now: ALARM, where as many of the last EvaluationPeriods breach the
// threshold as DatapointsToAlarm says, those without data counted as
// TreatMissingData has it.
func (m *Metrics) StateOf(alarm MetricAlarm, now time.Time) (State, error) {
	id := ID{alarm.Namespace, alarm.MetricName, map[string]string{}}
	for _, dimension := range alarm.Dimensions {
		id.Dimensions[dimension.Name] = dimension.Value
	}
	compare, ok := comparisons[alarm.ComparisonOperator]
	if !ok {
		return "", fmt.Errorf("alarm %s compares by %q, which this does not know", alarm.AlarmName, alarm.ComparisonOperator)
	}
	missing, ok := map[string]bool{"breaching": true, "notBreaching": false}[alarm.TreatMissingData]
	if !ok {
		return "", fmt.Errorf("alarm %s treats missing data as %q, which this does not know", alarm.AlarmName, alarm.TreatMissingData)
	}
	period := time.Duration(alarm.Period) * time.Second
	breaching := 0
	for i := range alarm.EvaluationPeriods {
		from := now.Add(-time.Duration(i+1) * period)
		value, ok := Statistic(cmp.Or(alarm.ExtendedStatistic, alarm.Statistic), m.Points(id, from, from.Add(period)))
		if ok && compare(value, alarm.Threshold) || !ok && missing {
			breaching++
		}
	}
	if breaching >= cmp.Or(alarm.DatapointsToAlarm, alarm.EvaluationPeriods) {
		return Alarm, nil
	}
	return Calm, nil
}

var comparisons = map[string]func(value, threshold float64) bool{
	"GreaterThanThreshold":          func(value, threshold float64) bool { return value > threshold },
	"GreaterThanOrEqualToThreshold": func(value, threshold float64) bool { return value >= threshold },
	"LessThanThreshold":             func(value, threshold float64) bool { return value < threshold },
	"LessThanOrEqualToThreshold":    func(value, threshold float64) bool { return value <= threshold },
}
