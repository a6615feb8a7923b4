package monthly

import "fmt"

// Limit is where something ends.
type Limit struct {
	Name  string
	What  string  // what of the mesh meets it
	Value string  // with its unit
	Large float64 // tasks at which that is, with the settings for large fleets; 0 is never
	Usual float64 // with the defaults
	Then  string  // what happens, and what to do
}

// AllLimits are met while a tenth of the mesh, or whatever the inputs say, is
// deployed at the same time.
func (in Inputs) AllLimits() []Limit {
	l, s := in.Limits, in.Stack
	waveEvents := func(tasks float64) float64 { return in.stopsASecond(tasks) * s.EventsAStop.Value }
	limit := func(name, what string, value Input, large, usual float64, then string) Limit {
		return Limit{name, what, fmt.Sprintf("%s %s", number(value.Value), value.Unit), large, usual, then}
	}
	// events that deregister-tasks gets through, with full batches.
	handled := func(settings Settings) float64 {
		return s.Pollers.Value * settings.BatchSize / in.deregisterSeconds(settings.BatchSize)
	}
	// writes are Consul's. A batch is a transaction for each 128 tasks in it.
	writes := func(settings Settings) func(float64) float64 {
		return func(tasks float64) float64 {
			return in.stopsASecond(tasks)*s.ConsulWritesAStart.Value + waveEvents(tasks)/min(128, in.batch(tasks, settings))
		}
	}
	reads := func(tasks float64) float64 { return in.stopsASecond(tasks) * s.ReadsAStart.Value }
	budget := in.askBudget()

	asked := rise(budget, in.askSeconds)
	throttled := rise(l.ECSReadBurst.Value+l.ECSReads.Value*budget, func(tasks float64) float64 { return tasks / s.DescribeTasks.Value })
	polled := in.pollLimit()
	memory := rise(s.SweepMB.Value, func(tasks float64) float64 { return s.SweepBaseMB.Value + tasks*s.SweepKBATask.Value/1024 })
	filter := rise(l.ConsulProcessors.Value, func(tasks float64) float64 { return in.stopsASecond(tasks) * tasks * l.ConsulMicros.Value / 1e6 })
	instances := rise(l.ConsulInstances.Value, func(tasks float64) float64 { return 2 * tasks })
	starts := rise(l.FargateStarts.Value, in.stopsASecond)
	signed := rise(l.ConsulSignings.Value, in.stopsASecond)
	bridged := rise(l.EventBridge.Value, waveEvents)
	bridgedLeast := rise(l.EventBridgeLeast.Value, waveEvents)

	return []Limit{
		limit("a 10-second controller's polls", "ECS reads", l.ECSReads, polled, polled,
			"each poll takes longer than its interval, and nothing else in the account may read ECS; sweep and the Consul servers' list included"),
		{"sweep's time", fmt.Sprintf("DescribeTasks calls, %s at once", number(s.SweepCalls.Value)), fmt.Sprintf("%s s of a run", number(budget)), asked, asked,
			"the rest of the mesh is left to the next run, which begins anew, and as long as questions stay open nothing is deleted; events still drain and delete. Divide the mesh among accounts, Regions or Consul datacenters, with a stack for each"},
		limit("ECS's reads", "the same", l.ECSReads, throttled, throttled, "as above; AWS raises the rate on request"),
		{"sweep's memory", "the mesh's nodes", fmt.Sprintf("%s MB", number(s.SweepMB.Value)), memory, memory, "the run ends in an error: raise MemorySize of SweepFunction"},
		limit("Consul's processors", "a filter over all nodes at each start", l.ConsulProcessors, filter, filter,
			"starts wait for Consul, up to five minutes; deploy less at a time, or divide the mesh among Consul datacenters"),
		limit("Consul's size", "service instances", l.ConsulInstances, instances, instances, "nobody has shown more: divide the mesh among datacenters, peered, with a stack for each"),
		limit("Parameter Store", "reads of starting tasks", l.SSMReads, rise(in.LargeFleet().SSMReadsASecond, reads), rise(in.DefaultSettings().SSMReadsASecond, reads),
			"tasks wait and try again, at random within 8 s; turn on higher throughput"),
		limit("Fargate's starts", "tasks started", l.FargateStarts, starts, starts, "ECS starts them later: deployments take longer, and all else here gets no more than that"),
		limit("Consul's CA", "certificates of starting tasks", l.ConsulSignings, signed, signed, "Envoys wait for theirs; raise csr_max_per_second, or use csr_max_concurrent"),
		{"deregister-tasks", "events of stopping tasks",
			fmt.Sprintf("%s a second, %s for large fleets", number(handled(in.DefaultSettings())), number(handled(in.LargeFleet()))),
			rise(handled(in.LargeFleet()), waveEvents), rise(handled(in.DefaultSettings()), waveEvents),
			"events wait in the queue, and drains come late; raise batch size and window"},
		limit("Consul's writes", "starts and stops", l.ConsulWrites, rise(l.ConsulWrites.Value, writes(in.LargeFleet())), rise(l.ConsulWrites.Value, writes(in.DefaultSettings())),
			"writes wait; faster disks, or several datacenters"),
		limit("EventBridge, smallest Regions", "events to the queue", l.EventBridgeLeast, bridgedLeast, bridgedLeast, "events come late; EventBridge keeps them for 24 hours"),
		limit("EventBridge, "+virginia, "events to the queue", l.EventBridge, bridged, bridged, "the same"),
	}
}
