package monthly

import (
	"math"
	"testing"
)

// small are inputs with which one can calculate by hand: ten days in which each
// task is deployed once a day, and a tenth of them stops of itself.
func small() Inputs {
	in := Default()
	in.Stack.SweepCalls.Value = 1
	for input, value := range map[*Input]float64{
		&in.Churn.HoursAMonth: 240, &in.Churn.DeploysADay: 1, &in.Churn.ScalingADay: 0, &in.Churn.TaskLifeDays: 10,
		&in.Churn.WaveShare: 0.6, &in.Churn.WaveSeconds: 60,
		&in.Stack.EventsAStop: 3, &in.Stack.ReadsAStart: 2, &in.Stack.Pollers: 5, &in.Stack.LongPollSeconds: 20,
		&in.Stack.ScheduleMinutes: 5, &in.Stack.ServerEvents: 100, &in.Stack.DescribeTasks: 100, &in.Stack.DescribeMillis: 200,
		&in.Stack.SweepMB: 256, &in.Stack.SweepCPUMillisATask: 0.03, &in.Stack.FunctionMB: 128, &in.Stack.MBAProcessor: 1280,
		&in.Stack.WaitMillis: 50, &in.Stack.CPUMillis: 1, &in.Stack.CPUMillisAnEvent: 0.5, &in.Stack.ColdShare: 0.01, &in.Stack.ColdMillis: 300,
		&in.Stack.LogBytesARun: 1500, &in.Stack.LogBytesAnEvent: 600, &in.Stack.LogBytesAStart: 1000, &in.Stack.Metrics: 16,
		&in.Stack.Alarms: 14, &in.Stack.Dashboards: 1, &in.Prices.Alarm: 0.1, &in.Prices.Dashboard: 3,
		&in.Others.Helpers: 2, &in.Others.HelperMB: 512, &in.Others.PollSeconds: 10, &in.Others.CallsAPage: 2,
		&in.Others.ControllerCPU: 0.25, &in.Others.ControllerGB: 0.5,
		&in.Prices.SQSRequests: 0.4, &in.Prices.LambdaRequests: 0.2, &in.Prices.LambdaGBSecond: 0.00001, &in.Prices.SSMReads: 0.05,
		&in.Prices.SchedulerCalls: 1, &in.Prices.LogsIngested: 0.5, &in.Prices.LogsStored: 0.03, &in.Prices.CustomMetric: 0.3,
		&in.Prices.FargateGBHour: 0.004, &in.Prices.FargateCPUHour: 0.03,
	} {
		input.Value = value
	}
	return in
}

