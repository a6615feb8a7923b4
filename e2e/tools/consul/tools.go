//go:build tools

// Package consul pins the Consul server that the lab runs.
package consul

import _ "github.com/hashicorp/consul"
