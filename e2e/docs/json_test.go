package docs

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"ecsmesh/initcontainer/config"
)

// TestJSONInDocumentsIsRight reads each block as a task would, and each snippet
// of a configuration that stands in a sentence.
func TestJSONInDocumentsIsRight(t *testing.T) {
	read := 0
	for _, b := range allBlocks(t) {
		if b.language != "json" {
			continue
		}
		read++
		if err := readConfiguration(b.text); err != nil {
			t.Errorf("%s: %v", b, err)
		}
	}
	for _, d := range documents(t) {
		for number, line := range strings.Split(d.text, "\n") {
			for _, found := range span.FindAllStringSubmatch(line, -1) {
				if !strings.HasPrefix(found[1], `"`) && !strings.HasPrefix(found[1], `{"`) || !strings.Contains(found[1], `": `) {
					continue
				}
				read++
				if err := readSnippet(found[1]); err != nil {
					t.Errorf("%s:%d: %s: %v", d.path, number+1, found[1], err)
				}
			}
		}
	}
	if read < 8 {
		t.Errorf("only %d were found", read)
	}
	for _, wrong := range []string{
		`{"consulServers": {"defaults": {"tls": false}}, "service": {"prt": 8080}}`,
		`{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080}`,
		`{"consulServers": {"defaults": {"tls": false}}, "service": {"port": 8080}, "controller": {}}`,
	} {
		if readConfiguration(wrong) == nil {
			t.Errorf("nothing is wrong with %s", wrong)
		}
	}
	for _, wrong := range []string{`"prt": 8080`, `"topology": "star"`, `{"gateway": {"kind": "mesh"}}`, `"port": 80000`} {
		if readSnippet(wrong) == nil {
			t.Errorf("nothing is wrong with %s", wrong)
		}
	}
}

// readConfiguration reads a whole ECSMESH_CONFIG. What is only warned of is
// wrong in a document, too.
func readConfiguration(text string) error {
	read, err := config.Read(func(name string) string {
		if name == config.Variable {
			return text
		}
		return ""
	})
	if err == nil && len(read.Warnings) > 0 {
		err = fmt.Errorf("%q", read.Warnings)
	}
	return err
}

// readSnippet reads a part of a configuration: fields of it, or of one of its
// objects, to which the least that a task needs is added.
func readSnippet(text string) error {
	if text == `{"maxDeletes": N}` {
		return nil // sweep's, as events/sweep-override.json has it
	}
	if strings.HasPrefix(text, `{"report"`) { // as events/sweep-report.json has it
		var payload struct {
			Report   bool     `json:"report"`
			Clusters []string `json:"clusters"`
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		return decoder.Decode(&payload)
	}
	if !strings.HasPrefix(text, "{") {
		text = "{" + text + "}"
	}
	text = strings.ReplaceAll(text, `"…"`, `"x"`)
	var part map[string]any
	if err := json.Unmarshal([]byte(text), &part); err != nil {
		return err
	}
	err := readConfiguration(complete(part))
	if err == nil {
		return nil
	}
	for _, object := range []string{"service", "proxy", "gateway"} {
		fields := part
		if object == "gateway" {
			fields = merge(map[string]any{"kind": "mesh-gateway"}, part)
		}
		if readConfiguration(complete(map[string]any{object: fields})) == nil {
			return nil
		}
	}
	return err
}

func complete(part map[string]any) string {
	whole := map[string]any{"consulServers": map[string]any{"hosts": "10.0.0.1", "defaults": map[string]any{"tls": false}}}
	if part["gateway"] == nil {
		whole["service"] = map[string]any{"name": "x", "port": 8080}
	}
	content, err := json.Marshal(merge(whole, part))
	if err != nil {
		panic(err) // it was read from JSON
	}
	return string(content)
}
