package docs

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestTheDashboardIsThatOfTheTemplate holds the picture of the dashboard to the
// widgets and alarms that template.yaml makes.
func TestTheDashboardIsThatOfTheTemplate(t *testing.T) {
	template := readFile(t, "template.yaml")
	drawn := texts(t, readFile(t, "docs", "dashboard.svg"))
	for _, fault := range undrawn(t, template, drawn) {
		t.Error(fault)
	}
	if undrawn(t, template, slices.DeleteFunc(slices.Clone(drawn), func(text string) bool { return text == "Stopping tasks" })) == nil {
		t.Error("a picture without a widget passes")
	}
}

func undrawn(t *testing.T, template string, drawn []string) []string {
	t.Helper()
	want := []string{}
	for _, found := range regexp.MustCompile(`"title": "([^"]+)"`).FindAllStringSubmatch(template, -1) {
		want = append(want, found[1])
	}
	for _, found := range regexp.MustCompile(`(?m)^  ([A-Za-z]+)Alarm:$`).FindAllStringSubmatch(template, -1) {
		want = append(want, "ecsmesh-"+found[1])
	}
	if len(want) < 20 {
		t.Fatalf("the template has only %q", want)
	}
	var faults []string
	for _, text := range want {
		if !slices.Contains(drawn, text) {
			faults = append(faults, fmt.Sprintf("docs/dashboard.svg has no %q: make demo draws it anew", text))
		}
	}
	return faults
}

// TestPicturesHaveAllFunctions looks for each function in the picture of the
// system, and in the table of its parts.
func TestPicturesHaveAllFunctions(t *testing.T) {
	drawn := texts(t, readFile(t, "docs", "system.svg"))
	parts := strings.Builder{}
	for _, row := range tables(readFile(t, "docs", "architecture.md"))["The parts"] {
		parts.WriteString(row[0])
	}
	functions := regexp.MustCompile(`(?m)^build-[A-Za-z]+Function: NAME = ([a-z-]+)$`).FindAllStringSubmatch(readFile(t, "Makefile"), -1)
	if len(functions) < 6 {
		t.Fatalf("the Makefile builds only %q", functions)
	}
	for _, function := range functions {
		if !slices.Contains(drawn, function[1]) {
			t.Errorf("docs/system.svg has no %s", function[1])
		}
		if !strings.Contains(parts.String(), "`"+function[1]+"`") {
			t.Errorf("docs/architecture.md has no part %s", function[1])
		}
	}
}

// texts are what is written in a picture.
func texts(t *testing.T, svg string) []string {
	t.Helper()
	var all []string
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, is := token.(xml.CharData); is {
			all = append(all, strings.TrimSpace(string(data)))
		}
	}
}
