package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ecsmesh/e2e/consultest"
)

// TestAFailingInstanceIsLeftOut has two tasks of a service, one of which passes
// its checks and fails at every request.
func TestAFailingInstanceIsLeftOut(t *testing.T) {
	server := consultest.Start(t)
	startService(t, server, "api", "")
	failing := startTask(t, server, `"service": {"name": "api", "port": 8080}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN"}`)
	failAt(t, net.JoinHostPort(failing.address, "8080"))
	failing.awaitHealthy(t, server)

	web := startTask(t, server, `"service": {"name": "web", "port": 8080, "networkResilienceConfig": {"enabled": true, "outlierDetection": {"maxFailures": 2, "baseEjectionTime": "1m"}}},
		"proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN", "upstreams": [{"destinationName": "api", "localBindAddress": "OWN", "localBindPort": 9001, "config": {"protocol": "http"}}]}`)
	serveAt(t, web.address, 8080, "web")
	web.awaitHealthy(t, server)
	failures := 0
	await(t, "the failing instance to be left out", func() error {
		if _, err := get("http://" + web.address + ":9001/"); err != nil {
			failures++
		}
		clusters, err := web.admin("/clusters")
		if err == nil && !strings.Contains(clusters, failing.address+":20000::health_flags::/failed_outlier_check") {
			err = fmt.Errorf("after %d failures, Envoy has\n%s", failures, clusters)
		}
		return err
	})
	if failures == 0 {
		t.Error("the instance is left out without a failure")
	}
	for range 20 {
		if answer, err := get("http://" + web.address + ":9001/"); err != nil || answer != "api" {
			t.Errorf("the answer is %q, %v", answer, err)
		}
	}
}

// failAt answers with a server's error at an address.
func failAt(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	failing := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	_ = failing.Listener.Close()
	failing.Listener = listener
	failing.Start()
	t.Cleanup(failing.Close)
}
