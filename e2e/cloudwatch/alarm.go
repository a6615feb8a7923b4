package cloudwatch

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
)

// State is an alarm's.
type State string

// States of an alarm. There is no INSUFFICIENT_DATA: none of ours takes missing
// data for that.
const (
	OK    State = "OK"
	Alarm State = "ALARM"
)

// Alarms are those of the account that cfg is for, by name.
func Alarms(ctx context.Context, cfg aws.Config) (map[string]types.MetricAlarm, error) {
	out, err := cloudwatch.NewFromConfig(cfg).DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{MaxRecords: aws.Int32(100)})
	if err != nil {
		return nil, fmt.Errorf("describe alarms: %w", err)
	}
	alarms := map[string]types.MetricAlarm{}
	for _, alarm := range out.MetricAlarms {
		alarms[aws.ToString(alarm.AlarmName)] = alarm
	}
	return alarms, nil
}

// StateOf is the state that CloudWatch gives an alarm by the periods that ended
// before now: ALARM, where as many of the last EvaluationPeriods breach the
// threshold as DatapointsToAlarm says, those without data counted as
// TreatMissingData has it.
func (m *Metrics) StateOf(alarm types.MetricAlarm, now time.Time) (State, error) {
	id := ID{aws.ToString(alarm.Namespace), aws.ToString(alarm.MetricName), map[string]string{}}
	for _, dimension := range alarm.Dimensions {
		id.Dimensions[aws.ToString(dimension.Name)] = aws.ToString(dimension.Value)
	}
	statistic := string(alarm.Statistic)
	if alarm.ExtendedStatistic != nil && *alarm.ExtendedStatistic != "" {
		statistic = *alarm.ExtendedStatistic
	}
	var missing bool
	switch treat := aws.ToString(alarm.TreatMissingData); treat {
	case "breaching":
		missing = true
	case "notBreaching":
	default:
		return "", fmt.Errorf("alarm %s treats missing data as %q, which this does not know", aws.ToString(alarm.AlarmName), treat)
	}
	periods := aws.ToInt32(alarm.EvaluationPeriods)
	needed := periods
	if alarm.DatapointsToAlarm != nil {
		needed = *alarm.DatapointsToAlarm
	}
	period := time.Duration(aws.ToInt32(alarm.Period)) * time.Second
	breaching := int32(0)
	for i := range periods {
		from := now.Add(-time.Duration(i+1) * period)
		value, ok := Statistic(statistic, m.Points(id, from, from.Add(period)))
		breaches := missing
		if ok {
			var err error
			if breaches, err = compare(alarm.ComparisonOperator, value, aws.ToFloat64(alarm.Threshold)); err != nil {
				return "", fmt.Errorf("alarm %s: %w", aws.ToString(alarm.AlarmName), err)
			}
		}
		if breaches {
			breaching++
		}
	}
	if breaching >= needed {
		return Alarm, nil
	}
	return OK, nil
}

func compare(operator types.ComparisonOperator, value, threshold float64) (bool, error) {
	switch operator {
	case types.ComparisonOperatorGreaterThanThreshold:
		return value > threshold, nil
	case types.ComparisonOperatorGreaterThanOrEqualToThreshold:
		return value >= threshold, nil
	case types.ComparisonOperatorLessThanThreshold:
		return value < threshold, nil
	case types.ComparisonOperatorLessThanOrEqualToThreshold:
		return value <= threshold, nil
	default:
		return false, fmt.Errorf("comparison %s is none that this knows", operator)
	}
}
