package lab_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// TestDoctorInAMeshThatDeniesByDefault is asked by ECS Exec in the application's
// and in Envoy's container, while AWS allows what IAM's policies allow and no more.
func TestDoctorInAMeshThatDeniesByDefault(t *testing.T) {
	t.Parallel()
	l, servers := startWithServers(t, lab.Options{Secure: true, Second: 2 * second, Servers: 1})
	web, apis := startMesh(t, l, 1)
	doctor := func(task ecs.Task, container, want string) {
		t.Helper()
		must(t, lab.Await(t.Context(), fmt.Sprintf("doctor to say %q", want), func(ctx context.Context) error {
			said, code, err := l.ECS.Execute(ctx, task.TaskARN, container, "/mesh/bin/ecsmesh-init", "doctor")
			if err == nil && (!strings.HasPrefix(said, want) || (code == 0) != (want == "Nothing is wrong.\n")) {
				err = fmt.Errorf("exit %d: %s", code, said)
			}
			return err
		}))
	}
	const wrong = "The first thing that is wrong: "
	for _, container := range []string{"web", "envoy"} {
		doctor(web, container, wrong+"an intention denies the call of an upstream service.\nFound: from web to api\n")
	}
	must(t, l.Allow(t.Context(), "web", "api", api.IntentionActionAllow))
	doctor(web, "web", "Nothing is wrong.\n")
	doctor(apis[0], "api", "Nothing is wrong.\n")

	before, err := l.Secrets(t.Context())
	must(t, err)
	said, _, err := l.ECS.Execute(t.Context(), web.TaskARN, "envoy", "/mesh/bin/ecsmesh-init", "doctor", "-json")
	must(t, err)
	for what, secret := range before {
		if strings.Contains(said, secret) {
			t.Errorf("%s is in what it says", what)
		}
	}
	must(t, l.ECS.StopTask(servers[0].TaskARN, "a fault"))
	doctor(web, "web", wrong+"no Consul server can be reached.\n")
}
