package taskmeta

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// answer is shaped as ECS's own, with fields that are not read here.
const answer = `{
	"Cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/prod",
	"TaskARN": "arn:aws:ecs:eu-west-1:123456789012:task/prod/0f2ff1f7f2c24a4f8f9b7cc1b0cbf1f7",
	"Family": "Api", "Revision": "7", "DesiredStatus": "RUNNING", "KnownStatus": "PENDING",
	"Limits": {"CPU": 0.25, "Memory": 512}, "LaunchType": "FARGATE", "AvailabilityZone": "eu-west-1b",
	"Containers": [
		{"DockerId": "1", "Name": "ecsmesh-init", "KnownStatus": "RUNNING"},
		{"DockerId": "2", "Name": "envoy", "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.5"], "IPv6Addresses": ["2001:db8::5"], "MACAddress": "0e:9e:32:c7:48:85"}]}
	]}`

func TestParse(t *testing.T) {
	task, err := Parse([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	if task.ARN.ID != "0f2ff1f7f2c24a4f8f9b7cc1b0cbf1f7" || task.ARN.Region != "eu-west-1" || task.Family != "Api" || task.Stopping() {
		t.Errorf("got %+v", task)
	}
	if addr, err := task.Address(); err != nil || addr.String() != "10.0.1.5" {
		t.Errorf("address: %v, %v", addr, err)
	}
}

func TestAddress(t *testing.T) {
	network := func(mode string, v4, v6 []string) Task {
		return Task{Containers: []Container{{}, {Networks: []Network{{NetworkMode: mode, IPv4Addresses: v4, IPv6Addresses: v6}}}}}
	}
	for name, test := range map[string]struct {
		task Task
		want string
		err  string
	}{
		"IPv6 only":           {task: network("awsvpc", nil, []string{"fe80::1", "2001:db8::5"}), want: "2001:db8::5"},
		"both":                {task: network("awsvpc", []string{"10.0.0.9"}, []string{"2001:db8::5"}), want: "10.0.0.9"},
		"bridge":              {task: network("bridge", []string{"172.17.0.2"}, nil), err: `network mode is "bridge"`},
		"none yet":            {task: Task{Containers: []Container{{}}}, err: "no awsvpc network"},
		"only link-local":     {task: network("awsvpc", nil, []string{"fe80::1"}), err: "no awsvpc network"},
		"not even an address": {task: network("awsvpc", []string{"ten"}, nil), err: `"ten"`},
	} {
		t.Run(name, func(t *testing.T) {
			addr, err := test.task.Address()
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, %v", addr, err)
				}
			case err != nil || addr.String() != test.want:
				t.Errorf("got %v, %v", addr, err)
			}
		})
	}
}

func TestMAC(t *testing.T) {
	task := Task{Containers: []Container{{}, {Networks: []Network{{NetworkMode: "awsvpc", MACAddress: "0a:1b:2c:3d:4e:5f", IPv4Addresses: []string{"10.0.0.9"}}}}}}
	for address, want := range map[string]string{"10.0.0.9": "0a:1b:2c:3d:4e:5f", "10.0.0.8": ""} {
		if got := task.MAC(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %q", address, got)
		}
	}
}

func TestClusterARN(t *testing.T) {
	for name, test := range map[string]struct{ arn, cluster, want string }{
		"long":         {"arn:aws-cn:ecs:cn-north-1:123456789012:task/prod/abc", "prod", "arn:aws-cn:ecs:cn-north-1:123456789012:cluster/prod"},
		"old and bare": {"arn:aws:ecs:eu-west-1:123456789012:task/abc", "prod", "prod"},
	} {
		t.Run(name, func(t *testing.T) {
			task, err := Parse([]byte(`{"TaskARN": "` + test.arn + `", "Cluster": "` + test.cluster + `"}`))
			if err != nil || task.ClusterARN() != test.want {
				t.Errorf("got %q, %v", task.ClusterARN(), err)
			}
		})
	}
}

func TestEndpointAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status    int
		body      string
		err       string
		permanent bool
	}{
		"metadata":   {status: 200, body: answer},
		"throttled":  {status: 429, err: "HTTP status 429 Too Many Requests"},
		"broken":     {status: 500, err: "HTTP status 500"},
		"no task":    {status: 404, err: "HTTP status 404 Not Found", permanent: true},
		"cut short":  {status: 200, body: answer[:100], err: "unexpected end of JSON"},
		"without ID": {status: 200, body: `{}`, err: `TaskARN: parse task ARN ""`},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v4/x/task" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			endpoint, err := FromEnvironment(func(string) string { return server.URL + "/v4/x" })
			if err != nil {
				t.Fatal(err)
			}
			_, err = endpoint.Task(t.Context())
			switch {
			case test.err == "" && err != nil:
				t.Error(err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(err.Error(), server.URL)):
				t.Errorf("got %v", err)
			case Permanent(err) != test.permanent:
				t.Errorf("permanent: %v for %v", Permanent(err), err)
			}
		})
	}
}

func TestEndpointThatHangsIsLeft(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	endpoint, err := FromEnvironment(func(string) string { return server.URL })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := endpoint.Task(ctx); err == nil || Permanent(err) {
		t.Errorf("got %v", err)
	}
}

func TestOutsideOfECS(t *testing.T) {
	_, err := FromEnvironment(func(string) string { return "" })
	if err == nil || !strings.Contains(err.Error(), "ECS_CONTAINER_METADATA_URI_V4 is not set") {
		t.Errorf("got %v", err)
	}
}