// TestEcsmesh is a mesh of 100 tasks. 1,100 of them stop: 3,300 events, of which
// 3,000 come in waves of 3 a second, 6 to each of five pollers in 10 s.
func TestEcsmesh(t *testing.T) {
	bill := small().Ecsmesh(100, Settings{BatchSize: 500, WindowSeconds: 10, HigherSSMReads: true})
	for i, want := range []Line{
		{"EventBridge", 3300 + 100, "events", 0, false},
		{"EventBridge Scheduler", 2 * 2880, "invocations", 0.00576, false},
		// Sent, received in vain, and received and deleted by 300 + 500 runs.
		{"SQS", 3300 + 216_000 + 2*800, "requests", 0.08836, true},
		{"Lambda", 800 + 2980 + 2880, "runs", 0.001332, false},
		// 300 × 65 ms + 500 × 90 ms + 8 × 300 ms + 2,980 × 360 ms with an eighth of
		// a GB, and 2,880 sweeps of 575 ms with a quarter.
		{"Lambda", 1139.7/8 + 1656.0/4, "GB-seconds", 0.005564625, false},
		{"Parameter Store", 2200 + 800 + 2980 + 5760, "reads", 0.0587, true},
		{"ECS", 2880*3 + 2980*2, "calls", 0, true},
		{"CloudWatch Logs", 0.01307, "GB", 0.0069271, false},
		{"CloudWatch metrics", 16, "metrics", 4.8, false},
		{"CloudWatch", 14, "alarms", 1.4, false},
		{"CloudWatch", 1, "dashboards", 3, false},
	} {
		got := bill[i]
		if got.Service != want.Service || got.Unit != want.Unit || got.Calls != want.Calls || !same(got.Quantity, want.Quantity) || !same(got.Dollars, want.Dollars) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if want := 9.366643725; !same(bill.Dollars(), want) {
		t.Errorf("it costs %g, want %g", bill.Dollars(), want)
	}
	if want := 220_900.0 + 11_740 + 14_600; !same(bill.Calls(), want) {
		t.Errorf("it makes %g calls, want %g", bill.Calls(), want)
	}
	if free := small().Ecsmesh(100, Settings{BatchSize: 10}); free[5].Dollars != 0 {
		t.Errorf("reads with standard throughput cost %g", free[5].Dollars)
	}
}

func TestOthers(t *testing.T) {
	in := small()
	// A GB in each of 100 tasks for 240 hours.
	if got := in.Helpers(100, in.Prices.FargateGBHour).Dollars(); !same(got, 96) {
		t.Errorf("helpers cost %g, want 96", got)
	}
	controller := in.Controller(100)
	if got, want := controller.Dollars(), 240*(0.0075+0.002); !same(got, want) {
		t.Errorf("a controller costs %g, want %g", got, want)
	}
	// Two calls every ten seconds; of a million tasks, as many as ECS lets it make.
	if got := controller.Calls(); !same(got, 172_800) {
		t.Errorf("a controller makes %g calls, want 172,800", got)
	}
	if got := in.Controller(million).Calls(); !same(got, 20*864_000) {
		t.Errorf("of a million tasks it makes %g calls, want 17,280,000", got)
	}
}

func TestBatch(t *testing.T) {
	in := small()
	for _, test := range []struct {
		settings Settings
		want     float64
	}{
		{Settings{BatchSize: 10}, 1},                     // nothing is waited for
		{Settings{BatchSize: 500, WindowSeconds: 1}, 1},  // less than one comes for each poller
		{Settings{BatchSize: 500, WindowSeconds: 10}, 6}, // 3 × 10 / 5
		{Settings{BatchSize: 4, WindowSeconds: 10}, 4},
	} {
		if got := in.batch(100, test.settings); !same(got, test.want) {
			t.Errorf("%+v: a batch has %g events, want %g", test.settings, got, test.want)
		}
	}
}

func TestRise(t *testing.T) {
	for limit, want := range map[float64]float64{10: 1000, 27.56: 2700, 1e9: 0} {
		if got := rise(limit, func(tasks float64) float64 { return tasks / 100 }); got != want {
			t.Errorf("a hundredth of the tasks is more than %g above %g of them, want %g", limit, got, want)
		}
	}
}

// TestAskingECS takes 200 ms a call, one after the other, and no more than 20 a
// second after the first hundred.
func TestAskingECS(t *testing.T) {
	in := small()
	for tasks, want := range map[float64]float64{1: 0.2, 100: 0.2, 101: 0.4, 10_000: 20} {
		if got := in.askSeconds(tasks); !same(got, want) {
			t.Errorf("to ask about %g tasks takes %g s, want %g", tasks, got, want)
		}
	}
	in.Stack.SweepCalls.Value = 100
	if got := in.askSeconds(50_000); !same(got, 20) {
		t.Errorf("with overlapping calls, to ask about 50,000 tasks takes %g s, want (500 - 100) / 20", got)
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[float64]string{0.0301: "0.0301", 12: "12", 49970: "49,970", 1e6: "1 million", 45.63e6: "45.6 million", 0.0000133: "0.0000133"} {
		if got := number(n); got != want {
			t.Errorf("%g is %q, want %q", n, got, want)
		}
	}
	if got := dollars(10158.6); got != "$10,159" {
		t.Errorf("got %s", got)
	}
}

func same(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b)) }
