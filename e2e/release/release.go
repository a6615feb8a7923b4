package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/tools"
)

// bomTool says what modules a binary is made of, as CycloneDX has it.
const bomTool = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// changed is when everything in an archive was: always the same, so that the
// bytes are. It is the first time that a zip file can tell.
var changed = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// platforms are those of tasks.
var platforms = []string{"amd64", "arm64"}

type release struct {
	version string
	root    string // of the checkout
	out     string // the folder to write, which is emptied first
}

func newRelease(version string) (*release, error) {
	if err := checkVersion(version); err != nil {
		return nil, err
	}
	root, err := tools.Root()
	if err != nil {
		return nil, err
	}
	return &release{version: version, root: root, out: filepath.Join(root, "dist", "release")}, nil
}

func (r *release) write(ctx context.Context, images bool) error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	template, functions, err := r.template()
	if err != nil {
		return fmt.Errorf("read template.yaml: %w", err)
	}
	if err := r.keep("template.yaml", template); err != nil {
		return err
	}
	for _, f := range functions {
		if err := r.function(ctx, f); err != nil {
			return fmt.Errorf("release %s: %w", f.name, err)
		}
	}
	commands, err := r.commands()
	if err != nil {
		return err
	}
	for _, command := range commands {
		for _, arch := range platforms {
			binary := filepath.Join(r.out, filepath.Base(command)+"-linux-"+arch)
			if err := r.build(ctx, command, arch, binary, "-X main.version="+r.version); err != nil {
				return fmt.Errorf("release %s: %w", command, err)
			}
			if err := r.bom(ctx, binary, filepath.Base(binary)); err != nil {
				return fmt.Errorf("release %s: %w", command, err)
			}
		}
	}
	if images {
		if err := r.images(ctx); err != nil {
			return err
		}
	}
	return r.checksums()
}

