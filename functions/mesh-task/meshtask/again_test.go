package meshtask_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/meshtask"
)

// TestWhatLeftTheBlockLeavesTheDefinition expands what was expanded with another
// block: it comes to what the plain definition does.
func TestWhatLeftTheBlockLeavesTheDefinition(t *testing.T) {
	ec2 := strings.Replace(small, "FARGATE", "EC2", 1) + app
	for name, test := range map[string]struct{ definition, before, now string }{
		"an upstream":             {small + app, "{service: web, port: 8080, upstreams: {api: 9091, db: 5432}}", "{service: web, port: 8080, upstreams: {api: 9091}}"},
		"a check":                 {small + app, "{service: web, port: 8080, checks: [{name: a, tcp: '127.0.0.1:8080'}]}", web},
		"TLS":                     {small + app, "{service: web, port: 8080, consulServers: {defaults: {tls: true, caCertParameter: /ca}}}", web},
		"the listener's port":     {small + app, "{service: web, port: 8080, proxy: {publicListenerPort: 21000}}", web},
		"a listener's port anew":  {small + app, web, "{service: web, port: 8080, proxy: {publicListenerPort: !Ref Listener}}"},
		"a port that isn't known": {small + app, "{service: web, port: 8080, proxy: {publicListenerPort: !Ref Listener}}", web},
		"another folder":          {small + app, "{service: web, port: 8080, bootstrapDir: /mesh}", web},
		"the usual folder":        {small + app, web, "{service: web, port: 8080, bootstrapDir: /mesh}"},
		"transparentProxy":        {ec2, "{service: web, port: 8080, transparentProxy: {}}", web},
		"its DNS":                 {ec2, "{service: web, port: 8080, consulServers: {defaults: {tls: false}}, topology: client-agent, transparentProxy: {consulDNS: {enabled: true}}}", "{service: web, port: 8080, topology: client-agent, transparentProxy: {}}"},
		"its user":                {ec2, "{service: web, port: 8080, proxy: {uid: 1234}, transparentProxy: {}}", "{service: web, port: 8080, transparentProxy: {}}"},
		"logs through a router":   {small + "ContainerDefinitions: [{Name: web, Image: w, LogConfiguration: {LogDriver: awsfirelens}}, {Name: logs, Image: f, FirelensConfiguration: {Type: fluentbit}}]", web, "{service: web, port: 8080, logConfiguration: {LogDriver: journald}}"},
		"a Consul client's port":  {small + app, "{service: web, port: 8080, topology: client-agent, consulClient: {serfPort: 8311}}", "{service: web, port: 8080, topology: client-agent}"},
	} {
		t.Run(name, func(t *testing.T) {
			defaults := meshtask.Defaults{InitImage: "init:1"}
			want, _ := expand(t, test.definition, test.now, defaults)
			first, _ := expand(t, test.definition, test.before, defaults)
			got, _ := expand(t, dump(t, first), test.now, defaults)
			if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" {
				t.Errorf("the expanded one (+) isn't what the plain one (-) comes to:\n%s", diff)
			}
		})
	}
}

// TestAnotherTopologyLater: once the containers are gone that it has none of, so
// is what waited for them, and their volume.
func TestAnotherTopologyLater(t *testing.T) {
	for topology, gone := range map[string][]string{"client-agent": {"discover-servers", "consul-client"}, "dataplane": {"consul-dataplane"}} {
		defaults := meshtask.Defaults{InitImage: "init:1"}
		block := "{service: web, port: 8080, topology: " + topology + "}"
		node, _ := expand(t, small+app, block, defaults)
		if _, err := meshtask.Expand(parse(t, dump(t, node)), parse(t, web), meshtask.CloudFormation, defaults, nil); err == nil {
			t.Errorf("after %s the containers that are too many are none to it", topology)
		}
		list := get(node, "ContainerDefinitions")
		list.Content = slices.DeleteFunc(list.Content, func(c *yaml.Node) bool { return slices.Contains(gone, get(c, "Name").Value) })
		later, _ := expand(t, dump(t, node), web, defaults)
		want, _ := expand(t, small+app, web, defaults)
		byName := cmp.Transformer("byName", func(list []any) map[any]any {
			all := map[any]any{}
			for i, item := range list {
				if fields, ok := item.(map[string]any); ok && fields["Name"] != nil {
					all[fields["Name"]] = fields
				} else {
					all[i] = item
				}
			}
			return all
		})
		if diff := cmp.Diff(asJSON(t, want), asJSON(t, later), byName); diff != "" {
			t.Errorf("after %s it isn't what the plain one comes to (-want +got):\n%s", topology, diff)
		}
	}
}

