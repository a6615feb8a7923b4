package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"ecsmesh/e2e/emulator"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

const version = "1.2.3-rc.1"

// releasedFunctions are the folders of the template's functions, by logical ID.
func releasedFunctions(t *testing.T, r *release) map[string]string {
	t.Helper()
	return builds(string(read(t, r.root, "Makefile")))
}

func TestRelease(t *testing.T) {
	r := write(t)

	t.Run("is the same again", func(t *testing.T) {
		again := write(t)
		sums := read(t, r.out, "SHA256SUMS")
		if other := read(t, again.out, "SHA256SUMS"); !bytes.Equal(sums, other) {
			t.Errorf("once it is\n%s\nand once\n%s", sums, other)
		}
	})

	t.Run("is what its checksums say", func(t *testing.T) {
		check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", "SHA256SUMS")
		check.Dir = r.out
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("sha256sum: %v\n%s", err, out)
		}
		files, err := os.ReadDir(r.out)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(read(t, r.out, "SHA256SUMS"), []byte("\n")); lines != len(files)-1 {
			t.Errorf("there are checksums of %d files, and %d files", lines, len(files)-1)
		}
	})

	t.Run("has each function's binary alone", func(t *testing.T) {
		for _, name := range releasedFunctions(t, r) {
			archive, err := zip.OpenReader(filepath.Join(r.out, name+".zip"))
			if err != nil {
				t.Fatal(err)
			}
			defer archive.Close()
			if len(archive.File) != 1 || archive.File[0].Name != "bootstrap" || archive.File[0].Mode().Perm() != 0o755 {
				t.Fatalf("%s has %v, want an executable bootstrap", name, archive.File)
			}
			file, err := archive.File[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(file)
			if err != nil {
				t.Fatal(err)
			}
			binary, err := elf.NewFile(bytes.NewReader(content))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if binary.Machine != elf.EM_AARCH64 || binary.Section(".symtab") != nil {
				t.Errorf("%s is for %v, or not stripped", name, binary.Machine)
			}
		}
	})

	t.Run("says what each binary is made of", func(t *testing.T) {
		for name, module := range map[string]string{
			"publish-servers": "github.com/aws/aws-lambda-go", "deregister-tasks": "github.com/aws/aws-lambda-go",
			"deployment-hook": "github.com/hashicorp/consul/api",
			"sweep":           "github.com/hashicorp/consul/api", "setup-acl": "github.com/hashicorp/consul/api",
			"ecsmesh-init-linux-amd64": "github.com/hashicorp/consul/api", "ecsmesh-init-linux-arm64": "github.com/hashicorp/consul/api",
		} {
			checkBOM(t, read(t, r.out, name+".cdx.json"), module)
		}
	})

	t.Run("knows its version", func(t *testing.T) {
		out, err := exec.CommandContext(t.Context(), filepath.Join(r.out, "ecsmesh-init-linux-"+runtime.GOARCH), "version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), version) {
			t.Errorf("ecsmesh-init version: %v, %s", err, out)
		}
		// A function says so where it starts, before it finds that this is not Lambda.
		bootstrap := filepath.Join(t.TempDir(), "bootstrap")
		if err := r.buildFunction(t.Context(), function{"deregister-tasks", runtime.GOARCH}, bootstrap); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		run := exec.CommandContext(ctx, bootstrap)
		run.Env = []string{"AWS_REGION=eu-west-1", "SERVERS_PARAMETER=/ecsmesh/consul-servers", "AWS_LAMBDA_RUNTIME_API=127.0.0.1:1"}
		out, err = run.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), `"message":"starting","version":"`+version+`"`) {
			t.Errorf("the function ended with %v and logged %s", err, out)
		}
	})

	t.Run("deploys", func(t *testing.T) { testDeploy(t, r) })
}

