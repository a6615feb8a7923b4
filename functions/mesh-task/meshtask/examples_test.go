package meshtask_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/meshtask"
)

const everywhere = `
initImage: !Ref InitImage
refreshInterval: !Ref RefreshInterval
consulServers:
  parameter: !Ref ServersParameterName
  defaults: {tls: !If [Tls, true, false], caCertParameter: !Ref ConsulCaParameterName, tlsServerName: !Ref ConsulTlsServerName}
`

const logsIn = `
consulLogin: {enabled: !If [Login, true, false], method: !Ref ConsulLoginMethod, serverIdHeaderValue: !Ref ConsulLoginServerId, stsEndpoint: !Ref StsEndpoint}
`

const atParameters = `
envoyImage: !Ref EnvoyImage
bootstrapDir: !Ref BootstrapDir
`

const itsHealth = `
port: 9090
checks: [{name: health, http: !Sub "http://${LocalAddress}:9090/health"}]
`

const maybeUpstream = `
  adminBindAddress: !Ref LocalAddress
  localServiceAddress: !Ref LocalAddress
  upstreams:
    - !If [Upstream, {destinationName: !Ref UpstreamName, localBindAddress: !Ref LocalAddress, localBindPort: 9091}, !Ref AWS::NoValue]
`

// TestExamples takes from the examples what is the mesh's, and expects it back.
func TestExamples(t *testing.T) {
	for _, test := range []struct {
		file, resource, block string
		beside                string // what the plain definition has of a container of ours
		variants              []map[string]any
	}{
		{
			file: "mesh-tasks.yaml", resource: "ApiTaskDefinition",
			block: "service: api\nproxy: {adminBindAddress: !Ref LocalAddress, localServiceAddress: !Ref LocalAddress}" + itsHealth + everywhere + logsIn + atParameters,
		},
		{
			file: "mesh-tasks.yaml", resource: "WebTaskDefinition",
			block: `
service: web
port: 9090
upstreams: {api: {localBindAddress: !Ref LocalAddress, localBindPort: 9091}}
proxy: {adminBindAddress: !Ref LocalAddress, localServiceAddress: !Ref LocalAddress}` + everywhere + logsIn + atParameters,
		},
		{
			file: "gateway.yaml", resource: "TaskDefinition",
			block: `
gateway:
  kind: !Ref GatewayKind
  name: !Ref GatewayName
  lanAddress: {port: !Ref GatewayPort}
  wanAddress: {address: !Ref WanAddress, source: !Ref WanSource, port: !Ref WanPort}
proxy: {adminBindAddress: !Ref LocalAddress}
logConfiguration:
  LogDriver: awslogs
  Options: {awslogs-group: !Ref LogGroup, awslogs-region: !Ref AWS::Region, awslogs-stream-prefix: gateway}` + everywhere + logsIn + atParameters,
			variants: []map[string]any{{"GatewayKind": "mesh-gateway", "WanSource": "public-ip"}, {"GatewayKind": "api-gateway"}, {"GatewayKind": "terminating-gateway"}, {"GatewayKind": "ingress-gateway"}},
		},
		{
			file: "client-agent.yaml", resource: "TaskDefinition",
			block: `
topology: client-agent
service: !Ref ServiceName
consulImage: !Ref ConsulImage
consulClient: {datacenter: !Ref Datacenter, address: !Ref LocalAddress, autoEncrypt: !If [Tls, true, false]}
proxy:` + maybeUpstream + itsHealth + everywhere + logsIn + atParameters,
			beside:   `{Name: discover-servers, Secrets: !If [Gossip, [{Name: CONSUL_GOSSIP_KEY, ValueFrom: !Ref GossipKeySecretArn}], !Ref AWS::NoValue]}`,
			variants: []map[string]any{{"UpstreamName": "db"}, {"GossipKeySecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key"}},
		},
		{
			file: "dataplane.yaml", resource: "TaskDefinition",
			block: `
topology: dataplane
service: !Ref ServiceName
dataplaneImage: !Ref DataplaneImage
bootstrapDir: !Ref BootstrapDir
dataplane: {dnsServer: {bindAddress: !Ref LocalAddress, bindPort: !Ref DnsPort}}
proxy:` + maybeUpstream + itsHealth + `
initImage: !Ref InitImage
refreshInterval: !Ref RefreshInterval
consulServers:
  parameter: !Ref ServersParameterName
  tokenParameter: !Ref ConsulTokenParameterName
  defaults: {tls: !If [Tls, true, false], caCertParameter: !Ref ConsulCaParameterName, tlsServerName: !Ref ConsulTlsServerName}
`,
			variants: []map[string]any{{"UpstreamName": "db"}, {"DnsPort": 8600}},
		},
		{
			file: "transparent-proxy.yaml", resource: "TaskDefinition",
			block: `
service: !Ref ServiceName
port: 9090
bootstrapDir: /ecsmesh
envoyImage: !Ref EnvoyImage
checks: [{name: health, http: "http://127.0.0.1:9090/health"}]
proxy: {uid: 101}
transparentProxy: {enabled: true}` + everywhere + logsIn,
		},
	} {
		t.Run(test.file+" "+test.resource, func(t *testing.T) {
			source := readYAML(t, filepath.Join("../../../examples", test.file))
			all := asJSON(t, source).(map[string]any)
			node := at(t, source, "Resources", test.resource, "Properties")
			plain := strip(t, node, test.beside)
			block := parse(t, test.block)
			if _, err := meshtask.Expand(plain, block, meshtask.CloudFormation, meshtask.Defaults{}, nil); err != nil {
				t.Fatal(err)
			}
			secure := map[string]any{
				"ConsulTls": "ENABLED", "ConsulCaParameterName": "/ca", "ConsulTlsServerName": "server.dc1.consul", "ConsulLogin": "ENABLED",
				"ConsulLoginServerId": "mesh", "StsEndpoint": "https://sts.eu-west-1.amazonaws.com", "BootstrapDir": "/mesh", "LocalAddress": "127.0.0.9",
			}
			for _, values := range append(test.variants, nil, secure) {
				c := template{parameters: map[string]any{}, conditions: all["Conditions"].(map[string]any)}
				for name, parameter := range all["Parameters"].(map[string]any) {
					c.parameters[name] = "the-" + name
					if standard, ok := parameter.(map[string]any)["Default"]; ok {
						c.parameters[name] = standard
					}
				}
				for name, value := range values {
					c.parameters[name] = value
				}
				if diff := cmp.Diff(substance(t, c.value(t, asJSON(t, node))), substance(t, c.value(t, asJSON(t, plain)))); diff != "" {
					t.Errorf("with %v it is not as in the example (-example +expanded):\n%s", values, diff)
				}
			}
		})
	}
}

