// Package hygiene looks for what the init container's image, and the tasks that
// run it, have and don't need.
package hygiene

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ecsmesh/e2e/tools"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/volume"
)

// envoyUser is who the official image of Envoy runs it as.
var envoyUser = strconv.Itoa(volume.EnvoyUser)

// consulUser is who the official image of Consul runs it as, and the group.
const consulUser = "100:1000"

// TestTheImageHoldsNothingElse reads what the image is made of. Its user is
// Envoy's, and the volume is where tasks have it and that user's own: what it
// writes there for Envoy needs nobody else's right to read it.
func TestTheImageHoldsNothingElse(t *testing.T) {
	same := []string{
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/",
		"COPY --from=build /ecsmesh-init /ecsmesh-init",
		"COPY --from=build --chown=" + envoyUser + ":" + envoyUser + " /volume/ /",
		"VOLUME " + config.DefaultBootstrapDir,
		"USER " + envoyUser + ":" + envoyUser,
		`ENTRYPOINT ["/ecsmesh-init"]`,
	}
	stages := stages(read(t, "initcontainer/Dockerfile"))
	plain, iptables := stages[len(stages)-1], stages[len(stages)-2]
	if diff := cmp.Diff(append([]string{"FROM scratch AS plain"}, same...), plain); diff != "" {
		t.Errorf("the image has (-want +got):\n%s", diff)
	}
	// What else the one with iptables has is what initcontainer/iptables.sh takes.
	want := append([]string{"FROM scratch AS with-iptables", "COPY --from=iptables /iptables/ /", "ENV PATH=/usr/sbin"}, same...)
	if diff := cmp.Diff(want, iptables); diff != "" {
		t.Errorf("the image with iptables has (-want +got):\n%s", diff)
	}
	folder := "RUN mkdir -p /volume" + config.DefaultBootstrapDir + "\n"
	if !strings.Contains(read(t, "initcontainer/Dockerfile"), folder) {
		t.Errorf("nothing gives the volume an owner: there is no %s", folder)
	}
}

// stages are what a Dockerfile does from each FROM on.
func stages(dockerfile string) [][]string {
	var stages [][]string
	for line := range strings.Lines(dockerfile) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "FROM "):
			stages = append(stages, nil)
		}
		stages[len(stages)-1] = append(stages[len(stages)-1], line)
	}
	return stages
}

// TestTheBinaryNeedsNothingElse keeps it fit for an image without a loader and
// libraries.
func TestTheBinaryNeedsNothingElse(t *testing.T) {
	path, err := tools.Dist("ecsmesh-init")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	for _, segment := range binary.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("it is not static: it has %s", segment.Type)
		}
	}
}

// container is what a task definition lets a container do.
type container struct {
	Name                   string
	User                   string
	ReadonlyRootFilesystem bool
	LinuxParameters        linuxParameters
	Privileged             bool
	MountPoints            []struct{ ReadOnly bool }
}

type linuxParameters struct {
	Capabilities struct{ Add, Drop []string }
}

// UnmarshalJSON takes all of what a condition may choose from.
func (p *linuxParameters) UnmarshalJSON(text []byte) error {
	type plain linuxParameters
	var choices []json.RawMessage
	if json.Unmarshal(text, &choices) != nil {
		return json.Unmarshal(text, (*plain)(p))
	}
	for _, choice := range choices {
		var one plain
		if json.Unmarshal(choice, &one) == nil { // else it is the condition's name, or nothing
			p.Capabilities.Add = append(p.Capabilities.Add, one.Capabilities.Add...)
			p.Capabilities.Drop = append(p.Capabilities.Drop, one.Capabilities.Drop...)
		}
	}
	return nil
}

// TestContainersMayDoTheLeast holds the examples to it, of which users make their
// own task definitions.
func TestContainersMayDoTheLeast(t *testing.T) {
	for file, want := range map[string]int{
		"examples/mesh-tasks.yaml": 6, "examples/gateway.yaml": 2, "examples/consul-servers.yaml": 1, "examples/consul-dev.yaml": 1,
		"examples/dataplane.yaml": 3, "examples/client-agent.yaml": 5, transparentProxy: 3,
	} {
		seen := 0
		for id, containers := range definitions(t, file) {
			for _, c := range containers {
				seen++
				if file == transparentProxy && c.Name == "ecsmesh-init" {
					c = withoutRedirection(t, id, c)
				}
				expectTheLeast(t, file+" "+id, c)
			}
		}
		if seen != want {
			t.Errorf("there are %d containers in %s, want %d", seen, file, want)
		}
	}
}

