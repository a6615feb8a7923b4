package document_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
)

// What nobody changed is written as it was read, byte for byte: the examples,
// and what is read seldom.
func TestWhatIsNotChangedIsWrittenAsItWas(t *testing.T) {
	sources := map[string]string{
		"comments and blank lines": "# first\n\na: 1 # one\n\n# of b\nb:\n- x\n\n-   y\n# last\n",
		"line ends of DOS":         "a: 1\r\nb: [ 2,3 ]\r\n",
		"no line end":              "a: {b: c}",
		"short tags":               "a: !Sub \"${X}\"\nb: !GetAtt  Y.Arn\nc: !If [C, !Ref D, !Ref AWS::NoValue]\n",
		"JSON":                     "{\n    \"a\": 1.50,\n    \"b\": [\"x\", \"<y>\"],\n    \"c\": {},\n    \"d\": [],\n    \"e\": null\n}\n",
		"JSON with tabs":           "{\n\t\"a\": {\n\t\t\"b\": true\n\t}\n}\n",
		"JSON in a line":           "{\"a\": [1, {\"b\": \"c\"}]}\n",
	}
	files, err := filepath.Glob("../../../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no examples: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources[file] = string(content)
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(source, write(t, parse(t, source))); diff != "" {
				t.Errorf("(-read +written):\n%s", diff)
			}
		})
	}
}

