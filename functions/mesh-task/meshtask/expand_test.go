package meshtask_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/meshtask"
	"ecsmesh/initcontainer/config"
)

func expand(t *testing.T, definition, block string, defaults meshtask.Defaults) (*yaml.Node, meshtask.Result) {
	t.Helper()
	node := parse(t, definition)
	result, err := meshtask.Expand(node, parse(t, block), meshtask.CloudFormation, defaults, nil)
	if err != nil {
		t.Fatal(err)
	}
	return node, result
}

// container is one of an expanded definition, as JSON.
func container(t *testing.T, definition any, name string) map[string]any {
	t.Helper()
	for _, item := range definition.(map[string]any)["ContainerDefinitions"].([]any) {
		if found := item.(map[string]any); found["Name"] == name {
			return found
		}
	}
	t.Fatalf("there is no container %s", name)
	return nil
}

// TestConditions has CloudFormation decide all conditions of a template in all
// ways: each time ecsmesh-init takes what comes out.
func TestConditions(t *testing.T) {
	index := slices.IndexFunc(sources(t), func(s source) bool { return s.name == "copilot.yaml" })
	s := sources(t)[index]
	if _, err := meshtask.Expand(s.definition, s.block, s.form, stack, nil); err != nil {
		t.Fatal(err)
	}
	conditions := []string{"Debug", "HasCache", "HTTP", "Tls", "Login", "HasStorage", "HasEntryPoint", "HasSecrets", "HasNginx"}
	for bits := range 1 << len(conditions) {
		c := template{
			parameters: map[string]any{"AppName": "shop", "WorkloadName": "cart", "EnvName": "prod", "ContainerPort": 8080, "DbPort": 5432},
			chosen:     map[string]bool{},
		}
		for i, condition := range conditions {
			c.chosen[condition] = bits>>i&1 == 1
		}
		definition := replaceOutside(asJSON(t, s.definition))
		document := ""
		for _, item := range container(t, c.value(t, definition), "ecsmesh-init")["Environment"].([]any) {
			document = item.(map[string]any)["Value"].(string)
		}
		cfg, err := config.Read(func(name string) string { return map[string]string{config.Variable: document}[name] })
		if err != nil {
			t.Fatalf("with %v: %v\n%s", c.chosen, err, document)
		}
		got := fmt.Sprintln(cfg.Service.Name, cfg.Service.Port, cfg.Service.Checks[0].HTTP, cfg.ConsulServers.Parameter, cfg.Proxy.Config["protocol"],
			len(cfg.Proxy.Upstreams), cfg.Login != nil, cfg.ConsulServers.HTTP.TLS != nil, cfg.LogLevel.String())
		want := fmt.Sprintln("shop-cart", 8080, "http://127.0.0.1:8080/healthz", "/prod/consul-servers", map[bool]string{true: "http", false: "tcp"}[c.chosen["HTTP"]],
			map[bool]int{true: 2, false: 1}[c.chosen["HasCache"]], c.chosen["Login"], c.chosen["Tls"], map[bool]string{true: "DEBUG", false: "INFO"}[c.chosen["Debug"]])
		if got != want {
			t.Fatalf("with %v it is %s and should be %s", c.chosen, got, want)
		}
	}
}

// replaceOutside puts texts in the place of what only CloudFormation can look up.
func replaceOutside(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			switch name {
			case "Fn::ImportValue":
				return "cache"
			case "Fn::FindInMap":
				return "/prod/ca"
			}
			v[name] = replaceOutside(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = replaceOutside(inner)
		}
	}
	return value
}

