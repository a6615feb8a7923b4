package check

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
)

// newGatewayBench is a bench whose task is a gateway that has no listener yet.
func newGatewayBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.vanish(t)
	meta, err := taskmeta.Parse([]byte(`{"TaskARN": "` + taskARN + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Config{Gateway: &config.Gateway{
		Kind: config.APIGateway, Name: "edge", LAN: config.GatewayAddress{Port: 8443}, WAN: config.GatewayAddress{Address: "edge.example.com", Port: 443},
	}}
	r, err := registration.New(cfg, meta, netip.MustParseAddr("10.0.1.5"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(t.Context(), b.client); err != nil {
		t.Fatal(err)
	}
	b.task.Registration, b.task.Checks, b.task.Envoy.PublicListener = r, nil, ""
	b.save(t)
	return b
}

func (b *bench) expectGateway(t *testing.T, status string) {
	t.Helper()
	if diff := cmp.Diff(map[string]string{"edge-a1-envoy": status}, b.checks(t)); diff != "" {
		t.Errorf("%s\nlog:\n%s", diff, b.log)
	}
}

// TestAGatewayIsAsHealthyAsItsEnvoy holds for ECS and for Consul, which is told
// of changes alone.
func TestAGatewayIsAsHealthyAsItsEnvoy(t *testing.T) {
	b := newGatewayBench(t)
	b.run.UntilPassing = true
	b.expectGateway(t, "critical")
	b.envoy.Store(503)
	if err := b.run.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "it is not ready") {
		t.Errorf("Envoy is not ready: %v", err)
	}
	b.expectGateway(t, "critical")
	b.envoy.Store(200)
	b.again(t)
	b.expectGateway(t, "passing")
	told := b.index(t)
	b.again(t)
	if b.index(t) != told {
		t.Error("Consul was told what it knew")
	}
	b.envoy.Store(503)
	if err := b.run.Do(t.Context()); err == nil {
		t.Error("Envoy is not ready any more, and the run exits with 0")
	}
	b.expectGateway(t, "critical")
}

func TestAVanishedGatewayComesBackAsItWas(t *testing.T) {
	for what, vanish := range map[string]func(*bench){
		"the node": func(b *bench) { b.vanish(t) },
		"the gateway": func(b *bench) {
			gone := &api.CatalogDeregistration{Node: "ecs-a1", ServiceID: "edge-a1"}
			if _, err := b.client.Catalog().Deregister(gone, nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newGatewayBench(t)
			b.look(t)
			vanish(b)
			b.look(t)
			b.expectGateway(t, "passing")
			found, err := b.task.Registration.Read(t.Context(), only{b.client})
			if damage := b.task.Registration.Damage(found); err != nil || damage != "" {
				t.Errorf("not as registered: %q, %v", damage, err)
			}
		})
	}
}

// TestPartsOfATaskThatDoNotFit has files of tasks that are neither a service's
// nor a gateway's.
func TestPartsOfATaskThatDoNotFit(t *testing.T) {
	for what, damage := range map[string]func(*Task){
		"no gateway": func(task *Task) { task.Registration.Sidecar.Service = nil },
		"checks of no service": func(task *Task) {
			task.Checks = []config.Check{{Name: "tcp", TCP: "127.0.0.1:1", Timeout: time.Second}}
		},
		"a container's of none": func(task *Task) { task.Containers = []string{"app"} },
		"a check without a part": func(task *Task) {
			task.Registration.Service.Checks = api.HealthChecks{{CheckID: "x"}}
			task.Containers = []string{"x"}
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := newGatewayBench(t)
			damage(&b.task)
			b.save(t)
			if err := b.run.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "it is not what the container ecsmesh-init wrote") {
				t.Errorf("got %v", err)
			}
		})
	}
}
