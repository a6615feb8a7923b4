package sweep

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/mesh"
)

const (
	// linesSize bounds, in bytes, the lines of differences, and those of tasks.
	// Lambda answers with 6 MB at most. Of a mesh with more, the numbers are of
	// all.
	linesSize = 5 << 19

	// maxText bounds, in bytes, what may come from anybody who can register a
	// node.
	maxText = 300
)

// Report says what ECS has of the mesh, what Consul has, and what differs. It is
// read by people, from its first line on.
type Report struct {
	Summary     string        `json:"summary"`
	At          time.Time     `json:"at"`
	Differences []Difference  `json:"differences"`
	Servers     ServersReport `json:"servers"`
	Clusters    []string      `json:"clusters"` // ARNs; whose tasks were listed
	Tasks       []TaskLine    `json:"tasks"`
	LeftOut     int           `json:"leftOut,omitempty"` // lines of differences and tasks that did not fit
	Unanswered  []string      `json:"unanswered"`        // what could not be read, and why
}

// Kind is what differs.
type Kind string

// The kinds of differences.
const (
	DeadRegistered      Kind = "DeadRegistered"
	StoppingUndrained   Kind = "StoppingUndrained"
	RunningDrained      Kind = "RunningDrained"
	RunningUnregistered Kind = "RunningUnregistered"
	AddressTwice        Kind = "AddressTwice"
	OtherRevision       Kind = "OtherRevision"
	Unclear             Kind = "Unclear"
)

// meaning is what is known of a kind.
type meaning struct {
	kind  Kind
	words string // after a number
	means string // what it does to the mesh
	next  string // who puts it right, or what does
}

// meanings are in the order of their weight.
var meanings = []meaning{
	{RunningUnregistered, "running but not registered", "nobody in the mesh reaches it", "read the log of its container " + mesh.InitContainer + "; where that ended well, Envoy's health check registers it again within minutes"},
	{DeadRegistered, "dead but registered", "callers may still be sent to its address", "the next sweep deletes its node"},
	{RunningDrained, "running but drained", "it gets no new work", "the next sweep takes the drain back once ECS says twice that it runs"},
	{StoppingUndrained, "stopping but not drained", "it still gets new work", "the next sweep drains it"},
	{AddressTwice, "with the address of another", "Envoy keeps one endpoint for an address, so one of them may be hidden", "the node of the one that is dead has to go; of two that run, their nodes' VPCs tell whether both are right"},
	{OtherRevision, "of another task definition than Consul says", "who goes by the revision, as a service-resolver does, is misled", "Envoy's health check registers the task again as it is; if it stays, somebody else writes its node"},
	{Unclear, "unclear", "nothing is done about it while it is", "what ECS says, or why it was not asked, is the reason"},
}

// Kinds are all kinds, in the order of their weight.
func Kinds() []Kind {
	all := make([]Kind, len(meanings))
	for i, m := range meanings {
		all[i] = m.kind
	}
	return all
}

// Difference is one thing that ECS and Consul have otherwise.
type Difference struct {
	Difference Kind   `json:"difference"`
	Task       string `json:"task"` // ARN
	Node       string `json:"node"`
	ECS        string `json:"ecs"`
	Consul     string `json:"consul"`
	Why        string `json:"why,omitempty"`
	Means      string `json:"means"`
	Next       string `json:"next"`
}

// TaskLine is a task of the mesh.
type TaskLine struct {
	Task       string `json:"task"` // ID
	Cluster    string `json:"cluster,omitempty"`
	Revision   string `json:"revision,omitempty"` // FAMILY:REVISION
	ECS        string `json:"ecs"`
	Consul     string `json:"consul"`
	Difference Kind   `json:"difference,omitempty"`
}

// What Consul has of a task.
const (
	registered = "registered"
	drained    = "drained"
	notThere   = "absent"
	notKnown   = "not known"
)

// ServersReport is what is published as Consul's servers, and what is so.
type ServersReport struct {
	Summary   string         `json:"summary"`
	Parameter string         `json:"parameter"` // SSM's
	Published []string       `json:"published"`
	Source    string         `json:"source"`
	Current   []string       `json:"current"`
	Answers   []ServerAnswer `json:"answers"`

	known  bool     // both lists could be read
	unread []string // why not
}

// ServerAnswer is whom a server calls the leader of the cluster, or why it does
// not.
type ServerAnswer struct {
	Server string `json:"server"`
	Leader string `json:"leader,omitempty"` // address for RPC
	Error  string `json:"error,omitempty"`
}

