package docs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ecsmesh/initcontainer/config"
)

// taskDefinition is one of ECS, as far as the example has one.
type taskDefinition struct {
	Volumes              []struct{ Name string }
	ContainerDefinitions []struct {
		Name        string
		MountPoints []struct{ SourceVolume, ContainerPath string }
		DependsOn   []struct{ ContainerName string }
		Environment []struct{ Name, Value string }
		Secrets     []struct{ Name string }
		EntryPoint  []string
		Command     []string
		HealthCheck struct{ Command []string }
	}
}

// TestMigrationsExampleIsWhole holds the task definition's both sides to what ECS
// and ecsmesh ask of one.
func TestMigrationsExampleIsWhole(t *testing.T) {
	_, diff, found := strings.Cut(readMigration(t), "```diff\n")
	diff, _, ended := strings.Cut(diff, "\n```\n")
	if !found || !ended {
		t.Fatal("there is no example")
	}
	before, after := side(t, diff, '-'), side(t, diff, '+')
	for what, d := range map[string]taskDefinition{"before": before, "after": after} {
		names := map[string]bool{}
		for _, volume := range d.Volumes {
			names["volume "+volume.Name] = true
		}
		for _, c := range d.ContainerDefinitions {
			names[c.Name] = true
		}
		for _, c := range d.ContainerDefinitions {
			for _, mount := range c.MountPoints {
				if !names["volume "+mount.SourceVolume] {
					t.Errorf("%s: %s mounts %s, which is not there", what, c.Name, mount.SourceVolume)
				}
			}
			for _, other := range c.DependsOn {
				if !names[other.ContainerName] {
					t.Errorf("%s: %s depends on %s, which is not there", what, c.Name, other.ContainerName)
				}
			}
		}
	}
	init, envoy, shop := after.ContainerDefinitions[0], after.ContainerDefinitions[1], after.ContainerDefinitions[2]
	r := newReader(t)
	cfg, err := config.Read(func(name string) string {
		for _, variable := range init.Environment {
			if variable.Name == name {
				return variable.Value
			}
		}
		if slices.ContainsFunc(init.Secrets, func(secret struct{ Name string }) bool { return secret.Name == name }) {
			return r.ca
		}
		return ""
	})
	if err != nil || len(cfg.Warnings) > 0 {
		t.Fatalf("after: %v %q", err, cfg.Warnings)
	}
	for what, path := range map[string]string{
		"volume of init": init.MountPoints[0].ContainerPath, "volume of Envoy": envoy.MountPoints[0].ContainerPath,
		"Envoy's bootstrap": strings.TrimSuffix(envoy.Command[1], "/envoy-bootstrap.json"),
		"health check":      strings.TrimSuffix(envoy.HealthCheck.Command[1], "/bin/ecsmesh-init"),
		"entry point":       strings.TrimSuffix(shop.EntryPoint[0], "/bin/ecsmesh-init"),
	} {
		if path != cfg.BootstrapDir {
			t.Errorf("after: the %s is at %s, not %s", what, path, cfg.BootstrapDir)
		}
	}
	if init.Name != "ecsmesh-init" || len(after.ContainerDefinitions) != 3 || len(before.ContainerDefinitions) != 4 || !slices.Equal(cfg.Service.HealthSyncContainers, []string{shop.Name}) {
		t.Errorf("after: %+v", after)
	}
}

// side is one of a diff's two, which is JSON.
func side(t *testing.T, diff string, sign byte) taskDefinition {
	t.Helper()
	var text strings.Builder
	for line := range strings.Lines(diff) {
		if line[0] == ' ' || line[0] == sign {
			fmt.Fprint(&text, line[1:])
		}
	}
	var parsed taskDefinition
	if err := json.Unmarshal([]byte(text.String()), &parsed); err != nil {
		t.Fatalf("side %c: %v", sign, err)
	}
	return parsed
}
