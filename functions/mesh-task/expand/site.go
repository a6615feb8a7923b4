package expand

import (
	"strconv"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
)

// completed is a block with what holds for all tasks of the mesh and isn't of
// the task definition: which port the Consul servers have, and which partition
// the tasks are in. What the block says itself wins.
func (in Input) completed(block *yaml.Node) *yaml.Node {
	if (in.HTTPPort == 0 && in.Partition == "") || block.Kind != yaml.MappingNode {
		return block
	}
	block = document.Clone(block)
	if in.HTTPPort != 0 {
		http := within(within(block, "consulServers"), "http")
		addTo(http, "port", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(in.HTTPPort)})
	}
	if in.Partition == "" {
		return block
	}
	if name := get(block, "service"); name != nil && name.Kind == yaml.ScalarNode {
		set(block, "service", mapping("name", name))
	}
	for _, kind := range []string{"service", "gateway"} {
		addTo(get(block, kind), "partition", scalar(in.Partition))
	}
	return block
}

// within is the mapping at a mapping's key, which is made where there is none.
// It is nil where something else is there, which is for others to refuse.
func within(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	if get(m, key) == nil {
		set(m, key, mapping())
	}
	return get(m, key)
}

func addTo(m *yaml.Node, key string, value *yaml.Node) {
	if m == nil || m.Kind != yaml.MappingNode {
		return
	}
	if function, _ := document.Function(m); function == "" && get(m, key) == nil {
		set(m, key, value)
	}
}
