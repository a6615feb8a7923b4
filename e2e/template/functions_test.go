package template

import (
	"debug/elf"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ecsmesh/e2e/tools"

	"github.com/google/go-cmp/cmp"
)

// maxBinary is how large a binary of ours may be: a cold start loads all of it.
const maxBinary = 13 << 20

// sources are the folders of the functions' code.
var sources = map[string]string{
	"PublishServersFunction":  "functions/publish-servers",
	"DeregisterTasksFunction": "functions/deregister-tasks",
	"SweepFunction":           "functions/sweep",
	"DeploymentHookFunction":  "functions/deployment-hook",
	"SetupAclFunction":        "functions/setup-acl",
	"MeshTaskFunction":        "functions/mesh-task",
}

// unset are variables that functions read and the template leaves to who runs one by hand.
var unset = []string{"CONSUL_CACERT_PEM", "AWS_SAM_LOCAL"}

// unread are variables of the Globals that a function has no use for: the macro's changes nothing, dry or not.
var unread = map[string][]string{"MeshTaskFunction": {"DRY_RUN"}}

type function struct {
	Architectures []string
	Environment   struct{ Variables map[string]any }
}

// SAM tells make nothing of the architecture, so the Makefile reads it from the template.
func TestSAMBuildsForTheTemplatesArchitecture(t *testing.T) {
	machines := map[string]elf.Machine{"arm64": elf.EM_AARCH64, "x86_64": elf.EM_X86_64}
	e := expand(t)
	for id, f := range properties[function](t, e, "AWS::Lambda::Function") {
		if method := e.Resources[id].Metadata.BuildMethod; method != "makefile" {
			t.Errorf("%s: SAM builds it by %q, want makefile", id, method)
		}
		artifacts := t.TempDir()
		build := exec.CommandContext(t.Context(), "make", "build-"+id, "ARTIFACTS_DIR="+artifacts)
		build.Dir = root(t)
		if out, err := build.CombinedOutput(); err != nil {
			t.Errorf("make build-%s: %v\n%s", id, err, out)
			continue
		}
		checkBinary(t, filepath.Join(artifacts, "bootstrap"), machines[f.Architectures[0]])
	}
}

func TestHostBinariesAreSmallAndStatic(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	names := []string{"ecsmesh-init", "ecsmesh-task"}
	for _, folder := range sources {
		names = append(names, filepath.Base(folder)+"/bootstrap")
	}
	for _, name := range names {
		path, err := tools.Dist(name)
		if err != nil {
			t.Error(err)
			continue
		}
		checkBinary(t, path, host.Machine)
	}
}

func checkBinary(t *testing.T, path string, machine elf.Machine) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return
	}
	if info.Size() > maxBinary {
		t.Errorf("%s has %d bytes, want at most %d", path, info.Size(), maxBinary)
	}
	binary, err := elf.Open(path)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	defer binary.Close()
	if binary.Machine != machine {
		t.Errorf("%s is for %v, want %v", path, binary.Machine, machine)
	}
	if binary.Section(".symtab") != nil {
		t.Errorf("%s is not stripped", path)
	}
	if slices.ContainsFunc(binary.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("%s is not static", path)
	}
}

// What the code requires and the template forgets fails at the first invocation; what the template sets and the
// code does not read is a setting without effect.
func TestFunctionsReadTheirEnvironment(t *testing.T) {
	functions := properties[function](t, expand(t), "AWS::Lambda::Function")
	for id, f := range functions {
		folder, ok := sources[id]
		if !ok {
			t.Errorf("the test doesn't know where the code of %s is", id)
			continue
		}
		var set []string
		for name := range f.Environment.Variables {
			if !slices.Contains(unread[id], name) {
				set = append(set, name)
			}
		}
		slices.Sort(set)
		read := slices.DeleteFunc(environment(t, folder), func(name string) bool { return slices.Contains(unset, name) })
		slices.Sort(read)
		if diff := cmp.Diff(slices.Compact(read), set); diff != "" {
			t.Errorf("%s: the variables differ (-read by the code +set by the template):\n%s", id, diff)
		}
	}
	if len(functions) != len(sources) {
		t.Errorf("the template has %d functions, and the test knows %d", len(functions), len(sources))
	}
}

// environment finds the variables that a function reads: those in the env tags of its configuration's fields, and
// of what is embedded in it from our other packages.
func environment(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			structure, ok := n.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range structure.Fields.List {
				if name := variable(t, field); name != "" {
					names = append(names, name)
				}
				if from := embedded(file, field); from != "" {
					names = append(names, environment(t, from)...)
				}
			}
			return true
		})
	}
	return names
}

// variable is the one in a field's env tag, if it has one.
func variable(t *testing.T, field *ast.Field) string {
	t.Helper()
	if field.Tag == nil {
		return ""
	}
	text, err := strconv.Unquote(field.Tag.Value)
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(reflect.StructTag(text).Get("env"), ",")
	return name
}

// embedded is the folder of our package that the field's type is from, if it has no name.
func embedded(file *ast.File, field *ast.Field) string {
	selector, ok := field.Type.(*ast.SelectorExpr)
	if !ok || len(field.Names) > 0 {
		return ""
	}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if folder, ours := strings.CutPrefix(path, "ecsmesh/"); err == nil && ours && filepath.Base(folder) == selector.X.(*ast.Ident).Name {
			return folder
		}
	}
	return ""
}
