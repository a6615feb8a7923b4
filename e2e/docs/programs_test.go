package docs

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ecsmesh/e2e/sam/usage"
)

// make looks for targets and variables in the Makefile.
func (j *judge) make(c command) []string {
	makefile, err := os.ReadFile(filepath.Join(j.root, "Makefile"))
	if err != nil {
		return []string{err.Error()}
	}
	var faults []string
	for _, word := range c.words[1:] {
		name, _, variable := strings.Cut(word, "=")
		switch {
		case variable && !regexp.MustCompile(`(\$\(`+name+`\)|\$\(if \$\(`+name+`\)|\b`+name+`=1|\b`+name+`=)`).Match(makefile):
			faults = append(faults, "the Makefile has no variable "+name)
		case !variable && !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(word)+`:`).Match(makefile):
			faults = append(faults, "the Makefile has no target "+word)
		}
	}
	return faults
}

// aws has the real AWS CLI judge, and looks at the files that a command names.
func (j *judge) aws(c command) []string {
	document, _, _ := strings.Cut(c.where, ":")
	j.asked = append(j.asked, question{Command: c, AWS: c.words[1:], Named: c.named})
	var faults []string
	for _, word := range c.words {
		if name, is := strings.CutPrefix(word, "file://"); is {
			faults = append(faults, j.file(document, name)...)
		}
	}
	if len(c.words) > 2 && c.words[1] == "cloudformation" && c.words[2] == "deploy" {
		template := option(c.words, "--template-file")
		faults = append(faults, j.file(document, template)...)
		if len(faults) == 0 {
			faults = append(faults, j.deploy(c, template, true)...)
		}
	}
	return faults
}

// deploy asks for the parameters of a template, which is in the checkout or which
// the document makes.
func (j *judge) deploy(c command, template string, whole bool) []string {
	document, _, _ := strings.Cut(c.where, ":")
	if content, made := j.made[document][template]; made {
		if content == "" {
			content = j.made[document]["template of "+template]
		}
		if content == "" { // what ecsmesh-task makes of another has the same parameters
			content = j.made[document][strings.Replace(template, "mesh-task", "task", 1)]
		}
		if content == "" {
			return []string{"what is in " + template + " is not known"}
		}
		file, err := os.CreateTemp("", "ecsmesh-docs-*.yaml")
		if err != nil {
			return []string{err.Error()}
		}
		defer file.Close()
		if _, err := file.WriteString(content); err != nil {
			return []string{err.Error()}
		}
		template = file.Name()
	}
	overrides := map[string]string{}
	words := c.words[slices.Index(c.words, c.words[0]):]
	if at := slices.Index(words, "--parameter-overrides"); at >= 0 {
		for _, word := range words[at+1:] {
			if strings.HasPrefix(word, "--") {
				break
			}
			name, value, is := strings.Cut(word, "=")
			if !is {
				return []string{word + " is no parameter with a value"}
			}
			overrides[name] = value
		}
	}
	j.asked = append(j.asked, question{Command: c, Template: template, Overrides: overrides, Whole: whole})
	return nil
}

func option(words []string, name string) string {
	if at := slices.Index(words, name); at >= 0 && at+1 < len(words) {
		return words[at+1]
	}
	return ""
}

// sam looks commands and options up in the table, and what they name in
// template.yaml.
func (j *judge) sam(c command) []string {
	words := c.words[1:]
	if len(words) == 0 {
		return []string{"sam lacks a command"}
	}
	name := words[0]
	if name == "local" && len(words) > 1 {
		name, words = "local "+words[1], words[1:]
	}
	options, known := usage.Options[name]
	if !known {
		return []string{"sam has no command " + name}
	}
	var faults, free []string
	for i := 1; i < len(words); i++ {
		takes, known := options[words[i]]
		switch {
		case !strings.HasPrefix(words[i], "--"):
			free = append(free, words[i])
		case !known:
			faults = append(faults, "sam "+name+" has no option "+words[i])
		case takes && words[i] != "--parameter-overrides":
			i++
		}
	}
	document, _, _ := strings.Cut(c.where, ":")
	if event := option(words, "--event"); event != "" {
		faults = append(faults, j.file(document, event)...)
	}
	switch name {
	case "local invoke":
		template, err := os.ReadFile(filepath.Join(j.root, "template.yaml"))
		if err != nil {
			return []string{err.Error()}
		}
		for _, function := range free {
			if !regexp.MustCompile(`(?m)^  ` + function + `:\n    Type: AWS::Serverless::Function$`).Match(template) {
				faults = append(faults, "template.yaml has no function "+function)
			}
		}
	case "deploy":
		// A stack that is there keeps the parameters that are not named.
		faults = append(faults, j.deploy(c, "template.yaml", false)...)
	}
	return faults
}

// ownCommand looks a command and its options up in the usage of ecsmesh-init.
func ownCommand(usage string, words []string) []string {
	words = words[1:]
	name := "register"
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		name, words = words[0], words[1:]
	}
	at := regexp.MustCompile(`(?ms)^  ` + regexp.QuoteMeta(name) + `\b.*?(^  [a-z]|\z)`).FindString(usage)
	if at == "" {
		return []string{"ecsmesh-init has no command " + name}
	}
	var faults []string
	for _, word := range words {
		if word == "--" {
			break
		}
		if strings.HasPrefix(word, "-") && !regexp.MustCompile(`(^|[ \[])`+regexp.QuoteMeta(word)+`\b`).MatchString(at) {
			faults = append(faults, "ecsmesh-init "+name+" has no option "+word)
		}
	}
	return faults
}