// view is all that was read for a report.
type view struct {
	now          time.Time
	findings     []*finding // of Consul's nodes
	unregistered []*finding // of tasks of which Consul has no node
	outside      int        // tasks in those clusters that are none of the mesh's
	clusters     []string
	consulKnown  bool
	servers      ServersReport
	brake        Brake
	maxDeletes   *int
}

// report puts what was read into words.
func (v *view) report(unanswered []string) Report {
	r := Report{
		At: v.now.UTC(), Servers: v.servers, Clusters: append([]string{}, v.clusters...), Differences: []Difference{}, Tasks: []TaskLine{},
		Unanswered: append(append([]string{}, v.servers.unread...), unanswered...),
	}
	r.Servers.Summary = v.servers.summary()

	found := map[*finding][]Kind{}
	all := slices.Concat(v.findings, v.unregistered)
	shared := v.shared()
	counts := map[Kind]int{}
	for _, f := range all {
		found[f] = v.kinds(f, shared)
		for _, kind := range found[f] {
			counts[kind]++
		}
	}
	differ := 0
	for _, f := range all {
		if len(found[f]) > 0 {
			differ++
		}
	}
	for _, k := range meanings {
		for _, f := range all {
			if slices.Contains(found[f], k.kind) {
				r.Differences = append(r.Differences, v.difference(f, k, counts[k.kind], shared[f]))
			}
		}
	}
	for _, f := range all {
		r.Tasks = append(r.Tasks, v.line(f, found[f]))
	}
	slices.SortStableFunc(r.Tasks, func(a, b TaskLine) int { // those that differ first
		return strings.Compare(mark(a), mark(b))
	})
	lines := len(r.Differences) + len(r.Tasks)
	r.Differences, r.Tasks = fitting(r.Differences), fitting(r.Tasks)
	r.LeftOut = lines - len(r.Differences) - len(r.Tasks)
	r.Summary = v.summary(len(all), differ, counts, r.Servers.Summary, len(r.Unanswered))
	return r
}

// fitting are the first of the lines, as many as there is room for.
func fitting[T any](lines []T) []T {
	size := 0
	for i, line := range lines {
		text, err := json.Marshal(line)
		if size += len(text) + 1; err != nil || size > linesSize {
			return lines[:i]
		}
	}
	return lines
}

// mark is by what the tasks' lines are sorted.
func mark(t TaskLine) string {
	if t.Difference != "" {
		return "0" + t.Cluster + t.Task
	}
	return "1" + t.Cluster + t.Task
}

// kinds are the ways in which a task differs, the heaviest first.
func (v *view) kinds(f *finding, shared map[*finding]sharing) []Kind {
	var list []Kind
	switch {
	case f.absent && v.consulKnown && f.answer.LastStatus == running:
		list = append(list, RunningUnregistered)
	case f.absent: // not yet registered, or nobody knows
		return nil
	case f.action == catalog.Delete:
		list = append(list, DeadRegistered)
	case f.action == catalog.Drain:
		list = append(list, StoppingUndrained)
	case f.action == catalog.Undrain:
		list = append(list, RunningDrained)
	case f.left != "" && f.left != OtherRegion && f.left != OtherAccount && f.left != RegisteredRecently:
		list = append(list, Unclear)
	}
	if shared[f].others > 0 {
		list = append(list, AddressTwice)
	}
	if f.Revision != "" && strings.Contains(f.answer.Revision, ":") && f.Revision != f.answer.Revision && f.Revision != family(f.answer.Revision) {
		list = append(list, OtherRevision)
	}
	return list
}

// family is the first half of FAMILY:REVISION. A node that was registered by an
// older ecsmesh-init has no more.
func family(revision string) string {
	name, _, _ := strings.Cut(revision, ":")
	return name
}

// sharing are the other nodes that have a node's address and, as far as is
// known, are in its VPC.
type sharing struct {
	others   int
	examples []string // names of some
}

// shared tells of each node that shares its address.
func (v *view) shared() map[*finding]sharing {
	byAddress := map[string][]*finding{}
	for _, f := range v.findings {
		if f.Address != "" {
			byAddress[f.Address] = append(byAddress[f.Address], f)
		}
	}
	shared := map[*finding]sharing{}
	for _, group := range byAddress {
		for _, f := range group {
			var with sharing
			for _, other := range group {
				if f == other || f.VPCID != "" && other.VPCID != "" && f.VPCID != other.VPCID {
					continue
				}
				if with.others++; with.others <= maxExamples {
					with.examples = append(with.examples, cut(other.Name))
				}
			}
			shared[f] = with
		}
	}
	return shared
}

