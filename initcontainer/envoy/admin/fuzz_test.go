package admin

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// FuzzRead has something answer that is no Envoy, or one that nobody knows yet.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"state": "LIVE", "version": "a/1.40.0/Clean", "uptime_current_epoch": "2s"}`,
		`{"state": "LIVE", "certificates": [{"ca_cert": [{"serial_number": "1"}], "cert_chain": [{"valid_from": "2026-01-02T03:04:05Z"}]}], "stats": [{"name": "control_plane.connected_state", "value": 1}]}`,
		`{"state": "LIVE", "listener_statuses": [{}], "cluster_statuses": [{"host_statuses": [{}]}], "configs": [{"error_state": {"details": "x"}}]}`,
		`[]`, `{`, ``,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
		defer server.Close()
		state, err := Read(t.Context(), server.Listener.Addr().String())
		if err == nil && (state.Stream.Connected && !state.Stream.Known) {
			t.Errorf("a stream that isn't known is connected: %+v", state)
		}
	})
}
