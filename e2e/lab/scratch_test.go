package lab_test

import (
	"testing"
	"time"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

func TestScratch(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { must(l.Close()) })
	servers, err := l.StartServers(t.Context())
	must(err)
	must(l.WaitPublished(t.Context(), servers...))
	must(l.UseHTTP(t.Context(), "web", "api"))
	web, err := l.Web.Launch(t.Context())
	must(err)
	api, err := l.API.Launch(t.Context())
	must(err)
	must(l.WaitPassing(t.Context(), "api", api))
	must(l.WaitPassing(t.Context(), "web", web))
	must(l.WaitEndpoints(t.Context(), web, "api", api))
	load := lab.StartLoad(t.Context(), web, 100)
	fresh, err := l.API.Replace(t.Context(), api.TaskARN)
	must(err)
	must(l.WaitPassing(t.Context(), "api", fresh))
	time.Sleep(time.Second)
	requests := load.Stop()
	f := lab.Failures(requests)
	t.Log(len(requests), len(f))
	if len(f) > 0 {
		t.Log(f[0].Err, f[len(f)-1].Start.Sub(f[0].Start))
	}
	_ = ecs.Task.Ready
}
