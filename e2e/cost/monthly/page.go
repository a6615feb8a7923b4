package monthly

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Sizes of meshes that the page shows.
var sizes = []float64{10, 1000, 100_000, 1_000_000}

// option is a way to have a mesh kept up to date.
type option struct {
	name  string
	polls bool // it has a controller
	bill  func(tasks float64) Bill
}

func (o option) ours() bool { return !o.polls }

func (in Inputs) options() []option {
	both := func(helpers Input) func(float64) Bill {
		return func(tasks float64) Bill { return append(in.Helpers(tasks, helpers), in.Controller(tasks)...) }
	}
	return []option{
		{"ecsmesh, defaults", false, func(tasks float64) Bill { return in.Ecsmesh(tasks, in.DefaultSettings()) }},
		{"ecsmesh, large fleet", false, func(tasks float64) Bill { return in.Ecsmesh(tasks, in.LargeFleet()) }},
		{"helpers and a controller, on Fargate", true, both(in.Prices.FargateGBHour)},
		{"helpers and a controller, on EC2", true, both(in.Prices.InstanceGBHour)},
		{"a controller alone", true, in.Controller},
	}
}

// Page is docs/performance/cost.md.
func (in Inputs) Page() string {
	var page strings.Builder
	write := func(format string, args ...any) { fmt.Fprintf(&page, format, args...) }

	write("# What it costs\n\n")
	write("<!-- Written by `go run ./e2e/cost`. Change e2e/cost/monthly, not this. -->\n\n")
	write("A month of AWS in %s, in US dollars, without free tiers and discounts; below it how many calls of AWS's APIs that\n", virginia)
	write("takes (SQS, Parameter Store, ECS). A mesh of 1,000 tasks in which %s tasks start and stop a month costs **%s** with\n",
		number(in.stopsAMonth(1000)), dollars(in.options()[0].bill(1000).Dollars()))
	write("ecsmesh, and **%s** with %s helper processes of %s MB in every task and their controller.\n\n",
		dollars(in.options()[2].bill(1000).Dollars()), number(in.Others.Helpers.Value), number(in.Others.HelperMB.Value))
	in.writeCosts(write)
	write("\n![Monthly cost of ecsmesh, of helper processes with a controller, and of a controller alone, for 10, 1,000 and 100,000 tasks](cost.svg)\n\n")

	write("- **ecsmesh** is the stack of `template.yaml` and what tasks read at their start. At rest tasks call nothing of AWS's.\n")
	write("  Its alarms and its dashboard are in it; the others have none.\n")
	write("  *Large fleet* has a batch size of %s, a window of %s s, and Parameter Store's higher throughput, which costs more than\n",
		number(in.Stack.LargeBatchSize.Value), number(in.Stack.LargeWindowSeconds.Value))
	write("  larger batches save: leave that off until its limit (below) is met.\n")
	write("  *Sweeps incomplete*: one run has no time to ask ECS about all tasks (below); stops are handled all the same.\n")
	write("- **Helpers and a controller** is how consul-ecs works: what its helpers take of each task's memory, and a controller\n")
	write("  that polls ECS every %s s. What helpers take of processors is left out.\n", number(in.Others.PollSeconds.Value))
	write("- **A controller alone** cleans up after tasks and knows nothing of their health. It is cheap. Above %s tasks its\n",
		number(in.pollLimit()))
	write("  *polls are too slow*: they use up the account's reads of ECS, and are counted here with no more than those.\n")
	write("- Left out on all sides: Consul's servers, Envoy, what a VPC has anyway (NAT gateways, endpoints), and data transfer.\n\n")

	write("## Where the money goes\n\n")
	in.writeServices(write)
	write("\n`Monitoring=DISABLED` makes no alarms and no dashboard. An account has 10 alarms, 10 metrics and 3 dashboards free, which isn't\n")
	write("counted here. They cost the same in any mesh, and so do Lambda's pollers, which ask an empty queue %s times a month.\n", number(in.Stack.Pollers.Value*in.Churn.HoursAMonth.Value*3600/in.Stack.LongPollSeconds.Value))
	write("Nothing is encrypted with keys of KMS that are paid for, and there is no SNS.\n\n")

	write("## Limits\n\n")
	write("At how many tasks each is met, while %s %% of all tasks are replaced within %s minutes. In the order in which they come.\n\n",
		number(100*in.Churn.WaveShare.Value), number(in.Churn.WaveSeconds.Value/60))
	in.writeLimits(write)
	l := in.Limits
	write("\nNever met: Lambda's %s concurrent runs, of which ecsmesh takes %s at most (where an account has 10, give\n", number(l.LambdaConcurrent.Value), number(in.Stack.Pollers.Value+2))
	write("`PublishServersReservedConcurrency=none`); SQS, which has no limit but %s messages in work, of which there are up to\n", number(l.SQSInFlight.Value))
	write("%s; KMS and SNS. A batch of %s events fills Lambda's payload, so larger batches do nothing.\n",
		number(in.Stack.Pollers.Value*in.Stack.LargeBatchSize.Value), number(float64(int(l.LambdaPayloadKB.Value/l.EventKB.Value))))
	write("\n**xDS streams** have no fixed limit: each task has one, Consul's servers share them out, and %s tasks are %s on each of %s\n",
		number(100_000), number(100_000/l.ConsulServers.Value), number(l.ConsulServers.Value))
	write("servers: give them file descriptors for twice as many. **Consul's nodes** are one for each task, without agent and gossip;\n")
	write("HashiCorp still advises %s clients for each datacenter, so that an outage hits no more. **Consul's reads**: tasks look\n", number(l.ConsulDataplanes.Value))
	write("after themselves with %s reads in %s s, which are %s a second with 100,000 tasks, most of them the leader's, and %s with a\n",
		number(in.Stack.ConsulReadsALook.Value), number(in.Stack.SecondsALook.Value), number(in.reads(100_000)), number(in.reads(1_000_000)))
	write("million: let them look less often there (`check -refresh 10m`).\n\n")

	write("**A million tasks** are %s starts a second when %s %% of them are deployed in %s minutes, more than Fargate starts for an account:\n",
		number(in.stopsASecond(1_000_000)), number(100*in.Churn.WaveShare.Value), number(in.Churn.WaveSeconds.Value/60))
	write("divide them, as AWS's and Consul's limits have it anyway, into meshes that stay under the first limits of this table. Each\n")
	write("account or Region has quotas of its own, and each Consul datacenter a stack.\n\n")

	write("## Inputs\n\n")
	write("Change them in `e2e/cost/monthly`, and run `go run ./e2e/cost`. AWS's price pages fill in their tables by script, so what\n")
	write("is named is where a price was read; it was read in stored copies, on the day given.\n")
	in.writeInputs(write)
	return page.String()
}

