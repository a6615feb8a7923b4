//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "The demo can't run here: it needs Linux, which gives every task a loopback address of its own, and this is %s.\n", runtime.GOOS)
	os.Exit(1)
}
