package customresource

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/google/go-cmp/cmp"
)

const (
	stackID  = "arn:aws:cloudformation:eu-west-1:123456789012:stack/ecsmesh/6c4d3f10-c9a5-11f0-b9e2-0a1b2c3d4e5f"
	logical  = "ConsulAcl"
	physical = stackID + "/" + logical
)

// fakeResource does what its functions do.
type fakeResource struct {
	put    func(context.Context, Request) (map[string]any, error)
	delete func(context.Context, Request) (string, error)
}

var _ Resource = fakeResource{}

func (f fakeResource) Put(ctx context.Context, r Request) (map[string]any, error) {
	return f.put(ctx, r)
}
func (f fakeResource) Delete(ctx context.Context, r Request) (string, error) { return f.delete(ctx, r) }

// cloudFormation takes answers.
type cloudFormation struct {
	*httptest.Server
	mu      sync.Mutex
	status  []int // of the next answers; 200 when there are no more
	answers []cfn.Response
	faults  []string
}

func newCloudFormation(t *testing.T, status ...int) *cloudFormation {
	t.Helper()
	c := &cloudFormation{status: status}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cloudFormation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.faults = append(c.faults, err.Error())
	}
	if r.Method != http.MethodPut || r.URL.RawQuery != "signature=s3cr3t" || r.Header.Get("Content-Type") != "" {
		c.faults = append(c.faults, r.Method+" "+r.URL.String()+" "+r.Header.Get("Content-Type"))
	}
	if len(body) > 4096 {
		c.faults = append(c.faults, "the answer is too long")
	}
	var answer cfn.Response
	if err := json.Unmarshal(body, &answer); err != nil {
		c.faults = append(c.faults, err.Error())
	}
	if len(c.status) > 0 {
		status := c.status[0]
		c.status = c.status[1:]
		w.WriteHeader(status)
		if status != http.StatusOK {
			return
		}
	}
	c.answers = append(c.answers, answer)
}

// answer is the only one.
func (c *cloudFormation) answer(t *testing.T) cfn.Response {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) > 0 {
		t.Errorf("S3 finds fault with %q", c.faults)
	}
	if len(c.answers) != 1 {
		t.Fatalf("there are %d answers, want one", len(c.answers))
	}
	return c.answers[0]
}

func (c *cloudFormation) event(kind cfn.RequestType) Event {
	event := Event{Event: cfn.Event{
		RequestType: kind, RequestID: "request", StackID: stackID, LogicalResourceID: logical, ResponseURL: c.URL + "/answer?signature=s3cr3t",
	}, ResourceProperties: json.RawMessage(`{"A": "b"}`)}
	if kind != cfn.RequestCreate {
		event.PhysicalResourceID = physical
	}
	return event
}

func handler(resource Resource, log io.Writer) *Handler {
	return &Handler{
		Resource: func() (Resource, error) { return resource, nil },
		Client:   &http.Client{},
		Log:      slog.New(slog.NewJSONHandler(log, nil)),
	}
}

// lasting is an invocation that lasts as long as a test has to.
func lasting(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestAnswers(t *testing.T) {
	var asked Request
	works := fakeResource{
		put: func(_ context.Context, r Request) (map[string]any, error) {
			asked = r
			return map[string]any{"Name": "a"}, nil
		},
		delete: func(_ context.Context, r Request) (string, error) {
			asked = r
			return "nothing was left", nil
		},
	}
	fails := fakeResource{
		put:    func(context.Context, Request) (map[string]any, error) { return nil, errors.New("no Consul") },
		delete: func(context.Context, Request) (string, error) { return "", errors.New("no Consul") },
	}
	panics := fakeResource{
		put:    func(context.Context, Request) (map[string]any, error) { panic("s3cr3t") },
		delete: func(context.Context, Request) (string, error) { panic(errors.New("s3cr3t")) },
	}
	done := cfn.Response{Status: cfn.StatusSuccess}
	named := cfn.Response{Status: cfn.StatusSuccess, Data: map[string]any{"Name": "a"}}
	failed := func(reason string) cfn.Response { return cfn.Response{Status: cfn.StatusFailed, Reason: reason} }
	noted := done
	noted.Reason = "nothing was left"
	for name, test := range map[string]struct {
		resource Resource
		kind     cfn.RequestType
		want     cfn.Response
	}{
		"created":             {works, cfn.RequestCreate, named},
		"updated":             {works, cfn.RequestUpdate, named},
		"deleted":             {works, cfn.RequestDelete, noted},
		"not created":         {fails, cfn.RequestCreate, failed("no Consul")},
		"not updated":         {fails, cfn.RequestUpdate, failed("no Consul")},
		"not deleted":         {fails, cfn.RequestDelete, failed("no Consul")},
		"a panic":             {panics, cfn.RequestCreate, failed("the function panicked; see its log")},
		"a panic at the end":  {panics, cfn.RequestDelete, failed("the function panicked; see its log")},
		"an unknown request":  {works, "Refresh", failed(`CloudFormation asks to "Refresh" the resource, want Create, Update or Delete`)},
		"nothing but a panic": {nil, cfn.RequestCreate, failed("the function panicked; see its log")},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloudFormation(t)
			if err := handler(test.resource, io.Discard).Handle(lasting(t), c.event(test.kind)); err != nil {
				t.Fatal(err)
			}
			want := test.want
			want.RequestID, want.LogicalResourceID, want.StackID, want.PhysicalResourceID = "request", logical, stackID, physical
			if diff := cmp.Diff(want, c.answer(t), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".url" }, cmp.Ignore())); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
		})
	}
	if asked.StackID != stackID || string(asked.Properties) != `{"A": "b"}` {
		t.Errorf("the resource was asked %+v", asked)
	}
}