// TestWhatIsSetBesideStays changes an expanded definition and its block: ours is
// set anew, and what somebody else set is as it was.
func TestWhatIsSetBesideStays(t *testing.T) {
	node, _ := expand(t, small+app, web, meshtask.Defaults{InitImage: "init:1"})
	changed := strings.NewReplacer(
		"StopTimeout: 5", "StopTimeout: 9\n      Cpu: 32\n      Essential: false",
		"[CMD, /ecsmesh/bin/ecsmesh-init, check]", "[CMD, /ecsmesh/bin/ecsmesh-init, check, -timeout, 8s]",
		"Interval: 5", "Interval: 11",
		"DependsOn: [{ContainerName: ecsmesh-init, Condition: SUCCESS}]", "DependsOn: [{ContainerName: ecsmesh-init, Condition: START}]",
		"StartTimeout: 120\n      ReadonlyRootFilesystem", "StartTimeout: 60\n      User: \"7\"\n      ReadonlyRootFilesystem",
	).Replace(strings.Replace(dump(t, node), "User: \"101\"", "Privileged: false", 1))
	node, _ = expand(t, changed, "{service: web, port: 8081, refreshInterval: 30s, envoyImage: 'envoy:2', bootstrapDir: /ecsmesh}", meshtask.Defaults{InitImage: "init:2"})
	all := asJSON(t, node)
	initial, envoy, application := container(t, all, "ecsmesh-init"), container(t, all, "envoy"), container(t, all, "web")
	for _, test := range []struct{ got, want any }{
		{initial["Image"], "init:2"}, {initial["User"], "101"}, {initial["StartTimeout"], 60}, {initial["Privileged"], false},
		{initial["Command"], []any{"register", "-timeout", "50s"}},
		{settings(t, initial).(map[string]any)["service"], map[string]any{"name": "web", "port": 8081.0}},
		{envoy["Image"], "envoy:2"}, {envoy["StopTimeout"], 9}, {envoy["Cpu"], 32}, {envoy["Essential"], true},
		{envoy["DependsOn"], []any{map[string]any{"ContainerName": "ecsmesh-init", "Condition": "SUCCESS"}}},
		{envoy["HealthCheck"].(map[string]any)["Command"], []any{"CMD", "/ecsmesh/bin/ecsmesh-init", "check", "-refresh", "30s", "-timeout", "8s"}},
		{envoy["HealthCheck"].(map[string]any)["Interval"], 11},
		{application["HealthCheck"].(map[string]any)["Command"], []any{"CMD", "/ecsmesh/bin/ecsmesh-init", "check", "-until-passing", "-refresh", "30s"}},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("it is otherwise (-want +got):\n%s", diff)
		}
	}
}

// TestAPortThatNothingLooksAtIsNoted: a container's health takes the place of the
// check of the service's port, which may be another's.
func TestAPortThatNothingLooksAtIsNoted(t *testing.T) {
	const note = "Nothing looks at the service's port 8080, which nginx has: the service's health is that of app."
	nginx := "{Name: nginx, Image: n, PortMappings: [{ContainerPort: 8080}]%s}, {Name: app, Image: a, PortMappings: [{ContainerPort: 9000}], HealthCheck: {Command: [CMD, 'true']}}"
	for name, test := range map[string]struct {
		check, block string
		want         bool
	}{
		"the health of another container":  {"", "{service: web, port: 8080}", true},
		"its own health as well":           {", HealthCheck: {Command: [CMD, 'true']}", "{service: web, port: 8080}", false},
		"a check of the service":           {"", "{service: web, port: 8080, checks: [{name: home, http: 'http://127.0.0.1:8080/'}]}", false},
		"the port of the container itself": {"", "{service: web, port: 9000}", false},
		"no port":                          {"", "{service: web, port: 0}", false},
	} {
		_, result := expand(t, small+"ContainerDefinitions: ["+fmt.Sprintf(nginx, test.check)+"]", test.block, meshtask.Defaults{InitImage: "init:1"})
		if notes := strings.Join(result.Notes, "\n"); strings.Contains(notes, note) != test.want {
			t.Errorf("%s: the notes are %s", name, notes)
		}
	}
}

