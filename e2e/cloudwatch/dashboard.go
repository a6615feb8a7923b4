package cloudwatch

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Dashboard is a dashboard's body, as far as ours has it:
// https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
type Dashboard struct {
	Widgets []Widget `json:"widgets"`
}

// Widget is one of a dashboard, on a grid of 24 columns.
type Widget struct {
	Type       string     `json:"type"` // text, alarm, metric or log
	X          int        `json:"x"`
	Y          int        `json:"y"`
	Width      int        `json:"width"`
	Height     int        `json:"height"`
	Properties Properties `json:"properties"`
}

// Properties are those of all types of widgets; each has some of them.
type Properties struct {
	Title    string   `json:"title"`
	Markdown string   `json:"markdown"`
	Region   string   `json:"region"`
	View     string   `json:"view"`
	Query    string   `json:"query"`
	SortBy   string   `json:"sortBy"`
	Alarms   []string `json:"alarms"` // ARNs
	Stacked  bool     `json:"stacked"`
	Period   int      `json:"period"` // seconds
	Stat     string   `json:"stat"`
	Metrics  []Series `json:"metrics"`
	YAxis    struct {
		Left, Right struct {
			Min       *float64 `json:"min"`
			Label     string   `json:"label"`
			ShowUnits *bool    `json:"showUnits"`
		}
	} `json:"yAxis"`
	Annotations struct {
		Horizontal []Threshold `json:"horizontal"`
	} `json:"annotations"`
}

// Threshold is a line across a plot.
type Threshold struct {
	Label string  `json:"label"`
	Value float64 `json:"value"`
	Color string  `json:"color"`
}

// Series is one metric of a plot.
type Series struct {
	ID
	Label string `json:"label"`
	Color string `json:"color"`
	Stat  string `json:"stat"`
	YAxis string `json:"yAxis"` // left, or right
}

// UnmarshalJSON reads [namespace, name, dimension, value, …, {options}].
func (s *Series) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return fmt.Errorf("read metric %s: %w", data, err)
	}
	var names []string
	for i, part := range parts {
		var name string
		if json.Unmarshal(part, &name) == nil {
			names = append(names, name)
			continue
		}
		if i != len(parts)-1 {
			return fmt.Errorf("read metric %s: what is not text has to be last", data)
		}
		type options Series
		if err := strictly(part, (*options)(s)); err != nil {
			return fmt.Errorf("read metric %s: %w", data, err)
		}
	}
	if len(names) < 2 || len(names)%2 != 0 {
		return fmt.Errorf("read metric %s: it is namespace, name, and a name and a value for each dimension", data)
	}
	s.ID = ID{names[0], names[1], map[string]string{}}
	for i := 2; i < len(names); i += 2 {
		s.Dimensions[names[i]] = names[i+1]
	}
	return nil
}

// ReadDashboard reads a dashboard of the account that cfg is for.
func ReadDashboard(ctx context.Context, cfg aws.Config, name string) (Dashboard, error) {
	var out struct{ DashboardBody string }
	err := call(ctx, cfg, "monitoring", "GraniteServiceVersion20100801.GetDashboard", map[string]any{"DashboardName": name}, &out)
	if err != nil {
		return Dashboard{}, fmt.Errorf("read dashboard %s: %w", name, err)
	}
	d, err := ParseDashboard([]byte(out.DashboardBody))
	if err != nil {
		return d, fmt.Errorf("read dashboard %s: %w", name, err)
	}
	return d, nil
}

// ParseDashboard reads a body. A member that this doesn't know is an error:
// CloudWatch would ignore it.
func ParseDashboard(body []byte) (Dashboard, error) {
	var d struct {
		PeriodOverride string `json:"periodOverride"`
		Dashboard
	}
	if err := strictly(body, &d); err != nil {
		return Dashboard{}, fmt.Errorf("parse the body: %w", err)
	}
	return d.Dashboard, nil
}
