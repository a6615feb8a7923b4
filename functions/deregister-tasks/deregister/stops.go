package deregister

import (
	"log/slog"

	"ecsmesh/shared/catalog"
	"ecsmesh/shared/invocation"
	"ecsmesh/shared/mesh"
	"ecsmesh/shared/taskevent"
)

// stop is what all messages of a batch together say of one task.
type stop struct {
	event    taskevent.Event // the one that says most
	messages []int           // every message about the task
	eventIDs []string        // of their events
}

// stops are the tasks of a batch, each once, in the order of their first
// message.
type stops struct {
	list   []*stop
	byNode map[string]*stop
}

func newStops() *stops { return &stops{byNode: map[string]*stop{}} }

// add takes in the event of a message. Of a task's events the most final one
// stays, whatever their order. All its messages share what becomes of it.
func (s *stops) add(event taskevent.Event, message int) {
	node := mesh.NodeName(event.Task.ID)
	known, ok := s.byNode[node]
	if !ok {
		known = &stop{event: event}
		s.byNode[node] = known
		s.list = append(s.list, known)
	}
	known.messages = append(known.messages, message)
	known.eventIDs = append(known.eventIDs, event.ID)
	if event.Supersedes(known.event) {
		known.event = event
	}
}

// ids are the fields by which log lines name all the events and tasks.
func (s *stops) ids() (events, tasks slog.Attr) {
	var eventIDs, taskIDs []string
	for _, stop := range s.list {
		eventIDs = append(eventIDs, stop.eventIDs...)
		taskIDs = append(taskIDs, stop.event.Task.ID)
	}
	return invocation.List(invocation.EventIDs, eventIDs), invocation.List(invocation.TaskIDs, taskIDs)
}

// changes are what the stops ask of the catalog, in the same order.
func (s *stops) changes() []catalog.Change {
	changes := make([]catalog.Change, len(s.list))
	for i, stop := range s.list {
		changes[i] = catalog.Change{
			Node:   mesh.NodeName(stop.event.Task.ID),
			Action: catalog.Drain,
			Task:   stop.event.TaskARN,
			Agent:  stop.event.ClientAgent,
			Reason: stop.event.StopReason(),
		}
		if stop.event.Meaning() == taskevent.Delete {
			changes[i].Action = catalog.Delete
		}
	}
	return changes
}
