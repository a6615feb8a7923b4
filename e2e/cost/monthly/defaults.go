package monthly

// Default are the inputs of the page.
func Default() Inputs {
	return Inputs{Prices: defaultPrices(), Churn: defaultChurn(), Stack: defaultStack(), Others: defaultOthers(), Limits: defaultLimits()}
}

const assumed = "assumed"

func defaultChurn() Churn {
	return Churn{
		HoursAMonth:  Input{Name: "hours", Value: 730, Unit: "a month", Source: "365 × 24 / 12"},
		DeploysADay:  Input{Name: "deployments of each service", Value: 1, Unit: "a day", Source: assumed, Note: "each replaces all of the service's tasks"},
		ScalingADay:  Input{Name: "tasks that autoscaling stops and starts", Value: 0.5, Unit: "of all a day", Source: assumed, Note: "half of the mesh sleeps at night"},
		TaskLifeDays: Input{Name: "life of a task that nobody replaces", Value: 7, Unit: "days", Source: assumed, Note: "spot interruptions, patched hosts, crashes"},
		WaveShare:    Input{Name: "tasks that are deployed at the same time", Value: 0.1, Unit: "of all", Source: assumed, Note: "the busiest moment: all limits are looked at then"},
		WaveSeconds:  Input{Name: "time in which those are replaced", Value: 600, Unit: "s", Source: assumed},
	}
}

