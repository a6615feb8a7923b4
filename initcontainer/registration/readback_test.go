package registration

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
)

// only is a cluster of one server.
type only struct{ client *api.Client }

func (o only) Do(ctx context.Context, attempt func(context.Context, *api.Client) error) error {
	return attempt(ctx, o.client)
}

// TestWhatConsulGivesBackIsNotDamaged holds for all that Consul fills in.
func TestWhatConsulGivesBackIsNotDamaged(t *testing.T) {
	client := consultest.Start(t).Client
	for id, document := range map[string]string{"a1": plain, "b2": rich, "c3": gateway, "d4": atLoadBalancer, "e5": transparent} {
		r := build(t, id, document)
		if _, err := r.Write(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		found, err := r.Read(t.Context(), only{client})
		if err != nil || len(found.Checks) != len(r.Checks()) {
			t.Errorf("%d checks, want %d: %v", len(found.Checks), len(r.Checks()), err)
		}
		if damage := r.Damage(found); damage != "" {
			t.Errorf("%s: %s", id, damage)
		}
		if sidecar := found.Services[found.service(r.Sidecar.Service.ID)]; id == "e5" && sidecar.TaggedAddresses["consul-virtual"].Address == "" {
			t.Errorf("Consul gives the service no virtual address: %+v", sidecar)
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	client := consultest.Start(t).Client
	r := build(t, "a1", rich)
	write := func(change func(service, sidecar *api.CatalogRegistration)) {
		t.Helper()
		damaged := build(t, "a1", rich)
		change(&damaged.Service, &damaged.Sidecar)
		if _, err := damaged.Write(t.Context(), client); err != nil {
			t.Fatal(err)
		}
	}
	deregister := func(what api.CatalogDeregistration) {
		t.Helper()
		if _, err := client.Catalog().Deregister(&what, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, want string
		damage     func()
	}{
		{"nobody registered it", "node is gone", func() {}},
		{"whole", "", func() { write(func(_, _ *api.CatalogRegistration) {}) }},
		{"no sidecar", "backend-a1-sidecar-proxy is gone", func() {
			deregister(api.CatalogDeregistration{Node: "ecs-a1", ServiceID: "backend-a1-sidecar-proxy"})
		}},
		{"another address", "address is 10.0.9.9", func() {
			write(func(service, _ *api.CatalogRegistration) { service.Address = "10.0.9.9" })
		}},
		{"another meta", "meta has another ecsmesh-task-arn", func() {
			write(func(service, _ *api.CatalogRegistration) { service.NodeMeta["ecsmesh-task-arn"] = "x" })
		}},
		{"another port", "backend-a1 has another Port", func() {
			write(func(service, _ *api.CatalogRegistration) { service.Service.Port++ })
		}},
		{"an upstream less", "backend-a1-sidecar-proxy has another Proxy.Upstreams", func() {
			write(func(_, sidecar *api.CatalogRegistration) {
				sidecar.Service.Proxy.Upstreams = sidecar.Service.Proxy.Upstreams[1:]
			})
		}},
		{"another option", "backend-a1-sidecar-proxy has another Proxy.Config.protocol", func() {
			write(func(_, sidecar *api.CatalogRegistration) { sidecar.Service.Proxy.Config["protocol"] = "tcp" })
		}},
		{"a server that keeps no locality", "", func() {
			write(func(service, sidecar *api.CatalogRegistration) {
				service.Service.Locality, sidecar.Service.Locality = nil, nil
			})
		}},
		{"a path more", "backend-a1-sidecar-proxy has another Proxy.Expose.Paths", func() {
			write(func(_, sidecar *api.CatalogRegistration) {
				sidecar.Service.Proxy.Expose.Paths = append(sidecar.Service.Proxy.Expose.Paths, api.ExposePath{ListenerPort: 1, Path: "/"})
			})
		}},
		{"tags that others may change", "", func() {
			write(func(service, _ *api.CatalogRegistration) { service.Service.Tags = []string{"v3"} })
		}},
		{"one service more", "", func() {
			write(func(_, _ *api.CatalogRegistration) {})
			other := api.CatalogRegistration{Node: "ecs-a1", SkipNodeUpdate: true, Service: &api.AgentService{Service: "other"}}
			if _, err := client.Catalog().Register(&other, nil); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		c.damage()
		found, err := r.Read(t.Context(), only{client})
		if err != nil {
			t.Fatal(err)
		}
		if damage := r.Damage(found); damage != c.want && (c.want == "" || !strings.Contains(damage, c.want)) {
			t.Errorf("%s: %q, want %q", c.what, damage, c.want)
		}
	}
}

func TestRestoreGivesWayToASuccessor(t *testing.T) {
	client := consultest.Start(t).Client
	r := build(t, "a1", plain) // registered at now
	at := func(offset time.Duration) string { return now.Add(offset).UTC().Format(time.RFC3339) }
	for _, c := range []struct {
		what       string
		address    string
		meta       map[string]string
		successful bool
	}{
		{"a task that registered before", "10.0.1.5", map[string]string{"ecsmesh-registered-at": at(-time.Hour)}, true},
		{"one at another address", "10.0.1.6", map[string]string{"ecsmesh-registered-at": at(time.Hour)}, true},
		{"one in another VPC", "10.0.1.5", map[string]string{"ecsmesh-registered-at": at(time.Hour), "ecsmesh-vpc-id": "vpc-other"}, true},
		{"a task that registered later", "10.0.1.5", map[string]string{"ecsmesh-registered-at": at(time.Hour)}, false},
		{"one of which it is not known", "10.0.1.5", map[string]string{"ecsmesh-registered-at": "?"}, false},
	} {
		c.meta["synthetic-node"] = "true"
		if _, err := client.Catalog().Register(&api.CatalogRegistration{Node: "ecs-other", Address: c.address, NodeMeta: c.meta}, nil); err != nil {
			t.Fatal(err)
		}
		err := r.Restore(t.Context(), only{client}, Found{})
		var successor *SuccessorError
		if errors.As(err, &successor) == c.successful || (err == nil) != c.successful {
			t.Errorf("%s: %v", c.what, err)
		}
		found, err := r.Read(t.Context(), only{client})
		if err != nil || (found.Node != nil) != c.successful {
			t.Errorf("%s: registered %t, %v", c.what, found.Node != nil, err)
		}
		if other, _, err := client.Catalog().Node("ecs-other", nil); err != nil || other == nil {
			t.Errorf("%s: the other is gone: %v", c.what, err)
		}
		if err := r.Remove(t.Context(), only{client}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestoreKeepsTheTagsThatOthersMayChange(t *testing.T) {
	client := consultest.Start(t).Client
	r := build(t, "b2", rich)
	changed := build(t, "b2", rich)
	changed.Service.Service.Tags, changed.Sidecar.Service.Tags = []string{"canary"}, []string{"canary"}
	changed.Service.Service.Port++
	if _, err := changed.Write(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	found, err := r.Read(t.Context(), only{client})
	if err != nil || r.Damage(found) == "" {
		t.Fatalf("damage %q, %v", r.Damage(found), err)
	}
	if err := r.Restore(t.Context(), only{client}, found); err != nil {
		t.Fatal(err)
	}
	after, err := r.Read(t.Context(), only{client})
	if err != nil || r.Damage(after) != "" {
		t.Fatalf("damage %q, %v", r.Damage(after), err)
	}
	for _, service := range after.Services {
		if len(service.Tags) != 1 || service.Tags[0] != "canary" {
			t.Errorf("the tags of %s are %v", service.ID, service.Tags)
		}
	}
}