// TestAHealthCheckUnderAConditionIsNotTold: where it isn't there, the service
// would never be healthy.
func TestAHealthCheckUnderAConditionIsNotTold(t *testing.T) {
	for _, none := range []string{"!Ref AWS::NoValue", "{Command: [NONE]}", "!If [D, {Command: [CMD, 'false']}, !Ref AWS::NoValue]"} {
		definition := small + "ContainerDefinitions: [{Name: web, Image: w, HealthCheck: !If [C, {Command: [CMD, 'true']}, " + none + "]}]"
		node, result := expand(t, definition, web, meshtask.Defaults{InitImage: "init:1"})
		found := settings(t, container(t, asJSON(t, node), "ecsmesh-init")).(map[string]any)["healthSyncContainers"]
		if found != nil || !strings.Contains(strings.Join(result.Notes, "\n"), "The health of the container web is not told to Consul, since it hasn't always a health check") {
			t.Errorf("with %s it syncs %v, and the notes are %q", none, found, result.Notes)
		}
	}
	node, _ := expand(t, small+"ContainerDefinitions: [{Name: web, Image: w, HealthCheck: !If [C, {Command: [CMD, 'true']}, {Command: [CMD, 'false']}]}]", web, meshtask.Defaults{InitImage: "init:1"})
	if found := settings(t, container(t, asJSON(t, node), "ecsmesh-init")).(map[string]any)["healthSyncContainers"]; !cmp.Equal(found, []any{"web"}) {
		t.Errorf("with a check in either case it syncs %v", found)
	}
}

// TestAnotherBootstrapDirLater: ecsmesh-init runs as root then, as at first, but
// for somebody's own image, and the note doesn't say otherwise.
func TestAnotherBootstrapDirLater(t *testing.T) {
	node, _ := expand(t, small+app, web, meshtask.Defaults{InitImage: "init:1"})
	const elsewhere = "{service: web, port: 8080, bootstrapDir: /mesh}"
	node, later := expand(t, dump(t, node), elsewhere, meshtask.Defaults{InitImage: "init:1"})
	_, first := expand(t, small+app, elsewhere, meshtask.Defaults{InitImage: "init:1"})
	if diff := cmp.Diff(first.Notes, later.Notes); diff != "" || !strings.Contains(strings.Join(later.Notes, "\n"), "ecsmesh-init runs as root, since") {
		t.Errorf("the notes (-at first +later):\n%s", diff)
	}
	own := strings.Replace(dump(t, node), "User: \"0\"", "User: \"101\"", 1)
	node, later = expand(t, own, elsewhere, meshtask.Defaults{InitImage: "init:1"})
	if diff := cmp.Diff(asJSON(t, parse(t, own)), asJSON(t, node)); diff != "" {
		t.Errorf("with somebody's own image it changed (-before +after):\n%s", diff)
	}
	if notes := strings.Join(later.Notes, "\n"); strings.Contains(notes, "runs as root, since") || !strings.Contains(notes, "ecsmesh-init runs as user 101, as its User has it, so its image has to declare /mesh as that user's") {
		t.Errorf("with somebody's own image the notes are %s", notes)
	}
}

// TestABootstrapDirThatIsntKnown is /ecsmesh or another: the two want different
// users.
func TestABootstrapDirThatIsntKnown(t *testing.T) {
	for dir, test := range map[string]struct{ user, note string }{
		"!Sub '/mesh-${AWS::StackName}'": {"0", "ecsmesh-init runs as root, since"},
		"!Ref Dir":                       {"101", "bootstrapDir isn't known here: at another than /ecsmesh"},
		"!Sub '/ecs${Rest}'":             {"101", "bootstrapDir isn't known here"},
	} {
		node, result := expand(t, small+app, "{service: web, port: 8080, bootstrapDir: "+dir+"}", meshtask.Defaults{InitImage: "init:1"})
		user := container(t, asJSON(t, node), "ecsmesh-init")["User"]
		if notes := strings.Join(result.Notes, "\n"); user != test.user || !strings.Contains(notes, test.note) {
			t.Errorf("at %s ecsmesh-init runs as %v, and the notes are %s", dir, user, notes)
		}
	}
}

// TestArgumentsOfAFunctionAreNoItems: !Split [",", …] is a list that nobody knows.
func TestArgumentsOfAFunctionAreNoItems(t *testing.T) {
	definition := small + "ContainerDefinitions: [{Name: web, Image: w, HealthCheck: {Command: !Split [',', 'CMD,true']}, PortMappings: !FindInMap [A, B, C]}]"
	node, _ := expand(t, definition, "{service: {name: web, port: 8080, checks: !FindInMap [A, B, C]}, healthSyncContainers: !Split [',', !Ref Synced]}", meshtask.Defaults{InitImage: "init:1"})
	if found := dump(t, node); !strings.Contains(found, "HealthSyncContainers: ") {
		t.Errorf("the containers are not split there:\n%s", found)
	}
}

