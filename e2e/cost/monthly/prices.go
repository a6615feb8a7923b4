package monthly

const (
	virginia = "us-east-1"

	// AWS fills the tables of its own price pages in by script, so what is named
	// here is where a price was read.
	read = "2026-12-01"
)

// defaultPrices are those of on-demand use, at the first tier.
func defaultPrices() Prices {
	priced := func(name string, value float64, unit, source, note string) Input {
		return Input{Name: name, Value: value, Unit: unit, Region: virginia, Source: source, Read: read, Note: note}
	}
	return Prices{
		LambdaRequests:  priced("Lambda, invocations", 0.20, "$ a million", "https://cloudchipr.com/blog/aws-lambda-pricing", "AWS: https://aws.amazon.com/lambda/pricing/"),
		LambdaGBSecond:  priced("Lambda, arm64", 0.0000133334, "$ a GB-second", "https://cloudchipr.com/blog/aws-lambda-pricing", "AWS: https://aws.amazon.com/lambda/pricing/"),
		SQSRequests:     priced("SQS, standard queue", 0.40, "$ a million requests", "https://cloudburn.io/blog/amazon-sqs-pricing", "AWS: https://aws.amazon.com/sqs/pricing/"),
		SSMReads:        Input{Name: "Parameter Store, with higher throughput", Value: 0.05, Unit: "$ per 10,000 reads", Region: virginia, Source: "https://aws.amazon.com/systems-manager/pricing/", Note: "nothing with standard throughput; unverified: read only where others quote that page"},
		SchedulerCalls:  priced("EventBridge Scheduler", 1.00, "$ a million", "https://cloudburn.io/blog/amazon-eventbridge-pricing", "AWS: https://aws.amazon.com/eventbridge/pricing/"),
		LogsIngested:    priced("CloudWatch Logs, taken in", 0.50, "$ a GB", "https://c3x.dev/blog/cloudwatch-logs-cost-optimization", "AWS: https://aws.amazon.com/cloudwatch/pricing/"),
		LogsStored:      priced("CloudWatch Logs, kept", 0.03, "$ a GB-month", "https://c3x.dev/blog/cloudwatch-logs-cost-optimization", "AWS: https://aws.amazon.com/cloudwatch/pricing/"),
		CustomMetric:    priced("CloudWatch, custom metric", 0.30, "$ a month", "https://signoz.io/guides/cloudwatch-pricing", "AWS: https://aws.amazon.com/cloudwatch/pricing/"),
		Alarm:           priced("CloudWatch, alarm", 0.10, "$ a month", "https://c3x.dev/blog/aws-cloudwatch-metrics-cost/", "AWS: https://aws.amazon.com/cloudwatch/pricing/"),
		Dashboard:       priced("CloudWatch, dashboard", 3, "$ a month", "https://c3x.dev/blog/aws-cloudwatch-metrics-cost/", "AWS: https://aws.amazon.com/cloudwatch/pricing/"),
		FargateGBHour:   priced("Fargate, memory, Linux on ARM", 0.00356, "$ a GB-hour", "https://www.vantage.sh/blog/fargate-pricing", "AWS: https://aws.amazon.com/fargate/pricing/"),
		FargateCPUHour:  priced("Fargate, processor, Linux on ARM", 0.03238, "$ a vCPU-hour", "https://www.vantage.sh/blog/fargate-pricing", "AWS: https://aws.amazon.com/fargate/pricing/"),
		InstanceGBHour:  priced("EC2, memory", 0.0816/8*memoryShare, "$ a GB-hour", "https://www.factualminds.com/blog/amazon-ec2-on-demand-pricing-instance-families-2026/", "m7g.large, $0.0816 for 2 vCPU and 8 GB, divided as Fargate divides its price between processor and memory"),
		EventBridgeRule: priced("EventBridge, events of AWS's own services", 0, "$ a million", "https://www.factualminds.com/blog/amazon-eventbridge-pricing-events-pipes-schema-archive/", "with rules and targets in the same account; AWS: https://aws.amazon.com/eventbridge/pricing/"),
	}
}

// memoryShare is how much of the price of 2 vCPU and 8 GB is memory's on Fargate.
const memoryShare = 8 * 0.00356 / (8*0.00356 + 2*0.03238)
