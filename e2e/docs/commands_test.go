package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/syntax"

	"ecsmesh/e2e/tools"
)

// filledIn is, in a word, what the shell or the reader fills in.
const filledIn = "\x00"

// span is code within a sentence.
var span = regexp.MustCompile("`([^`]+)`")

// command is one that a document has its reader run.
type command struct {
	where string
	words []string
	named bool // it is the name of one, in a sentence, without what it needs
}

func (c command) String() string {
	return c.where + ": " + strings.ReplaceAll(strings.Join(c.words, " "), filledIn, "…")
}

// commandLines are the commands of all documents: those of blocks, and those
// that stand in a sentence.
func commandLines(t *testing.T, j *judge) []command {
	t.Helper()
	var all []command
	for _, d := range documents(t) {
		inBlocks, err := d.blocks()
		if err != nil {
			t.Fatal(err)
		}
		j.made[d.path] = map[string]string{}
		for _, b := range inBlocks {
			if b.language != "sh" {
				continue
			}
			found, err := j.read(b.String(), d.path, b.text)
			if err != nil {
				t.Errorf("%s: %v", b, err)
			}
			all = append(all, found...)
		}
		prose := fenced.ReplaceAllStringFunc(d.text, func(b string) string { return strings.Repeat("\n", strings.Count(b, "\n")) })
		for number, line := range strings.Split(prose, "\n") {
			for _, found := range span.FindAllStringSubmatch(line, -1) {
				text := strings.ReplaceAll(found[1], " …", "")
				if program, more, _ := strings.Cut(text, " "); j.programs[program] == nil || more == "" {
					continue
				}
				where := fmt.Sprintf("%s:%d", d.path, number+1)
				commands, err := j.read(where, d.path, placeholder.ReplaceAllString(text, "PLACE"))
				if err != nil {
					t.Errorf("%s: %v", where, err)
				}
				for i, c := range commands {
					commands[i].named = !slices.ContainsFunc(c.words, func(word string) bool { return strings.HasPrefix(word, "-") })
				}
				all = append(all, commands...)
			}
		}
	}
	return all
}

var (
	fenced      = regexp.MustCompile("(?ms)^```.*?^```$")
	placeholder = regexp.MustCompile(`<[a-z -]+>`)
)

// TestCommandsAreRight holds each command of the documents to the program that
// it is for: the real CLIs of AWS and Consul, our own, the Makefile; and the files
// and parameters that it names to those that are there.
func TestCommandsAreRight(t *testing.T) {
	j := newJudge(t)
	commands := commandLines(t, j)
	if len(commands) < 100 {
		t.Errorf("only %d commands were found", len(commands))
	}
	for _, fault := range j.judge(t, commands) {
		t.Error(fault)
	}
}

