package publisher

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestAddresses(t *testing.T) {
	const (
		tasks = `{"taskArns": ["arn:aws:ecs:eu-west-1:123456789012:task/consul/1a"]}`
		task  = `{"tasks": [{"taskArn": "arn:aws:ecs:eu-west-1:123456789012:task/consul/1a", "lastStatus": "RUNNING", "desiredStatus": "RUNNING",
			"attachments": [{"type": "ElasticNetworkInterface", "details": [{"name": "privateIPv4Address", "value": "10.0.1.10"}]}]}]}`
		denied = `{"__type": "AccessDeniedException", "message": "no"}`
	)
	inECS := Config{Cluster: "consul", Service: "consul-server"}
	for name, test := range map[string]struct {
		config  Config
		answers map[string]string // ECS's
		want    []netip.Addr
		err     string
	}{
		"seeds":     {Config{SeedAddresses: Seeds{"10.0.2.10", "10.0.1.10"}}, nil, []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("10.0.2.10")}, ""},
		"ECS tasks": {inECS, map[string]string{"ListTasks": tasks, "DescribeTasks": task}, []netip.Addr{netip.MustParseAddr("10.0.1.10")}, ""},
		"no tasks":  {inECS, map[string]string{"ListTasks": `{"taskArns": []}`}, nil, "no task of their ECS service is usable"},
		"no answer": {inECS, map[string]string{"ListTasks": denied}, nil, "AccessDeniedException"},
	} {
		t.Run(name, func(t *testing.T) {
			ecs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
				if test.answers[action] == denied {
					w.WriteHeader(http.StatusBadRequest)
				}
				_, _ = io.WriteString(w, test.answers[action])
			}))
			defer ecs.Close()
			sdk := aws.Config{Region: "eu-west-1", BaseEndpoint: &ecs.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
			got, err := Addresses(t.Context(), test.config, sdk, slog.New(slog.DiscardHandler))
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}