// TestWhatLeftTheBlockLeavesWhatECSDescribes, with the empty lists and the host
// ports that it has there.
func TestWhatLeftTheBlockLeavesWhatECSDescribes(t *testing.T) {
	definition := parse(t, `{family: web, networkMode: awsvpc, requiresCompatibilities: [EC2], memory: "512", containerDefinitions: [{name: web, image: w}]}`)
	defaults := meshtask.Defaults{InitImage: "init:1"}
	if _, err := meshtask.Expand(definition, parse(t, "{service: web, port: 8080, transparentProxy: {}, proxy: {publicListenerPort: 21000}}"), meshtask.API, defaults, nil); err != nil {
		t.Fatal(err)
	}
	described := strings.NewReplacer("containerPort: 21000,", "containerPort: 21000, hostPort: 21000,", "capabilities: {", "devices: [], tmpfs: [], capabilities: {").Replace(dump(t, definition))
	definition = parse(t, described)
	if _, err := meshtask.Expand(definition, parse(t, web), meshtask.API, defaults, nil); err != nil {
		t.Fatal(err)
	}
	if found := dump(t, definition); strings.Contains(found, "21000") || strings.Contains(found, "NET_ADMIN") {
		t.Errorf("it still has the port or the capabilities:\n%s", found)
	}
}

// TestWhatSomebodySetStaysWhenTheBlockChanges: it is otherwise than what an
// expansion writes.
func TestWhatSomebodySetStaysWhenTheBlockChanges(t *testing.T) {
	ec2 := strings.Replace(small, "FARGATE", "EC2", 1) + app
	node, _ := expand(t, ec2, "{service: web, port: 8080, transparentProxy: {}, proxy: {publicListenerPort: 21000}}", meshtask.Defaults{InitImage: "init:1"})
	changed := strings.NewReplacer(
		"Add: [NET_ADMIN, SETUID, SETGID]", "Add: [NET_ADMIN, SETUID, SETGID, SYS_PTRACE]",
		"ContainerPort: 21000,", "ContainerPort: 21000, Name: mesh,",
	).Replace(dump(t, node))
	node, _ = expand(t, changed, web, meshtask.Defaults{InitImage: "init:1"})
	if found := dump(t, node); !strings.Contains(found, "SYS_PTRACE") || !strings.Contains(found, "ContainerPort: 21000, Name: mesh,") {
		t.Errorf("it lacks what somebody set:\n%s", found)
	}
}

// TestWhatMayBeSomebodysIsKeptAndNoted: neither the definition nor the block tells
// whether an earlier block said it.
func TestWhatMayBeSomebodysIsKeptAndNoted(t *testing.T) {
	two := small + "ContainerDefinitions: [{Name: web, Image: web:1}, {Name: other, Image: other:1}]"
	node, result := expand(t, two, "{service: web, port: 8080, refreshInterval: 30s, envoyImage: 'envoy:2', logConfiguration: {LogDriver: journald}}", meshtask.Defaults{InitImage: "init:1"})
	if notes := strings.Join(result.Notes, "\n"); strings.Contains(notes, "keeps") {
		t.Errorf("at first the notes are %s", notes)
	}
	node, result = expand(t, dump(t, node), "{service: web, port: 8080, containers: [web]}", meshtask.Defaults{InitImage: "init:1"})
	notes := strings.Join(result.Notes, "\n")
	for _, want := range []string{
		"ecsmesh-init keeps the LogConfiguration that it has,",
		"envoy keeps the Image and the LogConfiguration and the -refresh of its health check that it has,",
		"web keeps the -refresh of its health check that it has,",
		"other waits for envoy as before,",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note has %q:\n%s", want, notes)
		}
	}
	if found := dump(t, node); !strings.Contains(found, "Image: envoy:2") && !strings.Contains(found, "Image: 'envoy:2'") {
		t.Errorf("the image isn't kept:\n%s", found)
	}
}

// TestAFolderOfAFunctionIsOursTheSecondTime: the health check in it isn't taken for
// one of the application's own, which the service would wait for.
func TestAFolderOfAFunctionIsOursTheSecondTime(t *testing.T) {
	for _, dir := range []string{"!If [Elsewhere, /mesh, /ecsmesh]", "!ImportValue Folder", "{'Fn::Sub': ['/${Folder}', {Folder: mesh}]}", "!Sub '/${Folder}'"} {
		block := "{service: web, port: 8080, bootstrapDir: " + dir + "}"
		first, _ := expand(t, small+app, block, meshtask.Defaults{InitImage: "init:1"})
		once := dump(t, first)
		again, _ := expand(t, once, block, meshtask.Defaults{InitImage: "init:1"})
		if diff := cmp.Diff(once, dump(t, again)); diff != "" {
			t.Errorf("with %s it is another the second time:\n%s", dir, diff)
		}
	}
}

