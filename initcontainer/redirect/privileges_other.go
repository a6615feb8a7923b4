//go:build !linux

package redirect

import "errors"

// errNotLinux: ECS runs Linux.
var errNotLinux = errors.New("only Linux redirects traffic by iptables")

func lacking() ([]string, error) { return nil, errNotLinux }

// As can't be had here.
func As(int) (back func() error, err error) { return nil, errNotLinux }
