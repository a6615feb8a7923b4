package monthly

import "math"

// stopsAMonth is how many tasks stop, and how many start.
func (in Inputs) stopsAMonth(tasks float64) float64 {
	c := in.Churn
	aDay := c.DeploysADay.Value + c.ScalingADay.Value + 1/c.TaskLifeDays.Value
	return tasks * aDay * c.HoursAMonth.Value / 24
}

// stopsASecond is how many stop, and how many start, in a wave of deployments.
func (in Inputs) stopsASecond(tasks float64) float64 {
	return tasks * in.Churn.WaveShare.Value / in.Churn.WaveSeconds.Value
}

// runs are the month's runs of deregister-tasks.
type runs struct {
	single float64 // with one event each
	waved  float64 // with a batch, while services are deployed
	batch  float64 // its events
}

func (r runs) all() float64 { return r.single + r.waved }

// deregisterRuns takes what is deployed to stop in waves, and the rest one by one.
func (in Inputs) deregisterRuns(tasks float64, settings Settings) runs {
	var (
		events   = in.stopsAMonth(tasks) * in.Stack.EventsAStop.Value
		deployed = tasks * in.Churn.DeploysADay.Value * in.Churn.HoursAMonth.Value / 24 * in.Stack.EventsAStop.Value
		batch    = in.batch(tasks, settings)
	)
	return runs{single: events - deployed, waved: deployed / batch, batch: batch}
}

// batch is how many events come together in a wave: what each poller gathers
// within the window. Without one it is taken for a single event, though more
// come together when Lambda can't keep up.
func (in Inputs) batch(tasks float64, settings Settings) float64 {
	gathered := in.stopsASecond(tasks) * in.Stack.EventsAStop.Value * settings.WindowSeconds / in.Stack.Pollers.Value
	return max(1, min(settings.BatchSize, gathered))
}

// deregisterSeconds is how long a run with so many events takes: with little
// memory a function has little of a processor.
func (in Inputs) deregisterSeconds(events float64) float64 {
	s := in.Stack
	cpu := s.CPUMillis.Value + events*s.CPUMillisAnEvent.Value
	return (s.WaitMillis.Value + cpu*s.MBAProcessor.Value/s.FunctionMB.Value) / 1000
}

// sweepSeconds is how long a sweep takes; what takes too long is given up.
func (in Inputs) sweepSeconds(tasks float64) float64 {
	s := in.Stack
	work := tasks * s.SweepCPUMillisATask.Value * s.MBAProcessor.Value / s.SweepMB.Value / 1000
	asking := min(in.askSeconds(tasks), in.askBudget())
	return min(in.deregisterSeconds(0)+work+asking, s.SweepWorkSeconds.Value)
}

// askBudget is the longest time, in seconds, for asking ECS about all tasks.
func (in Inputs) askBudget() float64 {
	return in.Stack.SweepWorkSeconds.Value * in.Stack.SweepAskShare.Value
}

// askSeconds is how long it takes to ask ECS about all tasks, unless that is
// given up.
func (in Inputs) askSeconds(tasks float64) float64 {
	s := in.Stack
	calls := math.Ceil(tasks / s.DescribeTasks.Value)
	return max(math.Ceil(calls/s.SweepCalls.Value)*s.DescribeMillis.Value/1000, (calls-in.Limits.ECSReadBurst.Value)/in.Limits.ECSReads.Value)
}

// rise is the number of tasks, in round numbers, above which something that
// grows with it is more than a limit; 0 where a hundred million are not enough.
func rise(limit float64, of func(tasks float64) float64) float64 {
	const most = 1e8
	if of(most) <= limit {
		return 0
	}
	low, high := 0.0, most
	for high-low > max(1, low/10000) {
		if middle := (low + high) / 2; of(middle) > limit {
			high = middle
		} else {
			low = middle
		}
	}
	digits := math.Pow(10, max(0, math.Floor(math.Log10(high))-1))
	return math.Floor(high/digits) * digits
}