// TestDynamicReferencesAreNumbers where the configuration has numbers.
func TestDynamicReferencesAreNumbers(t *testing.T) {
	node, _ := expand(t, small+app, "{service: '{{resolve:ssm:/name:1}}', port: '{{resolve:ssm:/port:1}}'}", meshtask.Defaults{InitImage: "init:1"})
	const want = `"service": {"name": "{{resolve:ssm:/name:1}}", "port": {{resolve:ssm:/port:1}}}`
	if found := dump(t, node); !strings.Contains(found, want) {
		t.Errorf("there is no %s:\n%s", want, found)
	}
}

// TestShortUpstreamsUnderAConditionAreThoseOfTheList, in each way that a choice is
// written.
func TestShortUpstreamsUnderAConditionAreThoseOfTheList(t *testing.T) {
	for _, upstreams := range []string{"!If [C, {api: 9091, db: {localBindPort: 5432}}, !If [D, {api: 1}, !Ref AWS::NoValue]]", "{Fn::If: [C, {api: 9091, db: {localBindPort: 5432}}, {Fn::If: [D, {api: 1}, {Ref: AWS::NoValue}]}]}"} {
		node, result := expand(t, small+app, "{service: web, port: 8080, upstreams: "+upstreams+"}", meshtask.Defaults{InitImage: "init:1"})
		if notes := strings.Join(result.Notes, "\n"); strings.Contains(notes, "does not start") {
			t.Errorf("the notes are %s", notes)
		}
		api := map[string]any{"destinationName": "api", "localBindPort": 9091.0}
		for _, test := range []struct {
			c, d bool
			want any
		}{
			{true, false, []any{api, map[string]any{"destinationName": "db", "localBindPort": 5432.0}}},
			{false, true, []any{map[string]any{"destinationName": "api", "localBindPort": 1.0}}},
			{false, false, nil},
		} {
			decided := template{chosen: map[string]bool{"C": test.c, "D": test.d}}.value(t, asJSON(t, node))
			found := settings(t, container(t, decided, "ecsmesh-init")).(map[string]any)["proxy"].(map[string]any)["upstreams"]
			if diff := cmp.Diff(test.want, found); diff != "" {
				t.Errorf("with C %v and D %v (-want +got):\n%s", test.c, test.d, diff)
			}
		}
	}
}

// TestFunctionsStayAsTheyAreWritten: a tag anywhere in the definition doesn't
// have ours written anew.
func TestFunctionsStayAsTheyAreWritten(t *testing.T) {
	block := "{service: web, port: {Ref: Port}}"
	node, _ := expand(t, small+app, block, meshtask.Defaults{InitImage: "init:1"})
	first := dump(t, node) + "TaskRoleArn: !GetAtt Role.Arn\n"
	node, _ = expand(t, first, block, meshtask.Defaults{InitImage: "init:1"})
	if diff := cmp.Diff(dump(t, parse(t, first)), dump(t, node)); diff != "" {
		t.Errorf("it changed (-first +second):\n%s", diff)
	}
}

// TestADescribedMeshTaskStays expands what describe-task-definition makes of an
// expanded definition.
func TestADescribedMeshTaskStays(t *testing.T) {
	definition := parse(t, `{family: web, networkMode: awsvpc, containerDefinitions: [{name: web, image: w}]}`)
	block := parse(t, web)
	defaults := meshtask.Defaults{InitImage: "init:1"}
	if _, err := meshtask.Expand(definition, block, meshtask.API, defaults, nil); err != nil {
		t.Fatal(err)
	}
	described := strings.NewReplacer(
		"containerPort: 20000,", "containerPort: 20000, hostPort: 20000,",
		"name: ecsmesh}", "name: ecsmesh, host: {}}",
		"image:", "links: [], volumesFrom: [], cpu: 0, secrets: [], image:",
	).Replace(dump(t, definition))
	definition = parse(t, described)
	if _, err := meshtask.Expand(definition, block, meshtask.API, defaults, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dump(t, parse(t, described)), dump(t, definition)); diff != "" {
		t.Errorf("it changed (-described +expanded):\n%s", diff)
	}
}

