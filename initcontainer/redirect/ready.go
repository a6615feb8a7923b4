package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"ecsmesh/initcontainer/config"
)

// Ready tells what keeps the rules from being applied. It is asked before the
// task is registered.
func Ready(ctx context.Context, proxy config.TransparentProxy, launchType string, address netip.Addr) error {
	if err := ready(ctx, proxy, launchType, address); err != nil {
		return fmt.Errorf("redirect the task's traffic, as transparentProxy.enabled wants: %w", err)
	}
	return nil
}

func ready(ctx context.Context, proxy config.TransparentProxy, launchType string, address netip.Addr) error {
	if launchType == "FARGATE" {
		return errors.New("that needs the capability NET_ADMIN, which no container has on Fargate; run the task on EC2, or set transparentProxy.enabled to false and reach other services by proxy.upstreams")
	}
	if !address.Is4() {
		return fmt.Errorf("the task's only address is %s, and IPv6 is not redirected; give its subnet IPv4", address)
	}
	if user := os.Geteuid(); user != 0 {
		return fmt.Errorf(`this container runs as user %d, and iptables needs root; set "User": "0" for the container ecsmesh-init`, user)
	}
	lacking, err := lacking()
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		return fmt.Errorf("this container lacks the capability %s; add it to LinuxParameters.Capabilities of the container ecsmesh-init", strings.Join(lacking, ", "))
	}
	for _, program := range []string{list, restore} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; take the image that `make image IPTABLES=1` builds", err)
		}
	}
	if _, err := Present(ctx); err != nil {
		return fmt.Errorf("%w; the instance's kernel needs nf_tables with NAT", err)
	}
	if proxy.ConsulDNS {
		return writable(resolverFile)
	}
	return nil
}
