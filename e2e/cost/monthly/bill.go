package monthly

import "math"

// Settings are the ones of a stack that change what it costs.
type Settings struct {
	BatchSize       float64
	WindowSeconds   float64
	HigherSSMReads  bool    // Parameter Store's higher throughput, which is paid for by the read
	SSMReadsASecond float64 // its limit
}

// DefaultSettings are the template's.
func (in Inputs) DefaultSettings() Settings {
	return Settings{BatchSize: in.Stack.BatchSize.Value, WindowSeconds: in.Stack.WindowSeconds.Value, SSMReadsASecond: in.Limits.SSMReads.Value}
}

// LargeFleet are those for many tasks that stop at once.
func (in Inputs) LargeFleet() Settings {
	return Settings{
		BatchSize: in.Stack.LargeBatchSize.Value, WindowSeconds: in.Stack.LargeWindowSeconds.Value,
		HigherSSMReads: true, SSMReadsASecond: in.Limits.SSMReadsHigher.Value,
	}
}

// Line is one thing that is paid for, or at least counted.
type Line struct {
	Service  string
	Quantity float64 // a month
	Unit     string
	Dollars  float64
	Calls    bool // whether they are calls of an API of AWS's
}

// Bill is what a month costs.
type Bill []Line

// Dollars is the sum.
func (b Bill) Dollars() float64 {
	var sum float64
	for _, line := range b {
		sum += line.Dollars
	}
	return sum
}

// Calls is how many calls of AWS's APIs there are.
func (b Bill) Calls() float64 {
	var sum float64
	for _, line := range b {
		if line.Calls {
			sum += line.Quantity
		}
	}
	return sum
}

const million = 1e6

// Ecsmesh is the bill of a mesh of so many tasks.
func (in Inputs) Ecsmesh(tasks float64, settings Settings) Bill {
	var (
		s, p     = in.Stack, in.Prices
		hours    = in.Churn.HoursAMonth.Value
		starts   = in.stopsAMonth(tasks)
		events   = starts * s.EventsAStop.Value
		runs     = in.deregisterRuns(tasks, settings)
		schedule = hours * 60 / s.ScheduleMinutes.Value // of each of both functions
		publish  = schedule + s.ServerEvents.Value
		describe = math.Ceil(tasks / s.DescribeTasks.Value)

		idlePolls = s.Pollers.Value * hours * 3600 / s.LongPollSeconds.Value
		// A receive and a delete each take ten messages at most.
		moved = 2 * (runs.single + runs.waved*math.Ceil(runs.batch/10))

		// Each environment of a function keeps the list for a minute. The
		// publisher in sweep reads it too.
		listReads = min(runs.all(), s.Pollers.Value*hours*60) + publish + 2*schedule
		ssmReads  = starts*s.ReadsAStart.Value + listReads

		seconds = runs.single*in.deregisterSeconds(1) + runs.waved*in.deregisterSeconds(runs.batch) +
			runs.all()*s.ColdShare.Value*s.ColdMillis.Value/1000 +
			publish*(in.deregisterSeconds(0)+s.ColdMillis.Value/1000)
		gbSeconds = seconds*s.FunctionMB.Value/1024 +
			schedule*(in.sweepSeconds(tasks)+s.ColdMillis.Value/1000)*s.SweepMB.Value/1024

		logGB = ((runs.all()+publish+schedule)*s.LogBytesARun.Value + events*s.LogBytesAnEvent.Value + starts*s.LogBytesAStart.Value) / 1e9
	)
	ssmPrice := 0.0
	if settings.HigherSSMReads {
		ssmPrice = p.SSMReads.Value / 10000
	}
	all := runs.all() + publish + schedule
	sqs := events + idlePolls + moved
	ecs := schedule*(describe+2) + publish*2
	return Bill{
		{"EventBridge", events + s.ServerEvents.Value, "events", (events + s.ServerEvents.Value) * p.EventBridgeRule.Value / million, false},
		{"EventBridge Scheduler", 2 * schedule, "invocations", 2 * schedule * p.SchedulerCalls.Value / million, false},
		{"SQS", sqs, "requests", sqs * p.SQSRequests.Value / million, true},
		{"Lambda", all, "runs", all * p.LambdaRequests.Value / million, false},
		{"Lambda", gbSeconds, "GB-seconds", gbSeconds * p.LambdaGBSecond.Value, false},
		{"Parameter Store", ssmReads, "reads", ssmReads * ssmPrice, true},
		{"ECS", ecs, "calls", 0, true},
		{"CloudWatch Logs", logGB, "GB", logGB * (p.LogsIngested.Value + p.LogsStored.Value), false},
		{"CloudWatch metrics", s.Metrics.Value, "metrics", s.Metrics.Value * p.CustomMetric.Value, false},
		{"CloudWatch", s.Alarms.Value, "alarms", s.Alarms.Value * p.Alarm.Value, false},
		{"CloudWatch", s.Dashboards.Value, "dashboards", s.Dashboards.Value * p.Dashboard.Value, false},
	}
}

// Helpers is the bill of helper processes in every task, for a price of memory.
func (in Inputs) Helpers(tasks float64, gbHour Input) Bill {
	gbHours := tasks * in.Others.Helpers.Value * in.Others.HelperMB.Value / 1024 * in.Churn.HoursAMonth.Value
	return Bill{{"memory", gbHours, "GB-hours", gbHours * gbHour.Value, false}}
}

// Controller is the bill of a controller, a task on Fargate that polls ECS. Where
// ECS throttles it, it polls as often as it may.
func (in Inputs) Controller(tasks float64) Bill {
	var (
		hours = in.Churn.HoursAMonth.Value
		calls = min(in.pollCalls(tasks)/in.Others.PollSeconds.Value, in.Limits.ECSReads.Value) * hours * 3600
		each  = in.Others.ControllerCPU.Value*in.Prices.FargateCPUHour.Value + in.Others.ControllerGB.Value*in.Prices.FargateGBHour.Value
	)
	return Bill{{"Fargate", hours, "hours", hours * each, false}, {"ECS", calls, "calls", 0, true}}
}

// pollCalls are those of one poll.
func (in Inputs) pollCalls(tasks float64) float64 {
	return math.Ceil(tasks/in.Stack.DescribeTasks.Value) * in.Others.CallsAPage.Value
}

// pollLimit is how many tasks a poll can ask about before the next one is due.
func (in Inputs) pollLimit() float64 {
	return rise(in.Limits.ECSReads.Value*in.Others.PollSeconds.Value, in.pollCalls)
}