// TestWrongCommandsAreFound has commands that a reader could not run.
func TestWrongCommandsAreFound(t *testing.T) {
	j := newJudge(t)
	for text, want := range map[string]string{
		"make domo":                            "the Makefile has no target domo",
		"make demo KEPT=1":                     "the Makefile has no variable KEPT",
		"sam biuld":                            "sam has no command biuld",
		"sam deploy --guide":                   "sam deploy has no option --guide",
		"sam deploy --parameter-overrides A=b": "template.yaml has no parameter A",
		"sam deploy --parameter-overrides TaskTokenTtlMinutes=0":       "must be a number from 1",
		"sam deploy --parameter-overrides ConsulServerClusterArn=mesh": "must be the ARN of an ECS cluster",
		"sam deploy --parameter-overrides VpcSubnetIds=subnet-1":       "must be IDs of subnets",
		"sam local invoke SwepFunction":                                "template.yaml has no function SwepFunction",
		"sam local invoke SweepFunction --event events/x.json":         "there is no events/x.json",
		"aws ecs list-task":                                                           "aws ecs has no command list-task",
		"aws ecs list-tasks --claster x":                                              "aws ecs list-tasks has no option --claster",
		"aws ecs list-tasks --desired-status STOPED":                                  "can't be 'STOPED'",
		"aws ecs update-service --cluster x":                                          "lacks --service",
		"aws ec2 describe-vpcs --query Vpcs[0].Id":                                    "finds nothing in its output",
		"aws logs tail x --sins 5m":                                                   "it has no option --sins",
		"aws cloudformation deploy --stack-name x --template-file examples/mesh.yaml": "there is no examples/mesh.yaml",
		"aws cloudformation deploy --stack-name x --template-file examples/consul-dev.yaml --parameter-overrides Cluster=a VpcId=vpc-1": "needs a parameter Subnets",
		"aws ssm put-parameter --name x --type String --value file://x.pem":                                                             "nothing makes x.pem",
		"consul catalog service":                                "consul catalog has no command service",
		"consul tls cert create -servr":                         "consul tls cert create has no option -servr",
		"ecsmesh-task --dif examples/mesh-tasks.yaml":           "ecsmesh-task has no option --dif",
		"ecsmesh-task -init-image x my-task.yaml":               "nothing makes my-task.yaml",
		"ecsmesh-init chek":                                     "ecsmesh-init has no command chek",
		"dist/ecsmesh-init check -refreshing 1m":                "ecsmesh-init check has no option -refreshing",
		"go test ./e2e/modell":                                  "there is no e2e/modell",
		"go test -tiemout 1h ./e2e/model":                       "go test has no option -tiemout",
		"docker psuh x":                                         "docker has no command psuh",
		"ecs-cli up":                                            "nothing is known of the program ecs-cli",
		"echo $(aws ecs list-task)":                             "aws ecs has no command list-task",
		"for i in 1; do sam biuld | cat; done":                  "sam has no command biuld",
		"x() { sam biuld; }; x":                                 "sam has no command biuld",
		"export X=$(sam biuld)":                                 "sam has no command biuld",
		"aws ecs list-tasks --cluster \"$(aws ecs list-task)\"": "aws ecs has no command list-task",
		"if then": "must be followed by",
	} {
		t.Run(text, func(t *testing.T) {
			j.made["x"] = map[string]string{}
			commands, err := j.read("x", "x", text)
			faults := j.judge(t, commands)
			if err != nil {
				faults = append(faults, err.Error())
			}
			if !strings.Contains(strings.Join(faults, "\n"), want) {
				t.Errorf("it says %q", faults)
			}
		})
	}
}

// judge knows what can be run.
type judge struct {
	root     string
	programs map[string]func(c command) []string // what is wrong with a command, by its program
	// made are the files that each document makes, with their content where it has
	// that; and "function NAME", and "template of FILE" with what a file is made of.
	made  map[string]map[string]string
	asked []question // of the real AWS CLI, and of templates
}

// question is one that commandline.py answers.
type question struct {
	Command   command           `json:"-"`
	AWS       []string          `json:"aws,omitempty"`
	Template  string            `json:"template,omitempty"`
	Overrides map[string]string `json:"overrides"`
	Whole     bool              `json:"whole"`
	Named     bool              `json:"named"` // what the command needs may be missing
}

func newJudge(t *testing.T) *judge {
	t.Helper()
	j := &judge{root: checkout(t), made: map[string]map[string]string{}}
	init, err := tools.Dist("ecsmesh-init")
	if err != nil {
		t.Fatal(err)
	}
	consul, err := tools.Consul()
	if err != nil {
		t.Fatal(err)
	}
	expander, err := tools.Dist("ecsmesh-task")
	if err != nil {
		t.Fatal(err)
	}
	initUsage, expanderUsage := output(t, init, "help"), output(t, expander, "-help")
	ours := func(c command) []string { return ownCommand(initUsage, c.words) }
	expands := func(c command) []string { return j.expander(expanderUsage, c) }
	j.programs = map[string]func(c command) []string{
		"make":                      j.make,
		"aws":                       j.aws,
		"sam":                       j.sam,
		"go":                        j.golang,
		"consul":                    func(c command) []string { return consulCommand(t, consul, c.words) },
		"ecsmesh-task":              expands,
		"dist/ecsmesh-task":         expands,
		"ecsmesh-init":              ours,
		"dist/ecsmesh-init":         ours,
		"/ecsmesh/bin/ecsmesh-init": ours,
		"docker":                    docker,
		"git":                       git,
	}
	return j
}

// harmless are programs of the shell and of every system, whose use is too
// simple for a table.
var harmless = []string{"cat", "cd", "cp", "curl", "echo", "export", "ln", "mv", "rm", "source", "tr", "uuidgen", "jq", "true", "mkdir", "sha256sum", "gofmt"}

