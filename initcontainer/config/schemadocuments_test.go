package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const root = "../.."

// TestDocumentsInUseAreValid has the schema take every document that the reader
// takes, of all that are written in examples, tests and documentation.
func TestDocumentsInUseAreValid(t *testing.T) {
	schema, ca := compileSchema(t), newCA(t)
	for kind, documents := range map[string][]string{
		"examples":      inExamples(t),
		"tests":         inTests(t),
		"documentation": inDocumentation(t),
	} {
		taken := 0
		for _, document := range documents {
			if _, err := Read(env(Variable, document, CACertVariable, ca)); err != nil {
				if kind == "examples" {
					t.Errorf("%s: %v:\n%s", kind, err, document)
				}
				continue
			}
			taken++
			if err := validate(schema, document); err != nil {
				t.Errorf("%s: %v:\n%s", kind, err, document)
			}
		}
		if taken == 0 {
			t.Errorf("%s: none of %d documents is valid", kind, len(documents))
		}
	}
}

var reference = regexp.MustCompile(`\$\{([A-Za-z:]+)\}`)

// inExamples are the documents of the task definitions, with the defaults of
// the templates' parameters in their place, and once with each side of their
// conditions.
func inExamples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "examples", "*.yaml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("the examples are not there: %v", err)
	}
	var documents []string
	for _, file := range files {
		var template struct {
			Parameters map[string]struct {
				Default       string   `yaml:"Default"`
				AllowedValues []string `yaml:"AllowedValues"`
			} `yaml:"Parameters"`
			Resources yaml.Node `yaml:"Resources"`
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(content, &template); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		values := map[string]string{"UpstreamName": "web"} // a condition's other side
		for name, parameter := range template.Parameters {
			switch {
			case parameter.Default != "":
				values[name] = parameter.Default
			case len(parameter.AllowedValues) > 0:
				values[name] = parameter.AllowedValues[0]
			}
		}
		before := len(documents)
		for _, sub := range substitutions(&template.Resources) {
			for side := 1; side <= 2; side++ {
				documents = append(documents, fill(sub, values, side))
			}
		}
		if len(documents) == before && strings.Contains(string(content), Variable) {
			t.Errorf("%s: no document was found", file)
		}
	}
	return documents
}

// substitutions are the !Sub of documents, each a text and what it names.
func substitutions(node *yaml.Node) []*yaml.Node {
	if node.Tag == "!Sub" && len(node.Content) == 2 && strings.Contains(node.Content[0].Value, `"bootstrapDir"`) {
		return []*yaml.Node{node}
	}
	var found []*yaml.Node
	for _, inner := range node.Content {
		found = append(found, substitutions(inner)...)
	}
	return found
}

// fill has a condition's first or second side in the place of each name.
func fill(sub *yaml.Node, values map[string]string, side int) string {
	text, local := sub.Content[0].Value, sub.Content[1].Content
	values = maps.Clone(values)
	for i := 0; i < len(local); i += 2 {
		value := local[i+1]
		if value.Tag == "!If" {
			value = value.Content[side]
		}
		values[local[i].Value] = value.Value
	}
	for range 2 { // a value may name others
		text = reference.ReplaceAllStringFunc(text, func(found string) string { return values[strings.Trim(found, "${}")] })
	}
	return text
}

