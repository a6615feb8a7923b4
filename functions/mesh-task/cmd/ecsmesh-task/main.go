// Command ecsmesh-task makes a mesh task's definition of a plain one.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"
	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
	"ecsmesh/functions/mesh-task/expand"
	"ecsmesh/functions/mesh-task/meshtask"
)

// version is set when the binary is linked.
var version = "dev"

const usage = `ecsmesh-task makes a mesh task's definition of a plain ECS task definition:
it adds the init container, Envoy and all that they need.

Usage: ecsmesh-task [flags] [FILE]

It reads FILE, or standard input, and prints the result; notes and errors go to
standard error. FILE is JSON or YAML, and one of
  - a template of CloudFormation or SAM, or some of its resources: each
    AWS::ECS::TaskDefinition with an EcsMesh block in its Metadata is expanded,
      Metadata:
        EcsMesh:
          service: web
          port: 8080
          upstreams: {api: 9091}
  - the input of "aws ecs register-task-definition --cli-input-json", or the
    output of "aws ecs describe-task-definition". The block is under ecsMesh at
    the top, or in a file of its own (-mesh).
The rest of FILE stays as it is, and doing it again changes nothing.

The block has the service's name and port, its upstreams and checks, and every
field of ECSMESH_CONFIG under its own name. taskRole: NONE in it says that the
task role may already do what a mesh task's must.

Flags:
  -mesh FILE               the block, in YAML or JSON
  -init-image IMAGE        image of ecsmesh-init; needed here, in $INIT_IMAGE
                           or as initImage in the block
  -envoy-image IMAGE       image of Envoy (` + meshtask.DefaultEnvoyImage + `)
  -servers-parameter NAME  SSM parameter with the Consul servers' addresses
                           (/ecsmesh/consul-servers)
  -ca-parameter NAME       reach the Consul servers by TLS: SSM parameter with
                           the CA of their certificates
  -ca-secret-arn ARN       the secret behind that parameter, if it is one
  -tls-server-name NAME    name in the servers' certificates
  -login-method NAME       log in to Consul, which has ACLs, by the task's role:
                           Consul's auth method
  -login-server-id NAME    what logins are signed for
  -parameter NAME=VALUE    value of a template's parameter, to check what uses
                           it; may be given often
  -diff                    print a unified diff from FILE to the result instead
  -format json|yaml        print the result in this format (that of FILE)
  -version                 print the version

Exit codes: 0 the result is printed; 1 the task can't be expanded, and the
errors say why; 2 the command line is wrong, or a file can't be read.
`

// Exit codes.
const (
	exitRefused = 1
	exitUsage   = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// settings are the command line.
type settings struct {
	in      expand.Input
	mesh    string
	diff    bool
	format  document.Format
	version bool
	file    string // "": standard input
}

// run is the program: arguments in, exit code out.
func run(args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	s, err := parse(args, getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "ecsmesh-task: %v; ecsmesh-task -help says how it is used\n", err)
		return exitUsage
	case s.version:
		fmt.Fprintln(stdout, version)
		return 0
	}
	read, err := s.read(stdin)
	if err != nil {
		fmt.Fprintf(stderr, "ecsmesh-task: %v\n", err)
		return exitUsage
	}
	if err := s.checkParameters(read.Root); err != nil {
		fmt.Fprintf(stderr, "ecsmesh-task: %s: %v\n", s.name(), err)
		return exitUsage
	}
	report, err := expand.Document(read.Root, s.in)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(stderr, "%s: %s\n", s.name(), strings.TrimRight(line, "\n"))
		}
		return exitRefused
	}
	if err := s.print(stdout, read, report.Described); err != nil {
		fmt.Fprintf(stderr, "ecsmesh-task: %v\n", err)
		return exitRefused
	}
	for _, note := range append(read.Notes, report.Notes...) {
		fmt.Fprintf(stderr, "%s: note: %s\n", s.name(), note)
	}
	return 0
}

