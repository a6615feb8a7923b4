// Package monthly computes what a mesh costs a month in AWS, and how many calls
// of AWS it makes, from named inputs: for ecsmesh, for helper processes in every
// task, and for a controller that polls. It also says at which size a limit of
// AWS's or Consul's is met.
//
// Where it has to guess, it guesses against ecsmesh and for the others.
package monthly

import "reflect"

// Input is a number that the model takes from somewhere else.
type Input struct {
	Name   string
	Value  float64
	Unit   string
	Region string // "" where it is the same in all
	Source string // a URL, a path in this repository, or why it was chosen
	Read   string // the day on which a URL was read; "" for none
	Note   string // what else is to be known of it
}

// Inputs are all that the model takes.
type Inputs struct {
	Prices Prices
	Churn  Churn
	Stack  Stack
	Others Others
	Limits Limits
}

// Prices are AWS's, in US dollars, without free tiers and discounts.
type Prices struct {
	LambdaRequests  Input
	LambdaGBSecond  Input
	SQSRequests     Input
	SSMReads        Input
	SchedulerCalls  Input
	LogsIngested    Input
	LogsStored      Input
	CustomMetric    Input
	Alarm           Input
	Dashboard       Input
	FargateGBHour   Input
	FargateCPUHour  Input
	InstanceGBHour  Input
	EventBridgeRule Input
}

// Churn is how often tasks start and stop. As many start as stop.
type Churn struct {
	HoursAMonth  Input
	DeploysADay  Input
	ScalingADay  Input
	TaskLifeDays Input
	WaveShare    Input
	WaveSeconds  Input
}

// Stack is what ecsmesh does and how long it takes.
type Stack struct {
	BatchSize           Input
	WindowSeconds       Input
	LargeBatchSize      Input
	LargeWindowSeconds  Input
	Pollers             Input
	LongPollSeconds     Input
	EventsAStop         Input
	ReadsAStart         Input
	ConsulWritesAStart  Input
	ConsulReadsALook    Input
	SecondsALook        Input
	ScheduleMinutes     Input
	ServerEvents        Input
	DescribeTasks       Input
	DescribeMillis      Input
	SweepCalls          Input
	SweepWorkSeconds    Input
	SweepAskShare       Input
	SweepMB             Input
	SweepBaseMB         Input
	SweepKBATask        Input
	SweepCPUMillisATask Input
	FunctionMB          Input
	MBAProcessor        Input
	WaitMillis          Input
	CPUMillis           Input
	CPUMillisAnEvent    Input
	ColdShare           Input
	ColdMillis          Input
	LogBytesARun        Input
	LogBytesAnEvent     Input
	LogBytesAStart      Input
	Metrics             Input
	Alarms              Input
	Dashboards          Input
}

// Others are what one would run otherwise.
type Others struct {
	Helpers       Input
	HelperMB      Input
	PollSeconds   Input
	CallsAPage    Input
	ControllerCPU Input
	ControllerGB  Input
}

// Limits are those of AWS and of Consul.
type Limits struct {
	ECSReads         Input
	ECSReadBurst     Input
	SSMReads         Input
	SSMReadsHigher   Input
	FargateStarts    Input
	LambdaConcurrent Input
	EventBridge      Input
	EventBridgeLeast Input
	SQSInFlight      Input
	LambdaPayloadKB  Input
	EventKB          Input
	ConsulWrites     Input
	ConsulProcessors Input
	ConsulMicros     Input
	ConsulSignings   Input
	ConsulInstances  Input
	ConsulDataplanes Input
	ConsulServers    Input
}

// All are the inputs in the order of their declaration, by the name of what
// they belong to.
func (in Inputs) All() (groups []string, inputs map[string][]Input) {
	inputs = map[string][]Input{}
	all := reflect.ValueOf(in)
	for i := range all.NumField() {
		group := all.Type().Field(i).Name
		groups = append(groups, group)
		for j := range all.Field(i).NumField() {
			inputs[group] = append(inputs[group], all.Field(i).Field(j).Interface().(Input))
		}
	}
	return groups, inputs
}
