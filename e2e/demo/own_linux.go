package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
	"ecsmesh/e2e/owntask"
)

// listenHint is what a program has to know that runs beside others like it.
const listenHint = "All tasks are on one host, so PROGRAM must listen at its task's address alone: LISTEN_ADDR, HOST and PORT tell it, and {address} and {port} in PROGRAM"

// ownTasks are a user's own, in place of the example's.
type ownTasks struct {
	path    string
	program string // "": a stand-in
	serves  string // the service that the program is; "" is the only one
	request string // the path of a request to it

	expansion
	file    *owntask.File
	tasks   []*owntask.Task
	callees []string // the services that the caller calls
}

// readOwnTasks reads the file that TASK names, if it names one. Its error is
// what ecsmesh-task says of the file.
func readOwnTasks(getenv func(string) string) (*ownTasks, error) {
	o := &ownTasks{path: getenv("TASK"), program: getenv("PROGRAM"), serves: getenv("SERVICE"), request: getenv("REQUEST")}
	if o.path == "" {
		if o.program != "" {
			return nil, errors.New("PROGRAM runs in a task of yours: name its file by TASK")
		}
		return nil, nil
	}
	if getenv("SECURE") == "1" {
		return nil, errors.New("SECURE=1 is for the example's tasks: for your own there are no task roles here. Leave it out")
	}
	if o.request != "" && !strings.HasPrefix(o.request, "/") {
		return nil, fmt.Errorf("REQUEST is %q: want a path, such as /orders", o.request)
	}
	values, err := parameterValues(getenv("PARAMETERS"))
	if err != nil {
		return nil, err
	}
	if err := executable(o.program); err != nil {
		return nil, err
	}
	if o.expansion, err = expandFile(o.path, getenv("MESH"), values); err != nil {
		return nil, err
	}
	if o.file, err = owntask.ReadFile(o.result, values); err != nil {
		return nil, err
	}
	// Those of a template have values only when CloudFormation has seen it.
	for _, definition := range o.file.Definitions {
		if _, err := owntask.Read(definition); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// parameterValues reads values as `sam deploy` takes them: Name=value Other=value.
func parameterValues(line string) (map[string]string, error) {
	values := map[string]string{}
	for _, each := range strings.Fields(line) {
		name, value, ok := strings.Cut(each, "=")
		if !ok {
			return nil, fmt.Errorf("PARAMETERS has %q: want Name=value, and blanks between several", each)
		}
		values[name] = value
	}
	return values, nil
}

// executable looks for a program that is named by a path before anything else
// starts. What a shell finds otherwise, it finds later.
func executable(command string) error {
	words := strings.Fields(command)
	if len(words) == 0 || !strings.Contains(words[0], "/") || strings.ContainsAny(words[0], `'"=$`) {
		return nil
	}
	info, err := os.Stat(words[0])
	switch {
	case err != nil:
		return fmt.Errorf("PROGRAM: %w", err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		return fmt.Errorf("PROGRAM: %s is no program that can be run", words[0])
	}
	return nil
}

// tellOwn is the story of a user's own tasks.
func (s *story) tellOwn(ctx context.Context) error {
	watched, end := context.WithCancelCause(ctx)
	defer end(nil)
	err := s.play(watched, s.setOwnStage, s.findServers, s.readDefinitions)
	if err != nil {
		return err
	}
	go s.watchOver(watched, end)
	err = s.play(watched, s.launch, s.startEnvoys, s.startApplications, s.callOwn, s.stopOwn, s.lookAtOwn, s.stopAll)
	if cause := context.Cause(watched); ctx.Err() == nil && cause != nil {
		return cause
	}
	return err
}

func (s *story) setOwnStage(ctx context.Context) error {
	s.out.chapter("", "the stage")
	begun := time.Now()
	var err error
	if s.lab, err = lab.Start(ctx, lab.Options{Dir: s.dir, Servers: 1}); err != nil {
		return err
	}
	if err := s.startServers(ctx); err != nil {
		return err
	}
	s.out.line("template.yaml is deployed on the emulator, and a Consul server runs as an ECS task   %s", brief(time.Since(begun)))
	return nil
}

// watchOver ends a story as soon as a task ends that nobody stopped, in place of
// all that waits for it.
func (s *story) watchOver(ctx context.Context, end context.CancelCauseFunc) {
	for pause(ctx, 100*time.Millisecond) == nil {
		for _, now := range s.lab.ECS.Tasks() {
			if now.StopCode == ecs.StopCodeTaskFailedToStart || now.StopCode == ecs.StopCodeEssentialContainerExited {
				// The others' ends tell nothing new.
				hint := ""
				if s.own.program != "" {
					hint = "\n  " + listenHint
				}
				end(fmt.Errorf("a task of %s has ended: %s%s%s", strings.TrimPrefix(now.Group, "service:"), now.Summary(), s.lastWordsOf(now), hint))
				return
			}
		}
	}
}

// readDefinitions finds out what is in the file, and who else has to be there.
func (s *story) readDefinitions(ctx context.Context) error {
	o := s.own
	var err error
	if o.tasks, err = s.lab.Own(ctx, o.file); err != nil {
		return err
	}
	s.chapter("", "your task definitions, from "+o.path)
	for _, note := range o.notes {
		s.out.line("note: %s", note)
	}
	if o.role != nil {
		s.out.warns("Before you deploy it: %s", strings.ReplaceAll(o.role.Error(), "\n", "\n"+gutter))
	}
	for _, filled := range o.file.Parameters {
		s.out.line("parameter %s is made up, since it has no default: PARAMETERS='Name=value' sets it", filled)
	}
	services, programs := map[string]bool{}, 0
	for _, task := range o.tasks {
		if services[task.Service] {
			return fmt.Errorf("two of the task definitions are of the service %s: put them into files of their own", task.Service)
		}
		services[task.Service] = true
		program, err := o.programOf(task)
		if err != nil {
			return err
		}
		if program != nil {
			programs++
		}
		if err := s.addOwn(task, program); err != nil {
			return err
		}
	}
	if o.program != "" && programs == 0 {
		return fmt.Errorf("PROGRAM is for %q, which is not among the services %s", o.serves, strings.Join(slices.Sorted(maps.Keys(services)), ", "))
	}
	return s.addOthers(ctx, services)
}

// programOf is the user's program, for the service that it is.
func (o *ownTasks) programOf(task *owntask.Task) (*owntask.Program, error) {
	if o.program == "" || o.serves != "" && o.serves != task.Service || o.serves == "" && task.Container == "" {
		return nil, nil
	}
	if o.serves == "" && len(o.tasks) > 1 {
		return nil, errors.New("the file has several services: say by SERVICE=name of which the PROGRAM is")
	}
	if task.Container == "" {
		return nil, fmt.Errorf("PROGRAM has no container in the task of %s: map the service's port in one", task.Service)
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the folder of PROGRAM: %w", err)
	}
	return &owntask.Program{Command: o.program, Dir: dir}, nil
}

// addOwn puts two tasks of a definition into the cast, or one gateway.
func (s *story) addOwn(task *owntask.Task, program *owntask.Program) error {
	replaced, err := s.lab.Replaced(task, program)
	if err != nil {
		return err
	}
	of := s.lab.CreateOwn(task, program)
	kind, count, tasks := "service "+task.Service, 2, "2 tasks"
	if task.Gateway != "" {
		kind, count, tasks = task.Gateway+" "+task.Service, 1, "a task"
	}
	s.out.line("%s: %s of %s", kind, tasks, task.Definition.Family)
	for _, line := range replaced {
		s.out.line("  %s", line)
	}
	if program != nil {
		s.out.aside("  " + listenHint)
	}
	for i := range count {
		a := &actor{name: fmt.Sprintf("%s-%d", task.Service, i+1), of: of, application: task.Container, gateway: task.Gateway != ""}
		s.cast = append(s.cast, a)
		s.apis = append(s.apis, a)
	}
	if task.Gateway == "" && task.Port != 0 {
		s.own.callees = append(s.own.callees, task.Service)
	}
	return nil
}

// addOthers adds who calls the services, and whom they call.
func (s *story) addOthers(ctx context.Context, services map[string]bool) error {
	taken := maps.Clone(services)
	for _, task := range s.own.tasks {
		for _, upstream := range task.Upstreams {
			if !taken[upstream] {
				s.out.line("service %s: a stand-in, since %s calls it and it is not in the file", upstream, task.Service)
				s.cast = append(s.cast, &actor{name: upstream + "-1", of: s.lab.CreateCallee(upstream), application: "api"})
				taken[upstream] = true
			}
		}
	}
	if len(s.own.callees) > 0 {
		caller := "web"
		for taken[caller] {
			caller = "lab-" + caller
		}
		s.out.line("service %s: the example's, which calls %s through its Envoy", caller, strings.Join(s.own.callees, ", "))
		path := s.own.request
		s.web = &actor{name: caller + "-1", of: s.lab.CreateCaller(caller, path, s.own.callees...), application: "web"}
		s.cast = append(s.cast, s.web)
		taken[caller] = true
	}
	return s.lab.UseHTTP(ctx, slices.Sorted(maps.Keys(taken))...)
}

// of are the tasks of a service.
func (s *story) of(name string) []ecs.Task {
	var tasks []ecs.Task
	for _, a := range s.cast {
		if service(a) == name {
			tasks = append(tasks, a.task)
		}
	}
	return tasks
}

// callOwn is T4.
func (s *story) callOwn(ctx context.Context) error {
	err := s.each(func(a *actor) error {
		if a.gateway {
			return s.awaitGateway(ctx, a)
		}
		err := s.lab.WaitPassing(ctx, service(a), s.of(service(a))...)
		a.passing = time.Now()
		return err
	})
	if err != nil {
		return err
	}
	s.chapter("T4", "Consul says passing")
	if err := s.sayHealth(ctx); err != nil {
		return err
	}
	for _, task := range s.own.tasks {
		for _, upstream := range task.Upstreams {
			for _, from := range s.of(task.Service) {
				if err := s.lab.WaitEndpoints(ctx, from, upstream, s.of(upstream)...); err != nil {
					return err
				}
			}
		}
	}
	if s.web == nil {
		s.out.aside("Nobody calls them: they are gateways, or services without a port")
		return nil
	}
	for _, callee := range s.own.callees {
		if err := s.lab.WaitEndpoints(ctx, s.web.task, callee, s.of(callee)...); err != nil {
			return err
		}
	}
	return s.ask(ctx)
}

// awaitGateway gives a gateway time to pass. Some kinds do so only when Consul has
// a configuration entry of them, and that isn't in the file.
func (s *story) awaitGateway(ctx context.Context, a *actor) error {
	const enough = 15 * time.Second
	patient, cancel := context.WithTimeout(ctx, enough)
	defer cancel()
	err := lab.Await(patient, "a passing gateway", func(ctx context.Context) error {
		consul, err := s.lab.Consul()
		if err != nil {
			return err
		}
		entries, _, err := consul.Health().Service(service(a), "", true, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && len(entries) == 0 {
			err = errors.New("it does not pass")
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.out.warns("%s does not pass yet: an API or ingress gateway does when Consul has a configuration entry of its name", service(a))
		return nil
	}
	return err
}

// sayHealth tells what Consul says of each service.
func (s *story) sayHealth(ctx context.Context) error {
	consul, err := s.lab.Consul()
	if err != nil {
		return err
	}
	told := map[string]bool{}
	for _, a := range s.cast {
		name := service(a)
		if told[name] {
			continue
		}
		told[name] = true
		entries, _, err := consul.Health().Service(name, "", false, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return fmt.Errorf("ask Consul for %s: %w", name, err)
		}
		for _, entry := range entries {
			var checks []string
			for _, check := range entry.Checks {
				checks = append(checks, fmt.Sprintf("%s %s", strings.TrimPrefix(check.CheckID, entry.Service.ID+"-"), check.Status))
			}
			s.out.line("%-*s %s:%d  %s", s.nameWidth(), name, entry.Node.Address, entry.Service.Port, strings.Join(checks, ", "))
		}
	}
	return nil
}

// answer is what an application of the lab says, and what it heard from those
// that it called.
type answer struct {
	Name, Body, Error string
	Code              int
	Upstreams         map[string]answer `json:"upstream_calls"`
}

// ask sends one request through the mesh and then many.
func (s *story) ask(ctx context.Context) error {
	var answered answer
	begun := time.Now()
	err := lab.Await(ctx, "an answer through the mesh", func(ctx context.Context) error {
		begun = time.Now()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, lab.AppURL(s.web.task), nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		answered = answer{}
		if err := json.NewDecoder(response.Body).Decode(&answered); err != nil {
			return fmt.Errorf("read %s's answer: %w", s.web.name, err)
		}
		return answered.failure()
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, s.lastWords())
	}
	s.out.line("%s was asked, and asked through its Envoy; %s later:", s.web.name, brief(time.Since(begun)))
	s.sayAnswers(answered, "  ")
	s.load = lab.StartLoad(ctx, s.web.task, requestsPerSecond)
	if err := pause(ctx, warmUp); err != nil {
		return err
	}
	requests := s.load.Requests()
	if err := noFailures(requests); err != nil {
		return fmt.Errorf("%w%s", err, s.lastWords())
	}
	for _, callee := range s.own.callees {
		handshakes, err := s.handshakes(ctx, callee)
		if err != nil {
			return err
		}
		s.out.holds("%d requests to %s, 0 failed, median %s; %d mutual TLS handshakes with its Envoys", len(requests), callee, median(requests), handshakes)
	}
	return nil
}

func (a answer) failure() error {
	if a.Error != "" {
		return errors.New(a.Error)
	}
	for _, upstream := range a.Upstreams {
		if err := upstream.failure(); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) sayAnswers(a answer, indent string) {
	const most = 200
	for _, uri := range slices.Sorted(maps.Keys(a.Upstreams)) {
		upstream := a.Upstreams[uri]
		body := strings.Join(strings.Fields(upstream.Body), " ")
		if len(body) > most {
			body = body[:most] + " …"
		}
		from := upstream.Name
		if from == "" {
			from = "your program"
		}
		s.out.line("%s%s answered %d: %s", indent, from, upstream.Code, body)
		s.sayAnswers(upstream, indent+"  ")
	}
}

// stopOwn stops one of two tasks of each service that is called.
func (s *story) stopOwn(ctx context.Context) error {
	if s.web == nil {
		return nil
	}
	for _, callee := range s.own.callees {
		var pair []*actor
		for _, a := range s.apis {
			if service(a) == callee {
				pair = append(pair, a)
			}
		}
		if err := s.watchStop(ctx, pair[0], pair[1]); err != nil {
			return err
		}
		if err := pause(ctx, afterwards); err != nil {
			return err
		}
		since := slices.DeleteFunc(s.load.Requests(), func(r lab.Request) bool { return r.Start.Before(s.stop.asked) })
		if err := s.judgeStop(pair[0], since); err != nil {
			return err
		}
	}
	s.requests = s.load.Stop()
	s.load = nil
	return nil
}

// judgeStop says how many requests the stop has cost. A stand-in must lose none;
// a program of the user's may end as it likes, and is told what would help.
func (s *story) judgeStop(leaving *actor, since []lab.Request) error {
	failed := lab.Failures(since)
	if len(failed) == 0 {
		s.out.holds("%d requests since then, 0 failed", len(since))
		return nil
	}
	if s.own.program == "" || s.own.serves != "" && s.own.serves != service(leaving) {
		return noFailures(since)
	}
	s.out.warns("%d of %d requests since then failed: your program ends at once on SIGTERM, before the others know.", len(failed), len(since))
	s.out.line("  Let it finish, or give its container this entry point, which passes SIGTERM on some seconds later:")
	s.out.line(`  ["/ecsmesh/bin/ecsmesh-init", "entrypoint", "-grace", "5s", "--"]; its command is then its image's entry point and command.`)
	s.out.line("  docs/task-definitions.md has more under: The application's end")
	s.out.line("  The first failure: %v", failed[0].Err)
	return nil
}

// lookAtOwn is lookAround for a user's own tasks, with all URLs also where
// nothing stays up.
func (s *story) lookAtOwn(ctx context.Context) error {
	if !s.keep {
		return nil
	}
	s.out.chapter("", "everything stays up until Ctrl-C")
	s.out.line("%-22s %s", "Consul's UI", s.lab.ConsulURL(s.servers[0].task)+"/ui/")
	for _, a := range s.cast {
		now, _ := s.lab.ECS.Task(a.task.TaskARN)
		if now.DesiredStatus == ecs.StatusStopped {
			continue
		}
		for _, task := range s.own.tasks {
			if task.Service == service(a) && task.Container != "" && task.Port != 0 {
				s.out.line("%-22s curl http://%s:%d/", a.name, a.task.Address(), owntask.PortHere(task.Port))
			}
		}
		s.out.line("%-22s %s", "Envoy of "+a.name, lab.EnvoyAdminURL(a.task))
	}
	if s.web != nil {
		s.out.line("%-22s curl %s", "through the mesh", lab.AppURL(s.web.task))
	}
	s.out.line("%-22s %s", "logs", s.dir)
	<-ctx.Done()
	return errLookedAround
}

// lastWords are the ends of the logs of the user's tasks.
func (s *story) lastWords() string {
	words := ""
	for _, a := range s.apis {
		words += s.lastWordsOf(a.task)
	}
	return words
}

// lastWordsOf are the ends of the logs of a task's containers, but for Envoy's,
// of which there are many and which tell little.
func (s *story) lastWordsOf(task ecs.Task) string {
	const lines = 10
	var words strings.Builder
	for _, c := range task.Containers {
		content, err := os.ReadFile(s.lab.Log(task, c.Name))
		if err != nil || len(content) == 0 || c.Name == "envoy" {
			continue
		}
		all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
		fmt.Fprintf(&words, "\n  %s said at last:\n    %s", c.Name, strings.Join(all[max(0, len(all)-lines):], "\n    "))
	}
	return words.String()
}
