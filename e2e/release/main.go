// Command release makes what a version is published as: the template with the
// functions' code beside it, the init container's and the command's binaries,
// what each binary is made of, and the checksums of all that. The same source
// and Go give the same bytes, but for the images.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run() error {
	version := flag.String("version", "", "semantic `version`, without a v")
	images := flag.Bool("images", true, "also save the init container's images, where there is Docker")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("the argument %q is not known", flag.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := newRelease(*version)
	if err != nil {
		return err
	}
	if err := r.write(ctx, *images); err != nil {
		return err
	}
	fmt.Printf("%s has version %s; docs/release.md says how it is checked and published\n", r.out, r.version)
	return nil
}

// semantic is a version as semver.org has it, but for build metadata, which an
// image's tag can't have.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?$`)

func checkVersion(version string) error {
	switch {
	case version == "":
		return errors.New("no version is given: make release VERSION=1.2.3")
	case strings.HasPrefix(version, "v"):
		return fmt.Errorf("the version is %q; give it without the v, which only the git tag has", version)
	case !semantic.MatchString(version):
		return fmt.Errorf("the version is %q, want MAJOR.MINOR.PATCH, as 1.2.3 or 1.2.3-rc.1", version)
	}
	return nil
}
