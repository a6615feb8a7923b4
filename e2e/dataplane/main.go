// Command dataplane stands in for consul-dataplane, which is in no module proxy
// and so can't be built by the tests. It takes the same file, finds the servers
// the same way, and runs a real Envoy by nothing but what the file says, so that
// whatever is wrong in there keeps Envoy from its configuration:
//
//	dataplane -config-file consul-dataplane.json
//
// It has no DNS proxy, merges no metrics, and looks for servers but once.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/volume"
	"ecsmesh/shared/consul"
)

// file is what it reads of consul-dataplane's configuration.
type file struct {
	Consul struct {
		Addresses string
		GRPCPort  int
		TLS       struct {
			Disabled                bool
			CACertsPath, ServerName string
		}
		Credentials struct {
			Type   string
			Static struct{ Token string }
		}
	}
	Proxy struct{ NodeName, ID string }
	Envoy struct {
		AdminBindAddress string
		AdminBindPort    int
		ReadyBindAddress netip.Addr
		ReadyBindPort    int
		Concurrency      int
	}
}

func main() {
	path := flag.String("config-file", "", "")
	flag.Parse()
	if err := run(*path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run becomes Envoy.
func run(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	var found file
	if err := json.Unmarshal(content, &found); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	servers, err := discover(found.Consul.Addresses)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "dataplane")
	if err != nil {
		return fmt.Errorf("make a folder for Envoy's files: %w", err)
	}
	own := volume.Volume(dir)
	if err := found.write(own, servers); err != nil {
		return err
	}
	program, err := exec.LookPath("envoy")
	if err != nil {
		return fmt.Errorf("find Envoy: %w", err)
	}
	return syscall.Exec(program, []string{
		"envoy", "--config-path", own.Bootstrap(), "--disable-hot-restart", "--log-level", "warning",
		"--concurrency", strconv.Itoa(found.Envoy.Concurrency),
	}, os.Environ())
}

// discover runs the command that prints the servers' addresses. A word on its
// stderr is a failure, as consul-dataplane had it for long.
func discover(addresses string) ([]netip.Addr, error) {
	command, is := strings.CutPrefix(addresses, "exec=")
	words := strings.Fields(command)
	if !is || len(words) == 0 {
		return nil, fmt.Errorf("find the servers by %q: only commands are known here", addresses)
	}
	var stdout, stderr bytes.Buffer
	program := exec.Command(words[0], words[1:]...)
	program.Stdout, program.Stderr = &stdout, &stderr
	if err := program.Run(); err != nil || stderr.Len() > 0 {
		return nil, fmt.Errorf("find the servers by %q: %w %s", addresses, err, &stderr)
	}
	var servers []netip.Addr
	for word := range strings.FieldsSeq(stdout.String()) {
		server, err := netip.ParseAddr(word)
		if err != nil {
			return nil, fmt.Errorf("find the servers by %q: %w", addresses, err)
		}
		servers = append(servers, server)
	}
	return servers, nil
}

// write leaves Envoy's bootstrap in a folder, and the files that it names.
func (f file) write(own volume.Volume, servers []netip.Addr) error {
	if err := own.Prepare(); err != nil {
		return err
	}
	endpoints, err := envoy.Endpoints(servers, f.Consul.GRPCPort)
	if err != nil {
		return err
	}
	if err := own.Write(own.LiveServers(), endpoints); err != nil {
		return err
	}
	sidecar := envoy.Sidecar{
		NodeName: f.Proxy.NodeName, ProxyID: f.Proxy.ID, Service: filepath.Base(os.Args[0]), Datacenter: "any",
		Address: f.Envoy.ReadyBindAddress,
		Volume:  own,
		Proxy: config.Proxy{
			HealthCheckPort:  f.Envoy.ReadyBindPort,
			AdminBindAddress: f.Envoy.AdminBindAddress, AdminBindPort: f.Envoy.AdminBindPort,
		},
	}
	if tls := f.Consul.TLS; !tls.Disabled {
		ca, err := os.ReadFile(tls.CACertsPath)
		if err != nil {
			return fmt.Errorf("read the CA: %w", err)
		}
		sidecar.TLS = &consul.TLS{CA: string(ca), ServerName: tls.ServerName}
	}
	if f.Consul.Credentials.Type == "static" {
		if err := own.PrepareToken(); err != nil {
			return err
		}
		token, err := envoy.Token(f.Consul.Credentials.Static.Token)
		if err != nil {
			return err
		}
		if err := own.WritePrivate(own.LiveToken(), token, os.Geteuid()); err != nil {
			return err
		}
		sidecar.Token = true
	}
	bootstrap, err := envoy.Bootstrap(sidecar)
	if err != nil {
		return err
	}
	return own.Write(own.Bootstrap(), bootstrap)
}
