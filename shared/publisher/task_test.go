package publisher

import (
	"net/netip"
	"strings"
	"testing"
)

func TestServerAddr(t *testing.T) {
	server := func(change func(*task)) task {
		t := task{LastStatus: "RUNNING", DesiredStatus: "RUNNING", Health: "HEALTHY", ContainerHealth: []string{"HEALTHY"}, IPv4: []string{"10.0.1.10"}}
		change(&t)
		return t
	}
	for _, test := range []struct {
		name   string
		task   task
		addr   string // or
		reason string
	}{
		{"healthy", server(func(*task) {}), "10.0.1.10", ""},
		{"without health checks", server(func(t *task) { t.Health, t.ContainerHealth = "UNKNOWN", []string{"UNKNOWN"} }), "10.0.1.10", ""},
		{"of unstated health", server(func(t *task) { t.Health, t.ContainerHealth = "", nil }), "10.0.1.10", ""},
		{"with an unhealthy container that is not essential", server(func(t *task) { t.ContainerHealth = []string{"HEALTHY", "UNHEALTHY"} }), "", "unhealthy"},
		{"with both kinds of address", server(func(t *task) { t.IPv6 = []string{"2001:db8::a"} }), "10.0.1.10", ""},
		{"with IPv6 only", server(func(t *task) { t.IPv4, t.IPv6 = nil, []string{"2001:db8::a"} }), "2001:db8::a", ""},

		{"starting", server(func(t *task) { t.LastStatus = "PENDING" }), "", "last status is PENDING"},
		{"stopping", server(func(t *task) { t.DesiredStatus = "STOPPED" }), "", "desired status is STOPPED"},
		{"unhealthy", server(func(t *task) { t.Health = "UNHEALTHY" }), "", "unhealthy"},
		{"with an unhealthy container", server(func(t *task) { t.Health, t.ContainerHealth = "UNKNOWN", []string{"HEALTHY", "UNHEALTHY"} }), "", "unhealthy"},
		{"without an address", server(func(t *task) { t.IPv4 = nil }), "", "awsvpc"},
		{"with a strange address", server(func(t *task) { t.IPv4 = []string{"eni-1"} }), "", `"eni-1" is not an IP address`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := serverAddr(test.task)
			if test.reason != "" {
				if err == nil || !strings.Contains(err.Error(), test.reason) {
					t.Fatalf("got %v, %v; want a reason with %q", got, err, test.reason)
				}
				return
			}
			if err != nil || got != netip.MustParseAddr(test.addr) {
				t.Errorf("got %v, %v; want %s", got, err, test.addr)
			}
		})
	}
}
