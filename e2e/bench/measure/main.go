// Command measure runs a command and prints what that took, as JSON. It is a
// program of its own, and a small one, since Linux counts in the peak of a
// process's memory what its parent had.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"ecsmesh/e2e/bench/usage"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: measure COMMAND [ARGUMENT…]")
		os.Exit(2)
	}
	used, err := usage.Of(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(used)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