// TestExamplesWithAnApplicationTakeCommands has each of them do what ECS Exec
// needs, as the first does, when its parameter says so, and nothing otherwise.
func TestExamplesWithAnApplicationTakeCommands(t *testing.T) {
	example := func(file string) map[string]any {
		var document map[string]any
		if err := yaml.Unmarshal([]byte(read(t, file)), &document); err != nil {
			t.Fatal(err)
		}
		return document
	}
	dig := func(value any, path ...string) any {
		for _, name := range path {
			fields, _ := value.(map[string]any)
			value = fields[name]
		}
		return value
	}
	same := func(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }
	first := example("examples/mesh-tasks.yaml")
	for _, file := range []string{"examples/mesh-tasks.yaml", "examples/dataplane.yaml", "examples/client-agent.yaml", transparentProxy} {
		found := example(file)
		if dig(found, "Parameters", "EnableExecuteCommand", "Default") != "DISABLED" {
			t.Errorf("%s has no parameter EnableExecuteCommand that is DISABLED by default", file)
		}
		for _, path := range [][]string{{"Conditions", "Exec"}, {"Resources", "ExecPolicy", "Condition"}, {"Resources", "ExecPolicy", "Properties", "PolicyDocument"}} {
			if want := dig(first, path...); want == nil || !same(want, dig(found, path...)) {
				t.Errorf("%s has in %v %v, want %v", file, path, dig(found, path...), want)
			}
		}
		services := 0
		for id, resource := range dig(found, "Resources").(map[string]any) {
			switch dig(resource, "Type") {
			case "AWS::ECS::Service":
				services++
				if enabled := dig(resource, "Properties", "EnableExecuteCommand"); !same(enabled, []any{"Exec", true, false}) {
					t.Errorf("%s: %s has EnableExecuteCommand %v", file, id, enabled)
				}
			case "AWS::ECS::TaskDefinition":
				containers := dig(resource, "Properties", "ContainerDefinitions").([]any)
				application := containers[len(containers)-1]
				if parameters := dig(application, "LinuxParameters"); !same(parameters, []any{"Exec", map[string]any{"InitProcessEnabled": true}, "AWS::NoValue"}) || dig(application, "ReadonlyRootFilesystem") != nil {
					t.Errorf("%s: the application of %s has LinuxParameters %v", file, id, parameters)
				}
			}
		}
		if roles, _ := dig(found, "Resources", "ExecPolicy", "Properties", "Roles").([]any); len(roles) != services {
			t.Errorf("%s: the policy is that of the roles %v, for %d services", file, roles, services)
		}
	}
}

// transparentProxy is the example whose init container redirects traffic.
const transparentProxy = "examples/transparent-proxy.yaml"

// withoutRedirection is an init container without what it needs for that, and
// for nothing else.
func withoutRedirection(t *testing.T, id string, c container) container {
	t.Helper()
	if add := c.LinuxParameters.Capabilities.Add; c.User != "0" || !slices.Equal(add, []string{"NET_ADMIN", "SETUID", "SETGID"}) {
		t.Errorf("%s: %s redirects traffic as user %q with %s", id, c.Name, c.User, add)
	}
	c.User, c.LinuxParameters.Capabilities.Add = envoyUser, nil
	return c
}

func expectTheLeast(t *testing.T, id string, c container) {
	t.Helper()
	if c.Privileged || len(c.LinuxParameters.Capabilities.Add) > 0 {
		t.Errorf("%s: %s has more rights than containers have by default", id, c.Name)
	}
	user, ours := map[string]string{
		"ecsmesh-init": envoyUser, "envoy": envoyUser, "consul-dataplane": envoyUser, "consul-server": consulUser,
		"discover-servers": envoyUser, "consul-client": envoyUser,
	}[c.Name]
	if !ours {
		// What an application does else is its own business.
		for _, mount := range c.MountPoints {
			if !mount.ReadOnly {
				t.Errorf("%s: %s may change what Envoy starts with", id, c.Name)
			}
		}
		return
	}
	if c.User != user {
		t.Errorf("%s: %s runs as user %q, want %s", id, c.Name, c.User, user)
	}
	if !c.ReadonlyRootFilesystem || !slices.Equal(c.LinuxParameters.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("%s: %s has a file system to write to, or capabilities: %+v", id, c.Name, c)
	}
}

// definitions are an example's task definitions, with their containers.
func definitions(t *testing.T, file string) map[string][]container {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(read(t, file)), &document); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	var example struct {
		Resources map[string]struct {
			Type       string
			Properties struct{ ContainerDefinitions []container }
		}
	}
	if err := json.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	found := map[string][]container{}
	for id, resource := range example.Resources {
		if resource.Type == "AWS::ECS::TaskDefinition" {
			found[id] = resource.Properties.ContainerDefinitions
		}
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	root, err := tools.Root()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
