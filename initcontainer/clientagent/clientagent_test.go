package clientagent_test

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ecsmesh/e2e/pki"
	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/clientagent"
	"ecsmesh/initcontainer/config"
)

func client(t *testing.T) clientagent.Client {
	return clientagent.Client{
		NodeName: "ecs-1a", NodeMeta: map[string]string{"ecsmesh-family": "api"},
		Address: netip.MustParseAddr("10.0.1.5"), Servers: []netip.Addr{netip.MustParseAddr("10.0.2.1"), netip.MustParseAddr("fd00::1")},
		DataDir: t.TempDir(), LogLevel: slog.LevelWarn,
		Settings: config.ConsulClient{Datacenter: "dc2", Address: "127.0.0.1", HTTPPort: 8500, GRPCPort: 8502, DNSPort: 8600, SerfPort: 8301},
	}
}

// secured is one with everything.
func secured(t *testing.T) clientagent.Client {
	t.Helper()
	authority, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	c := client(t)
	c.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(c.CAFile, []byte(authority.CA), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Settings.AutoEncrypt = true
	c.GossipKey, c.Token = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "0a1b2c3d-0000-0000-0000-000000000000"
	return c
}

func read(t *testing.T, c clientagent.Client) (content []byte, fields map[string]any) {
	t.Helper()
	content, err := clientagent.Config(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &fields); err != nil {
		t.Fatal(err)
	}
	return content, fields
}

// TestConsulTakesTheConfiguration has Consul itself say that it is valid.
func TestConsulTakesTheConfiguration(t *testing.T) {
	consul, err := tools.Consul()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]clientagent.Client{"plain": client(t), "secured": secured(t)} {
		content, _ := read(t, c)
		path := filepath.Join(t.TempDir(), "client.json")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(consul, "validate", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestWhatIsNotConfiguredIsNotThere(t *testing.T) {
	_, plain := read(t, client(t))
	_, all := read(t, secured(t))
	for _, field := range []string{"encrypt", "tls", "auto_encrypt", "acl"} {
		if plain[field] != nil || all[field] == nil {
			t.Errorf("%s is %v without, and %v with it", field, plain[field], all[field])
		}
	}
	want := map[string]any{
		"server": false, "datacenter": "dc2", "node_name": "ecs-1a", "bind_addr": "10.0.1.5", "advertise_addr": "10.0.1.5", "client_addr": "127.0.0.1",
		"retry_join": []any{"10.0.2.1:8301", "[fd00::1]:8301"}, "leave_on_terminate": true, "disable_update_check": true, "log_level": "WARN",
		"ports": map[string]any{"http": 8500., "grpc": 8502., "dns": 8600., "serf_lan": 8301.},
	}
	for field, value := range want {
		if diff := cmp.Diff(value, plain[field]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", field, diff)
		}
	}
}