// substance is a task definition whose containers are found by their names, and
// their settings, whatever the JSON looks like, by their fields.
func substance(t *testing.T, definition any) any {
	t.Helper()
	fields := definition.(map[string]any)
	containers := map[string]any{}
	for _, item := range fields["ContainerDefinitions"].([]any) {
		container := item.(map[string]any)
		if document := settings(t, container); document != nil {
			container["Environment"] = document
		}
		containers[container["Name"].(string)] = container
	}
	fields["ContainerDefinitions"] = containers
	return fields
}

// strip returns a definition without what a mesh task has beside.
func strip(t *testing.T, definition *yaml.Node, beside string) *yaml.Node {
	t.Helper()
	twin := parse(t, dump(t, definition))
	remove(twin, "Volumes")
	list := at(t, twin, "ContainerDefinitions")
	list.Content = slices.DeleteFunc(list.Content, func(container *yaml.Node) bool {
		remove(container, "DependsOn")
		remove(container, "HealthCheck")
		remove(container, "MountPoints")
		return slices.Contains([]string{"ecsmesh-init", "envoy", "consul-dataplane", "consul-client", "discover-servers"}, at(t, container, "Name").Value)
	})
	if beside != "" {
		list.Content = append(list.Content, parse(t, beside))
	}
	return twin
}

func readYAML(t *testing.T, path string) *yaml.Node {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(content))
}

func parse(t testing.TB, source string) *yaml.Node {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(source), &document); err != nil {
		t.Fatalf("%v in %s", err, source)
	}
	return document.Content[0]
}

func dump(t testing.TB, node *yaml.Node) string {
	t.Helper()
	out, err := yaml.Marshal(node)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// at is the node at a path of fields.
func at(t *testing.T, node *yaml.Node, names ...string) *yaml.Node {
	t.Helper()
	for _, name := range names {
		found := false
		for i := 0; i+1 < len(node.Content) && !found; i += 2 {
			if node.Content[i].Value == name {
				node, found = node.Content[i+1], true
			}
		}
		if !found {
			t.Fatalf("there is no %s", name)
		}
	}
	return node
}

func remove(node *yaml.Node, name string) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			node.Content = append(node.Content[:i:i], node.Content[i+2:]...)
			return
		}
	}
}
