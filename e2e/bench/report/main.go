// Command report writes docs/performance from what `make bench` left: the tables
// in its README, the plots, and the results themselves.
//
//	report [FILE]   FILE is dist/bench.json by default
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"ecsmesh/e2e/bench/results"
	"ecsmesh/e2e/tools"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	root, err := tools.Root()
	if err != nil {
		return err
	}
	from := filepath.Join(root, "dist", "bench.json")
	if len(args) > 0 {
		from = args[0]
	}
	measured, err := results.Read(from)
	if err != nil {
		return fmt.Errorf("%w; `make bench` leaves them", err)
	}
	folder := filepath.Join(root, "docs", "performance")
	kept := thin(measured)
	files, err := render(kept, folder)
	if err != nil {
		return err
	}
	if err := removePlots(folder); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return kept.Write(filepath.Join(folder, resultsFile))
}

// removePlots removes those of earlier results.
func removePlots(folder string) error {
	plots, err := filepath.Glob(filepath.Join(folder, "*.svg"))
	for _, plot := range plots {
		if err := os.Remove(plot); err != nil {
			return err
		}
	}
	return err
}
