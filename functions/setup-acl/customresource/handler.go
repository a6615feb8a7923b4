// Package customresource serves CloudFormation's custom resources: it has a
// resource made, changed and deleted, and answers in any case. CloudFormation
// waits for the answer, and a stack that gets none hangs.
package customresource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"ecsmesh/shared/dryrun"
	"ecsmesh/shared/invocation"

	"github.com/aws/aws-lambda-go/cfn"
)

// workTime leaves, of a function's timeout of a minute, time to answer more than
// once.
const workTime = 45 * time.Second

// Request is what CloudFormation asks of a resource.
type Request struct {
	StackID    string
	Properties json.RawMessage // as the template has them, but every scalar is a text
}

// Resource is what a custom resource stands for. Its methods must be safe to
// repeat, and to call after a call that failed half-way.
type Resource interface {
	// Put creates or updates the resource and returns its attributes.
	Put(context.Context, Request) (map[string]any, error)

	// Delete also deletes what a Put left that failed. The note is for the
	// stack's events.
	Delete(context.Context, Request) (note string, err error)
}

// Handler serves the requests for one resource.
type Handler struct {
	// Resource prepares the resource, for each request anew: an error is
	// answered, too.
	Resource func() (Resource, error)

	Client *http.Client
	Log    *slog.Logger

	// Plan takes in the answer, which then isn't sent; nil: it is sent.
	Plan *dryrun.Plan
}

// Event is CloudFormation's request as it comes.
type Event struct {
	cfn.Event
	ResourceProperties json.RawMessage `json:"ResourceProperties"`
}

// Handle serves one invocation. Its error is that CloudFormation could not be
// answered, after which Lambda tries the whole again.
func (h *Handler) Handle(ctx context.Context, event Event) error {
	ctx = invocation.About(ctx, slog.String(invocation.EventID, event.RequestID))
	h.Log.InfoContext(ctx, "serving a custom resource", "request", event.RequestType, "stack", event.StackID, "resource", event.LogicalResourceID)
	response := cfn.NewResponse(&event.Event)
	response.PhysicalResourceID = physicalID(event)
	var err error
	response.Data, response.Reason, err = h.work(ctx, event)
	response.Status = cfn.StatusSuccess
	if err != nil {
		response.Status = cfn.StatusFailed
		response.Reason = err.Error()
		h.Log.ErrorContext(ctx, "serve a custom resource", "request", event.RequestType, "error", err)
	}
	if h.Plan != nil {
		h.Plan.Would(ctx, dryrun.Step{Action: "answer", What: "CloudFormation", Why: string(response.Status), Note: response.Reason})
		h.Plan.Send("CloudFormation", "PUT to the request's ResponseURL", response)
		return err
	}
	if err := h.answer(ctx, event.ResponseURL, response); err != nil {
		h.Log.ErrorContext(ctx, "serve a custom resource", "request", event.RequestType, "error", err)
		return err
	}
	return nil
}

// work does what is asked, early enough for an answer. A panic is an error.
func (h *Handler) work(ctx context.Context, event Event) (attributes map[string]any, note string, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			h.Log.ErrorContext(ctx, "panic", "panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
			err = errors.New("the function panicked; see its log")
		}
	}()
	ctx, cancel := invocation.WorkContextUpTo(ctx, workTime)
	defer cancel()
	resource, err := h.Resource()
	if err != nil {
		return nil, "", err
	}
	request := Request{StackID: event.StackID, Properties: event.ResourceProperties}
	switch event.RequestType {
	case cfn.RequestCreate, cfn.RequestUpdate:
		attributes, err = resource.Put(ctx, request)
		return attributes, "", err
	case cfn.RequestDelete:
		note, err = resource.Delete(ctx, request)
		return nil, note, err
	}
	return nil, "", fmt.Errorf("CloudFormation asks to %q the resource, want Create, Update or Delete", event.RequestType)
}

// physicalID stays the same for all of a resource's life: CloudFormation takes
// another one for another resource, and has the first deleted.
func physicalID(event Event) string {
	if event.PhysicalResourceID != "" {
		return event.PhysicalResourceID
	}
	return event.StackID + "/" + event.LogicalResourceID
}
