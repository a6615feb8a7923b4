package owntask_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"ecsmesh/e2e/ecs"
	"ecsmesh/e2e/owntask"
)

var host = owntask.Host{
	Init: "init", Envoy: "envoy-here", Consul: "consul", Dataplane: "dataplane", Application: "nicholasjackson/fake-service", Shell: "shell",
	ServersParameter: "/lab/servers", Secret: func(name string) string { return "secret of " + name },
}

var address = netip.MustParseAddr("127.9.1.2")

func readOrders(t *testing.T) *owntask.Task {
	t.Helper()
	raw, err := os.ReadFile("testdata/orders.json")
	if err != nil {
		t.Fatal(err)
	}
	task, err := owntask.Read(raw)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func TestReadsWhatATaskIsInTheMesh(t *testing.T) {
	task := readOrders(t)
	if task.Service != "orders" || task.Port != 8080 || task.Container != "orders" || !slices.Equal(task.Upstreams, []string{"payments"}) {
		t.Errorf("it is %+v", task)
	}
}

// on is the definition of orders on a host, which ECS would take.
func on(t *testing.T, program *owntask.Program) (map[string]ecs.ContainerDefinition, string) {
	t.Helper()
	def, replaced, err := readOrders(t).On(host, address, program)
	if err != nil {
		t.Fatal(err)
	}
	if err := def.Validate(); err != nil {
		t.Error(err)
	}
	containers := map[string]ecs.ContainerDefinition{}
	for _, c := range def.Containers {
		containers[c.Name] = c
	}
	return containers, strings.Join(replaced, "\n")
}

func variables(c ecs.ContainerDefinition) map[string]string {
	values := map[string]string{}
	for _, v := range c.Environment {
		values[v.Name] = v.Value
	}
	return values
}

func TestSetsWhatIsHostWide(t *testing.T) {
	containers, replaced := on(t, nil)
	var cfg struct {
		BootstrapDir  string
		ConsulLogin   any
		ConsulServers struct {
			Parameter string
			Defaults  map[string]any
		}
		Service struct{ Checks []struct{ HTTP string } }
		Proxy   struct {
			AdminBindAddress, LocalServiceAddress string
			Upstreams                             []struct{ LocalBindAddress string }
		}
	}
	if err := json.Unmarshal([]byte(variables(containers["ecsmesh-init"])["ECSMESH_CONFIG"]), &cfg); err != nil {
		t.Fatal(err)
	}
	own := address.String()
	if cfg.Proxy.AdminBindAddress != own || cfg.Proxy.LocalServiceAddress != own || cfg.Proxy.Upstreams[0].LocalBindAddress != own {
		t.Errorf("the proxy listens and calls at %+v", cfg.Proxy)
	}
	if got := cfg.Service.Checks[0].HTTP; got != "http://127.9.1.2:8080/health" {
		t.Errorf("the check asks %s", got)
	}
	if cfg.ConsulLogin != nil || cfg.ConsulServers.Parameter != "/lab/servers" || cfg.ConsulServers.Defaults["tls"] != false {
		t.Errorf("Consul is %+v, login %v", cfg.ConsulServers, cfg.ConsulLogin)
	}
	envoy := containers["envoy"]
	if cfg.BootstrapDir != "/mesh" || envoy.Command[1] != "/mesh/envoy-bootstrap.json" || envoy.HealthCheck.Command[1] != "/mesh/bin/ecsmesh-init" ||
		envoy.MountPoints[0].Path != "/mesh" || envoy.Image != host.Envoy || containers["ecsmesh-init"].Image != host.Init {
		t.Errorf("bootstrapDir %s, Envoy %+v", cfg.BootstrapDir, envoy)
	}
	if !strings.Contains(replaced, "consulServers, consulLogin") {
		t.Errorf("it doesn't say that Consul is another:\n%s", replaced)
	}
}

func TestLetsProgramsStandInForImages(t *testing.T) {
	containers, replaced := on(t, nil)
	orders := variables(containers["orders"])
	if containers["orders"].Image != host.Application || orders["LISTEN_ADDR"] != "127.9.1.2:8080" || orders["UPSTREAM_URIS"] != "http://127.9.1.2:9091" {
		t.Errorf("orders is %s with %v", containers["orders"].Image, orders)
	}
	if !strings.Contains(orders["MESSAGE"], "orders:1.4") || !strings.Contains(orders["MESSAGE"], "Orders") {
		t.Errorf("it doesn't say what it stands for: %s", orders["MESSAGE"])
	}
	if secrets := containers["orders"].Secrets; secrets != nil {
		t.Errorf("it has secrets: %v", secrets)
	}
	if line := strings.Join(containers["migrate"].EntryPoint, " "); !strings.Contains(line, "exit 0") || strings.Contains(line, "sleep") {
		t.Errorf("the migration does not end: %s", line)
	}
	if line := strings.Join(containers["log_router"].EntryPoint, " "); !strings.Contains(line, "sleep") {
		t.Errorf("the log router ends: %s", line)
	}
	for _, name := range []string{"orders (orders:1.4)", "migrate (orders:1.4)", "log_router (aws-for-fluent-bit:stable)"} {
		if !strings.Contains(replaced, name) {
			t.Errorf("nothing is said of %s:\n%s", name, replaced)
		}
	}
}

func TestRunsTheUsersProgram(t *testing.T) {
	containers, replaced := on(t, &owntask.Program{Command: "./server --listen {address}:{port}", Dir: "/home/it's me"})
	orders := containers["orders"]
	if got, want := orders.EntryPoint[2], `cd '/home/it'\''s me' && exec env ./server --listen 127.9.1.2:8080`; got != want {
		t.Errorf("it runs %s, want %s", got, want)
	}
	env := variables(orders)
	for name, want := range map[string]string{
		"LISTEN_ADDR": "127.9.1.2:8080", "HOST": "127.9.1.2", "PORT": "8080",
		"PAYMENTS_URL": "http://127.9.1.2:9091", "DB_PASSWORD": "secret of DB_PASSWORD", "DATA": "/var/data/orders.db",
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	if len(orders.MountPoints) != 2 {
		t.Errorf("its volumes are %v", orders.MountPoints)
	}
	if !strings.Contains(replaced, "DB_PASSWORD") || strings.Contains(replaced, "secret of") {
		t.Errorf("of its secret it says:\n%s", replaced)
	}
}

const shop = `{
  "Transform": "AWS::Serverless-2016-10-31",
  "Parameters": {
    "Port": {"Type": "Number", "MinValue": 1024, "MaxValue": 2000},
    "Vpc": {"Type": "AWS::EC2::VPC::Id"},
    "Stage": {"Type": "String", "Default": "dev", "AllowedPattern": "never"}
  },
  "Conditions": {"Prod": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]}},
  "Resources": {
    "Database": {"Type": "AWS::RDS::DBInstance"},
    "Plain": {"Type": "AWS::ECS::TaskDefinition", "Properties": {}},
    "Cart": {
      "Type": "AWS::ECS::TaskDefinition",
      "Condition": "Prod",
      "DependsOn": "Database",
      "Metadata": {"EcsMesh": {}},
      "Properties": {
        "TaskRoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
        "ContainerDefinitions": [{"Environment": [
          {"Name": "DB", "Value": {"Fn::Sub": "${Database.Endpoint.Address}:${Port}/${AWS::Region}"}},
          {"Name": "KEY", "Value": "{{resolve:secretsmanager:key}}"},
          {"Name": "ZONE", "Value": {"Fn::ImportValue": "zone"}}
        ]}]
      }
    },
    "Role": {"Type": "AWS::IAM::Role"}
  }
}`

func TestLeavesOfATemplateWhatTheLabNeeds(t *testing.T) {
	file, err := owntask.ReadFile([]byte(shop), map[string]string{"Stage": "prod"})
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(file.Template, &got); err != nil {
		t.Fatal(err)
	}
	const wanted = `{
	  "AWSTemplateFormatVersion": "2010-09-09",
	  "Parameters": {
	    "Port": {"Type": "Number", "Default": 1024}, "Stage": {"Type": "String", "Default": "prod"}
	  },
	  "Conditions": {"Prod": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]}},
	  "Resources": {"Cart": {
	    "Type": "AWS::ECS::TaskDefinition", "Condition": "Prod",
	    "Properties": {
	      "Family": "Cart",
	      "TaskRoleArn": "arn:aws:iam::000000000000:role/Role",
	      "ContainerDefinitions": [{"Environment": [
	        {"Name": "DB", "Value": {"Fn::Sub": "Database:${Port}/${AWS::Region}"}},
	        {"Name": "KEY", "Value": "resolved-by-aws"},
	        {"Name": "ZONE", "Value": "zone"}
	      ]}]
	    }
	  }},
	  "Outputs": {"Cart": {"Value": {"Ref": "Cart"}, "Condition": "Prod"}}
	}`
	if err := json.Unmarshal([]byte(wanted), &want); err != nil {
		t.Fatal(err)
	}
	a, _ := json.MarshalIndent(got, "", " ")
	b, _ := json.MarshalIndent(want, "", " ")
	if string(a) != string(b) {
		t.Errorf("it is %s\nwant %s", a, b)
	}
	if !slices.Equal(file.Parameters, []string{"Port=1024"}) {
		t.Errorf("made up: %v", file.Parameters)
	}
}

func TestRefusesParametersThatThereAreNot(t *testing.T) {
	for name, document := range map[string]string{"a template": shop, "one without parameters": `{"Resources": {"A": {"Type": "AWS::ECS::TaskDefinition", "Metadata": {"EcsMesh": {}}}}}`} {
		if _, err := owntask.ReadFile([]byte(document), map[string]string{"Prot": "1"}); err == nil || !strings.Contains(err.Error(), "Prot") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestGivesScalarsTheirTypes(t *testing.T) {
	raw, err := os.ReadFile("testdata/orders.json")
	if err != nil {
		t.Fatal(err)
	}
	loose := strings.NewReplacer(`"cpu": "512"`, `"Cpu": 512`, `"interval": 5`, `"Interval": "5"`, `"essential": false`, `"Essential": "false"`,
		`"containerPort": 8080`, `"ContainerPort": "8080"`, `"value": "/var/data/orders.db"`, `"Value": 7`, `["migrate", "up"]`, `["migrate", 7]`).Replace(string(raw))
	task, err := owntask.Read([]byte(loose))
	if err != nil {
		t.Fatal(err)
	}
	def := task.Definition
	if def.CPU != "512" || def.Containers[1].Command[1] != "7" || *def.Containers[1].Essential || variables(def.Containers[2])["DATA"] != "7" ||
		def.Containers[2].HealthCheck.Interval != 5 || def.Containers[2].PortMappings[0].ContainerPort != 8080 {
		t.Errorf("it is %+v", def)
	}
}

func TestRefusesWhatAHostHasNot(t *testing.T) {
	raw, err := os.ReadFile("testdata/orders.json")
	if err != nil {
		t.Fatal(err)
	}
	transparent := strings.Replace(string(raw), `{\"consulServers\"`, `{\"transparentProxy\":{\"enabled\":true},\"consulServers\"`, 1)
	if _, err := owntask.Read([]byte(transparent)); err == nil || !strings.Contains(err.Error(), "transparentProxy") {
		t.Errorf("the error is %v", err)
	}
}
