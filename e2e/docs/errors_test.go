package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// othersWords are errors of others, which are alone in the log or have ours
// before them.
var othersWords = []string{
	"certificate signed by unknown authority", "HTTP request to an HTTPS server", "HTTP response to HTTPS client", "connection refused", // of Go
	"No known Consul servers", "No cluster leader", "Namespaces are a Consul Enterprise feature", "Partitions", // of Consul
	"UnauthorizedOperation", "AccessDeniedException", // of AWS
	"no space left on device",                                                                       // of Linux
	"consul-token.json' does not exist", "Failed to inject credential", "CERTIFICATE_VERIFY_FAILED", // of Envoy
}

// pieced are errors of ours that the code puts together.
var pieced = []string{"start deregister-tasks", "give it to user"}

// quote is what a document quotes of a log. With two backquotes around, it has
// some of its own.
var quote = regexp.MustCompile("``(.+?)``|`([^`]+)`")

// TestErrorsInDocumentsAreThoseOfTheCode looks for what the runbook quotes in the
// code that says it. TestRunbookHasEachMessage is the other direction.
func TestErrorsInDocumentsAreThoseOfTheCode(t *testing.T) {
	code := source(t)
	quoted := 0
	runbook := tables(readFile(t, "docs", "runbook.md"))
	for _, row := range slices.Concat(runbook["Messages"], runbook["Deployments"]) {
		for _, found := range quote.FindAllStringSubmatch(row[0], -1) {
			text := strings.ReplaceAll(found[1]+found[2], "`", "") // as source has it
			for _, part := range regexp.MustCompile(`…|;`).Split(text, -1) {
				if part = strings.Trim(part, " :"); len(part) < 10 {
					continue
				}
				quoted++
				if !saidBy(code, part) {
					t.Errorf("nothing says %q", part)
				}
			}
		}
	}
	if quoted < 200 {
		t.Errorf("only %d errors were looked for", quoted)
	}
	if saidBy(code, "no Consul server replied in time") || !saidBy(code, "no Consul server answered in time") {
		t.Error("what is said can't be told from what is not")
	}
}

// saidBy looks for a text in code, where what differs from case to case is a verb
// of Printf's.
func saidBy(code, text string) bool {
	if slices.Contains(othersWords, text) || slices.Contains(pieced, text) || strings.Contains(code, text) {
		return true
	}
	pattern := regexp.MustCompile(`"[^"]*"|\b[A-Z][A-Z0-9_]*\b|\b[0-9]+\b`).ReplaceAllString(regexp.QuoteMeta(text), `%[a-z]`)
	return pattern != regexp.QuoteMeta(text) && regexp.MustCompile(pattern).MatchString(code)
}

// source is all of the code but tests, each text in one piece, and the template.
func source(t *testing.T) string {
	t.Helper()
	root := checkout(t)
	all := strings.Builder{}
	all.WriteString(readFile(t, "template.yaml"))
	for _, folder := range []string{"functions", "shared", "initcontainer"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	text := regexp.MustCompile(`"\s*\+\s*"`).ReplaceAllString(strings.ReplaceAll(all.String(), "`", ""), "")
	return strings.ReplaceAll(text, `\"`, `"`)
}