func defaultStack() Stack {
	const template = "template.yaml"
	return Stack{
		BatchSize:           Input{Name: "TaskEventsBatchSize, default", Value: 10, Unit: "events", Source: template},
		WindowSeconds:       Input{Name: "TaskEventsBatchingWindowSeconds, default", Value: 0, Unit: "s", Source: template},
		LargeBatchSize:      Input{Name: "TaskEventsBatchSize, large fleet", Value: 1000, Unit: "events", Source: "as docs/performance advises"},
		LargeWindowSeconds:  Input{Name: "TaskEventsBatchingWindowSeconds, large fleet", Value: 1, Unit: "s", Source: "as docs/performance advises"},
		Pollers:             Input{Name: "batches that Lambda handles at once", Value: 5, Unit: "", Source: template, Note: "MaximumConcurrency; with it Lambda's pollers stay five when idle: https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"},
		LongPollSeconds:     Input{Name: "wait of a poller for a message", Value: 20, Unit: "s", Source: "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html", Read: read, Note: "SQS's longest"},
		EventsAStop:         Input{Name: "events of a stopping task that match the rule", Value: 3, Unit: "", Source: "events/mesh-task-stopped.json", Note: "versions 4 to 6 of a task on Fargate: stop asked for, deprovisioning, stopped"},
		ReadsAStart:         Input{Name: "SSM reads of a starting task", Value: 2, Unit: "", Source: "initcontainer/register/session.go", Note: "the servers' list, and with TLS the CA"},
		ConsulWritesAStart:  Input{Name: "Consul writes of a starting task", Value: 4, Unit: "", Source: "initcontainer/registration/registration.go", Note: "service, sidecar, and its checks as they turn passing, in at most two transactions"},
		ConsulReadsALook:    Input{Name: "Consul reads of a task that looks after itself", Value: 3, Unit: "", Source: "initcontainer/check/lookafter.go", Note: "and none of AWS"},
		SecondsALook:        Input{Name: "time between those, by default", Value: 75, Unit: "s", Source: "initcontainer/check/upkeep.go", Note: "60 to 90 s; check -refresh"},
		ScheduleMinutes:     Input{Name: "schedule of publish-servers and of sweep", Value: 5, Unit: "min", Source: template},
		ServerEvents:        Input{Name: "events of Consul servers' tasks", Value: 100, Unit: "a month", Source: assumed, Note: "three servers that are replaced each week"},
		DescribeTasks:       Input{Name: "tasks in a DescribeTasks call", Value: 100, Unit: "", Source: "functions/sweep/sweep/ecs.go"},
		DescribeMillis:      Input{Name: "time of a DescribeTasks call for 100 tasks", Value: 200, Unit: "ms", Source: assumed, Note: "unverified"},
		SweepCalls:          Input{Name: "DescribeTasks calls of a sweep at once", Value: 4, Unit: "", Source: "functions/sweep/sweep/sweep.go"},
		SweepWorkSeconds:    Input{Name: "longest sweep", Value: 110, Unit: "s", Source: "functions/sweep/sweep/sweep.go"},
		SweepAskShare:       Input{Name: "part of it for asking ECS", Value: 0.5, Unit: "", Source: "functions/sweep/sweep/sweep.go"},
		SweepMB:             Input{Name: "memory of sweep", Value: 256, Unit: "MB", Source: template},
		SweepBaseMB:         Input{Name: "what sweep takes of it for itself", Value: 35, Unit: "MB", Source: "measured with 100 nodes"},
		SweepKBATask:        Input{Name: "and for a task", Value: 2, Unit: "KB", Source: "measured with 100,000 nodes"},
		SweepCPUMillisATask: Input{Name: "processor time of sweep for a task", Value: 0.03, Unit: "ms", Source: "measured with 100,000 nodes", Note: "Consul's side included"},
		FunctionMB:          Input{Name: "memory of the other functions", Value: 128, Unit: "MB", Source: template},
		MBAProcessor:        Input{Name: "memory of a function with a whole vCPU", Value: 1769, Unit: "MB", Source: "https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html", Read: read},
		WaitMillis:          Input{Name: "time that a run waits for Consul or AWS", Value: 50, Unit: "ms", Source: assumed},
		CPUMillis:           Input{Name: "processor time of a run", Value: 2, Unit: "ms", Source: "measured: deregister-tasks, warm, on x86"},
		CPUMillisAnEvent:    Input{Name: "processor time of an event", Value: 0.35, Unit: "ms", Source: "measured: deregister-tasks, warm, on x86", Note: "batches of 1 to 100"},
		ColdShare:           Input{Name: "cold starts of deregister-tasks", Value: 0.01, Unit: "of the runs", Source: "https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase", Read: read, Note: "of the scheduled functions: all runs"},
		ColdMillis:          Input{Name: "time of a cold start", Value: 300, Unit: "ms", Source: assumed, Note: "billed"},
		LogBytesARun:        Input{Name: "log of a run", Value: 1500, Unit: "bytes", Source: assumed, Note: "Lambda's own lines and the metrics"},
		LogBytesAnEvent:     Input{Name: "log of an event", Value: 600, Unit: "bytes", Source: "measured: a line of 400 to 550", Note: "functions/deregister-tasks/deregister/handler.go"},
		LogBytesAStart:      Input{Name: "log of a starting task", Value: 1000, Unit: "bytes", Source: assumed, Note: "initcontainer/register: three lines"},
		Metrics:             Input{Name: "custom metrics", Value: 16, Unit: "", Source: "functions, shared/publisher", Note: "3 of deregister-tasks, 2 of publish-servers, 8 of sweep, and 3 reasons to skip"},
		Alarms:              Input{Name: "alarms", Value: 14, Unit: "", Source: template, Note: "none with Monitoring=DISABLED"},
		Dashboards:          Input{Name: "dashboards", Value: 1, Unit: "", Source: template, Note: "none with Monitoring=DISABLED"},
	}
}

func defaultOthers() Others {
	const repository = "https://github.com/hashicorp/consul-ecs/blob/main/"
	return Others{
		Helpers:       Input{Name: "helper processes in a task", Value: 2, Unit: "", Source: "docs/migration.md", Note: "health-sync, and consul-dataplane beside its Envoy"},
		HelperMB:      Input{Name: "memory of a helper", Value: 20, Unit: "MB", Source: assumed, Note: "its processor time, and the next size of a Fargate task where it no longer fits, are left out"},
		PollSeconds:   Input{Name: "interval of the controller", Value: 10, Unit: "s", Source: repository + "controller/controller.go", Read: read},
		CallsAPage:    Input{Name: "calls of the controller for 100 tasks", Value: 2, Unit: "a poll", Source: repository + "controller/resource.go", Read: read, Note: "ListTasks, DescribeTasks"},
		ControllerCPU: Input{Name: "processor of the controller", Value: 0.25, Unit: "vCPU", Source: "Fargate's least"},
		ControllerGB:  Input{Name: "memory of the controller", Value: 0.5, Unit: "GB", Source: "Fargate's least", Note: "a large mesh takes more"},
	}
}