// inTests are the texts of this and other packages' tests that look like one.
func inTests(t *testing.T) []string {
	t.Helper()
	var documents []string
	for _, folder := range []string{"initcontainer", "e2e"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(node ast.Node) bool {
				if literal, is := node.(*ast.BasicLit); is && literal.Kind == token.STRING {
					text, err := strconv.Unquote(literal.Value)
					if err == nil && strings.HasPrefix(strings.TrimSpace(text), "{") {
						documents = append(documents, text)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return documents
}

var block = regexp.MustCompile("(?s)```json\n(.*?)```")

func inDocumentation(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documents []string
	for _, file := range append(files, filepath.Join(root, "README.md")) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range block.FindAllStringSubmatch(string(content), -1) {
			documents = append(documents, found[1])
		}
	}
	return documents
}

// TestWhatTheSchemaKnowsOfFieldsTogether has documents that are wrong by what
// they say in two places, and right by each alone.
func TestWhatTheSchemaKnowsOfFieldsTogether(t *testing.T) {
	schema := compileSchema(t)
	const noTLS = `"consulServers": {"defaults": {"tls": false}}`
	for name, fields := range map[string]string{
		"neither a service nor a gateway":   `"bootstrapDir": "/mesh"`,
		"a service and a gateway":           `"service": {"port": 80}, "gateway": {"kind": "mesh-gateway"}`,
		"a gateway with upstreams":          `"gateway": {"kind": "mesh-gateway"}, "proxy": {"upstreams": []}`,
		"a gateway with a public listener":  `"gateway": {"kind": "mesh-gateway"}, "proxy": {"publicListenerPort": 20000}`,
		"a gateway with containers":         `"gateway": {"kind": "mesh-gateway"}, "healthSyncContainers": ["app"]`,
		"a check of two kinds":              `"service": {"port": 80, "checks": [{"name": "a", "tcp": "x:1", "grpc": "x:1"}]}`,
		"a check of none":                   `"service": {"port": 80, "checks": [{"name": "a", "tcp": ""}]}`,
		"settings of a topology that isn't": `"service": {"port": 80}, "dataplane": {}`,
		"a login of consul-dataplane's":     `"service": {"port": 80}, "topology": "dataplane", "consulLogin": {"enabled": true}`,
		"consul-dataplane's program in two": `"service": {"port": 80}, "topology": "dataplane", "bootstrapDir": "/a b"`,
		"a client of a topology that isn't": `"service": {"port": 80}, "consulClient": {}`,
		"an upstream at two places":         `"service": {"port": 80}, "proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 1, "localBindSocketPath": "/a"}]}`,
		"an upstream at none":               `"service": {"port": 80}, "proxy": {"upstreams": [{"destinationName": "a"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			document := `{` + noTLS + `, ` + fields + `}`
			_, byReader := Read(env(Variable, document))
			if bySchema := validate(schema, document); byReader == nil || bySchema == nil {
				t.Errorf("the reader says %v, the schema %v", byReader, bySchema)
			}
		})
	}
}

// TestWhatOnlyTheReaderCanJudge has documents that an editor has nothing
// against: what they say is at odds with itself, or with what is around.
func TestWhatOnlyTheReaderCanJudge(t *testing.T) {
	schema := compileSchema(t)
	const (
		noTLS   = `"consulServers": {"defaults": {"tls": false}}`
		service = noTLS + `, "service": {"port": 80}`
	)
	check := func(fields string) string {
		return `{` + noTLS + `, "service": {"port": 80, "checks": [` + fields + `]}}`
	}
	servers := func(fields string) string {
		return `{"service": {"port": 80}, "consulServers": {` + fields + `}}`
	}
	for name, test := range map[string]struct{ document, fault string }{
		"two listeners on one port":         {`{` + service + `, "proxy": {"healthCheckPort": 20000}}`, "proxy.healthCheckPort"},
		"a gateway's listeners on one port": {`{` + noTLS + `, "gateway": {"kind": "mesh-gateway", "lanAddress": {"port": 22000}}}`, "gateway.healthCheckPort"},
		"two checks of one name":            {check(`{"name": "a", "tcp": "x:1"}, {"name": "a", "tcp": "x:2"}`), "service.checks[1].name"},
		"a container called as a check":     {`{` + noTLS + `, "service": {"port": 80, "checks": [{"name": "a", "tcp": "x:1"}]}, "healthSyncContainers": ["a"]}`, "healthSyncContainers[0]"},
		"a method without HTTP":             {check(`{"name": "a", "tcp": "x:1", "method": "GET"}`), "service.checks[0].method"},
		"a check of no port":                {check(`{"name": "a", "tcp": "x:70000"}`), "service.checks[0].tcp"},
		"a check of no host":                {check(`{"name": "a", "http": "http://:80"}`), "service.checks[0].http"},
		"a check that takes too long":       {check(`{"name": "a", "tcp": "x:1", "timeout": "61s"}`), "service.checks[0].timeout"},
		"no address":                        {`{` + service + `, "proxy": {"adminBindAddress": "300.0.0.1"}}`, "proxy.adminBindAddress"},
		"no port of a listener":             {`{` + service + `, "proxy": {"config": {"envoy_stats_bind_addr": "localhost:1"}}}`, "proxy.config.envoy_stats_bind_addr"},
		"statistics too rarely":             {`{` + service + `, "proxy": {"config": {"envoy_stats_flush_interval": "5m"}}}`, "proxy.config.envoy_stats_flush_interval"},
		"a variable that isn't there":       {`{` + service + `, "proxy": {"config": {"envoy_statsd_url": "$NONE"}}}`, "proxy.config.envoy_statsd_url"},
		"a null in what is passed on":       {`{` + service + `, "proxy": {"config": {"a": [null]}}}`, "proxy.config.a[0]"},
		"a fraction that is none":           {`{` + noTLS + `, "service": {"port": 80.0}}`, "service.port"},
		"TLS without a CA":                  {servers(``), "consulServers.http.caCertParameter"},
		"a CA that isn't there":             {servers(`"defaults": {"caCertFile": "/nowhere"}`), "consulServers.http.caCertFile"},
		"two CAs":                           {servers(`"defaults": {"caCertFile": "/nowhere", "caCertParameter": "/ca"}`), "consulServers.defaults.caCertParameter"},
		"TLS and no TLS":                    {servers(`"defaults": {"tls": false}, "http": {"tls": true, "https": false}`), "consulServers.http.tls"},
		"an address as a name":              {servers(`"defaults": {"tls": false, "tlsServerName": "10.0.0.1"}`), "consulServers.defaults.tlsServerName"},
		"a command as an address":           {servers(`"hosts": "exec=discover", "defaults": {"tls": false}`), "consulServers.hosts"},
		"a token in place of its name":      {servers(`"defaults": {"tls": false}, "tokenParameter": "11111111-2222-3333-4444-555555555555"`), "consulServers.tokenParameter"},
		"two tokens":                        {`{"service": {"port": 80}, "consulServers": {"defaults": {"tls": false}, "tokenParameter": "/t"}, "consulLogin": {"enabled": true}}`, "consulLogin.enabled"},
		"two upstreams of one service":      {`{` + service + `, "proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 1}, {"destinationName": "a", "localBindPort": 2}]}}`, "proxy.upstreams[1].destinationName"},
		"a peer in a datacenter":            {`{` + service + `, "proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 1, "destinationPeer": "b", "datacenter": "c"}]}}`, "proxy.upstreams[0].datacenter"},
		"a prepared query of a peer's":      {`{` + service + `, "proxy": {"upstreams": [{"destinationName": "a", "localBindPort": 1, "destinationPeer": "b", "destinationType": "prepared_query"}]}}`, "proxy.upstreams[0].destinationType"},
		"a socket of too long a name":       {`{` + service + `, "proxy": {"upstreams": [{"destinationName": "a", "localBindSocketPath": "/` + strings.Repeat("a", 107) + `"}]}}`, "proxy.upstreams[0].localBindSocketPath"},
		"exposed paths of one name":         {`{` + service + `, "proxy": {"expose": {"paths": [{"path": "/a", "listenerPort": 1, "localPathPort": 80}, {"path": "/a/", "listenerPort": 2, "localPathPort": 80}]}}}`, "proxy.expose.paths[1].path"},
		"a network that is none":            {`{` + service + `, "transparentProxy": {"excludeOutboundCIDRs": ["10.0.0.0/33"]}}`, "transparentProxy.excludeOutboundCIDRs[0]"},
		"a user that is none":               {`{` + service + `, "transparentProxy": {"excludeUIDs": ["4294967295"]}}`, "transparentProxy.excludeUIDs[0]"},
		"DNS that nothing answers":          {`{` + service + `, "transparentProxy": {"consulDNS": {"enabled": true}}}`, "transparentProxy.consulDNS.enabled"},
		"a certificate without TLS":         {`{` + service + `, "topology": "client-agent", "consulClient": {"autoEncrypt": true}}`, "consulClient.autoEncrypt"},
		"a key in place of its name":        {`{` + service + `, "topology": "client-agent", "consulClient": {"gossipKeyParameter": "AAAAAAAAAAAAAAAAAAAAAA=="}}`, "consulClient.gossipKeyParameter"},
		"a login at no URL":                 {`{` + service + `, "consulLogin": {"enabled": true, "stsEndpoint": "sts"}}`, "consulLogin.stsEndpoint"},
		"a port of consul-dataplane's":      {`{` + noTLS + `, "service": {"port": 20300}, "topology": "dataplane"}`, "dataplane.envoy.gracefulPort"},
		"a DNS proxy for others":            {`{` + service + `, "topology": "dataplane", "dataplane": {"dnsServer": {"bindAddress": "10.0.0.1"}}}`, "dataplane.dnsServer.bindAddress"},
		"a login signed for no header":      {`{` + service + `, "consulLogin": {"enabled": true, "serverIdHeaderValue": "a b"}}`, "consulLogin.serverIdHeaderValue"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(env(Variable, test.document))
			if err == nil || !strings.Contains(err.Error(), test.fault+": found") {
				t.Errorf("got %v, want a fault of %s", err, test.fault)
			}
			if err := validate(schema, test.document); err != nil {
				t.Errorf("the schema refuses it as well; TestTheSchemaRefusesWhatTheReaderRefuses may say so: %v", err)
			}
		})
	}
}
