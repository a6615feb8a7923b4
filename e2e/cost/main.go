// Command cost writes docs/performance/cost.md and cost.svg: what a mesh costs a
// month, computed from the inputs in e2e/cost/monthly.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ecsmesh/e2e/cost/monthly"
	"ecsmesh/e2e/tools"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	root, err := tools.Root()
	if err != nil {
		return err
	}
	return monthly.Default().Write(filepath.Join(root, "docs", "performance"))
}
