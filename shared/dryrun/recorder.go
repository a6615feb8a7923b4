package dryrun

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// Consul is a Consul that does nothing: what it is asked for goes into the
// plan, and its answer is that all went well. It stands where consul.Servers
// does, for what is written; reading from it finds nothing.
func (p *Plan) Consul() *Recorder { return &Recorder{plan: p} }

// Recorder writes requests down.
type Recorder struct{ plan *Plan }

// Do has the attempt's requests written down.
func (r *Recorder) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	client, err := api.NewClient(&api.Config{Address: "consul.invalid", Token: none, HttpClient: &http.Client{Transport: r}})
	if err != nil {
		return err
	}
	return attempt(ctx, client)
}

// none has the client look for no token in the environment; no request is sent.
const none = "none"

// RoundTrip implements http.RoundTripper.
func (r *Recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	var body json.RawMessage
	if request.Body != nil {
		text, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			body = text
		}
	}
	if request.Method != http.MethodGet {
		var read any
		if err := json.Unmarshal(body, &read); err == nil {
			body, _ = json.Marshal(filled(read)) // what was JSON becomes JSON
		}
		r.plan.Send("Consul", request.Method+" "+request.URL.Path, body)
	}
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: request,
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   io.NopCloser(bytes.NewReader([]byte("{}"))),
	}, nil
}

// filled leaves out of JSON what is empty: Consul's client sends all fields that
// there are, and a reader would look for the few that matter.
func filled(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, field := range value {
			if field = filled(field); field == nil {
				delete(value, name)
			} else {
				value[name] = field
			}
		}
		if len(value) == 0 {
			return nil
		}
		return value
	case []any:
		for i := range value {
			value[i] = filled(value[i])
		}
		if len(value) == 0 {
			return nil
		}
		return value
	case string:
		if value != "" && value != "0s" {
			return value
		}
		return nil
	case bool:
		if value {
			return value
		}
		return nil
	case float64:
		if value != 0 {
			return value
		}
		return nil
	}
	return value
}
