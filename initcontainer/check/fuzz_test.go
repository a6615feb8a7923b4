package check

import (
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/volume"
)

// FuzzStateFiles runs everything but the probes and the requests to Consul on
// files that anyone who can write to the volume may have changed. A run that
// panics would have ECS replace a task whose Envoy is well.
func FuzzStateFiles(f *testing.F) {
	const task = `{
		"Registration": {
			"Service": {"Node": "ecs-a1", "Address": "10.0.1.5", "Service": {"ID": "api-a1", "Service": "api", "Port": 80},
				"Checks": [{"CheckID": "api-a1-tcp", "Status": "critical", "Output": "registered; not checked yet"}]},
			"Sidecar": {"Node": "ecs-a1", "Service": {"ID": "api-a1-sidecar-proxy", "Kind": "connect-proxy"},
				"Checks": [{"CheckID": "api-a1-sidecar-proxy-envoy", "Status": "critical"}]}},
		"Checks": [{"Name": "tcp", "TCP": "127.0.0.1:80", "Timeout": 2000000000}], "Containers": null,
		"Envoy": {"Admin": "127.0.0.1:19000", "PublicListener": "10.0.1.5:20000"},
		"Servers": ["10.0.1.10"], "Source": {"Parameter": "/ecsmesh/consul-servers", "Region": "eu-west-1"}, "HTTPPort": 8500, "GRPCPort": 8502}`
	const (
		checks = `{"api-a1-tcp": {"Status": "passing", "Output": "connected"}}`
		upkeep = `{"LookAt": "2025-11-04T15:03:27Z", "Servers": ["10.0.1.11"], "AskAt": "2025-11-04T15:03:27Z", "AskPause": 240000000000, "RestoredAt": "2025-11-04T15:03:27Z", "RestorePause": 60000000000}`
	)
	f.Add([]byte(task), []byte(checks), []byte(upkeep))
	for _, damaged := range []string{
		``, `null`, `{}`, `[]`, `"`, `{"Registration": null, "Checks": [null], "Servers": [""]}`, task[:len(task)/2],
		`{"Registration": {"Service": {"Checks": [null]}, "Sidecar": {"Checks": [null]}}}`,
		`{"Registration": {"Service": {"Checks": [{"CheckID": "x"}]}}}`,
		`{"Checks": [{"Name": "x"}], "Containers": ["y"], "HTTPPort": -1}`,
	} {
		f.Add([]byte(damaged), []byte(checks), []byte(upkeep))
	}
	for _, damaged := range []string{``, `null`, `{"api-a1-tcp": null}`, `{"api-a1-tcp": {"Status": 1}}`, `[]`} {
		f.Add([]byte(task), []byte(damaged), []byte(upkeep))
	}
	for _, damaged := range []string{
		``, `null`, `{"Servers": [""]}`, `{"LookAt": "9999-12-31T23:59:59Z", "AskAt": "9999-12-31T23:59:59Z", "RestoredAt": "9999-12-31T23:59:59Z"}`,
		`{"AskAt": "0001-01-01T00:00:01Z", "AskPause": 9223372036854775807, "RestoredAt": "0001-01-01T00:00:01Z", "RestorePause": 9223372036854775807}`,
		`{"AskAt": "2025-11-04T15:03:27Z", "AskPause": -9223372036854775808, "RestorePause": -9223372036854775808}`,
	} {
		f.Add([]byte(task), []byte(checks), []byte(damaged))
	}
	shared := volume.Volume(f.TempDir())
	if err := shared.Prepare(); err != nil {
		f.Fatal(err)
	}
	now := time.Date(2025, time.November, 4, 15, 3, 56, 0, time.UTC)
	run := Run{
		Volume: shared, Refresh: time.Minute,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Now: func() time.Time { return now },
	}
	f.Fuzz(func(t *testing.T, task, checks, upkeep []byte) {
		for path, content := range map[string][]byte{shared.Task(): task, shared.Checks(): checks, shared.Upkeep(): upkeep} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		read, err := run.task()
		if err != nil {
			return // the health check says so
		}
		told := run.told()
		found := make([]status, len(read.Checks)+len(read.Containers))
		for i := range found {
			found[i] = status{api.HealthPassing, "as made up"}
		}
		for _, envoy := range []error{nil, errors.New("not ready")} {
			verdict := verdict(read.Registration, found, envoy)
			if envoy != nil && len(read.Registration.Sidecar.Checks) > 0 && verdict.passing(read.Registration) {
				t.Error("the task takes traffic although Envoy is not ready")
			}
			verdict.changed(read.Registration, told.statuses)
			verdict.in(read.Registration)
		}
		read.Token = nil // nobody is asked for another
		sync := run.newSync(read, nil)
		if !sync.remember() {
			t.Fatal("what runs remember is lost although it can be written")
		}
		_ = sync.reach(t.Context()) // addresses that are none are an error
		expectPlans(t, sync.upkeep, now, run.Refresh)
	})
}

// expectPlans goes through all that can happen to the upkeep: nothing is done
// again at once, nor put off for ever.
func expectPlans(t *testing.T, u upkeep, now time.Time, refresh time.Duration) {
	t.Helper()
	for what, next := range map[string]upkeep{
		"nothing": u, "a look": u.looked(now, refresh), "an answer": u.answered(), "silence": u.silent(now, refresh),
		"a loss": u.lost(refresh), "a look at what is whole": u.whole(now),
	} {
		if wait := next.LookAt.Sub(now); wait > 2*refresh {
			t.Errorf("after %s, the task is looked after in %s", what, wait)
		}
	}
	if next := u.looked(now, refresh); next.lookDue(now) {
		t.Errorf("after a look there is another at once: %+v", next)
	}
	if next := u.asked(now); u.askDue(now) && next.askDue(now) {
		t.Errorf("after the source was asked it is asked again at once: %+v", next)
	}
	for _, next := range []upkeep{u.tried(now, true), u.tried(now, true).restored(now, refresh, true)} {
		if wait := next.restoreAt(refresh, true).Sub(now); wait < refresh*9/10 || wait > longestRestoring {
			t.Errorf("after the task registered again it may do so in %s: %+v", wait, next)
		}
	}
}