// testDeploy brings up the released template with the released functions, nothing else.
func testDeploy(t *testing.T, r *release) {
	e, err := emulator.Start(t.Context(), emulator.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	template := string(read(t, r.out, "template.yaml"))
	code := map[string]string{}
	for id, name := range releasedFunctions(t, r) {
		code[id] = filepath.Join(r.out, name+".zip")
		if !strings.Contains(template, "CodeUri: "+name+".zip\n") {
			t.Errorf("%s is not from %s.zip", id, name)
		}
	}
	if n := strings.Count(template, "CodeUri:"); n != len(code) || strings.Contains(template, "BuildMethod") {
		t.Errorf("%d functions are in the template, and the test knows %d; or there is something to build", n, len(code))
	}
	outputs, err := e.Deploy(t.Context(), "released", filepath.Join(r.out, "template.yaml"), code, map[string]string{"ConsulSeedAddresses": "10.0.1.10"})
	if err != nil {
		t.Fatal(err)
	}
	f, err := lambda.NewFromConfig(e.Config()).GetFunctionConfiguration(t.Context(),
		&lambda.GetFunctionConfigurationInput{FunctionName: aws.String(outputs["SweepFunction"])})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(read(t, r.out, "sweep.zip"))
	if got, want := aws.ToString(f.CodeSha256), base64.StdEncoding.EncodeToString(sum[:]); got != want {
		t.Errorf("the function's code has the checksum %s, want %s", got, want)
	}
	stack, err := cloudformation.NewFromConfig(e.Config()).GetTemplateSummary(t.Context(), &cloudformation.GetTemplateSummaryInput{StackName: aws.String("released")})
	if err != nil {
		t.Fatal(err)
	}
	if text := aws.ToString(stack.Description); !strings.HasSuffix(text, "Version "+version+".") {
		t.Errorf("the stack is described as %q", text)
	}
}

// checkBOM reads what a binary is made of.
func checkBOM(t *testing.T, content []byte, module string) {
	t.Helper()
	type component struct{ Type, Name, Version, Purl string }
	var bom struct {
		BOMFormat string
		Metadata  struct{ Component component }
		Components,
		Dependencies []component
	}
	if err := json.Unmarshal(content, &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" || bom.Metadata.Component.Name != "ecsmesh" || bom.Metadata.Component.Version != version {
		t.Errorf("it is of %q, %+v", bom.BOMFormat, bom.Metadata.Component)
	}
	for _, c := range bom.Components {
		if c.Name == "" || c.Version == "" || !strings.HasPrefix(c.Purl, "pkg:golang/") {
			t.Errorf("a component is %+v", c)
		}
	}
	for _, want := range []string{"std", module} {
		if !slices.ContainsFunc(bom.Components, func(c component) bool { return c.Name == want }) {
			t.Errorf("%s is not among %d components", want, len(bom.Components))
		}
	}
}

func write(t *testing.T) *release {
	t.Helper()
	r := to(t, t.TempDir())
	if err := r.write(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return r
}

// to is a release that is written to a folder of the test's.
func to(t *testing.T, out string) *release {
	t.Helper()
	r, err := newRelease(version)
	if err != nil {
		t.Fatal(err)
	}
	r.out = out
	return r
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Images take a Docker daemon and the Internet. What is asked of Docker is held here.
func TestImagesAreSavedForBothArchitectures(t *testing.T) {
	bin, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	docker := "#!/bin/sh\necho \"$*\" >>" + calls + "\n[ \"$1\" != save ] || echo image >\"$3\"\n"
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(docker), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	r := to(t, t.TempDir())
	if err := r.images(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked := string(read(t, filepath.Dir(calls), "calls"))
	for _, arch := range []string{"amd64", "arm64"} {
		image := "ecsmesh-init:" + version + "-" + arch
		for _, want := range []string{
			"build --platform linux/" + arch + " --target plain --build-arg VERSION=" + version + " --tag " + image + " --file initcontainer/Dockerfile .\n",
			"save --output " + r.out + "/ecsmesh-init-image-linux-" + arch + ".tar " + image + "\n",
		} {
			if !strings.Contains(asked, want) {
				t.Errorf("Docker was not asked to %s but to\n%s", want, asked)
			}
		}
		if content := read(t, r.out, "ecsmesh-init-image-linux-"+arch+".tar"); string(content) != "image\n" {
			t.Errorf("the image for %s is %q", arch, content)
		}
	}
}

func TestVersionsAreSemantic(t *testing.T) {
	for _, good := range []string{"0.1.0", "1.2.3", "10.20.30", "1.0.0-rc.1", "1.0.0-alpha-1"} {
		if err := checkVersion(good); err != nil {
			t.Error(err)
		}
	}
	for bad, want := range map[string]string{
		"": "make release VERSION=", "v1.2.3": "without the v", "1.2": "MAJOR.MINOR.PATCH", "1.2.03": "MAJOR.MINOR.PATCH",
		"1.2.3-": "MAJOR.MINOR.PATCH", "1.2.3+5": "MAJOR.MINOR.PATCH", "latest": "MAJOR.MINOR.PATCH", "1.2.3 -X a=b": "MAJOR.MINOR.PATCH",
	} {
		if err := checkVersion(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want a refusal that says %q", bad, err, want)
		}
	}
}

// A template that the release doesn't know how to change is an error, and no release.
func TestTemplatesThatCantBeReleased(t *testing.T) {
	const whole = "Description: A mesh.\nMetadata: {}\nGlobals: {Function: {Architectures: [x86_64]}}\n" +
		"Resources: {F: {Type: AWS::Serverless::Function, Metadata: {BuildMethod: makefile}, Properties: {CodeUri: .}}}\n"
	folders := builds("build-F: NAME = folder\nother: NAME = x\n")
	template, functions, err := versioned([]byte(whole), folders, version)
	if err != nil || len(functions) != 1 || functions[0] != (function{"folder", "amd64"}) {
		t.Fatalf("functions %v: %v\n%s", functions, err, template)
	}
	for name, test := range map[string]struct {
		change  func(string) string
		folders map[string]string
		want    string
	}{
		"no architecture":        {without("Architectures: [x86_64]"), folders, "Architectures"},
		"an unknown one":         {func(s string) string { return strings.ReplaceAll(s, "x86_64", "mips") }, folders, "Architectures"},
		"no description":         {without("Description: A mesh.\n"), folders, "no Description"},
		"no metadata":            {without("Metadata: {}\n"), folders, "no Metadata"},
		"a function of no code":  {without("CodeUri: ."), folders, "F has no CodeUri"},
		"a function of no build": {without(""), nil, "build-F"},
	} {
		if _, _, err := versioned([]byte(test.change(whole)), test.folders, version); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, test.want)
		}
	}
}

func without(part string) func(string) string {
	return func(template string) string { return strings.Replace(template, part, "", 1) }
}