func TestAResourceThatCannotBePreparedIsAnswered(t *testing.T) {
	c, h := newCloudFormation(t), handler(nil, io.Discard)
	h.Resource = func() (Resource, error) { return fakeResource{}, errors.New("CONSUL_CACERT_PEM holds no certificate") }
	if err := h.Handle(lasting(t), c.event(cfn.RequestCreate)); err != nil {
		t.Fatal(err)
	}
	if answer := c.answer(t); answer.Status != cfn.StatusFailed || answer.Reason != "CONSUL_CACERT_PEM holds no certificate" {
		t.Errorf("the answer is %s: %s", answer.Status, answer.Reason)
	}
}

// direct has a handler answer without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(request *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, request)
	return answer.Result(), request.Context().Err()
}

// A Lambda function that is stopped at its timeout tells nobody why.
func TestWorkEndsInTimeForAnAnswer(t *testing.T) {
	c := newCloudFormation(t)
	hangs := fakeResource{put: func(ctx context.Context, _ Request) (map[string]any, error) {
		<-ctx.Done()
		return nil, errors.New("no Consul server answered in time")
	}}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		h := handler(hangs, io.Discard)
		h.Client = &http.Client{Transport: direct{c}} // a network has no part in this clock
		begun := time.Now()
		if err := h.Handle(ctx, c.event(cfn.RequestCreate)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 18*time.Second {
			t.Errorf("it took %s of 20s", took)
		}
	})
	if answer := c.answer(t); answer.Status != cfn.StatusFailed || answer.Reason != "no Consul server answered in time" {
		t.Errorf("the answer is %s: %s", answer.Status, answer.Reason)
	}
}

func TestReasonsFit(t *testing.T) {
	for name, reason := range map[string]string{
		"long":              strings.Repeat("a server didn't answer\n", 1000),
		"long and escaped":  strings.Repeat(`"`, 5000),
		"long and of marks": strings.Repeat("<", 5000),
		"long and wide":     strings.Repeat("€", 5000),
		"not printable":     strings.Repeat("\x00", 1400),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloudFormation(t)
			fails := fakeResource{put: func(context.Context, Request) (map[string]any, error) { return nil, errors.New(reason) }}
			if err := handler(fails, io.Discard).Handle(lasting(t), c.event(cfn.RequestCreate)); err != nil {
				t.Fatal(err)
			}
			got := c.answer(t).Reason
			if !utf8.ValidString(got) || strings.Contains(got, "\n") || len(got) < 1000 {
				t.Errorf("got %d bytes: %q", len(got), got)
			}
		})
	}
	if got := readable("one\ntwo"); got != "one; two" {
		t.Errorf("got %q", got)
	}
}

func TestAnswersAreTriedAgain(t *testing.T) {
	works := fakeResource{put: func(context.Context, Request) (map[string]any, error) { return nil, nil }}
	c := newCloudFormation(t, 503, 500, 429)
	if err := handler(works, io.Discard).Handle(lasting(t), c.event(cfn.RequestCreate)); err != nil {
		t.Fatal(err)
	}
	if answer := c.answer(t); answer.Status != cfn.StatusSuccess {
		t.Errorf("the answer is %s", answer.Status)
	}
}

// Lambda calls a function again that fails. Its address and error are logged by
// others, too.
func TestWhatCannotBeAnsweredIsAnError(t *testing.T) {
	works := fakeResource{put: func(context.Context, Request) (map[string]any, error) { return nil, nil }}
	gone := newCloudFormation(t)
	gone.Close()
	for name, test := range map[string]struct {
		url  string
		want string
	}{
		"refused":     {newCloudFormation(t, 403).event(cfn.RequestCreate).ResponseURL, "answer CloudFormation: 403 Forbidden"},
		"unreachable": {gone.event(cfn.RequestCreate).ResponseURL, "connection refused; the function needs a way to S3"},
		"no URL":      {"http://a b/?signature=s3cr3t", "answer CloudFormation: its address is no URL"},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			event := gone.event(cfn.RequestCreate)
			event.ResponseURL = test.url
			err := handler(works, &log).Handle(ctx, event)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error()+log.String(), "s3cr3t") {
				t.Errorf("the address is told: %v\n%s", err, log.String())
			}
		})
	}
}

// Of the rest of an event nothing gets in the way.
func TestEventAsCloudFormationSendsIt(t *testing.T) {
	var event Event
	err := json.Unmarshal([]byte(`{"RequestType": "Update", "RequestId": "1", "ResponseURL": "https://s3", "ResourceType": "Custom::ConsulAcl",
		"PhysicalResourceId": "p", "LogicalResourceId": "l", "StackId": "s",
		"ResourceProperties": {"ServiceToken": "t", "List": ["a"], "Map": {"b": "c"}}, "OldResourceProperties": {"List": []}}`), &event)
	if err != nil {
		t.Fatal(err)
	}
	if event.RequestType != cfn.RequestUpdate || event.PhysicalResourceID != "p" || string(event.ResourceProperties) != `{"ServiceToken": "t", "List": ["a"], "Map": {"b": "c"}}` {
		t.Errorf("got %+v", event)
	}
}