func TestParametersAreLookedAt(t *testing.T) {
	block := "{service: !Ref Name, port: !Ref Port}"
	definition := small + "ContainerDefinitions: [{Name: web, Image: w, PortMappings: [{ContainerPort: !Ref Mapped}]}]"
	for _, test := range []struct {
		parameters map[string]any
		want       string
	}{
		{nil, ""},
		{map[string]any{"Name": "web", "Port": "8080", "Mapped": 8080.0}, ""},
		{map[string]any{"Name": "Web"}, `EcsMesh.service: found "Web"`},
		{map[string]any{"Port": "http"}, `EcsMesh.port: found "http"`},
		{map[string]any{"Port": "22000"}, "EcsMesh.proxy.healthCheckPort: found 22000; want a port of its own: service.port has the same"},
		{map[string]any{"Mapped": "19000"}, "found port 19000 of web"},
	} {
		_, err := meshtask.Expand(parse(t, definition), parse(t, block), meshtask.CloudFormation, meshtask.Defaults{InitImage: "i"}, test.parameters)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("with %v the error is %v and should have %q", test.parameters, err, test.want)
		}
	}
}

// TestWhatIsNotKnownIsNoFault has values of which only the deployment knows what
// they are, where each could be good.
func TestWhatIsNotKnownIsNoFault(t *testing.T) {
	for _, block := range []string{
		"{service: web, port: !Ref P, consulServers: {tokenParameter: !Ref T}, consulLogin: {enabled: true}}",
		"{gateway: {kind: !Ref K, name: g, wanAddress: {address: !Ref A, source: !Ref S}}}",
		"{service: web, port: !Ref P, proxy: {adminBindAddress: !Ref A, publicListenerPort: !Ref L, uid: !Ref U, upstreams: !Ref Us}}",
		"{service: web, port: 1, transparentProxy: {enabled: false, excludeInboundPorts: !Ref Ports, excludeOutboundCIDRs: [!Ref Cidr]}}",
		"{service: '{{resolve:ssm:/name}}', port: 1, checks: [{name: a, tcp: !Sub '${H}:${P}', timeout: !Ref T}], consulServers: {hosts: !Ref H}}",
		"{service: web, port: 1, consulServers: {defaults: {tls: !If [A, true, false], caCertParameter: !If [A, /ca, !Ref AWS::NoValue]}}}",
	} {
		definition := parse(t, small+app)
		if _, err := meshtask.Expand(definition, parse(t, block), meshtask.CloudFormation, meshtask.Defaults{InitImage: "i"}, nil); err != nil {
			t.Errorf("%s is refused: %v", block, err)
		}
	}
}

func TestWhatSomeConditionsRefuseIsNoted(t *testing.T) {
	_, result := expand(t, small+app, "{service: web, port: 1, consulServers: {defaults: {tls: !If [Secure, true, false]}}}", meshtask.Defaults{InitImage: "i"})
	want := "A task does not start with Secure, because of EcsMesh.consulServers.http.caCertParameter: found nothing; want"
	if notes := strings.Join(result.Notes, "\n"); !strings.Contains(strings.ReplaceAll(notes, "TLS is on", "want"), want) {
		t.Errorf("the notes have no %q:\n%s", want, notes)
	}
}

