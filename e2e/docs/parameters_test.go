package docs

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestParametersAreThoseOfTheTemplate holds the table of docs/deployment.md to
// template.yaml, in both directions and with the defaults.
func TestParametersAreThoseOfTheTemplate(t *testing.T) {
	for _, fault := range wrongParameters(t, readFile(t, "docs", "deployment.md"), readFile(t, "template.yaml")) {
		t.Error(fault)
	}
	const table = "## Template parameters\n\n| parameter | default | meaning |\n|---|---|---|\n"
	for row, want := range map[string]string{
		"| `A`, `B` | `1`, none | |":           "",
		"| `A`, `B` | `2`, none | |":           "A",
		"| `A`, `B` | `1`, `x` | |":            "",
		"| `A` | `1` | |":                      "nothing is said of B",
		"| `A`, `B`, `C` | `1`, none |":        "there is no parameter C",
		"| `A`, `A`, `B` | `1`, `1`, none | |": "A is there twice",
	} {
		faults := strings.Join(wrongParameters(t, table+row+"\n", "Parameters: {A: {Default: 1}, B: {Default: \"\"}}"), "\n")
		if (want == "") != (faults == "") || !strings.Contains(faults, want) {
			t.Errorf("%s: %q", row, faults)
		}
	}
}

func wrongParameters(t *testing.T, document, template string) []string {
	t.Helper()
	var declared struct {
		Parameters map[string]struct {
			Default string `yaml:"Default"`
		} `yaml:"Parameters"`
	}
	if err := yaml.Unmarshal([]byte(template), &declared); err != nil {
		t.Fatal(err)
	}
	var faults []string
	seen := map[string]bool{}
	for _, row := range tables(document)["Template parameters"] {
		standards := strings.Split(row[1], ", ")
		for i, cell := range strings.Split(row[0], ", ") {
			name := strings.Trim(cell, "`")
			// One default may be that of all.
			standard := strings.Trim(standards[min(i, len(standards)-1)], "`")
			parameter, known := declared.Parameters[name]
			switch {
			case !known:
				faults = append(faults, "there is no parameter "+name)
			case seen[name]:
				faults = append(faults, name+" is there twice")
			// What the template leaves empty may be said in words: none, or what it then is.
			case parameter.Default != "" && standard != parameter.Default:
				faults = append(faults, "the default of "+name+" is "+parameter.Default+", not "+standard)
			}
			seen[name] = true
		}
	}
	for name := range declared.Parameters {
		if !seen[name] {
			faults = append(faults, "nothing is said of "+name)
		}
	}
	return faults
}
