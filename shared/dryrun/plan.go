// Package dryrun has a function tell what it would do, in place of doing it:
// who wants to see ecsmesh at work needs no AWS account and no Consul for that,
// and who has both can watch it before trusting it.
//
// A function decides as it always does. What is different is at the few places
// where something would be changed: Consul's catalog and its ACLs, the list of
// servers in SSM, the answer to CloudFormation. There the change goes into a
// Plan. What was to be read for the decision is read, and where that can't be,
// the plan says so and has what is known without it.
package dryrun

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"ecsmesh/shared/invocation"
	"ecsmesh/shared/mesh"
)

// ReadTime bounds what is read in one go for a plan. AWS and Consul answer
// within a fraction of it; who has neither doesn't want to wait.
const ReadTime = 4 * time.Second

// Plan is what one invocation would do. A nil Plan is a function that does what
// it decides.
type Plan struct {
	// LogOnly: the plan is no part of the function's answer.
	LogOnly bool

	log *slog.Logger

	mu       sync.Mutex
	steps    []Step
	requests []Request
	unread   []string
}

// New returns an empty plan. What comes into it is logged as well.
func New(log *slog.Logger) *Plan { return &Plan{log: log} }

// Step is one thing that would be done, for people.
type Step struct {
	Action string `json:"action"`           // drain, delete, write, …
	What   string `json:"what"`             // what it would be done to
	Why    string `json:"why,omitempty"`    // as the function has decided
	Note   string `json:"note,omitempty"`   // what is known beside
	Task   string `json:"task,omitempty"`   // ARN of the task that it is about
	Detail any    `json:"detail,omitempty"` // what it would be like afterwards
}

// Request is what somebody would be sent.
type Request struct {
	To      string          `json:"to"`      // Consul, SSM, CloudFormation
	Request string          `json:"request"` // PUT /v1/txn, PutParameter, …
	Body    json.RawMessage `json:"body,omitempty"`
}

// Would puts a step into the plan.
func (p *Plan) Would(ctx context.Context, step Step) {
	p.mu.Lock()
	p.steps = append(p.steps, step)
	p.mu.Unlock()
	attrs := []slog.Attr{slog.String("what", step.What)}
	if id := mesh.TaskID(step.Task); id != "" {
		attrs = append(attrs, slog.String(invocation.TaskID, id))
	}
	for _, text := range []struct{ key, value string }{{"taskArn", step.Task}, {"reason", step.Why}, {"note", step.Note}} {
		if text.value != "" {
			attrs = append(attrs, slog.String(text.key, text.value))
		}
	}
	if step.Detail != nil {
		attrs = append(attrs, slog.Any("detail", step.Detail))
	}
	p.log.LogAttrs(ctx, slog.LevelInfo, "would "+step.Action, attrs...)
}

// Send puts a request into the plan that would be made for its steps. The body
// is what becomes JSON.
func (p *Plan) Send(to, request string, body any) {
	text, err := json.Marshal(body)
	if err != nil { // then the function could not send it either
		text, _ = json.Marshal(err.Error())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, Request{To: to, Request: request, Body: text})
}

// Unread puts it into the plan that something could not be read, which a live
// function would have needed.
func (p *Plan) Unread(ctx context.Context, what string, err error) {
	text := fmt.Sprintf("%s: %s", what, strings.ReplaceAll(err.Error(), "\n", "; "))
	p.mu.Lock()
	p.unread = append(p.unread, text)
	p.mu.Unlock()
	p.log.LogAttrs(ctx, slog.LevelWarn, "could not read "+what+"; going on without", slog.String("error", err.Error()))
}

// Tolerate is Unread for a function that may be live, for which an error stays
// one.
func (p *Plan) Tolerate(ctx context.Context, what string, err error) error {
	if p == nil || err == nil {
		return err
	}
	p.Unread(ctx, what, err)
	return nil
}

// Limit bounds the reading of what a plan can do without. A live function has
// the time that it has.
func (p *Plan) Limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if p == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, ReadTime)
}

// Document is the plan as the function answers with it.
type Document struct {
	DryRun       bool      `json:"dryRun"`
	Would        []Step    `json:"would"`
	Requests     []Request `json:"requests"`
	CouldNotRead []string  `json:"couldNotRead"`
}

// Take empties the plan into a document. Its lists are never absent.
func (p *Plan) Take() Document {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := Document{
		DryRun:       true,
		Would:        append([]Step{}, p.steps...),
		Requests:     append([]Request{}, p.requests...),
		CouldNotRead: append([]string{}, p.unread...),
	}
	p.steps, p.requests, p.unread = nil, nil, nil
	return d
}