// read parses what a shell is to run. It keeps in mind which files that makes.
func (j *judge) read(where, document, text string) ([]command, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), where)
	if err != nil {
		return nil, err
	}
	var commands []command
	var faulty error
	syntax.Walk(file, func(node syntax.Node) bool {
		switch n := node.(type) {
		case *syntax.FuncDecl:
			j.made[document]["function "+n.Name.Value] = ""
		case *syntax.Stmt:
			j.redirect(document, n)
		case *syntax.CallExpr:
			if len(n.Args) > 0 {
				c := command{where: where}
				for _, word := range n.Args {
					c.words = append(c.words, value(word.Parts))
				}
				commands = append(commands, c)
				if err := j.remember(document, c); err != nil {
					faulty = err
				}
			}
		}
		return true
	})
	return commands, faulty
}

// remember keeps in mind the files that a command makes by itself.
func (j *judge) remember(document string, c command) error {
	if strings.Join(c.words, " ") == "consul tls ca create" {
		j.made[document]["consul-agent-ca.pem"] = ""
	}
	if packaged := option(c.words, "--output-template-file"); packaged != "" {
		template, err := os.ReadFile(filepath.Join(j.root, "template.yaml"))
		if err != nil {
			return err
		}
		j.made[document][packaged], j.made[document]["template of "+packaged] = "", string(template)
	}
	return nil
}

// redirect remembers the file that a statement writes, and what is in it where a
// here-document says so.
func (j *judge) redirect(document string, statement *syntax.Stmt) {
	name, content := "", ""
	for _, r := range statement.Redirs {
		switch r.Op {
		case syntax.RdrOut, syntax.AppOut:
			name = value(r.Word.Parts)
		case syntax.Hdoc, syntax.DashHdoc:
			content = value(r.Hdoc.Parts)
		}
	}
	if name != "" {
		j.made[document][name] = content
	}
}

// value is a word as the program gets it.
func value(parts []syntax.WordPart) string {
	var text strings.Builder
	for _, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			text.WriteString(unescape.ReplaceAllString(p.Value, "$1"))
		case *syntax.SglQuoted:
			text.WriteString(p.Value)
		case *syntax.DblQuoted:
			text.WriteString(value(p.Parts))
		default:
			text.WriteString(filledIn)
		}
	}
	return text.String()
}

var unescape = regexp.MustCompile(`\\\n?(.?)`)

// judge says what is wrong with commands.
func (j *judge) judge(t *testing.T, commands []command) []string {
	t.Helper()
	var faults []string
	j.asked = nil
	for _, c := range commands {
		program := c.words[0]
		_, function := j.made[strings.SplitN(c.where, ":", 2)[0]]["function "+program]
		switch known := j.programs[program]; {
		case known != nil:
			for _, fault := range known(c) {
				faults = append(faults, c.String()+": "+fault)
			}
		case !function && !slices.Contains(harmless, program):
			faults = append(faults, c.String()+": nothing is known of the program "+program)
		}
	}
	return append(faults, j.answers(t)...)
}

// answers asks commandline.py, once, what is wrong.
func (j *judge) answers(t *testing.T) []string {
	t.Helper()
	if len(j.asked) == 0 {
		return nil
	}
	python, err := tools.AWSCLI()
	if err != nil {
		t.Fatal(err)
	}
	questions, err := json.Marshal(j.asked)
	if err != nil {
		t.Fatal(err)
	}
	ask := exec.CommandContext(t.Context(), python, "-B", "e2e/docs/commandline.py")
	ask.Dir = j.root
	ask.Stdin = bytes.NewReader(questions)
	out, err := ask.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var answers [][]string
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(j.asked) {
		t.Fatalf("%d answers to %d questions, %v", len(answers), len(j.asked), err)
	}
	var faults []string
	for i, answer := range answers {
		for _, fault := range answer {
			faults = append(faults, j.asked[i].Command.String()+": "+fault)
		}
	}
	return faults
}

func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}

// file says whether there is one, or a folder: in the checkout, or made by the
// document, or by `make build`.
func (j *judge) file(document, name string) []string {
	if _, made := j.made[document][name]; made || strings.Contains(name, filledIn) || strings.HasPrefix(name, "/") || strings.HasPrefix(name, "http") {
		return nil
	}
	if _, err := os.Stat(filepath.Join(j.root, name)); err != nil && errors.Is(err, fs.ErrNotExist) {
		if strings.Contains(name, "/") {
			return []string{"there is no " + name}
		}
		return []string{"nothing makes " + name}
	}
	return nil
}
