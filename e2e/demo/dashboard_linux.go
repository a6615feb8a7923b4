package main

import (
	"context"
	"fmt"
	"time"

	"ecsmesh/e2e/cloudwatch"
	"ecsmesh/e2e/lab"
)

// dashboardPeriod is that of the plots: a minute or five in CloudWatch, which is
// as long as the whole demo.
const dashboardPeriod = 2 * time.Second

// watch has what CloudWatch would know gathered from now on.
func (s *story) watch(ctx context.Context) {
	s.monitoring = s.lab.Monitor()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.monitoring.WatchQueues(ctx) }()
	s.unwatch = func() error {
		stop()
		return <-ended
	}
}

// drawDashboard draws the stack's dashboard as CloudWatch would show it of this
// demo.
func (s *story) drawDashboard(ctx context.Context) error {
	if err := s.unwatch(); err != nil {
		return err
	}
	if err := s.monitoring.TakeIn(ctx, time.Time{}); err != nil {
		return err
	}
	dashboard, err := s.lab.Dashboard(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	alarmed, err := s.monitoring.Alarmed(ctx, now)
	if err != nil {
		return err
	}
	states := map[string]cloudwatch.State{}
	for _, name := range alarmed {
		states[lab.Stack+"-"+name] = cloudwatch.Alarm
	}
	return write(s.dashboard, dashboard.Draw(cloudwatch.View{
		Title:   fmt.Sprintf("Dashboard of the stack %s, of the demo's metrics", lab.Stack),
		Metrics: &s.monitoring.Metrics,
		States:  states,
		Logs:    s.monitoring.Log,
		From:    s.out.start,
		To:      now,
		Period:  dashboardPeriod,
	}))
}
