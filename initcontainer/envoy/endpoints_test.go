package envoy

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestEndpointsAreReadBack has a list be printed as it was written.
func TestEndpointsAreReadBack(t *testing.T) {
	want := []netip.Addr{netip.MustParseAddr("10.0.1.10"), netip.MustParseAddr("2001:db8::10")}
	content, err := Endpoints(want, 8502)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "consul-servers.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadEndpoints(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}