func TestOnlyWhatIsChangedIsWrittenAnew(t *testing.T) {
	const source = `# The whole.
Resources:

  # A task.
  Task:   # with a comment
    Type:   AWS::ECS::TaskDefinition
    Properties:
      Volumes: [ {Name: data} ]
      ContainerDefinitions:
      # the application
      - Name:   web
        Image: !Ref  Image # whose
        Command:
        - "a"    # first
        - 'b'

        # on a line of its own
        Essential: yes

      # the other
      - Name: other
  # Beside it.
  Log: {Type: 'AWS::Logs::LogGroup'}
`
	for name, test := range map[string]struct {
		change func(root *yaml.Node)
		want   func(string) string
	}{
		"a value": {
			func(root *yaml.Node) {
				*at(root, "Resources", "Task", "Properties", "Volumes", "0", "Name") = yaml.Node{Kind: yaml.ScalarNode, Value: "x"}
			},
			replace("      Volumes: [ {Name: data} ]", "      Volumes: [{Name: x}]"),
		},
		"a member of a mapping in a list": {
			func(root *yaml.Node) {
				c := at(root, "Resources", "Task", "Properties", "ContainerDefinitions", "0")
				c.Content = append(c.Content, scalar("StopTimeout"), scalar("30"))
			},
			replace("        Essential: yes\n", "        Essential: yes\n        StopTimeout: 30\n"),
		},
		"the first member of one": {
			func(root *yaml.Node) {
				*at(root, "Resources", "Task", "Properties", "ContainerDefinitions", "0", "Name") = *scalar("api")
			},
			replace("- Name:   web", "- Name: api"),
		},
		"members before and between and after": {
			func(root *yaml.Node) {
				list := at(root, "Resources", "Task", "Properties", "ContainerDefinitions")
				c := list.Content
				list.Content = []*yaml.Node{named("first"), c[0], named("second"), named("third"), c[1], named("last")}
			},
			func(s string) string {
				s = replace("      # the application\n", "      - Name: first\n      # the application\n")(s)
				s = replace("        Essential: yes\n", "        Essential: yes\n      - Name: second\n      - Name: third\n")(s)
				return replace("      - Name: other\n", "      - Name: other\n      - Name: last\n")(s)
			},
		},
		"several lines": {
			func(root *yaml.Node) {
				c := at(root, "Resources", "Task", "Properties", "ContainerDefinitions", "1")
				c.Content = append(c.Content, scalar("Value"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!Sub", Style: yaml.LiteralStyle, Value: "{\n  \"a\": 1\n\n}\n"})
			},
			replace("      - Name: other\n", "      - Name: other\n        Value: !Sub |\n          {\n            \"a\": 1\n\n          }\n"),
		},
		"one that is taken out": {
			func(root *yaml.Node) {
				c := at(root, "Resources", "Task", "Properties", "ContainerDefinitions", "0")
				c.Content = c.Content[:6]
			},
			replace("        # on a line of its own\n        Essential: yes\n", ""),
		},
		"a resource": {
			func(root *yaml.Node) {
				r := at(root, "Resources")
				policy := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("Type"), scalar("P")}}
				r.Content = append(r.Content[:2:2], append([]*yaml.Node{scalar("Policy"), policy}, r.Content[2:]...)...)
			},
			replace("      - Name: other\n", "      - Name: other\n  Policy:\n    Type: P\n"),
		},
	} {
		for _, newline := range []string{"\n", "\r\n"} {
			t.Run(fmt.Sprintf("%s%q", name, newline), func(t *testing.T) {
				d := parse(t, strings.ReplaceAll(source, "\n", newline))
				test.change(d.Root)
				want := strings.ReplaceAll(test.want(source), "\n", newline)
				if diff := cmp.Diff(want, write(t, d)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// What is written seldom stays as it is, too, where something is added beside.
func TestWhatIsWrittenSeldomStays(t *testing.T) {
	for name, test := range map[string]struct{ source, after string }{
		"the document's end":                {"---\na:   1\nlist:\n- Name:   x # first\n  Image: y\n# last\n...\n", "  Image: y\n"},
		"a comment after the end":           {"a:   1\nlist:\n- Name:   x\n# last\n... # end\n# after\n", "- Name:   x\n"},
		"a comment after a dash":            {"a:   1\nlist:\n- # the first\n  # of all\n  Name:   x\n- # the other\n  Name: z\n", "  Name:   x\n"},
		"a text that ends like a comment":   {"a:   1\nlist:\n- Name:   x\n  Script: |\n    run\n    # and no more\n\n# last\n", "    # and no more\n"},
		"a text of functions that does":     {"a:   1\nlist:\n- Name:   x\n  Script: !Sub >-\n\n    run\n\n    # and no more\n  # of x\n- Name: z\n", "    # and no more\n"},
		"a text that begins like a comment": {"a:   1\nlist:\n- Name:   x\n  Script: |\n    # no more\n  # of x\n", "    # no more\n"},
	} {
		for _, newline := range []string{"\n", "\r\n"} {
			t.Run(fmt.Sprintf("%s%q", name, newline), func(t *testing.T) {
				source := strings.ReplaceAll(test.source, "\n", newline)
				d := parse(t, source)
				c := at(d.Root, "list", "0")
				c.Content = append(c.Content, scalar("Cpu"), scalar("30"))
				after := strings.ReplaceAll(test.after, "\n", newline)
				want := strings.Replace(source, after, after+"  Cpu: 30"+newline, 1)
				if diff := cmp.Diff(want, write(t, d)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestJSONIsWrittenInItsOwnLayout(t *testing.T) {
	d := parse(t, "{\n    \"family\": \"web\",\n    \"cpu\": \"256\",\n    \"ports\": [80, 81],\n    \"list\": [\n        1\n    ]\n}\n")
	d.Root.Content = append(d.Root.Content, scalar("new"), &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("a"), named("b")}})
	list := at(d.Root, "list")
	list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "\u2028 \"quoted\" <&>\n"})
	want := `{
    "family": "web",
    "cpu": "256",
    "ports": [80, 81],
    "list": [
        1,
        "\u2028 \"quoted\" <&>\n"
    ],
    "new": {
        "a": {
            "Name": "b"
        }
    }
}
`
	if diff := cmp.Diff(want, write(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// In the other format is the same, as far as it can be said there.
func TestOtherFormat(t *testing.T) {
	in := func(source string, format document.Format) string {
		t.Helper()
		text, err := parse(t, source).In(format)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	got := in("a: !Sub \"${X}\"\nb: !GetAtt Y.Outputs.Arn\nc: !If [C, !Ref D, 0x10]\nd: !GetAtt [E, Arn]\ne: .5\nf: 2020-01-01 # a day\ng: True\n", document.JSON)
	want := `{
  "a": {"Fn::Sub": "${X}"},
  "b": {"Fn::GetAtt": ["Y", "Outputs.Arn"]},
  "c": {"Fn::If": ["C", {"Ref": "D"}, 16]},
  "d": {"Fn::GetAtt": ["E", "Arn"]},
  "e": 0.5,
  "f": "2020-01-01",
  "g": true
}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as JSON (-want +got):\n%s", diff)
	}
	// CloudFormation's YAML is 1.1, where yes is true and 22:22 is a number.
	got = in(`{"a": "yes", "b": "22:22", "c": "0123", "d": "nginx:1.27", "e": "two\nlines\n", "f": ["x"], "g": "", "h": 1, "i": "1", "j": "a: b"}`, document.YAML)
	want = "a: \"yes\"\nb: \"22:22\"\nc: \"0123\"\nd: nginx:1.27\ne: |\n  two\n  lines\nf: [x]\ng: \"\"\nh: 1\ni: \"1\"\nj: \"a: b\"\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("as YAML (-want +got):\n%s", diff)
	}
}

func TestAliasesAreWrittenOut(t *testing.T) {
	d := parse(t, "x: &base\n  a: 1\ny: *base\n")
	at(d.Root, "y", "a").Value = "2"
	if len(d.Notes) != 1 {
		t.Errorf("the notes are %q, want one", d.Notes)
	}
	if diff := cmp.Diff("x:\n  a: 1\ny:\n  a: 2\n", write(t, d)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct{ source, want string }{
		"nothing":            {" \n", "there is nothing in it"},
		"comments alone":     {"# a\n", "read YAML: there is nothing in it but comments"},
		"several documents":  {"a: 1\n---\nb: 2\n", "a second document begins at line 2: give each a file of its own"},
		"YAML":               {"a: [1\nb: 2\n", "read YAML: line 1: did not find expected ',' or ']'"},
		"JSON":               {"{\n \"a\": 1\n \"b\": 2\n}", "read JSON: line 3: invalid character '\"' after object key:value pair"},
		"tabs":               {"a:\n  b: 1\nc:\n\td: 1\n", "read YAML: line 4 is indented by a tab, where YAML takes spaces alone"},
		"half of a document": {"{\"a\": [1,", "read JSON: line 1: the document ends too early"},
		"too much":           {"{}\n{}\n", "read JSON: line 2: there is something after the end of the document"},
		"a key twice":        {"a: 1\nb: 2\na: 3\n", "line 3: a is there a second time; the first is in line 1"},
		"an alias in itself": {"a: 1\nb: &b\n  c: [*b]\n", "line 3: *b is in what it stands for"},
		"billions of laughs": {laughs(), "written out, YAML's aliases come to more than 500000 values"},
		"a key twice, JSON":  {"{\n\"a\": 1,\n\"a\": 2}", "line 3: a is there a second time; the first is in line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := document.Parse([]byte(test.source)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// laughs are aliases of aliases, which are ten lines and come to a billion.
func laughs() string {
	text := "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
	for i := range 9 {
		text += fmt.Sprintf("a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 8), i)
	}
	return text
}

// FuzzParse finds what reads, and then is written as something else.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a: 1\nb:\n- x\n- y: [z]\n", `{"a": [1, "b", {"c": null}]}`, "# c\n\n- !Sub x\n-\n  a: |\n    b\n", "a:   # b\n  - c\n\n  # d\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, source []byte) {
		d, err := document.Parse(source)
		if err != nil {
			return
		}
		want := document.Clone(d.Root)
		if d.Root.Kind == yaml.MappingNode && d.Format == document.YAML {
			d.Root.Content = append(d.Root.Content, scalar("a new one"), scalar("1"))
			want = document.Clone(d.Root)
		}
		written, err := d.Bytes()
		if err != nil {
			return // such as with a key that is a list
		}
		again, err := document.Parse(written)
		if err != nil {
			if strings.Contains(err.Error(), "a second time") {
				return
			}
			t.Fatalf("read %q, and then what was written, %q: %v", source, written, err)
		}
		if !document.Equal(want, again.Root) {
			t.Errorf("read %q, wrote %q", source, written)
		}
	})
}

func parse(t *testing.T, source string) *document.Document {
	t.Helper()
	d, err := document.Parse([]byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func write(t *testing.T, d *document.Document) string {
	t.Helper()
	text, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// at is the node at a path of keys and indices.
func at(node *yaml.Node, path ...string) *yaml.Node {
	for _, step := range path {
		for i := 0; i < len(node.Content); i++ {
			if node.Kind == yaml.MappingNode && node.Content[i].Value == step {
				node = node.Content[i+1]
				break
			}
			if node.Kind == yaml.SequenceNode && fmt.Sprint(i) == step {
				node = node.Content[i]
				break
			}
		}
	}
	return node
}

func scalar(value string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: value} }

func named(name string) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("Name"), scalar(name)}}
}

func replace(from, to string) func(string) string {
	return func(s string) string { return strings.Replace(s, from, to, 1) }
}