// reads are those of Consul a second with which tasks look after themselves.
func (in Inputs) reads(tasks float64) float64 {
	return tasks * in.Stack.ConsulReadsALook.Value / in.Stack.SecondsALook.Value
}

type writer func(format string, args ...any)

func (in Inputs) writeCosts(write writer) {
	write("| tasks |")
	for _, o := range in.options() {
		write(" %s |", o.name)
	}
	write("\n|---:|%s\n", strings.Repeat("---:|", len(in.options())))
	for _, tasks := range sizes {
		write("| %s |", number(tasks))
		for _, o := range in.options() {
			bill := o.bill(tasks)
			amount := dollars(bill.Dollars())
			if o.ours() {
				amount = "**" + amount + "**"
			}
			write(" %s<br>%s calls", amount, number(bill.Calls()))
			if remark := in.remark(o, tasks); remark != "" {
				write("<br>*%s*", remark)
			}
			write(" |")
		}
		write("\n")
	}
}

// remark is what an option no longer does at this size.
func (in Inputs) remark(o option, tasks float64) string {
	switch {
	case o.polls && tasks > in.pollLimit():
		return "polls too slow"
	case o.ours() && in.askSeconds(tasks) > in.askBudget():
		return "sweeps incomplete"
	}
	return ""
}

func (in Inputs) writeServices(write writer) {
	write("ecsmesh with the defaults:\n\n| |")
	for _, tasks := range sizes {
		write(" %s tasks |", number(tasks))
	}
	write("\n|---|%s\n", strings.Repeat("---:|", len(sizes)))
	for i, line := range in.Ecsmesh(1, in.DefaultSettings()) {
		write("| %s, %s |", line.Service, line.Unit)
		for _, tasks := range sizes {
			line := in.Ecsmesh(tasks, in.DefaultSettings())[i]
			write(" %s: %s |", number(line.Quantity), dollars(line.Dollars))
		}
		write("\n")
	}
}

func (in Inputs) writeLimits(write writer) {
	limits := in.AllLimits()
	slices.SortStableFunc(limits, func(a, b Limit) int { return cmp.Compare(a.first(), b.first()) })
	write("| limit | of what | tasks, defaults | large fleet | what then |\n|---|---|---:|---:|---|\n")
	for _, l := range limits {
		write("| %s: %s | %s | %s | %s | %s |\n", l.Name, strings.TrimSpace(l.Value), l.What, met(l.Usual), met(l.Large), l.Then)
	}
}

// first is the number of tasks at which the limit is met first.
func (l Limit) first() float64 {
	if l.Usual == 0 {
		return 1e12
	}
	return l.Usual
}

func met(tasks float64) string {
	if tasks == 0 {
		return "–"
	}
	return number(tasks)
}

func (in Inputs) writeInputs(write writer) {
	groups, inputs := in.All()
	for _, group := range groups {
		write("\n### %s\n\n| input | value | source |\n|---|---:|---|\n", group)
		for _, input := range inputs[group] {
			source := input.Source
			if strings.HasPrefix(source, "https://") {
				source = "<" + source + ">"
			}
			if input.Region != "" {
				source += ", " + input.Region
			}
			if input.Read != "" {
				source += ", read " + input.Read
			}
			if input.Note != "" {
				source += "; " + input.Note
			}
			value := number(input.Value)
			if input.Value < 100 {
				value = exact(input.Value, 6)
			}
			write("| %s | %s | %s |\n", input.Name, strings.TrimSpace(value+" "+input.Unit), source)
		}
	}
}