// TestTheRole compares what is asked for with what the settings make ecsmesh-init
// do.
func TestTheRole(t *testing.T) {
	for _, test := range []struct {
		block    string
		defaults meshtask.Defaults
		want     []string // action and number of resources
		tags     int
	}{
		{web, meshtask.Defaults{}, []string{"ssm:GetParameter 1"}, 0},
		{web, meshtask.Defaults{TLS: true, CAParameter: "/ca"}, []string{"ssm:GetParameter 2"}, 0},
		{web, stack, []string{"ssm:GetParameter 2", "secretsmanager:GetSecretValue 1", "iam:GetRole 0"}, 1},
		{"{service: web, port: 1, consulServers: {hosts: 10.0.0.1, defaults: {tls: false}}}", meshtask.Defaults{}, nil, 0},
		{"{service: web, port: 1, consulLogin: {enabled: false}}", stack, []string{"ssm:GetParameter 2", "secretsmanager:GetSecretValue 1"}, 0},
		{"{service: web, port: 1, consulLogin: {includeEntity: false}}", stack, []string{"ssm:GetParameter 2", "secretsmanager:GetSecretValue 1"}, 0},
		{"{service: {name: web, port: 1, namespace: team}, consulLogin: {enabled: !If [L, true, false]}}", meshtask.Defaults{}, []string{"ssm:GetParameter 1", "iam:GetRole 0"}, 2},
		{"{service: web, port: 1, consulServers: {parameter: !If [A, /a, /b]}}", meshtask.Defaults{}, []string{"ssm:GetParameter 2"}, 0},
		{"{port: 1}", stack, []string{"ssm:GetParameter 2", "secretsmanager:GetSecretValue 1", "iam:GetRole 0"}, 1},
	} {
		test.defaults.InitImage = "i"
		_, result := expand(t, small+app, test.block, test.defaults)
		var got []string
		for _, statement := range result.Statements {
			got = append(got, fmt.Sprintf("%s %d", statement.Action, len(statement.Resource)))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("for %s the role needs something else (-want +got):\n%s", test.block, diff)
		}
		if len(result.RoleTags) != test.tags {
			t.Errorf("for %s the role has the tags %v", test.block, result.RoleTags)
		}
	}
}

// TestWhoWritesToTheVolume has the container that writes to the volume run as
// who may.
func TestWhoWritesToTheVolume(t *testing.T) {
	ec2 := strings.Replace(small, "FARGATE", "EC2", 1) + app
	for _, test := range []struct {
		definition, block string
		users             []string // of ecsmesh-init, envoy
		capabilities      any      // of ecsmesh-init
		readonly          bool     // its root file system
	}{
		{small + app, web, []string{"101", "101"}, map[string]any{"Drop": []any{"ALL"}}, true},
		{ec2, "{service: web, port: 1, bootstrapDir: /consul, transparentProxy: {}}", []string{"0", "101"}, map[string]any{"Drop": []any{"ALL"}, "Add": []any{"NET_ADMIN", "SETUID", "SETGID", "CHOWN"}}, true},
		{ec2, "{service: web, port: 1, transparentProxy: {}}", []string{"0", "101"}, map[string]any{"Drop": []any{"ALL"}, "Add": []any{"NET_ADMIN", "SETUID", "SETGID"}}, true},
		{ec2, "{service: web, port: 1, topology: dataplane, consulServers: {defaults: {tls: false}}, transparentProxy: {consulDNS: {enabled: true}}}", []string{"0", ""}, map[string]any{"Drop": []any{"ALL"}, "Add": []any{"NET_ADMIN", "SETUID", "SETGID"}}, false},
		{small + "ContainerDefinitions: [{Name: ecsmesh-init, User: '101'}, {Name: web, Image: w}]", "{service: web, port: 1, bootstrapDir: /mesh}", []string{"101", "101"}, nil, true},
	} {
		node, _ := expand(t, test.definition, test.block, meshtask.Defaults{InitImage: "i"})
		all := asJSON(t, node)
		initial := container(t, all, "ecsmesh-init")
		if initial["User"] != test.users[0] || test.users[1] != "" && container(t, all, "envoy")["User"] != test.users[1] {
			t.Errorf("with %s the users are not %v:\n%s", test.block, test.users, dump(t, node))
		}
		if diff := cmp.Diff(test.capabilities, initial["LinuxParameters"].(map[string]any)["Capabilities"]); test.capabilities != nil && diff != "" {
			t.Errorf("with %s ecsmesh-init has other capabilities (-want +got):\n%s", test.block, diff)
		}
		if initial["ReadonlyRootFilesystem"] != test.readonly {
			t.Errorf("with %s its root file system is read-only: %v", test.block, initial["ReadonlyRootFilesystem"])
		}
	}
}
