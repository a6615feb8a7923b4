package bench

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cloud is as much of AWS as functions and tasks ask for here: the parameter
// with the servers' addresses, and what ECS says of tasks. Unlike the emulator it
// costs next to nothing, and its SSM can be as scarce as AWS's.
type cloud struct {
	URL     string
	servers string            // the parameter's value
	stopped func(string) bool // whether ECS has stopped a task, by its ARN
	ssm     *bucket           // nil: as much as anybody wants

	ssmCalls, throttled, ecsCalls atomic.Int64
}

// bucket lets calls through at a rate, and a second's worth of them at once.
type bucket struct {
	mu     sync.Mutex
	rate   float64 // a second
	tokens float64
	at     time.Time
}

func newBucket(rate float64) *bucket { return &bucket{rate: rate, tokens: rate, at: time.Now()} }

func (k *bucket) take() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.tokens = min(k.rate, k.tokens+k.rate*now.Sub(k.at).Seconds())
	k.at = now
	if k.tokens < 1 {
		return false
	}
	k.tokens--
	return true
}

// startCloud publishes these servers.
func startCloud(b *testing.B, servers string, ssm *bucket, stopped func(arn string) bool) *cloud {
	c := &cloud{servers: servers, stopped: stopped, ssm: ssm}
	server := httptest.NewServer(c)
	b.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// environment is what a function's or a task's environment has to reach it.
func (c *cloud) environment() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL": c.URL, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
	}
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch action {
	case "GetParameter":
		c.ssmCalls.Add(1)
		if c.ssm != nil && !c.ssm.take() {
			c.throttled.Add(1)
			answer(w, http.StatusBadRequest, map[string]any{"__type": "ThrottlingException", "message": "Rate exceeded"})
			return
		}
		answer(w, http.StatusOK, map[string]any{"Parameter": map[string]any{"Type": "StringList", "Value": c.servers}})
	case "DescribeTasks":
		c.ecsCalls.Add(1)
		var question struct{ Tasks []string }
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil || len(question.Tasks) > 100 {
			answer(w, http.StatusBadRequest, map[string]any{"__type": "InvalidParameterException", "message": "at most 100 tasks"})
			return
		}
		tasks := make([]map[string]any, len(question.Tasks))
		for i, arn := range question.Tasks {
			status := "RUNNING"
			if c.stopped(arn) {
				status = "STOPPED"
			}
			tasks[i] = map[string]any{"taskArn": arn, "lastStatus": status, "desiredStatus": status}
		}
		answer(w, http.StatusOK, map[string]any{"tasks": tasks, "failures": []any{}})
	default:
		answer(w, http.StatusBadRequest, map[string]any{"__type": "UnknownOperationException", "message": action})
	}
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // whoever went away needs no answer
}