// TestAJoinedFolderIsOurs, as the CDK writes it.
func TestAJoinedFolderIsOurs(t *testing.T) {
	first, _ := expand(t, small+app, "{service: web, port: 8080, bootstrapDir: !Ref Folder}", meshtask.Defaults{InitImage: "init:1"})
	want, _ := expand(t, small+app, web, meshtask.Defaults{InitImage: "init:1"})
	for _, join := range []string{`!Join ["", [!Ref Folder, /bin/ecsmesh-init]]`, `!Join [/, [!Ref Folder, bin, ecsmesh-init]]`, `!Join [/, [!Ref Folder, bin/ecsmesh-init]]`} {
		joined := strings.NewReplacer(`!Sub ${Folder}/bin/ecsmesh-init`, join, `!Sub "${Folder}/bin/ecsmesh-init"`, join, `!Sub '${Folder}/bin/ecsmesh-init'`, join).Replace(dump(t, first))
		if !strings.Contains(joined, "!Join") {
			t.Fatalf("there is no health check to join:\n%s", joined)
		}
		again, _ := expand(t, joined, web, meshtask.Defaults{InitImage: "init:1"})
		if diff := cmp.Diff(asJSON(t, want), asJSON(t, again)); diff != "" {
			t.Errorf("%s isn't what the plain one comes to (-want +got):\n%s", join, diff)
		}
	}
}

// TestWhatFunctionsGaveIsTakenBack: an earlier block had functions, whose values
// aren't known, and which ECSMESH_CONFIG has as variables.
func TestWhatFunctionsGaveIsTakenBack(t *testing.T) {
	ec2 := strings.Replace(small, "FARGATE", "EC2", 1) + app
	for name, test := range map[string]struct{ before, now string }{
		"a folder, and transparentProxy":             {"bootstrapDir: !Ref Folder, transparentProxy: {}", ""},
		"a known folder, and transparentProxy":       {"bootstrapDir: !Ref Known, transparentProxy: {}", ""},
		"a folder under a condition":                 {"bootstrapDir: !If [Elsewhere, /mesh, /ecsmesh], transparentProxy: {}", ""},
		"a folder of a text":                         {"bootstrapDir: !Sub '/mesh/${Folder}'", ""},
		"a folder, and another":                      {"bootstrapDir: !Ref Folder", "bootstrapDir: /mesh"},
		"a user, and another folder":                 {"proxy: {uid: !Ref User}", "proxy: {uid: !Ref User}, bootstrapDir: /mesh"},
		"a user under a condition, and a folder":     {"proxy: {uid: !If [Distroless, 65532, 101]}", "bootstrapDir: /mesh"},
		"a known user, and transparentProxy":         {"proxy: {uid: !Ref Usual}, transparentProxy: {}", ""},
		"transparentProxy under a condition":         {"transparentProxy: !If [Redirected, {excludeUIDs: ['5']}, !Ref AWS::NoValue]", ""},
		"the listener's port under a condition":      {"proxy: {publicListenerPort: !If [Old, 21000, 22000]}", ""},
		"the listener's port in texts":               {"proxy: {publicListenerPort: !If [Old, '21000', '22000']}", ""},
		"the listener's port from another stack":     {"proxy: {publicListenerPort: !ImportValue Port}", ""},
		"the listener's port of a resource":          {"proxy: {publicListenerPort: !GetAtt Mesh.Port}", ""},
		"the listener's port from a parameter store": {"proxy: {publicListenerPort: '{{resolve:ssm:/port}}'}", ""},
		"a Consul client's user and ports":           {"topology: client-agent, consulClient: {uid: !Ref User, serfPort: !Ref Serf}", "topology: client-agent, bootstrapDir: /mesh"},
		"a Consul client's folder":                   {"topology: client-agent, bootstrapDir: !Ref Folder", "topology: client-agent, bootstrapDir: /mesh"},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(definition *yaml.Node, settings string) *yaml.Node {
				block := parse(t, strings.Replace("{service: web, port: 8080, "+settings+"}", ", }", "}", 1))
				parameters := map[string]any{"Known": "/ecsmesh", "Usual": "101"}
				if _, err := meshtask.Expand(definition, block, meshtask.CloudFormation, meshtask.Defaults{InitImage: "init:1"}, parameters); err != nil {
					t.Fatal(err)
				}
				return definition
			}
			want := run(parse(t, ec2), test.now)
			first := run(parse(t, ec2), test.before)
			got := run(parse(t, dump(t, first)), test.now)
			if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" {
				t.Errorf("the expanded one (+) isn't what the plain one (-) comes to:\n%s", diff)
			}
		})
	}
}

