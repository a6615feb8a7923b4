package ecs

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxPage is ECS's limit for a page of ListTasks and a call of DescribeTasks.
const maxPage = 100

// handler serves the API (JSON 1.1) at /, the task metadata under /v4/ and
// the task roles' credentials under /v2/.
func (f *Fake) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", f.serveAPI)
	mux.HandleFunc("GET /v4/{container}", f.serveContainerMetadata)
	mux.HandleFunc("GET /v4/{container}/task", f.serveTaskMetadata)
	mux.HandleFunc("GET /v2/credentials/{id}", f.serveCredentials)
	return mux
}

// Fault makes calls fail, or only slow.
type Fault struct {
	Action  string        // of the API; TaskMetadata, Credentials
	Times   int           // how many calls; 0: all
	Status  int           // HTTP status; 0: the call goes on after Delay
	Code    string        // ECS's name of the error: ThrottlingException
	Message string        //
	Delay   time.Duration // before anything else
}

// faults are the faults that wait for their calls.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Fail injects a fault, behind those already there for the same action.
func (f *Fake) Fail(fault Fault) {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	f.faults.list = append(f.faults.list, &fault)
}

// ClearFaults takes all faults away.
func (f *Fake) ClearFaults() {
	f.faults.mu.Lock()
	defer f.faults.mu.Unlock()
	f.faults.list = nil
}

func (f *faults) take(action string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.list, func(fault *Fault) bool { return fault.Action == action })
	if i < 0 {
		return Fault{}
	}
	fault := f.list[i]
	if fault.Times == 1 {
		f.list = slices.Delete(f.list, i, i+1)
	} else if fault.Times > 1 {
		fault.Times--
	}
	return *fault
}

// disturbed carries out the action's next fault and says whether that was the
// answer.
func (f *Fake) disturbed(w http.ResponseWriter, r *http.Request, action string) bool {
	fault := f.faults.take(action)
	select {
	case <-time.After(fault.Delay):
	case <-r.Context().Done():
	case <-f.ctx.Done():
	}
	if fault.Status == 0 {
		return false
	}
	answer(w, fault.Status, apiError{fault.Code, fault.Message})
	return true
}

// apiError is an error in the API's JSON.
type apiError struct {
	Code    string `json:"__type"`
	Message string `json:"message"`
}

// Error implements error.
func (e apiError) Error() string { return e.Code + ": " + e.Message }

func invalid(format string, args ...any) error {
	return apiError{"InvalidParameterException", fmt.Sprintf(format, args...)}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller may be gone
}

func (f *Fake) serveAPI(w http.ResponseWriter, r *http.Request) {
	target := r.Header.Get("X-Amz-Target")
	action := target[strings.LastIndexByte(target, '.')+1:]
	if f.disturbed(w, r, action) {
		return
	}
	var out any
	var err error
	switch action {
	case "ListTasks":
		out, err = call(r, f.listTasks)
	case "DescribeTasks":
		out, err = call(r, f.describeTasks)
	case "StopTask":
		out, err = call(r, f.stopTask)
	case "DescribeServiceDeployments":
		out, err = call(r, f.describeServiceDeployments)
	case "DescribeServiceRevisions":
		out, err = call(r, f.describeServiceRevisions)
	default:
		err = apiError{"UnknownOperationException", fmt.Sprintf("%q is not known here", target)}
	}
	if err != nil {
		answer(w, http.StatusBadRequest, err)
		return
	}
	answer(w, http.StatusOK, out)
}

// call decodes an action's input and carries it out.
func call[In, Out any](r *http.Request, action func(context.Context, In) (Out, error)) (any, error) {
	var in In
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, apiError{"SerializationException", err.Error()}
	}
	return action(r.Context(), in)
}

type listTasksInput struct {
	Cluster       string `json:"cluster"`
	DesiredStatus Status `json:"desiredStatus"`
	Family        string `json:"family"`
	LaunchType    string `json:"launchType"`
	MaxResults    int    `json:"maxResults"`
	NextToken     string `json:"nextToken"`
	ServiceName   string `json:"serviceName"`
	StartedBy     string `json:"startedBy"`
}

type listTasksOutput struct {
	TaskARNs  []string `json:"taskArns"`
	NextToken string   `json:"nextToken,omitempty"`
}

