package sweep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/mesh"
)

const (
	// maxListed bounds how many of a cluster's tasks a report looks at: with
	// 100 a page and a call, some 40 s of ECS's time.
	maxListed = 10_000

	// serverTime is what each server of Consul's gets for its answer.
	serverTime = 3 * time.Second
)

// Report compares what ECS, Consul and the list of servers say. It changes
// nothing. What can't be read is in the report, too: it is asked for when
// something is wrong.
func (s *Sweep) Report(ctx context.Context, q question) Report {
	var (
		unanswered []string
		unread     = func(what string, err error) {
			unanswered = append(unanswered, what+": "+strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		view = view{now: s.now(), brake: s.Brake, maxDeletes: q.maxDeletes}
	)
	view.servers = s.askServers(ctx)

	nodes, err := s.read(ctx)
	view.consulKnown = err == nil
	if err != nil {
		unread("Consul's catalog", err)
	}
	view.findings = make([]*finding, len(nodes))
	for i, node := range nodes {
		view.findings[i] = &finding{Node: node}
	}
	if err := s.judge(ctx, view.findings); err != nil {
		unread("ECS", err)
	}

	clusters := map[string]bool{}
	for _, f := range view.findings {
		if f.cluster != "" && f.left != ClusterNotFound {
			clusters[f.cluster] = true
		}
	}
	for _, cluster := range q.clusters {
		clusters[cluster] = true
	}
	view.clusters = slices.Sorted(maps.Keys(clusters))
	for _, cluster := range view.clusters {
		if err := s.others(ctx, cluster, &view); err != nil {
			unread("ECS", err)
		}
	}
	if err := s.lookAgain(ctx, &view); err != nil {
		unread("Consul's catalog", err)
	}
	return view.report(unanswered)
}

// others puts into the view the mesh's tasks of a cluster of which Consul has no
// node.
func (s *Sweep) others(ctx context.Context, cluster string, v *view) error {
	ctx, cancel := share(ctx, 2)
	defer cancel()
	listed, more, err := s.Tasks.List(ctx, cluster, maxListed)
	if err != nil {
		return err
	}
	if more {
		err = fmt.Errorf("list tasks of %s: there are more than the %d that a report looks at", cluster, len(listed))
	}
	registered := map[string]bool{}
	for _, f := range v.findings {
		registered[f.Name] = true
	}
	unknown := slices.DeleteFunc(listed, func(arn string) bool { return registered[mesh.NodeName(id(arn))] })
	for chunk := range slices.Chunk(unknown, describeLimit) {
		answers, failed := s.Tasks.Describe(ctx, cluster, chunk)
		if failed != nil {
			return errors.Join(err, failed)
		}
		for _, arn := range chunk {
			// One that ECS knows no more has stopped meanwhile.
			switch answer := answers[arn]; {
			case answer.InMesh && answer.DesiredStatus == running:
				v.unregistered = append(v.unregistered, &finding{Node: catalog.Node{Name: mesh.NodeName(id(arn)), TaskARN: arn}, cluster: cluster, answer: answer, absent: true})
			case answer.DesiredStatus == running:
				v.outside++
			}
		}
	}
	return err
}

// lookAgain takes out of the view's unregistered tasks those that have registered
// since Consul was read.
func (s *Sweep) lookAgain(ctx context.Context, v *view) error {
	if !v.consulKnown || len(v.unregistered) == 0 {
		return nil
	}
	nodes, err := s.read(ctx)
	if err != nil {
		v.consulKnown = false
		return err
	}
	registered := map[string]catalog.Node{}
	for _, node := range nodes {
		registered[node.Name] = node
	}
	v.unregistered = slices.DeleteFunc(v.unregistered, func(f *finding) bool {
		node, there := registered[f.Name]
		if there {
			f.Node, f.absent, f.verdict = node, false, decide(node, f.answer, s.now())
			v.findings = append(v.findings, f)
		}
		return there
	})
	return nil
}

// askServers reads the list of servers, who they should be, and asks each.
func (s *Sweep) askServers(ctx context.Context) ServersReport {
	ctx, cancel := share(ctx, 3)
	defer cancel()
	reading, stop := share(ctx, 2)
	lists := s.Publisher.Lists(reading)
	stop()
	r := ServersReport{Parameter: lists.Parameter, Published: texts(lists.Published), Source: lists.Source, Current: texts(lists.Current), Answers: []ServerAnswer{}}
	for _, unread := range []struct {
		what string
		err  error
	}{{"SSM parameter " + lists.Parameter, lists.PublishedError}, {lists.Source, lists.SourceError}} {
		if unread.err != nil {
			r.unread = append(r.unread, unread.what+": "+strings.ReplaceAll(unread.err.Error(), "\n", "; "))
		}
	}
	all := slices.SortedFunc(slices.Values(slices.Concat(lists.Published, lists.Current)), netip.Addr.Compare)
	for _, addr := range slices.Compact(all) {
		answer := ServerAnswer{Server: addr.String()}
		asking, done := context.WithTimeout(ctx, serverTime)
		leader, err := s.Leader.Leader(asking, addr)
		done()
		if err != nil {
			answer.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		answer.Leader = leader
		r.Answers = append(r.Answers, answer)
	}
	r.known = lists.PublishedError == nil && lists.SourceError == nil
	return r
}

func texts(addrs []netip.Addr) []string {
	texts := []string{}
	for _, addr := range slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare) {
		texts = append(texts, addr.String())
	}
	return slices.Compact(texts)
}

// state is an answer of ECS's in its words, for people.
func (f *finding) state() string {
	a := f.answer
	switch {
	case a.Failure != "":
		return a.Failure
	case a.LastStatus == "":
		return "not known: " + cmp.Or(f.why, "ECS did not answer about it")
	case a.LastStatus == a.DesiredStatus:
		return a.LastStatus
	}
	return a.LastStatus + ", wanted " + a.DesiredStatus
}
