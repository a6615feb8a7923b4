package cloudwatch

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Query is one of Logs Insights that is kept.
type Query struct {
	Name   string
	Text   string
	Groups []string // log groups that it reads
}

// SavedQuery is the one kept query of this name.
func SavedQuery(ctx context.Context, cfg aws.Config, name string) (Query, error) {
	var kept struct {
		QueryDefinitions []struct {
			Name, QueryString string
			LogGroupNames     []string
		}
	}
	err := call(ctx, cfg, "logs", "Logs_20140328.DescribeQueryDefinitions", map[string]any{"queryDefinitionNamePrefix": name}, &kept)
	if err != nil {
		return Query{}, fmt.Errorf("read the kept query %s: %w", name, err)
	}
	for _, query := range kept.QueryDefinitions {
		if query.Name == name {
			return Query{query.Name, query.QueryString, query.LogGroupNames}, nil
		}
	}
	return Query{}, fmt.Errorf("read the kept query %s: there is none", name)
}

// Run has the query run, and returns the lines that it finds, in its order.
func (q Query) Run(ctx context.Context, cfg aws.Config, from, to time.Time) ([]Line, error) {
	var started struct{ QueryID string }
	err := call(ctx, cfg, "logs", "Logs_20140328.StartQuery", map[string]any{
		"logGroupNames": q.Groups, "queryString": q.Text, "startTime": from.Unix(), "endTime": to.Unix() + 1,
	}, &started)
	if err != nil {
		return nil, fmt.Errorf("start the query %s: %w", q.Name, err)
	}
	var found struct {
		Status  string
		Results [][]struct{ Field, Value string }
	}
	for found.Status != "Complete" {
		err := call(ctx, cfg, "logs", "Logs_20140328.GetQueryResults", map[string]any{"queryId": started.QueryID}, &found)
		if err != nil {
			return nil, fmt.Errorf("read what the query %s found: %w", q.Name, err)
		}
		if !slices.Contains([]string{"Scheduled", "Running", "Complete"}, found.Status) {
			return nil, fmt.Errorf("the query %s is %s", q.Name, found.Status)
		}
	}
	lines := make([]Line, len(found.Results))
	for i, row := range found.Results {
		for _, column := range row {
			switch column.Field {
			case "@message":
				lines[i].Text = column.Value
			case "@timestamp":
				if lines[i].At, err = time.Parse("2006-01-02 15:04:05.000", column.Value); err != nil {
					return nil, fmt.Errorf("read what the query %s found: %w", q.Name, err)
				}
			}
		}
	}
	return lines, nil
}
