package main

import (
	"testing"

	"ecsmesh/e2e/consultest"
)

// TestExposedPathsNeedNoMesh has paths of an application asked for by who is
// not in the mesh, at the application's own port and at another.
func TestExposedPathsNeedNoMesh(t *testing.T) {
	server := consultest.Start(t)
	task := startTask(t, server, `"service": {"name": "web", "port": 8080}, "proxy": {"adminBindAddress": "OWN", "localServiceAddress": "OWN", "expose": {"checks": true, "paths": [
		{"listenerPort": 21500, "path": "/health", "localPathPort": 8080}, {"listenerPort": 21501, "path": "/metrics", "localPathPort": 8081}]}}`)
	serveAt(t, task.address, 8080, "web")
	serveAt(t, task.address, 8081, "numbers")
	task.awaitHealthy(t, server)
	awaitAnswer(t, "http://"+task.address+":21500/health", "web")
	awaitAnswer(t, "http://"+task.address+":21501/metrics", "numbers")
	if _, err := get("http://" + task.address + ":21500/else"); err == nil || err.Error() != "404 Not Found" {
		t.Errorf("a path that is not exposed: %v", err)
	}
}
