package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/owntask"
	"ecsmesh/functions/mesh-task/document"
	"ecsmesh/functions/mesh-task/expand"
	"ecsmesh/functions/mesh-task/meshtask"
)

// expansion is what becomes of a user's file.
type expansion struct {
	result []byte // JSON
	notes  []string
	// role is what keeps the task role from being a mesh task's; nil is nothing.
	// It matters on AWS, and not in a lab that lets everybody do everything.
	role error
}

// expandFile expands a file as ecsmesh-task does, with a block from another file
// if mesh isn't "", and the values of a template's parameters. Its error has a
// line for each fault.
func expandFile(path, mesh string, values map[string]string) (expansion, error) {
	expanded, err := expandOnce(path, mesh, values, false)
	if err == nil {
		return expanded, nil
	}
	lenient, again := expandOnce(path, mesh, values, true)
	if again != nil {
		return expansion{}, err
	}
	lenient.role = err
	return lenient, nil
}

// expandOnce may take for given that the task role is as it has to be.
func expandOnce(path, mesh string, values map[string]string, roleIsReady bool) (expansion, error) {
	read, err := parseFile(path)
	if err != nil {
		return expansion{}, err
	}
	in := expand.Input{Defaults: meshtask.Defaults{InitImage: "ecsmesh-init"}, Parameters: map[string]any{}}
	for name, value := range values {
		in.Parameters[name] = value
	}
	if mesh != "" {
		block, err := parseFile(mesh)
		if err != nil {
			return expansion{}, err
		}
		in.Block = block.Root
		if inner := blockIn(block.Root); inner != nil {
			in.Block = inner
		}
	}
	if roleIsReady {
		sayRoleIsReady(read.Root)
		if in.Block != nil {
			setRole(in.Block)
		}
	}
	report, err := expand.Document(read.Root, in)
	if err != nil {
		var lines []string
		for line := range strings.Lines(strings.ReplaceAll(err.Error(), "ecsmesh-task -mesh FILE", "MESH=FILE")) {
			lines = append(lines, path+": "+strings.TrimRight(line, "\n"))
		}
		return expansion{}, errors.New(strings.Join(lines, "\n"))
	}
	result, err := read.In(document.JSON)
	if err != nil {
		return expansion{}, fmt.Errorf("%s: %w", path, err)
	}
	return expansion{result: result, notes: append(read.Notes, report.Notes...)}, nil
}

func parseFile(path string) (*document.Document, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err // which names what was done, and to which file
	}
	read, err := document.Parse(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return read, nil
}

// sayRoleIsReady says so in every block of a document.
func sayRoleIsReady(node *yaml.Node) {
	if block := blockIn(node); block != nil {
		setRole(block)
	}
	for _, child := range node.Content {
		sayRoleIsReady(child)
	}
}

// blockIn is a mapping's EcsMesh, or nil.
func blockIn(node *yaml.Node) *yaml.Node {
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if strings.EqualFold(node.Content[i].Value, owntask.BlockName) && node.Content[i+1].Kind == yaml.MappingNode {
			return node.Content[i+1]
		}
	}
	return nil
}

func setRole(block *yaml.Node) {
	for i := 0; i+1 < len(block.Content); i += 2 {
		if block.Content[i].Value == "taskRole" {
			block.Content[i+1].Value = "NONE"
			return
		}
	}
	block.Content = append(block.Content,
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "taskRole"},
		&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "NONE"})
}
