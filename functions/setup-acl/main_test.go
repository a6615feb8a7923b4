package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ecsmesh/functions/setup-acl/customresource"
	"ecsmesh/shared/environment"
	"ecsmesh/shared/function"

	"github.com/aws/aws-lambda-go/cfn"
	"github.com/aws/aws-sdk-go-v2/aws"
)

// A configuration that can't be right is CloudFormation's answer, and not the end
// of a function that then can't give one.
func TestFaultyConfigIsAnswered(t *testing.T) {
	cfg, err := environment.Parse[config](map[string]string{
		"SERVERS_PARAMETER": "/ecsmesh/consul-servers", "CONSUL_SERVER_CLUSTER": "consul", "CONSUL_HTTP_SSL": "true",
	})
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan cfn.Response, 1)
	cloudFormation := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var answer cfn.Response
		if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
			t.Error(err)
		}
		answers <- answer
	}))
	defer cloudFormation.Close()

	sample, err := os.ReadFile(filepath.Join("..", "..", "events", "setup-acl-create.json"))
	if err != nil {
		t.Fatal(err)
	}
	var event customresource.Event
	if err := json.NewDecoder(bytes.NewReader(sample)).Decode(&event); err != nil {
		t.Fatal(err)
	}
	event.ResponseURL = cloudFormation.URL
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	handle := wire(cfg, function.Runtime{SDK: aws.Config{Region: "eu-west-1"}, Log: slog.New(slog.NewJSONHandler(io.Discard, nil))})
	if err := handle(ctx, event); err != nil {
		t.Fatal(err)
	}
	answer := <-answers
	for _, words := range []string{
		"CONSUL_SERVER_CLUSTER is set, so CONSUL_SERVER_SERVICE must be too; ",
		"CONSUL_HTTP_SSL is true, so CONSUL_CACERT_PEM or CONSUL_CACERT_PARAMETER must be set",
	} {
		if answer.Status != cfn.StatusFailed || !strings.Contains(answer.Reason, words) {
			t.Errorf("the answer is %s: %s; want %q", answer.Status, answer.Reason, words)
		}
	}
	if want := event.StackID + "/ConsulAcl"; answer.PhysicalResourceID != want {
		t.Errorf("the physical ID is %s, want %s", answer.PhysicalResourceID, want)
	}
}
