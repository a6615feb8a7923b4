package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
)

// TestUpstreamsOfAllForms has one service reach another, directly, in each way
// that needs no second cluster; TestMeshGatewaysJoinClusters has a peer's.
func TestUpstreamsOfAllForms(t *testing.T) {
	server := consultest.Start(t)
	if _, _, err := server.Client.PreparedQuery().Create(&api.PreparedQueryDefinition{
		Name: "nearest-api", Service: api.ServiceQuery{Service: "api", Connect: true, OnlyPassing: true},
	}, nil); err != nil {
		t.Fatal(err)
	}
	startService(t, server, "api", "")
	socket := filepath.Join(t.TempDir(), "api.sock")
	web := startTask(t, server, fmt.Sprintf(`"service": {"name": "web", "port": 8080}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN", "upstreams": [
		{"destinationName": "nearest-api", "destinationType": "prepared_query", "localBindAddress": "OWN", "localBindPort": 9002},
		{"destinationName": "api", "datacenter": "dc1", "localBindSocketPath": %q, "localBindSocketMode": "0640"},
		{"destinationName": "api", "localBindAddress": "OWN", "localBindPort": 9003,
			"config": {"protocol": "http", "connect_timeout_ms": 1234, "limits": {"max_connections": 77}}}]}`, socket))
	serveAt(t, web.address, 8080, "web")
	web.awaitHealthy(t, server)

	awaitAnswer(t, "http://"+web.address+":9002/", "api")
	t.Run("socket", func(t *testing.T) {
		await(t, "an answer at the socket", func() error { return answersAt(socket, "api") })
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("the socket is %v, %v", info, err)
		}
	})
	t.Run("config", func(t *testing.T) {
		awaitAnswer(t, "http://"+web.address+":9003/", "api")
		// Envoy has passed on a request, which a protocol of tcp knows nothing of.
		requests, err := web.admin("/stats?usedonly&filter=^http.upstream.api.*downstream_rq_2xx")
		if err != nil || requests == "" {
			t.Errorf("no request was counted: %v", err)
		}
		clusters, err := web.admin("/config_dump?resource=dynamic_active_clusters")
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"connect_timeout": "1.234s"`, `"max_connections": 77`} {
			if !strings.Contains(clusters, want) {
				t.Errorf("no %s in Envoy's clusters", want)
			}
		}
	})
}

// answersAt asks at a Unix domain socket.
func answersAt(socket, want string) error {
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	response, err := client.Get("http://upstream/")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != want {
		return fmt.Errorf("%s: %q, %w", response.Status, got, err)
	}
	return nil
}
