// Package tools finds the programs that the end-to-end tests and the demo run: Consul, Envoy and Python with
// the AWS emulator, which setup.sh installs into .tools at the root of the checkout, and our own binaries,
// which `make build` writes to dist.
package tools

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Consul is the path of the consul program, version 1.16 or newer.
func Consul() (string, error) { return installed("bin/consul") }

// Envoy is the path of the envoy program.
func Envoy() (string, error) { return installed("bin/envoy") }

// Python is the path of the Python interpreter that has the AWS emulator, the SAM translator and cfn-lint.
func Python() (string, error) { return installed("venv/bin/python") }

// Iptables is the folder with what the image of the init container has of iptables.
func Iptables() (string, error) { return find(".tools", "iptables", "make test-tools") }

// AWSCLI is the path of the Python interpreter that has the AWS CLI.
func AWSCLI() (string, error) { return find(".tools", "aws/bin/python", "make test-tools") }

// RIE is the path of AWS's runtime interface emulator, which runs a Lambda function.
func RIE() (string, error) { return find(".tools", "bin/aws-lambda-rie", "make bench-tools") }

// Dist is the path of something that `make build` writes, such as "ecsmesh-init" or "deregister-tasks/bootstrap".
func Dist(name string) (string, error) { return find("dist", name, "make build") }

// Root is the root folder of the checkout: the nearest one at or above the working directory that has this
// module's go.mod.
func Root() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module's root: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		switch {
		case err == nil && strings.HasPrefix(string(mod), "module ecsmesh\n"):
			return dir, nil
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return "", fmt.Errorf("find the module's root: %w", err)
		case dir == filepath.Dir(dir):
			return "", fmt.Errorf("find the module's root: %s is not inside a checkout of ecsmesh", wd)
		}
	}
}

func installed(name string) (string, error) { return find(".tools", name, "make tools") }

func find(folder, name, target string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, folder, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w (run `%s` first)", filepath.Base(name), err, target)
	}
	return path, nil
}