// TestAPortOfAFunctionStaysInItsPlace, and what somebody wrote beside it.
func TestAPortOfAFunctionStaysInItsPlace(t *testing.T) {
	const block = "{service: web, port: 8080, proxy: {publicListenerPort: !Ref Listener}}"
	node, _ := expand(t, small+app, block, meshtask.Defaults{InitImage: "init:1"})
	edited := strings.Replace(dump(t, node), "{ContainerPort: !Ref Listener, Protocol: tcp}", "{ContainerPort: !Ref Listener, HostPort: !Ref Listener, Protocol: tcp}, {ContainerPort: 9102}", 1)
	if !strings.Contains(edited, "9102") {
		t.Fatalf("there is no port to write beside:\n%s", edited)
	}
	node, _ = expand(t, edited, block, meshtask.Defaults{InitImage: "init:1"})
	if diff := cmp.Diff(edited, dump(t, node)); diff != "" {
		t.Errorf("with the same block it is another:\n%s", diff)
	}
}

// TestCapabilitiesGoFromAmongOthers: somebody has more in the init container's
// LinuxParameters, from the start or later, and keeps that.
func TestCapabilitiesGoFromAmongOthers(t *testing.T) {
	ec2 := strings.Replace(small, "FARGATE", "EC2", 1) + app
	const transparent = "{service: web, port: 8080, transparentProxy: {}}"
	for name, test := range map[string]struct {
		definition, block string // of before
		edit              *strings.Replacer
		now, want         string
	}{
		"a capability later":          {ec2, transparent, strings.NewReplacer("SETGID]", "SETGID, SYS_PTRACE]"), web, "{Capabilities: {Drop: [ALL], Add: [SYS_PTRACE]}}"},
		"a capability from the start": {strings.Replace(ec2, "[{Name: web", "[{Name: ecsmesh-init, LinuxParameters: {Capabilities: {Add: [SYS_PTRACE]}}}, {Name: web", 1), transparent, nil, web, "{Capabilities: {Add: [SYS_PTRACE]}}"},
		"a process later":             {ec2, transparent, strings.NewReplacer("SETGID]}", "SETGID]}, InitProcessEnabled: true"), web, "{Capabilities: {Drop: [ALL]}, InitProcessEnabled: true}"},
		"a process from the start":    {strings.Replace(ec2, "[{Name: web", "[{Name: ecsmesh-init, LinuxParameters: {InitProcessEnabled: true}}, {Name: web", 1), transparent, nil, web, "{InitProcessEnabled: true, Capabilities: {Drop: [ALL]}}"},
		"another order":               {ec2, transparent, strings.NewReplacer("[NET_ADMIN, SETUID, SETGID]", "[SETUID, SETGID, NET_ADMIN]"), web, "{Capabilities: {Drop: [ALL]}}"},
		"another user's":              {ec2, "{service: web, port: 8080, proxy: {uid: 1234}, transparentProxy: {}}", strings.NewReplacer("CHOWN]}", "CHOWN]}, InitProcessEnabled: true"), transparent, "{Capabilities: {Drop: [ALL], Add: [NET_ADMIN, SETUID, SETGID]}, InitProcessEnabled: true}"},
		"what somebody drops":         {ec2, transparent, strings.NewReplacer("Drop: [ALL], Add", "Drop: [CHOWN], Add"), web, "{Capabilities: {Drop: [CHOWN]}}"},
	} {
		t.Run(name, func(t *testing.T) {
			node, _ := expand(t, test.definition, test.block, meshtask.Defaults{InitImage: "init:1"})
			definition := dump(t, node)
			if test.edit != nil {
				edited := test.edit.Replace(definition)
				if edited == definition {
					t.Fatalf("there is nothing to edit:\n%s", definition)
				}
				definition = edited
			}
			node, _ = expand(t, definition, test.now, meshtask.Defaults{InitImage: "init:1"})
			got := container(t, asJSON(t, node), "ecsmesh-init")["LinuxParameters"]
			if diff := cmp.Diff(asJSON(t, parse(t, test.want)), got); diff != "" {
				t.Errorf("its LinuxParameters (-want +got):\n%s", diff)
			}
			once := dump(t, node)
			if node, _ = expand(t, once, test.now, meshtask.Defaults{InitImage: "init:1"}); dump(t, node) != once {
				t.Errorf("the second time it is another:\n%s", cmp.Diff(once, dump(t, node)))
			}
		})
	}
}