// listTasks lists the tasks whose desired status is RUNNING unless asked for
// others, so stopping tasks are not among them.
func (f *Fake) listTasks(_ context.Context, in listTasksInput) (listTasksOutput, error) {
	if in.MaxResults == 0 {
		in.MaxResults = maxPage
	}
	if in.MaxResults < 1 || in.MaxResults > maxPage {
		return listTasksOutput{}, invalid("maxResults must be between 1 and %d", maxPage)
	}
	if in.DesiredStatus == "" {
		in.DesiredStatus = StatusRunning
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	cluster, err := f.cluster(in.Cluster)
	if err != nil {
		return listTasksOutput{}, err
	}
	service := lastPart(in.ServiceName)
	if service != "" && !f.services[cluster+"/"+service] {
		return listTasksOutput{}, apiError{"ServiceNotFoundException", "Service not found."}
	}
	var arns []string
	for _, t := range f.order {
		if t.opts.Cluster == cluster && t.desiredStatus == in.DesiredStatus &&
			(service == "" || t.opts.Group == "service:"+service) &&
			(in.Family == "" || t.def.Family == in.Family) &&
			(in.StartedBy == "" || t.opts.StartedBy == in.StartedBy) &&
			(in.LaunchType == "" || t.opts.LaunchType == in.LaunchType) {
			arns = append(arns, t.arn)
		}
	}
	// The token is the last ARN of the page before, so that tasks may come
	// and go between two pages.
	slices.Sort(arns)
	start, found := slices.BinarySearch(arns, in.NextToken)
	if found {
		start++
	}
	arns = arns[start:]
	out := listTasksOutput{TaskARNs: arns[:min(len(arns), in.MaxResults)]}
	if len(arns) > in.MaxResults {
		out.NextToken = arns[in.MaxResults-1]
	}
	if out.TaskARNs == nil {
		out.TaskARNs = []string{}
	}
	return out, nil
}

type describeTasksInput struct {
	Cluster string   `json:"cluster"`
	Tasks   []string `json:"tasks"`
}

type describeTasksOutput struct {
	Tasks    []Task    `json:"tasks"`
	Failures []failure `json:"failures"`
}

type failure struct {
	ARN    string `json:"arn"`
	Reason string `json:"reason"`
}

func (f *Fake) describeTasks(_ context.Context, in describeTasksInput) (describeTasksOutput, error) {
	out := describeTasksOutput{Tasks: []Task{}, Failures: []failure{}}
	if len(in.Tasks) < 1 || len(in.Tasks) > maxPage {
		return out, invalid("Tasks must contain between 1 and %d entries.", maxPage)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	cluster, err := f.cluster(in.Cluster)
	if err != nil {
		return out, err
	}
	for _, ref := range in.Tasks {
		arn := f.taskARN(cluster, ref)
		if t := f.byARN[arn]; t != nil && t.opts.Cluster == cluster {
			out.Tasks = append(out.Tasks, t.describe())
		} else {
			out.Failures = append(out.Failures, failure{arn, "MISSING"})
		}
	}
	return out, nil
}

type stopTaskInput struct {
	Cluster string `json:"cluster"`
	Task    string `json:"task"`
	Reason  string `json:"reason"`
}

type stopTaskOutput struct {
	Task Task `json:"task"`
}

func (f *Fake) stopTask(_ context.Context, in stopTaskInput) (stopTaskOutput, error) {
	f.mu.Lock()
	cluster, err := f.cluster(in.Cluster)
	f.mu.Unlock()
	if err != nil {
		return stopTaskOutput{}, err
	}
	arn := f.taskARN(cluster, in.Task)
	if err := f.StopTask(arn, in.Reason); err != nil {
		return stopTaskOutput{}, invalid("The referenced task was not found.")
	}
	task, _ := f.Task(arn)
	return stopTaskOutput{task}, nil
}

// cluster returns the name of a cluster that is given by name or ARN. It
// wants the lock held.
func (f *Fake) cluster(ref string) (string, error) {
	name := lastPart(ref)
	if name == "" {
		name = "default"
	}
	if !f.clusters[name] || strings.HasPrefix(ref, "arn:") && ref != f.arn("cluster/"+name) {
		return "", apiError{"ClusterNotFoundException", "Cluster not found."}
	}
	return name, nil
}

func (f *Fake) taskARN(cluster, ref string) string {
	if strings.HasPrefix(ref, "arn:") {
		return ref
	}
	return f.arn("task/" + cluster + "/" + ref)
}

func lastPart(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
