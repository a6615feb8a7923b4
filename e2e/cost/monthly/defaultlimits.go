package monthly

func defaultLimits() Limits {
	quota := func(name string, value float64, unit, source, note string) Input {
		return Input{Name: name, Value: value, Unit: unit, Source: source, Read: read, Note: note}
	}
	const (
		ecs    = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html"
		ssm    = "https://dev.classmethod.jp" // which quotes AWS's page, https://docs.aws.amazon.com/general/latest/gr/ssm.html
		events = "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html"
		scale  = "https://github.com/hashicorp/consul/blob/main/website/content/docs/architecture/scale.mdx"
		sqs    = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html"
	)
	return Limits{
		ECSReads:         quota("ECS, DescribeTasks and ListTasks", 20, "a second", ecs, "of the account in a Region, shared by all; the table itself was read only where others quote it"),
		ECSReadBurst:     quota("the same, at once", 100, "calls", ecs, "as above"),
		SSMReads:         quota("Parameter Store, GetParameter", 40, "a second", ssm, "of the account in a Region, shared by all; AWS, as quoted there in 2022"),
		SSMReadsHigher:   quota("the same with higher throughput", 3000, "a second", ssm, "as above; newer texts say 10,000 (unverified)"),
		FargateStarts:    quota("Fargate, tasks started", 20, "a second", "https://docs.amazonaws.cn/en_us/AmazonECS/latest/developerguide/throttling.html", "of the account in a Region, bursts of 100; can be raised"),
		LambdaConcurrent: quota("Lambda, concurrent runs", 1000, "", "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html", "of the account in a Region; new accounts may have 10"),
		EventBridge:      Input{Name: "EventBridge, invocations of targets", Value: 18750, Unit: "a second", Region: virginia, Source: events, Read: read},
		EventBridgeLeast: quota("the same in the smallest Regions", 750, "a second", events, "as in af-south-1"),
		SQSInFlight:      quota("SQS, messages taken and not yet deleted", 120000, "", sqs, "the queue's length and rate have no limit"),
		LambdaPayloadKB:  quota("Lambda, payload of a run", 6144, "KB", "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html", "6 MB; unverified"),
		EventKB:          Input{Name: "an event, as SQS and Lambda wrap it", Value: 6, Unit: "KB", Source: "events/sqs-batch.json", Note: "3.9 KB with two containers, and its quotes are escaped"},
		ConsulWrites:     quota("Consul, writes", 750, "a second", scale, "a tenth of the 7,500 disk operations a second that HashiCorp advises for large servers"),
		ConsulProcessors: quota("Consul, processors of a server", 8, "", "https://developer.hashicorp.com/validated-designs/consul-solution-design-guides-consul-enterprise-self-hosted/sizing-guidlines", "m5.2xlarge, HashiCorp's large server"),
		ConsulMicros:     Input{Name: "Consul, processor time to look at a node for a filter", Value: 3.2, Unit: "µs", Source: "measured: 16 ms for 5,000 nodes", Note: "a starting task asks once for nodes at its address, and the leader looks at all"},
		ConsulSignings:   quota("Consul's CA, certificates signed", 50, "a second", "https://developer.hashicorp.com/consul/docs/connect/ca/consul", "csr_max_per_second"),
		ConsulInstances:  quota("Consul, service instances tried", 172000, "", "https://www.hashicorp.com/cgsb", "HashiCorp's benchmark with five servers; two for each task: service and sidecar"),
		ConsulDataplanes: quota("Consul, clients for each datacenter", 5000, "", scale, "HashiCorp's advice: against gossip, which these tasks have none of, and so that an outage of Consul hits fewer"),
		ConsulServers:    quota("Consul, servers", 5, "", scale, "they share the Envoys' xDS streams evenly"),
	}
}