// expander looks options up in the usage of ecsmesh-task, and for its files.
func (j *judge) expander(usage string, c command) []string {
	document, _, _ := strings.Cut(c.where, ":")
	var faults []string
	for i := 1; i < len(c.words); i++ {
		word := c.words[i]
		if !strings.HasPrefix(word, "-") {
			faults = append(faults, j.file(document, word)...)
			continue
		}
		described := regexp.MustCompile(`(?m)^ +--?` + strings.TrimLeft(word, "-") + `\b(.*)$`).FindStringSubmatch(usage)
		switch {
		case described == nil:
			faults = append(faults, "ecsmesh-task has no option "+word)
		case strings.TrimLeft(word, "-") == "mesh":
			i++
			faults = append(faults, j.file(document, c.words[i])...)
		case regexp.MustCompile(`^ [A-Za-z]+`).MatchString(described[1]): // of a flag with a value
			i++
		}
	}
	return faults
}

// consulCommand asks the real Consul.
func consulCommand(t *testing.T, consul string, words []string) []string {
	t.Helper()
	// A command of consul's that has commands below it lists them, and Consul
	// itself falls back to that list where it doesn't know one.
	path, rest := []string{}, words[1:]
	help := ""
	for {
		out, _ := exec.CommandContext(t.Context(), consul, append(slices.Clone(path), "-h")...).CombinedOutput()
		help = string(out)
		below := subcommands(help)
		if len(below) == 0 {
			break
		}
		said := strings.Join(append([]string{"consul"}, path...), " ")
		if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
			if strings.Contains(help, "Options\n") {
				break
			}
			return []string{said + " lacks a command"}
		}
		if !slices.Contains(below, rest[0]) {
			return []string{said + " has no command " + rest[0]}
		}
		path, rest = append(path, rest[0]), rest[1:]
	}
	var faults []string
	for _, word := range rest {
		name, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(name, "-") && !regexp.MustCompile(`(?m)^  `+regexp.QuoteMeta(name)+`(=|$)`).MatchString(help) {
			faults = append(faults, "consul "+strings.Join(path, " ")+" has no option "+name)
		}
	}
	return faults
}

// subcommands are those that a help of Consul's lists.
func subcommands(help string) []string {
	_, list, has := strings.Cut(help, "ubcommands:\n")
	if !has {
		if _, list, has = strings.Cut(help, "Available commands are:\n"); !has {
			return nil
		}
	}
	var names []string
	for line := range strings.Lines(list) {
		if found := regexp.MustCompile(`^    ([a-z-]+)  +\S`).FindStringSubmatch(line); found != nil {
			names = append(names, found[1])
		}
	}
	return names
}

// golang looks for the packages that are named, and knows the options in use.
func (j *judge) golang(c command) []string {
	options := map[string][]string{
		"test": {"-timeout", "-run", "-update", "-race", "-count", "-v", "-fuzz", "-bench", "-shuffle"},
		"run":  nil,
		"vet":  nil,
		"doc":  nil,
	}
	if len(c.words) < 2 {
		return []string{"go lacks a command"}
	}
	known, is := options[c.words[1]]
	if !is {
		return []string{"go has no command " + c.words[1]}
	}
	var faults []string
	for _, word := range c.words[2:] {
		name, _, _ := strings.Cut(word, "=")
		switch folder, here := strings.CutPrefix(word, "./"); {
		case here && strings.Contains(word, "..."):
		case here:
			faults = append(faults, j.file("", folder)...)
		case strings.HasPrefix(name, "-") && !slices.Contains(known, name):
			faults = append(faults, "go "+c.words[1]+" has no option "+name)
		}
	}
	return faults
}

// docker and git are not on every machine that tests; what the documents use of
// them is little.
func docker(c command) []string {
	return simple(c, map[string][]string{"login": {"--username", "--password-stdin"}, "push": nil, "load": {"--input"}, "tag": nil, "manifest": nil})
}

func git(c command) []string {
	return simple(c, map[string][]string{"clone": nil, "checkout": {"-b"}, "switch": {"-c"}, "diff": nil, "commit": {"-am"}, "status": {"--short"}, "tag": {"-a", "-m"}, "push": nil, "add": {"-A"}, "describe": nil})
}

func simple(c command, commands map[string][]string) []string {
	if len(c.words) < 2 {
		return []string{c.words[0] + " lacks a command"}
	}
	options, known := commands[c.words[1]]
	if !known {
		return []string{c.words[0] + " has no command " + c.words[1] + ", but " + strings.Join(slices.Sorted(maps.Keys(commands)), ", ")}
	}
	var faults []string
	for _, word := range c.words[2:] {
		if strings.HasPrefix(word, "-") && !slices.Contains(options, word) {
			faults = append(faults, c.words[0]+" "+c.words[1]+" has no option "+word)
		}
	}
	return faults
}
