package doctor

import (
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/doctor/facts"
	"ecsmesh/initcontainer/registration"
)

// Diagnose says what the facts mean.
func Diagnose(f facts.Facts) Report {
	e := &examination{Facts: f}
	for _, section := range []struct {
		name    string
		examine func()
	}{
		{"configuration", e.configuration},
		{"metadata", e.metadata},
		{"servers", e.servers},
		{"token", e.token},
		{"registration", e.registration},
		{"Envoy", e.envoy},
		{"application", e.application},
		{"upstreams", e.upstreams},
		{"volume", e.volume},
	} {
		e.found = nil
		section.examine()
		if len(e.found) > 0 {
			e.report.Sections = append(e.report.Sections, Section{Name: section.name, Findings: e.found})
		}
	}
	e.report.settle()
	return e.report
}

// examination is one diagnosis, section by section.
type examination struct {
	facts.Facts
	report Report
	found  []Finding // of the section
}

func (e *examination) ok(format string, args ...any) {
	e.found = append(e.found, Finding{State: OK, Fact: fmt.Sprintf(format, args...)})
}

func (e *examination) unknown(format string, args ...any) {
	e.found = append(e.found, Finding{State: Unknown, Fact: fmt.Sprintf(format, args...)})
}

func (e *examination) wrong(cause Cause, fact, do string) {
	e.found = append(e.found, Finding{State: Wrong, Wrong: cause.String(), Fact: fact, Do: do, cause: cause})
}

// later is wrong, but no reason for anything that is wrong now.
func (e *examination) later(harmless bool, cause Cause, fact, do string) {
	e.wrong(cause, fact, do)
	e.found[len(e.found)-1].Later = harmless
}

// registered is what the init container registered; nil is not known.
func (e *examination) registered() *registration.Registration {
	if e.State.Task == nil {
		return nil
	}
	return &e.State.Task.Registration
}

// instance is the service or gateway that the task is; nil is not known.
func (e *examination) instance() *api.AgentService {
	if r := e.registered(); r != nil {
		return r.Instance()
	}
	return nil
}

// reached tells whether a Consul server answered.
func (e *examination) reached() bool {
	for _, port := range e.Servers.HTTP {
		if port.Answered() {
			return true
		}
	}
	return false
}

// initContainer is what to look at where the init container failed.
const initContainer = "look at the log of the container ecsmesh-init, whose last line says what stopped it"

func (e *examination) configuration() {
	found := e.Configuration
	switch {
	case found.Err != nil:
		e.wrong(ConfigurationInvalid, found.Err.Error(), "change the variable in the task definition as each fault says, and deploy that")
		return
	case found.Given:
		e.ok("it is valid, for the topology %s", found.Config.Topology)
		for _, warning := range found.Config.Warnings {
			e.ok("a warning: %s", warning)
		}
	}
	service := e.instance()
	switch {
	case service == nil && found.Given:
	case service == nil:
		e.unknown("this container has none of the init container's, and that left nothing")
	case service.Kind != "" && service.Kind != api.ServiceKindTypical:
		e.ok("the task started as the %s %s", service.Kind, service.Service)
	default:
		e.ok("the task started as the service %s, with port %d", service.Service, service.Port)
	}
}

func (e *examination) metadata() {
	found := e.Metadata
	running := e.State.Task != nil // a task that is in the mesh needs them rarely
	consequence := ""
	if running {
		consequence = "; health is told to Consul without, but the task would not be registered again if Consul lost it"
	}
	switch {
	case found.Missing:
		e.later(running, MetadataMissing, found.Err.Error()+consequence, "run this in a container of an ECS task, by ECS Exec; in a task, use Fargate platform 1.4.0 or ECS agent 1.39.0, or later")
		return
	case found.Err != nil:
		e.later(running, MetadataSilent, found.Err.Error()+consequence, "on EC2, see whether the ECS agent of the instance runs, and allow containers to reach 169.254.170.2; on Fargate, replace the task")
		return
	}
	task := found.Task
	if found.Container != "" {
		e.ok("this is the container %s", found.Container)
	}
	for _, container := range task.Containers {
		if container.ExitCode != nil && *container.ExitCode != 0 {
			e.ok("the container %s ended with exit code %d", container.Name, *container.ExitCode)
		}
	}
	if task.Stopping() {
		e.wrong(TaskStopping, fmt.Sprintf("the task %s has the desired status STOPPED", task.ARN.ID),
			"nothing in here: it is drained and then removed on purpose. Why ECS stops it is its stoppedReason: aws ecs describe-tasks")
	}
	if found.AddrErr != nil {
		e.wrong(AddressMissing, found.AddrErr.Error(), "set networkMode to awsvpc in the task definition")
		return
	}
	e.ok("the task %s of %s:%s has the address %s", task.ARN.ID, task.Family, task.Revision, found.Address)
}

// ago is how long something is past, for a person.
func (e *examination) ago(at time.Time) string { return about(e.Now.Sub(at)) + " ago" }

// in is how long it is to something.
func (e *examination) in(at time.Time) string { return "in " + about(at.Sub(e.Now)) }

// about is a duration for a person.
func about(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Hour:
		return d.Round(time.Minute).String()[:len(d.Round(time.Minute).String())-len("0s")]
	}
	return d.Round(time.Second).String()
}
