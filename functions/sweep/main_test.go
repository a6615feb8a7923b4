package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ecsmesh/functions/sweep/sweep"
	"ecsmesh/shared/function"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	cluster = "arn:aws:ecs:eu-west-1:123456789012:cluster/apps"
	task    = "arn:aws:ecs:eu-west-1:123456789012:task/apps/f9811b73ac5d1a8db842634fc0f871e0"
)

// transport answers the SDK's requests, numbered from 1, in the words of ECS's
// API, so that the SDK's own retries and reading of errors are part of the test.
func transport(answer func(call int) (status int, body string)) aws.HTTPClient {
	calls := 0
	return smithyhttp.ClientDoFunc(func(request *http.Request) (*http.Response, error) {
		calls++
		status, body := answer(calls)
		return &http.Response{
			StatusCode: status,
			Header:     http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
			Body:       io.NopCloser(strings.NewReader(body)),
			Request:    request,
		}, nil
	})
}

func newECS(transport aws.HTTPClient) *sweep.ECS {
	return sweep.NewECS(ecs.NewFromConfig(aws.Config{
		Region:           "eu-west-1",
		Credentials:      credentials.NewStaticCredentialsProvider("id", "secret", ""),
		HTTPClient:       transport,
		RetryMaxAttempts: function.SDKAttempts,
	}))
}

// busy is an ECS that throttles the first calls.
func busy(first int) aws.HTTPClient {
	return transport(func(call int) (int, string) {
		if call <= first {
			return http.StatusBadRequest, `{"__type":"ThrottlingException","message":"Rate exceeded"}`
		}
		return http.StatusOK, `{"tasks":[{"taskArn":"` + task + `","lastStatus":"RUNNING","desiredStatus":"RUNNING"}],"failures":[]}`
	})
}

func TestThrottledECSIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers, err := newECS(busy(function.SDKAttempts-1)).Describe(t.Context(), cluster, []string{task})
		if err != nil || answers[task].LastStatus != "RUNNING" {
			t.Errorf("got %v, %v; want an answer", answers, err)
		}
	})
}

func TestAClusterThatECSDoesNotKnow(t *testing.T) {
	gone := transport(func(int) (int, string) {
		return http.StatusBadRequest, `{"__type":"ClusterNotFoundException","message":"Cluster not found."}`
	})
	if _, err := newECS(gone).Describe(t.Context(), cluster, []string{task}); !errors.Is(err, sweep.ErrNoCluster) || !strings.Contains(err.Error(), cluster) {
		t.Errorf("got %v, want sweep.ErrNoCluster and the cluster", err)
	}
}

func TestThrottlingEndsWithTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		_, err := newECS(busy(100)).Describe(ctx, cluster, []string{task})
		if took := time.Since(start); err == nil || took > 3*time.Second {
			t.Errorf("got %v after %s, want an error within 3s", err, took)
		}
	})
}
