// Package macro serves CloudFormation's requests of a macro: it gets a template,
// or a part of one, and answers with what is to be in its place. It asks nobody
// anything.
package macro

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
	"ecsmesh/functions/mesh-task/expand"
	"ecsmesh/shared/invocation"
)

// Request is CloudFormation's.
type Request struct {
	Region                  string          `json:"region"`
	AccountID               string          `json:"accountId"`
	TransformID             string          `json:"transformId"` // the macro's name, after the account's number
	RequestID               string          `json:"requestId"`
	Fragment                json.RawMessage `json:"fragment"` // all but the Transform section, or the siblings of Fn::Transform
	Params                  json.RawMessage `json:"params"`   // of Fn::Transform: an object, which may be empty
	TemplateParameterValues map[string]any  `json:"templateParameterValues"`
}

// Response is the answer. CloudFormation takes every Status but success for a
// failure, and shows ErrorMessage then.
type Response struct {
	RequestID    string          `json:"requestId"`
	Status       string          `json:"status"`
	Fragment     json.RawMessage `json:"fragment,omitempty"`
	ErrorMessage string          `json:"errorMessage,omitempty"`
}

// Statuses of a Response.
const (
	Success = "success"
	Failure = "failure"
)

// maxMessage bounds an error message, in bytes. AWS names no limit; a change
// set's reason of this length is still read by someone.
const maxMessage = 4000

// Handler serves the macro.
type Handler struct {
	Input expand.Input // without Block and Parameters
	Check func() error // what is wrong with the function's configuration
	Log   *slog.Logger
}

// Handle serves one request. Faults are part of the answer: of an error
// CloudFormation would only say that there was one.
func (h *Handler) Handle(ctx context.Context, request Request) (Response, error) {
	ctx = invocation.About(ctx, slog.String(invocation.EventID, request.RequestID))
	fragment, report, err := h.expand(request)
	if err != nil {
		h.Log.ErrorContext(ctx, "expand the mesh tasks of a template", "transform", request.TransformID, "error", err)
		return Response{RequestID: request.RequestID, Status: Failure, ErrorMessage: message(err)}, nil
	}
	h.Log.InfoContext(ctx, "expanded the mesh tasks of a template", "transform", request.TransformID, "tasks", report.Tasks, "notes", report.Notes)
	return Response{RequestID: request.RequestID, Status: Success, Fragment: fragment}, nil
}

func (h *Handler) expand(request Request) (json.RawMessage, expand.Report, error) {
	none := expand.Report{}
	if err := h.Check(); err != nil {
		return nil, none, fmt.Errorf("the macro's function isn't set up: %w", err)
	}
	template, err := document.Parse(request.Fragment)
	if err != nil {
		return nil, none, fmt.Errorf("read the fragment: %w", err)
	}
	in := h.Input
	if in.Block, err = block(request.Params); err != nil {
		return nil, none, err
	}
	in.Parameters = parameters(request)
	report, err := expand.Document(template.Root, in)
	if err != nil {
		return nil, none, err
	}
	fragment, err := template.Bytes()
	return fragment, report, err
}

// block is what Fn::Transform was given as Parameters; nil where that is
// nothing.
func block(params json.RawMessage) (*yaml.Node, error) {
	if len(params) == 0 {
		return nil, nil
	}
	parsed, err := document.Parse(params)
	if err != nil {
		return nil, fmt.Errorf("read the macro's parameters: %w", err)
	}
	if len(parsed.Root.Content) == 0 {
		return nil, nil
	}
	return parsed.Root, nil
}

// parameters are the values that a Ref gives, those of CloudFormation's own that
// are known among them.
func parameters(request Request) map[string]any {
	values := map[string]any{"AWS::Region": request.Region, "AWS::AccountId": request.AccountID}
	maps.Copy(values, request.TemplateParameterValues)
	return values
}

// message is an error as the console shows it: whole faults, as many as fit.
func message(err error) string {
	text := err.Error()
	if len(text) <= maxMessage {
		return text
	}
	const rest = "\n… and more, which is in the log of the macro's function"
	kept := text[:maxMessage-len(rest)]
	if end := strings.LastIndexByte(kept, '\n'); end > 0 {
		kept = kept[:end]
	}
	for !utf8.ValidString(kept) {
		kept = kept[:len(kept)-1]
	}
	return kept + rest
}