// commands are the packages of what runs in tasks, or on a user's machine.
func (r *release) commands() ([]string, error) {
	var commands []string
	for _, pattern := range []string{"initcontainer/cmd/*", "functions/*/cmd/*"} {
		found, err := filepath.Glob(filepath.Join(r.root, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			command, err := filepath.Rel(r.root, path)
			if err != nil {
				return nil, err
			}
			commands = append(commands, command)
		}
	}
	return commands, nil
}

// function is one of the template's, by the folder of its code.
type function struct{ name, arch string }

// function builds a function and writes its zip file, which is what Lambda runs.
func (r *release) function(ctx context.Context, f function) error {
	dir, err := os.MkdirTemp("", "ecsmesh-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bootstrap := filepath.Join(dir, "bootstrap")
	if err := r.buildFunction(ctx, f, bootstrap); err != nil {
		return err
	}
	if err := r.bom(ctx, bootstrap, f.name); err != nil {
		return err
	}
	content, err := os.ReadFile(bootstrap)
	if err != nil {
		return err
	}
	archive, err := zipped(content)
	if err != nil {
		return err
	}
	return r.keep(f.name+".zip", archive)
}

func (r *release) buildFunction(ctx context.Context, f function, bootstrap string) error {
	return r.build(ctx, "functions/"+f.name, f.arch, bootstrap, "-X ecsmesh/shared/function.version="+r.version, "-tags", "lambda.norpc")
}

// zipped is a zip file with one program, bootstrap.
func zipped(program []byte) ([]byte, error) {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: changed}
	header.SetMode(0o755) // Lambda runs what it unpacks
	file, err := w.CreateHeader(header)
	if err != nil {
		return nil, err
	}
	if _, err := file.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}

// build builds a package as the Makefile does. The state of git stays out of the
// binary, which has the version.
func (r *release) build(ctx context.Context, pkg, arch, binary, version string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w " + version, "-o", binary}, flags...)
	return r.run(ctx, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS="}, "go", append(args, "./"+pkg)...)
}

// bom writes of what modules a binary is made.
func (r *release) bom(ctx context.Context, binary, name string) error {
	return r.run(ctx, nil, "go", "run", bomTool, "bin", "-json", "-std", "-noserial", "-notimestamp", "-version", r.version,
		"-output", filepath.Join(r.out, name+".cdx.json"), binary)
}

// images saves the init container's images, by the Makefile's recipe.
func (r *release) images(ctx context.Context) error {
	if running := exec.CommandContext(ctx, "docker", "info").Run() == nil; !running {
		fmt.Fprintln(os.Stderr, "release: the images are left out, since no Docker daemon answers: `make image` builds them where one does")
		return nil
	}
	for _, arch := range platforms {
		image := "ecsmesh-init:" + r.version + "-" + arch
		if err := r.run(ctx, nil, "make", "image", "IMAGE="+image, "PLATFORM=linux/"+arch, "VERSION="+r.version); err != nil {
			return fmt.Errorf("build the image %s: %w", image, err)
		}
		archive := filepath.Join(r.out, "ecsmesh-init-image-linux-"+arch+".tar")
		if err := r.run(ctx, nil, "docker", "save", "--output", archive, image); err != nil {
			return fmt.Errorf("save the image %s: %w", image, err)
		}
	}
	return nil
}

// checksums writes those of all files, as sha256sum reads them.
func (r *release) checksums() error {
	files, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, entry := range files {
		sum, err := checksum(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, entry.Name())
	}
	return r.keep("SHA256SUMS", []byte(sums.String()))
}

func checksum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

func (r *release) keep(name string, content []byte) error {
	return os.WriteFile(filepath.Join(r.out, name), content, 0o644) //nolint:gosec // it is for everyone
}

func (r *release) run(ctx context.Context, environment []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return nil
}

// template is template.yaml with the code of its functions beside it, and the
// version in its description and metadata; and its functions.
func (r *release) template() ([]byte, []function, error) {
	content, err := os.ReadFile(filepath.Join(r.root, "template.yaml"))
	if err != nil {
		return nil, nil, err
	}
	makefile, err := os.ReadFile(filepath.Join(r.root, "Makefile"))
	if err != nil {
		return nil, nil, err
	}
	return versioned(content, builds(string(makefile)), r.version)
}

// versioned changes a template for a version. Folders are those of the
// functions' code, by logical ID.
func versioned(content []byte, folders map[string]string, version string) ([]byte, []function, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil, nil, err
	}
	template := doc.Content[0]
	architecture := ""
	if list := field(template, "Globals", "Function", "Architectures"); list != nil && len(list.Content) == 1 {
		architecture = map[string]string{"arm64": "arm64", "x86_64": "amd64"}[list.Content[0].Value]
	}
	if architecture == "" {
		return nil, nil, fmt.Errorf("its Globals have no Architectures: [arm64] or [x86_64]")
	}
	description := field(template, "Description")
	if description == nil {
		return nil, nil, fmt.Errorf("it has no Description")
	}
	description.Value = strings.TrimSpace(description.Value) + " Version " + version + "."
	if err := put(template, map[string]map[string]string{"Release": {"Version": version}}, "Metadata"); err != nil {
		return nil, nil, err
	}
	var functions []function
	resources := field(template, "Resources")
	for i := 0; i < len(resources.Content); i += 2 {
		id, resource := resources.Content[i].Value, resources.Content[i+1]
		if kind := field(resource, "Type"); kind == nil || kind.Value != "AWS::Serverless::Function" {
			continue
		}
		folder := folders[id]
		uri := field(resource, "Properties", "CodeUri")
		if folder == "" || uri == nil {
			return nil, nil, fmt.Errorf("%s has no CodeUri, or the Makefile no build-%s with its NAME", id, id)
		}
		uri.Value = folder + ".zip"
		remove(resource, "Metadata") // how SAM builds it
		functions = append(functions, function{folder, architecture})
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(&doc); err != nil {
		return nil, nil, err
	}
	return out.Bytes(), functions, encoder.Close()
}

// builds are the Makefile's names of the functions' folders, by logical ID.
func builds(makefile string) map[string]string {
	folders := map[string]string{}
	for line := range strings.Lines(makefile) {
		if target, name, ok := strings.Cut(line, ": NAME = "); ok && strings.HasPrefix(target, "build-") {
			folders[strings.TrimPrefix(target, "build-")] = strings.TrimSpace(name)
		}
	}
	return folders
}

// field is the node at a path of keys, or nil.
func field(node *yaml.Node, path ...string) *yaml.Node {
	for _, key := range path {
		if node = value(node, key); node == nil {
			return nil
		}
	}
	return node
}

func value(node *yaml.Node, key string) *yaml.Node {
	for i := 0; node.Kind == yaml.MappingNode && i < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

// put adds keys to the mapping of a key.
func put(node *yaml.Node, content any, key string) error {
	into := value(node, key)
	if into == nil {
		return fmt.Errorf("it has no %s", key)
	}
	var added yaml.Node
	if err := added.Encode(content); err != nil {
		return err
	}
	into.Content = append(added.Content, into.Content...)
	return nil
}

func remove(node *yaml.Node, key string) {
	for i := 0; i < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			node.Content = append(node.Content[:i], node.Content[i+2:]...)
			return
		}
	}
}
