package macro_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/functions/mesh-task/expand"
	"ecsmesh/functions/mesh-task/macro"
	"ecsmesh/functions/mesh-task/meshtask"
)

func handler(log *bytes.Buffer) *macro.Handler {
	return &macro.Handler{
		Input: expand.Input{Defaults: meshtask.Defaults{InitImage: "ecsmesh-init:1"}},
		Check: func() error { return nil },
		Log:   slog.New(slog.NewJSONHandler(log, nil)),
	}
}

// sample is the request in events.
func sample(t *testing.T) macro.Request {
	t.Helper()
	content, err := os.ReadFile("../../../events/macro.json")
	if err != nil {
		t.Fatal(err)
	}
	var request macro.Request
	if err := json.Unmarshal(content, &request); err != nil {
		t.Fatal(err)
	}
	return request
}

func handle(t *testing.T, h *macro.Handler, request macro.Request) macro.Response {
	t.Helper()
	response, err := h.Handle(t.Context(), request)
	if err != nil {
		t.Fatal(err) // of which CloudFormation says nothing
	}
	if response.RequestID != request.RequestID {
		t.Errorf("the answer is to the request %q, and was asked by %q", response.RequestID, request.RequestID)
	}
	return response
}

func keys(t *testing.T, fragment json.RawMessage, path ...string) []string {
	t.Helper()
	for _, step := range path {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(fragment, &object); err != nil {
			t.Fatal(err)
		}
		fragment = object[step]
	}
	decoder := json.NewDecoder(bytes.NewReader(fragment))
	var names []string
	if _, err := decoder.Token(); err != nil {
		t.Fatal(err)
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

func TestWholeTemplate(t *testing.T) {
	var log bytes.Buffer
	request := sample(t)
	response := handle(t, handler(&log), request)
	if response.Status != macro.Success || response.ErrorMessage != "" {
		t.Fatalf("the answer is %+v", response)
	}
	want := []string{"LogGroup", "WebTaskRole", "WebTaskDefinition", "WebTaskDefinitionEcsMeshPolicy"}
	if diff := cmp.Diff(want, keys(t, response.Fragment, "Resources")); diff != "" {
		t.Errorf("the resources (-want +got):\n%s", diff)
	}
	if !strings.Contains(log.String(), `"tasks":["WebTaskDefinition"]`) || strings.Contains(log.String(), "API_URL") {
		t.Errorf("the log names the tasks, and nothing that is in the template: %s", log.String())
	}

	// CloudFormation may hand over what was expanded before.
	request.Fragment = response.Fragment
	if diff := cmp.Diff(string(response.Fragment), string(handle(t, handler(&log), request).Fragment)); diff != "" {
		t.Errorf("once more (-first +second):\n%s", diff)
	}
}

// Within Fn::Transform the fragment is what is beside it, and params are its
// Parameters.
func TestPartsOfATemplate(t *testing.T) {
	const properties = `{"Family": "web", "NetworkMode": "awsvpc", "TaskRoleArn": {"Ref": "Role"}, "ContainerDefinitions": [{"Name": "web", "Image": "web:1"}]}`
	for name, test := range map[string]struct {
		fragment, params string
		path             []string // of what has the containers
	}{
		"in a resource":                  {`{"Type": "AWS::ECS::TaskDefinition", "Metadata": {"EcsMesh": {"service": "web", "port": 8080, "taskRole": "NONE"}}, "Properties": ` + properties + `}`, `{}`, []string{"Properties"}},
		"in its properties, with params": {properties, `{"service": "web", "port": 8080, "taskRole": "NONE"}`, nil},
		"in the resources":               {`{"Web": {"Type": "AWS::ECS::TaskDefinition", "Metadata": {"EcsMesh": {"service": "web", "port": 8080, "taskRole": "NONE"}}, "Properties": ` + properties + `}}`, `{}`, []string{"Web", "Properties"}},
		"texts for numbers":              {properties, `{"service": "web", "port": "8080", "taskRole": "NONE"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			response := handle(t, handler(&bytes.Buffer{}), macro.Request{RequestID: "1", Fragment: json.RawMessage(test.fragment), Params: json.RawMessage(test.params)})
			if response.Status != macro.Success {
				t.Fatalf("the answer is %+v", response)
			}
			if !strings.Contains(string(response.Fragment), "ecsmesh-init") || len(keys(t, response.Fragment, test.path...)) < 5 {
				t.Errorf("the fragment is %s", response.Fragment)
			}
		})
	}
}

func TestFaultsAreAnswered(t *testing.T) {
	unset := handler(&bytes.Buffer{})
	unset.Check = func() error { return errors.New("CONSUL_CACERT_PARAMETER is not set") }
	for name, test := range map[string]struct {
		handler *macro.Handler
		request macro.Request
		want    string
	}{
		"a faulty function":           {unset, sample(t), "the macro's function isn't set up: CONSUL_CACERT_PARAMETER is not set"},
		"no fragment":                 {handler(&bytes.Buffer{}), macro.Request{}, "read the fragment: there is nothing in it"},
		"no task":                     {handler(&bytes.Buffer{}), macro.Request{Fragment: json.RawMessage(`{"Resources": {}}`)}, "the template has no AWS::ECS::TaskDefinition"},
		"parameters for the template": {handler(&bytes.Buffer{}), macro.Request{Fragment: json.RawMessage(`{"Resources": {}}`), Params: json.RawMessage(`{"service": "web"}`)}, "in the task definition's Metadata, under EcsMesh"},
	} {
		t.Run(name, func(t *testing.T) {
			response := handle(t, test.handler, test.request)
			if response.Status == macro.Success || response.Fragment != nil || !strings.Contains(response.ErrorMessage, test.want) {
				t.Errorf("the answer is %+v, want an error with %q", response, test.want)
			}
		})
	}
}

// Of very many faults the console shows the first, whole, and the log has all.
func TestLongErrors(t *testing.T) {
	var resources []string
	for i := range 200 {
		resources = append(resources, fmt.Sprintf(`"Task%d": {"Type": "AWS::ECS::TaskDefinition", "Metadata": {"EcsMesh": {"service": "wéb", "port": 0}}, "Properties": {}}`, i))
	}
	var log bytes.Buffer
	response := handle(t, handler(&log), macro.Request{Fragment: json.RawMessage(`{"Resources": {` + strings.Join(resources, ",") + `}}`)})
	lines := strings.Split(response.ErrorMessage, "\n")
	if len(response.ErrorMessage) > 4000 || len(lines) < 10 || !strings.HasPrefix(lines[len(lines)-1], "… and more, which is in the log") {
		t.Errorf("the message has %d bytes in %d lines, and ends with %q", len(response.ErrorMessage), len(lines), lines[len(lines)-1])
	}
	if !strings.HasPrefix(lines[0], "Task0: ") || !strings.Contains(log.String(), "Task199: ") {
		t.Errorf("the message begins with %q", lines[0])
	}
}