// difference says how a task differs in one way, as count tasks do.
func (v *view) difference(f *finding, k meaning, count int, shared sharing) Difference {
	d := Difference{
		Difference: k.kind, Task: cut(f.TaskARN), Node: cut(f.Name), ECS: cut(f.state()), Consul: v.consul(f),
		Why: cut(f.why), Means: k.means, Next: k.next,
	}
	switch k.kind {
	case AddressTwice:
		d.Why = fmt.Sprintf("%s is also the address of %s: %s", f.Address, number(shared.others, "other node"), strings.Join(shared.examples, ", "))
	case OtherRevision:
		d.Why = fmt.Sprintf("in ECS it is of %s, in Consul of %s", cut(f.answer.Revision), cut(f.Revision))
	case DeadRegistered:
		if limit := v.brake.limit(len(v.findings), v.maxDeletes); count > limit {
			d.Next = fmt.Sprintf("the sweep refuses to delete %d nodes at once, since one run may delete %d; if the tasks are really gone, invoke it once with {\"maxDeletes\": %d}", count, limit, count)
		}
	}
	return d
}

// consul is what Consul has of a task.
func (v *view) consul(f *finding) string {
	switch {
	case f.Drained():
		return drained
	case !f.absent:
		return registered
	case v.consulKnown:
		return notThere
	}
	return notKnown
}

func (v *view) line(f *finding, found []Kind) TaskLine {
	line := TaskLine{
		Task: cut(strings.TrimPrefix(f.Name, mesh.NodePrefix)), Cluster: f.cluster[strings.LastIndexByte(f.cluster, '/')+1:],
		Revision: f.answer.Revision, ECS: cut(f.state()), Consul: v.consul(f),
	}
	if line.Revision == "" {
		line.Revision = cut(f.Revision)
	}
	if len(found) > 0 {
		line.Difference = found[0]
	}
	return line
}

// summary is the report in a few sentences.
func (v *view) summary(all, differ int, counts map[Kind]int, servers string, unanswered int) string {
	var text strings.Builder
	switch {
	case !v.consulKnown:
		fmt.Fprintf(&text, "Consul's catalog could not be read, so ECS and Consul are not compared. ECS has %s of the mesh in the clusters asked about.", number(len(v.unregistered), "task"))
	case differ == 0:
		fmt.Fprintf(&text, "ECS and Consul agree on all of the mesh's %s in %s.", number(all, "task"), number(len(v.clusters), "cluster"))
	default:
		fmt.Fprintf(&text, "Of the mesh's %s in %s, ECS and Consul differ on %d:", number(all, "task"), number(len(v.clusters), "cluster"), differ)
		separator := " "
		for _, k := range meanings {
			if n := counts[k.kind]; n > 0 {
				fmt.Fprintf(&text, "%s%d %s", separator, n, k.words)
				separator = ", "
			}
		}
		text.WriteString(".")
	}
	if v.outside > 0 {
		fmt.Fprintf(&text, " Beside them, the clusters run %s.", number(v.outside, "task"))
	}
	text.WriteString(" " + servers)
	if unanswered > 0 {
		fmt.Fprintf(&text, " Not all could be read: see unanswered, %s.", number(unanswered, "line"))
	}
	return text.String()
}

// summary says whether the list of servers is right and they answer.
func (r ServersReport) summary() string {
	var silent []string
	leaders := map[string]bool{}
	for _, a := range r.Answers {
		if a.Error != "" {
			silent = append(silent, a.Server)
			continue
		}
		leaders[a.Leader] = true
	}
	list := "The list of Consul's servers could not be compared with who they are"
	switch {
	case !r.known:
	case len(r.Published) == 0:
		list = "No list of Consul's servers is published"
	case len(r.Current) == 0:
		list = "None of Consul's servers is usable, and the last list of them stays"
	case slices.Equal(r.Published, r.Current):
		list = "The list of Consul's servers is right"
	default:
		list = fmt.Sprintf("The list of Consul's servers is outdated: it has %s, and they are %s", strings.Join(r.Published, ", "), strings.Join(r.Current, ", "))
	}
	answers := fmt.Sprintf("%d of %d answer", len(r.Answers)-len(silent), len(r.Answers))
	if len(silent) > 0 {
		answers += ", not " + strings.Join(silent, ", ")
	}
	if len(leaders) > 1 {
		answers += fmt.Sprintf(", and they name %d leaders: %s", len(leaders), strings.Join(slices.Sorted(maps.Keys(leaders)), ", "))
	}
	return list + "; " + answers + "."
}

// number is a count of things, in words.
func number(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// cut shortens what somebody else wrote.
func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
