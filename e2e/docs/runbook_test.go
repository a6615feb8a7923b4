package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ecsmesh/functions/sweep/sweep"
)

// elsewhere are packages whose errors the runbook doesn't have one by one, and
// the section that it has for all of them: each error names what is at fault,
// what was found and what is wanted.
var elsewhere = map[string]string{
	"initcontainer/config":                 "The configuration is refused",
	"initcontainer/cmd/ecsmesh-init":       "The command line of ecsmesh-init is wrong",
	"initcontainer/doctor":                 "What `doctor` says",
	"initcontainer/doctor/facts":           "What `doctor` says",
	"shared/environment":                   "A function does not start",
	"functions/mesh-task":                  "The macro refuses a template",
	"functions/mesh-task/cmd/ecsmesh-task": "The macro refuses a template",
	"functions/mesh-task/document":         "The macro refuses a template",
	"functions/mesh-task/expand":           "The macro refuses a template",
	"functions/mesh-task/macro":            "The macro refuses a template",
	"functions/mesh-task/meshtask":         "The macro refuses a template",
}

// message is what somebody may find in a log, as the source has it.
type message struct {
	position string // file and line
	words    string // the longest part that is always the same
}

// TestRunbookHasEachDifference finds what a report may name.
func TestRunbookHasEachDifference(t *testing.T) {
	text := readFile(t, "docs", "runbook.md")
	for _, kind := range sweep.Kinds() {
		if !strings.Contains(text, "\n### "+string(kind)+"\n") {
			t.Errorf("docs/runbook.md has no section %q", kind)
		}
	}
}

// TestRunbookHasEachMessage finds the messages of all warnings and errors in the
// runbook by their own words.
func TestRunbookHasEachMessage(t *testing.T) {
	text := readFile(t, "docs", "runbook.md")
	runbook := words(text)
	found := messages(t)
	if len(found) < 200 {
		t.Errorf("the source has only %d messages", len(found))
	}
	for _, m := range found {
		if !strings.Contains(runbook, m.words) {
			t.Errorf("%s: docs/runbook.md has no such message: %s", m.position, m.words)
		}
	}
	root := checkout(t)
	for folder, section := range elsewhere {
		if _, err := os.Stat(filepath.Join(root, folder)); err != nil {
			t.Errorf("%v", err)
		}
		if !regexp.MustCompile(`(?m)^#+ ` + regexp.QuoteMeta(section) + `$`).MatchString(text) {
			t.Errorf("docs/runbook.md has no section %q, of %s", section, folder)
		}
	}
}

// words is a text with a single space wherever it has white space.
func words(text string) string { return strings.Join(strings.Fields(text), " ") }

// messages are those of the programs' warnings and errors.
func messages(t *testing.T) []message {
	t.Helper()
	root := checkout(t)
	var found []message
	for _, folder := range []string{"functions", "shared", "initcontainer"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			_, apart := elsewhere[filepath.ToSlash(filepath.Dir(name))]
			ast.Inspect(file, func(node ast.Node) bool {
				call, ok := node.(*ast.CallExpr)
				if !ok {
					return true
				}
				format, logged := said(call)
				if part := longest(format); part != "" && (logged || !apart) {
					found = append(found, message{name + ":" + strconv.Itoa(files.Position(call.Pos()).Line), part})
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// said is the text of a call that logs a warning or an error, or makes an error.
// What is not written out there is none of this.
func said(call *ast.CallExpr) (format string, logged bool) {
	if verdict, ok := call.Fun.(*ast.Ident); ok && verdict.Name == "verdictf" && len(call.Args) > 1 { // of the deployment hook
		status, _ := call.Args[0].(*ast.Ident)
		if status == nil || status.Name != "Failed" {
			return "", false
		}
		return literal(call.Args[1]), true
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	at := -1
	switch method.Sel.Name {
	case "Errorf", "New":
		if of, ok := method.X.(*ast.Ident); ok && (of.Name == "fmt" || of.Name == "errors") {
			at = 0
		}
	case "Warn", "Error":
		at, logged = 0, true
	case "WarnContext", "ErrorContext":
		at, logged = 1, true
	case "LogAttrs":
		at, logged = 2, true
	}
	if at < 0 || len(call.Args) <= at {
		return "", false
	}
	return literal(call.Args[at]), logged
}

// literal is a text, with a verb in place of what is no part of the source.
func literal(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(expr.Value); err == nil {
			return text
		}
	case *ast.BinaryExpr:
		if expr.Op == token.ADD {
			return literal(expr.X) + literal(expr.Y)
		}
	case *ast.Ident, *ast.SelectorExpr, *ast.CallExpr:
		return "%s"
	}
	return ""
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// longest is the longest part of a format that is always the same, and that is
// of more than one word: one alone finds nothing.
func longest(format string) string {
	parts := verb.Split(strings.ReplaceAll(format, ". ", "%v"), -1)
	slices.SortStableFunc(parts, func(a, b string) int { return len(b) - len(a) })
	for _, part := range parts {
		if part = words(strings.Trim(part, " :;,.()\"")); len(strings.Fields(part)) > 1 {
			return part
		}
	}
	return ""
}

// TestMessagesAreFoundInTheSource has each way in which a message is written.
func TestMessagesAreFoundInTheSource(t *testing.T) {
	for source, want := range map[string]string{
		`fmt.Errorf("read node %s back: it is not in the catalog", name)`:    "back: it is not in the catalog",
		`fmt.Errorf("%w; run this as %q, or " + "let it be", err, user)`:     "run this as",
		`errors.New("it is empty. Write something into it first")`:           "Write something into it first",
		`log.WarnContext(ctx, "the list stays as it is", "error", err)`:      "the list stays as it is",
		`r.Log.With("a", 1).Error("health not synced")`:                      "health not synced",
		`log.LogAttrs(ctx, slog.LevelWarn, "could not read "+what+"; alas")`: "could not read",
		`verdictf(Failed, "there is nothing to do at the stage %q", stage)`:  "there is nothing to do at the stage",
		`verdictf(Succeeded, "%d tasks pass in Consul", n)`:                  "",
		`errors.New("empty")`:                        "",
		`fmt.Errorf("%w: %w", errA, errB)`:           "",
		`log.InfoContext(ctx, "all is well so far")`: "",
		`fmt.Sprintf("no message at all")`:           "",
	} {
		expr, err := parser.ParseExpr(source)
		if err != nil {
			t.Fatal(err)
		}
		format, _ := said(expr.(*ast.CallExpr))
		if got := longest(format); got != want {
			t.Errorf("%s: got %q, want %q", source, got, want)
		}
	}
}