func parse(args []string, getenv func(string) string) (settings, error) {
	s := settings{in: expand.Input{Parameters: map[string]any{}}}
	d := &s.in.Defaults
	flags := flag.NewFlagSet("ecsmesh-task", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run has the last word
	flags.StringVar(&s.mesh, "mesh", "", "")
	flags.StringVar(&d.InitImage, "init-image", getenv("INIT_IMAGE"), "")
	flags.StringVar(&d.EnvoyImage, "envoy-image", getenv("ENVOY_IMAGE"), "")
	flags.StringVar(&d.ServersParameter, "servers-parameter", "", "")
	flags.StringVar(&d.CAParameter, "ca-parameter", "", "")
	flags.StringVar(&d.CASecretARN, "ca-secret-arn", "", "")
	flags.StringVar(&d.TLSServerName, "tls-server-name", "", "")
	flags.StringVar(&d.LoginMethod, "login-method", "", "")
	flags.StringVar(&d.LoginServerID, "login-server-id", "", "")
	flags.BoolVar(&s.diff, "diff", false, "")
	flags.BoolVar(&s.version, "version", false, "")
	flags.Func("parameter", "", func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return errors.New("want NAME=VALUE")
		}
		s.in.Parameters[name] = value
		return nil
	})
	flags.Func("format", "", func(text string) error {
		s.format = document.Format(text)
		if s.format != document.JSON && s.format != document.YAML {
			return errors.New("want json or yaml")
		}
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	d.TLS, d.Login = d.CAParameter != "", d.LoginMethod != ""
	for _, f := range []struct{ name, value, with, needed string }{
		{"-ca-secret-arn", d.CASecretARN, "-ca-parameter", d.CAParameter},
		{"-tls-server-name", d.TLSServerName, "-ca-parameter", d.CAParameter},
		{"-login-server-id", d.LoginServerID, "-login-method", d.LoginMethod},
	} {
		if f.value != "" && f.needed == "" {
			return s, fmt.Errorf("%s means nothing without %s", f.name, f.with)
		}
	}
	switch rest := flags.Args(); {
	case len(rest) > 1:
		return s, fmt.Errorf("there is more than one file: %s (flags come before it)", strings.Join(rest, " "))
	case len(rest) == 1 && rest[0] != "-":
		s.file = rest[0]
	}
	if s.diff && s.format != "" {
		return s, errors.New("-diff shows the changes in the file's own format, so -format can't be another")
	}
	return s, nil
}

func (s settings) name() string {
	if s.file == "" {
		return "standard input"
	}
	return s.file
}

// read reads the file, and the block's if it has one.
func (s *settings) read(stdin io.Reader) (*document.Document, error) {
	if s.mesh != "" {
		block, err := parseFile(s.mesh)
		if err != nil {
			return nil, err
		}
		s.in.Block = inner(block.Root)
	}
	if s.file != "" {
		return parseFile(s.file)
	}
	content, err := io.ReadAll(stdin)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	read, err := document.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return read, nil
}

// inner is the block in a file of its own, with or without its name above it.
func inner(root *yaml.Node) *yaml.Node {
	if root.Kind == yaml.MappingNode && len(root.Content) == 2 && strings.EqualFold(root.Content[0].Value, "ecsmesh") {
		return root.Content[1]
	}
	return root
}

func parseFile(path string) (*document.Document, error) {
	content, err := os.ReadFile(path) //nolint:gosec // to read what a user names is what it is for
	if err != nil {
		return nil, err // which names what was done, and to which file
	}
	read, err := document.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return read, nil
}

// checkParameters refuses values that no parameter takes, such as of a mistyped
// one.
func (s settings) checkParameters(root *yaml.Node) error {
	if len(s.in.Parameters) == 0 || root.Kind != yaml.MappingNode {
		return nil
	}
	var declared []string
	template := false
	for i := 0; i+1 < len(root.Content); i += 2 {
		switch root.Content[i].Value {
		case "containerDefinitions", "taskDefinition":
			return errors.New("-parameter is for a template's parameters, and this is none")
		case "Resources":
			template = true
		case "Parameters":
			for j := 0; j+1 < len(root.Content[i+1].Content); j += 2 {
				declared = append(declared, root.Content[i+1].Content[j].Value)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.in.Parameters)) {
		if template && !slices.Contains(declared, name) && !strings.HasPrefix(name, "AWS::") {
			return fmt.Errorf("-parameter %s: the template has no such parameter, but %s", name, cmp.Or(strings.Join(declared, ", "), "none at all"))
		}
	}
	return nil
}

func (s settings) print(stdout io.Writer, read *document.Document, described bool) error {
	format := s.format
	if format == "" {
		format = read.Format
	}
	result, err := read.In(format)
	if err != nil {
		return err
	}
	if s.diff {
		name, before := s.name(), read.Source()
		if described {
			// It is another object than what register-task-definition takes, and
			// every line of it would be told as changed.
			name += " (as register-task-definition takes it)"
			if before, err = plain(before); err != nil {
				return err
			}
		}
		result = []byte(udiff.Unified(name, s.name()+" (expanded)", before, string(result)))
	}
	_, err = stdout.Write(result)
	return err
}

// plain is a description as register-task-definition takes it, in its own format.
func plain(description string) (string, error) {
	again, err := document.Parse([]byte(description))
	if err != nil {
		return "", err
	}
	if err := expand.Plain(again.Root); err != nil {
		return "", err
	}
	result, err := again.Bytes()
	return string(result), err
}