// TestAnotherCheckGivesOursNoArguments: ecsmesh-init refuses those of another
// program, and Envoy would never be healthy.
func TestAnotherCheckGivesOursNoArguments(t *testing.T) {
	own := strings.Replace(small+app, "[{Name: web", "[{Name: envoy, HealthCheck: {Command: [CMD, curl, -sf, 'http://127.0.0.1:19000/ready'], Interval: 7}}, {Name: web", 1)
	node, _ := expand(t, own, web, meshtask.Defaults{InitImage: "init:1"})
	check := container(t, asJSON(t, node), "envoy")["HealthCheck"]
	want := asJSON(t, parse(t, "{Command: [CMD, /ecsmesh/bin/ecsmesh-init, check], Interval: 7, Timeout: 5, Retries: 5, StartPeriod: 60}"))
	if diff := cmp.Diff(want, check); diff != "" {
		t.Errorf("Envoy's health check (-want +got):\n%s", diff)
	}
	edited := strings.Replace(dump(t, node), "ecsmesh-init, check]", "ecsmesh-init, check, -timeout, 4s]", 1)
	if node, _ = expand(t, edited, web, meshtask.Defaults{InitImage: "init:1"}); dump(t, node) != edited {
		t.Errorf("it doesn't keep what somebody adds to its own check:\n%s", cmp.Diff(edited, dump(t, node)))
	}
	conditional := strings.Replace(small+app, "[{Name: web", "[{Name: envoy, HealthCheck: {'Fn::If': [Own, {Command: [CMD, own]}, {Ref: 'AWS::NoValue'}]}}, {Name: web", 1)
	node, _ = expand(t, conditional, web, meshtask.Defaults{InitImage: "init:1"})
	if check := fmt.Sprint(container(t, asJSON(t, node), "envoy")["HealthCheck"]); strings.Contains(check, "Fn::If") {
		t.Errorf("a function has fields beside it: %s", check)
	}
}

// TestWhatIsWrittenByHandIntoTheConfigurationIsNoted, since that is made of the
// block; what left a block is nothing to note.
func TestWhatIsWrittenByHandIntoTheConfigurationIsNoted(t *testing.T) {
	defaults := meshtask.Defaults{InitImage: "init:1"}
	const block = "{service: web, port: !Ref Port, upstreams: {api: 9091}, checks: !If [C, [{name: a, tcp: '127.0.0.1:8080'}], !Ref AWS::NoValue], bootstrapDir: !If [D, /mesh, /ecsmesh], proxy: {config: {protocol: http}}}"
	node, _ := expand(t, small+app, block, defaults)
	expanded := dump(t, node)
	if _, result := expand(t, expanded, web, defaults); strings.Contains(strings.Join(result.Notes, "\n"), "by hand, and") {
		t.Errorf("without an edit the notes are %s", result.Notes)
	}
	edited := strings.NewReplacer(`"consulServers": {`, `"logLevel": "DEBUG", "consulServers": {"tokenParameter": "/token", `).Replace(expanded)
	if edited == expanded {
		t.Fatalf("there is nothing to edit:\n%s", expanded)
	}
	node, result := expand(t, edited, block, defaults)
	const want = "The ECSMESH_CONFIG of ecsmesh-init was written by hand, and is made of EcsMesh now: have there what shall stay of logLevel, consulServers.tokenParameter."
	if !slices.Contains(result.Notes, want) {
		t.Errorf("no note says what is lost: %s", result.Notes)
	}
	if _, result = expand(t, dump(t, node), block, defaults); slices.Contains(result.Notes, want) {
		t.Error("what is lost is noted again")
	}
}

// TestAConfigurationThatCantBeReadIsNoted: nothing is taken back.
func TestAConfigurationThatCantBeReadIsNoted(t *testing.T) {
	node, _ := expand(t, strings.Replace(small, "FARGATE", "EC2", 1)+app, "{service: web, port: 8080, transparentProxy: {}}", meshtask.Defaults{InitImage: "init:1"})
	for _, variable := range get(get(node, "ContainerDefinitions").Content[0], "Environment").Content {
		*get(variable, "Value") = *parse(t, "!ImportValue Configuration")
	}
	node, result := expand(t, dump(t, node), web, meshtask.Defaults{InitImage: "init:1"})
	if notes := strings.Join(result.Notes, "\n"); !strings.Contains(notes, "can't be read here") {
		t.Errorf("no note says so: %s", notes)
	}
	if !strings.Contains(dump(t, node), "NET_ADMIN") {
		t.Error("it is read")
	}
}
