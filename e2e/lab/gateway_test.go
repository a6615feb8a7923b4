package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/lab"
)

// TestAGatewayOfTheExample has who is not in the mesh reach web by an API gateway
// that logs in by the tags of its role, until ECS stops it.
func TestAGatewayOfTheExample(t *testing.T) {
	t.Parallel()
	l, _ := startWithServers(t, lab.Options{Servers: 1, Secure: true})
	must(t, l.UseHTTP(t.Context(), "web", "api"))
	must(t, l.Allow(t.Context(), "web", "api", api.IntentionActionAllow))
	must(t, l.Allow(t.Context(), "edge", "web", api.IntentionActionAllow))
	startMesh(t, l, 1)
	consul, err := l.Consul()
	must(t, err)
	// As JSON: the client of Consul's has fields that only later servers know.
	for _, entry := range []string{
		`{"Kind": "api-gateway", "Name": "edge", "Listeners": [{"Name": "http", "Port": 8081, "Protocol": "http"}]}`,
		`{"Kind": "http-route", "Name": "web", "Parents": [{"Kind": "api-gateway", "Name": "edge"}], "Rules": [{"Services": [{"Name": "web"}]}]}`,
	} {
		_, err := consul.Raw().Write("/v1/config", json.RawMessage(entry), nil, (&api.WriteOptions{}).WithContext(t.Context()))
		must(t, err)
	}
	gateways := l.CreateGateway("api-gateway", "edge")
	gateway := launch(t, gateways)
	awaitHealth(t, l, gateway, api.HealthPassing)
	must(t, lab.Await(t.Context(), "an answer by the gateway", func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gateway.Address().String()+":8081/", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("it is %s", response.Status)
		}
		return nil
	}))
	must(t, gateways.Stop(gateway.TaskARN))
	must(t, l.WaitDeregistered(t.Context(), gateway))
	_, err = l.WaitTask(t.Context(), gateway, ecs.Task.Stopped)
	must(t, err)
}
