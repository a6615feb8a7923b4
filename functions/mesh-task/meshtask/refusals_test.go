package meshtask_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ecsmesh/functions/mesh-task/meshtask"
	"ecsmesh/initcontainer/check"
)

// small is a definition that is good, but for what a test puts into it.
const small = `
Family: web
NetworkMode: awsvpc
RequiresCompatibilities: [FARGATE]
Cpu: "256"
Memory: "512"
`

const app = "ContainerDefinitions: [{Name: web, Image: web:1, PortMappings: [{ContainerPort: 8080}]}]\n"

const web = "{service: web, port: 8080}"

// sidecars are containers, as many as asked for.
func sidecars(number int) []string {
	var found []string
	for i := range number {
		found = append(found, fmt.Sprintf("{Name: side%d, Image: s}", i))
	}
	return found
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		name, definition, block string
		want                    []string // lines of the error
	}{
		{"no block", small + app, "null", []string{"EcsMesh: found nothing; want an object with at least the service's name and the port of its application: {service: web, port: 8080}"}},
		{"a block that is a text", small + app, "web", []string{`EcsMesh: found "web"; want an object with at least the service's name`}},
		{"an unknown field", small + app, "{service: web, prot: 8080, port: 8080}", []string{"EcsMesh.prot: found an unknown field; remove it, or use one of "}},
		{
			"an unknown field and all else", strings.Replace(small, "awsvpc", "bridge", 1) + "ContainerDefinitions: [{Name: envoy, Image: w}]",
			"{service: web, port: 8080, upstream: {api: 9091}, upstreams: {db: 8080}}",
			[]string{
				"EcsMesh.upstream: found an unknown field", `NetworkMode: found "bridge"; want awsvpc`, "ContainerDefinitions[0]",
				"EcsMesh.upstreams.db: found 8080; want a port of its own",
			},
		},
		{
			"no port", small + "ContainerDefinitions: [{Name: web, Image: w, PortMappings: [{ContainerPort: 8080}, {ContainerPortRange: 9000-9010}]}, {Name: side, Image: s, PortMappings: [{ContainerPort: 81}]}]",
			"{service: web}",
			[]string{"EcsMesh.port: found nothing; want the port at which the application listens, or 0 where it listens at none; the containers map 8080 (web), 9000-9010 (web), 81 (side)"},
		},
		{"no port that is mapped", small + "ContainerDefinitions: [{Name: web, Image: w}]", "{service: {name: web}}", []string{"EcsMesh.port: found nothing; want the port at which the application listens, or 0 where it listens at none; the containers map none"}},
		{"a port that is none", small + app, "{service: web, port: http}", []string{`EcsMesh.port: found "http"; want a whole number from 0 to 65535`}},
		{"a list of names", small + app, "{service: web, port: 8080, upstreams: [api]}", []string{`EcsMesh.upstreams[0]: found "api"; want an object such as {"destinationName": "cart", "localBindPort": 9091}`}},
		{"the port twice", small + app, "{service: {name: web, port: 1}, port: 2}", []string{"EcsMesh.port: found 2; service.port says it as well; keep one of them"}},
		{"upstreams twice", small + app, "{service: web, port: 8080, upstreams: {a: 1}, proxy: {upstreams: []}}", []string{"EcsMesh.upstreams: found an object; proxy.upstreams says it as well"}},
		{"a name that Consul can't serve", small + app, "{service: Web, port: 8080}", []string{`EcsMesh.service: found "Web"; want lower-case letters`}},
		{"a family that is no name", strings.Replace(small, "Family: web", "Family: w.e.b", 1) + app, "{port: 8080}", []string{`EcsMesh.service.name: found nothing; want its name in Consul: the task family "w.e.b"`}},
		{
			"all of the reader's faults", small + app, "{service: web, port: 8080, upstreams: {api: 8080, db: x}, checks: [{name: a b, tcp: here}], logLevel: LOUD}",
			[]string{
				`EcsMesh.logLevel: found "LOUD"; want one of`, `EcsMesh.checks[0].name: found "a b"; want`, `EcsMesh.checks[0].tcp: found "here"; want host:port`,
				`EcsMesh.upstreams.db: found "x"; want a whole number`, `EcsMesh.upstreams.api: found 8080; want a port of its own: service.port has the same`,
			},
		},
		{"a topology that is none", small + app, "{service: web, port: 8080, topology: star}", []string{`EcsMesh.topology: found "star"; want one of direct, client-agent, dataplane`}},
		{"a topology that isn't known", small + app, "{service: web, port: 8080, topology: !Ref T}", []string{`EcsMesh.topology: found {"Ref":"T"}; want one of`}},
		{"a setting of another topology", small + app, "{service: web, port: 8080, dataplane: {}}", []string{`EcsMesh.dataplane: found an object; it goes with "topology": "dataplane" only`}},
		{"taskRole", small + app, "{service: web, port: 8080, taskRole: MAYBE}", []string{`EcsMesh.taskRole: found "MAYBE"; want ADD, or NONE`}},
		{"an image that is a list", small + app, "{service: web, port: 8080, envoyImage: [a]}", []string{"EcsMesh.envoyImage: found a list; want a text"}},
		{"a log configuration that is a text", small + app, "{service: web, port: 8080, logConfiguration: awslogs}", []string{"EcsMesh.logConfiguration: found \"awslogs\"; want an object"}},
		{"containers that aren't there", small + app, "{service: web, port: 8080, containers: [api]}", []string{`EcsMesh.containers[0]: found "api"; want the name of one of the application's containers: there are web`}},
		{"containers that is a text", small + app, "{service: web, port: 8080, containers: web}", []string{`EcsMesh.containers: found "web"; want a list`}},
		{
			"a log router that waits", small + "ContainerDefinitions: [{Name: web, Image: w}, {Name: log, Image: l, FirelensConfiguration: {Type: fluentbit}}]",
			"{service: web, port: 8080, containers: [web, log]}", []string{"EcsMesh.containers: found log, a log router; remove it"},
		},
		{"a gateway with an application's settings", small, "{gateway: {kind: api-gateway}, port: 80, upstreams: {a: 1}}", []string{"EcsMesh.port: found 80; remove it: a gateway has no application", "EcsMesh.upstreams: found an object; remove it"}},
		{"a gateway and a service", small, "{gateway: {kind: api-gateway, name: g}, service: {name: web, port: 1}}", []string{"EcsMesh.gateway: found an object; a task is a service or a gateway: keep one of them"}},
		{"an object that is a function", small + app, "{service: web, port: 8080, consulServers: !Ref Servers}", []string{`EcsMesh.consulServers: found {"Ref":"Servers"}; want an object`}},

		{"host network", strings.Replace(small, "awsvpc", "host", 1) + app, web, []string{`NetworkMode: found "host"; want awsvpc: a task of the mesh has an address of its own, and here its Envoy's ports would be the host's`}},
		{"bridge network", strings.Replace(small, "awsvpc", "bridge", 1) + app, web, []string{`NetworkMode: found "bridge"; want awsvpc`}},
		{"no network", strings.Replace(small, "awsvpc", "none", 1) + app, web, []string{`NetworkMode: found "none"; want awsvpc`}},
		{"no network mode", strings.Replace(small, "NetworkMode: awsvpc\n", "", 1) + app, web, []string{"NetworkMode: found nothing, which is bridge; want awsvpc"}},
		{"ECS Anywhere", strings.Replace(small, "FARGATE", "EXTERNAL", 1) + app, web, []string{"RequiresCompatibilities: found EXTERNAL; remove it"}},
		{"Windows", small + "RuntimePlatform: {OperatingSystemFamily: WINDOWS_SERVER_2022_CORE}\n" + app, web, []string{`RuntimePlatform.OperatingSystemFamily: found "WINDOWS_SERVER_2022_CORE"; want LINUX`}},
		{"App Mesh", small + "ProxyConfiguration: {Type: APPMESH, ContainerName: envoy}\nContainerDefinitions: [{Name: web, Image: w}, {Name: envoy, Image: public.ecr.aws/appmesh/aws-appmesh-envoy:v1}]", web, []string{
			"ProxyConfiguration: found the configuration of App Mesh's proxy; remove it", `ContainerDefinitions[1].Name: found "envoy" with the Envoy of App Mesh; remove this container`,
		}},
		{"transparent proxy on Fargate", small + app, "{service: web, port: 8080, transparentProxy: {}}", []string{"RequiresCompatibilities: found FARGATE; want EC2 alone: transparentProxy needs NET_ADMIN"}},

		{"no containers", small, web, []string{"ContainerDefinitions: found no essential container of an application; want one"}},
		{"containers that are a function", small + "ContainerDefinitions: !Ref Containers", web, []string{`ContainerDefinitions: found {"Ref":"Containers"}; want a list`}},
		{"a container that is a text", small + "ContainerDefinitions: [web]", web, []string{`ContainerDefinitions[0]: found "web"; want a container definition`}},
		{"a container without a name", small + "ContainerDefinitions: [{Image: w}]", web, []string{"ContainerDefinitions[0].Name: found nothing; want the container's name"}},
		{"names of the other form", small + "containerDefinitions: [{name: web}]", web, []string{"ContainerDefinitions: found nothing, and containerDefinitions; want the names of one form"}},
		{"two of one name", small + "ContainerDefinitions: [{Name: web, Image: w}, {Name: web, Image: v}]", web, []string{`ContainerDefinitions[1].Name: found "web"; want a name of its own`}},
		{"names taken", small + "Volumes: [{Name: ecsmesh, Host: {SourcePath: /mnt}}]\nContainerDefinitions: [{Name: ecsmesh-init, Image: i}, {Name: envoy, Image: e}, {Name: web, Image: w}]", web, []string{
			`ContainerDefinitions[0].Name: found "ecsmesh-init"; want another name for this container`, `ContainerDefinitions[1].Name: found "envoy"; want another name`, `Volumes[0].Name: found "ecsmesh"; want another name for this volume`,
		}},
		{"a volume that is somebody's", small + "Volumes: [{Name: ecsmesh}]\nContainerDefinitions: [{Name: web, Image: w, MountPoints: [{SourceVolume: ecsmesh, ContainerPath: /cache}]}]", web, []string{`Volumes[0].Name: found "ecsmesh"; want another name`}},
		{"a path that is taken", small + "Volumes: [{Name: v}]\nContainerDefinitions: [{Name: web, Image: w, MountPoints: [{SourceVolume: v, ContainerPath: /ecsmesh/}]}]", web, []string{`ContainerDefinitions[0].MountPoints[0].ContainerPath: found "/ecsmesh/"; want another path, or another bootstrapDir`}},
		{"consul-ecs", small + "ContainerDefinitions: [{Name: consul-ecs-mesh-init, Image: 'hashicorp/consul-ecs:0.9.3', Essential: false}, {Name: consul-dataplane, Image: 'hashicorp/consul-dataplane:1.6.2'}, {Name: web, Image: w, EntryPoint: [/consul/consul-ecs, app-entrypoint]}]", web, []string{
			`ContainerDefinitions[0].Name: found "consul-ecs-mesh-init" of consul-ecs; remove this container`, `ContainerDefinitions[1].Name: found "consul-dataplane" of consul-ecs`,
			`ContainerDefinitions[2].EntryPoint: found "/consul/consul-ecs"; want ecsmesh-init entrypoint in its place; docs/migration.md says how to move`,
		}},
		{"links", small + "ContainerDefinitions: [{Name: web, Image: w, Links: [db]}, {Name: db, Image: d}]", web, []string{"ContainerDefinitions[0].Links: found links of web; remove them"}},
		{"too long a stop", small + "ContainerDefinitions: [{Name: web, Image: w, StopTimeout: 300, StartTimeout: 121}]", web, []string{
			"ContainerDefinitions[0].StopTimeout: found 300; want 120 seconds at most", "ContainerDefinitions[0].StartTimeout: found 121; want 120 seconds at most",
		}},
		{"ports of Envoy", small + "ContainerDefinitions: [{Name: web, Image: w, PortMappings: [{ContainerPort: 20000}, {ContainerPort: 19000}, {ContainerPortRange: 21990-22010}, {ContainerPort: 9091}]}]", "{service: web, port: 8080, upstreams: {api: 9091}}", []string{
			"ContainerDefinitions[0].PortMappings[0]: found port 20000 of web; want another one here or there", "and EcsMesh.proxy.publicListenerPort has the same",
			"ContainerDefinitions[0].PortMappings[1]: found port 19000 of web", "ContainerDefinitions[0].PortMappings[2]: found port 22000 of web",
			"ContainerDefinitions[0].PortMappings[3]: found port 9091 of web", "and EcsMesh.upstreams.api has the same",
		}},
		{"a cycle by the log router", small + "ContainerDefinitions: [{Name: web, Image: w, LogConfiguration: {LogDriver: awsfirelens}}, {Name: log, Image: l, FirelensConfiguration: {Type: fluentbit}, DependsOn: [{ContainerName: web, Condition: START}]}]", web, []string{
			"ContainerDefinitions: found containers that wait for each other: ecsmesh-init → log → web → envoy → ecsmesh-init; want one of them not to",
			"ContainerDefinitions: found containers that wait for each other: log → web → envoy → log; want one of them not to",
		}},
		{"a cycle of their own", small + "ContainerDefinitions: [{Name: a, Image: w, DependsOn: [{ContainerName: b, Condition: START}]}, {Name: b, Image: w, DependsOn: [{ContainerName: a, Condition: START}]}]", web, []string{
			"ContainerDefinitions: found containers that wait for each other: a → b → a",
		}},
		{"the end of an essential container", small + "ContainerDefinitions: [{Name: web, Image: w, DependsOn: [{ContainerName: migrate, Condition: SUCCESS}]}, {Name: migrate, Image: m}]", web, []string{
			"ContainerDefinitions[0].DependsOn[0].Condition: found SUCCESS of migrate, which is essential; want that container to have Essential false",
		}},
		{"health that nothing tells", small + "ContainerDefinitions: [{Name: nginx, Image: n, DependsOn: [{ContainerName: web, Condition: HEALTHY}]}, {Name: web, Image: w}]", web, []string{
			"ContainerDefinitions[0].DependsOn[0].Condition: found HEALTHY of web, which has no health check of its own; give it one, or want START",
		}},
		{"a dependency that isn't there", small + "ContainerDefinitions: [{Name: web, Image: w, DependsOn: [{ContainerName: db, Condition: START}]}]", web, []string{"ContainerDefinitions[0].DependsOn[0].ContainerName: found db; want the name of a container"}},
		{"more than the task has", small + "ContainerDefinitions: [{Name: web, Image: w, Cpu: 200, Memory: 600}, {Name: b, Image: b, Cpu: 100, MemoryReservation: 64}]", web, []string{
			"Memory: found 512 MiB for the task and 664 for its containers together; want more", "Cpu: found 256 units for the task and 300 for its containers together",
			"ContainerDefinitions[0].Memory: found 600; want less than the task's 512 MiB",
		}},
		{"a restart of what exits", small + "ContainerDefinitions: [{Name: ecsmesh-init, RestartPolicy: {Enabled: true}}, {Name: web, Image: w}]", web, []string{"ContainerDefinitions[0].RestartPolicy: found one for ecsmesh-init; remove it"}},
		{"a configuration of its own", small + "ContainerDefinitions: [{Name: ecsmesh-init, Image: i, Environment: [{Name: CONSUL_ECS_CONFIG_JSON, Value: '{}'}], Secrets: [{Name: ECSMESH_CONFIG, ValueFrom: /config}]}, {Name: web, Image: w}]", web, []string{
			"ContainerDefinitions[0].Environment[0]: found CONSUL_ECS_CONFIG_JSON; remove it, and have its fields in EcsMesh", "ContainerDefinitions[0].Secrets[0]: found ECSMESH_CONFIG; remove it",
		}},
		{"another topology's Envoy", small + "ContainerDefinitions: [{Name: web, Image: w, DependsOn: [{ContainerName: envoy, Condition: START}]}]", "{service: web, port: 8080, topology: dataplane}", []string{"ContainerDefinitions[0].DependsOn[0].ContainerName: found envoy; want the name of a container"}},
		{"health of containers that have none", small + "ContainerDefinitions: [{Name: a, Image: w}, {Name: b, Image: w}, {Name: cron, Image: c, Essential: false}]", "{service: web, port: 1, healthSyncContainers: [a, b, cron, db]}", []string{
			`EcsMesh.healthSyncContainers[1]: found "b"; remove it, or give the container a health check of its own: with that of ecsmesh it waits for a, and that for it`,
			`EcsMesh.healthSyncContainers[2]: found "cron"; remove it, or give the container a health check: it is never healthy without`,
			`EcsMesh.healthSyncContainers[3]: found "db"; want the name of a container that has a health check: there are a, b, cron`,
		}},
		{"ours under a condition", small + "ContainerDefinitions: [!If [A, {Name: envoy, Cpu: 64}, !Ref AWS::NoValue], {Name: web, Image: w}]", web, []string{`ContainerDefinitions[0]: found "envoy" under a condition; want it without one`}},
		{"what another topology has", small + "ContainerDefinitions: [{Name: consul-client, Cpu: 64}, {Name: web, Image: w}]", web, []string{`ContainerDefinitions[0].Name: found "consul-client"; remove this container: the topology direct has none of that name`}},
		{"a list that is a function", small + "ContainerDefinitions: [{Name: web, Image: w, MountPoints: !FindInMap [A, B, C]}]", web, []string{"ContainerDefinitions[0].MountPoints: found {\"Fn::FindInMap\":[\"A\",\"B\",\"C\"]}; want a list, since something is added to it"}},
		{"more containers than ECS takes", small + "ContainerDefinitions: [{Name: web, Image: w}, " + strings.Join(sidecars(8), ", ") + "]", web, []string{"ContainerDefinitions: found 11 containers, with ecsmesh-init and envoy; want 10 at most: ECS refuses more"}},
		{"a name that is taken under a condition", small + "ContainerDefinitions: [{Name: web, Image: w}, !If [C, {Name: web, Image: v}, !Ref AWS::NoValue]]", web, []string{`ContainerDefinitions[1].Name: found "web"; want a name of its own: ContainerDefinitions[0] has the same`}},
		{"a container without an image", small + "ContainerDefinitions: [{Name: web, Image: w}, {Name: ecs-mesh-init, Cpu: 5}]", web, []string{
			"ContainerDefinitions[1].Image: found nothing; want the image of ecs-mesh-init; only a container of ecsmesh's may be without, to have something set in it: ecsmesh-init, envoy",
		}},
		{"conditions that never hold of ours", small + "ContainerDefinitions: [{Name: web, Image: w}, {Name: m, Image: m, Essential: false, DependsOn: [{ContainerName: ecsmesh-init, Condition: HEALTHY}, {ContainerName: envoy, Condition: SUCCESS}, {ContainerName: web, Condition: HEALTHLY}]}]", web, []string{
			"ContainerDefinitions[1].DependsOn[0].Condition: found HEALTHY of ecsmesh-init; want SUCCESS", "ContainerDefinitions[1].DependsOn[1].Condition: found SUCCESS of envoy; want HEALTHY or START",
			`ContainerDefinitions[1].DependsOn[2].Condition: found "HEALTHLY"; want one of START, COMPLETE, SUCCESS, HEALTHY`,
		}},
		{"the health of a Consul client", small + "ContainerDefinitions: [{Name: web, Image: w, DependsOn: [{ContainerName: consul-client, Condition: HEALTHY}]}]", "{service: web, port: 8080, topology: client-agent}", []string{"ContainerDefinitions[0].DependsOn[0].Condition: found HEALTHY of consul-client; want START"}},
		{"health checks that ECS refuses", small + "ContainerDefinitions: [{Name: envoy, HealthCheck: {Interval: 1, Timeout: 90, Retries: 11, StartPeriod: 301}}, {Name: web, Image: w, HealthCheck: {Command: 'CMD-SHELL true'}}, {Name: b, Image: b, HealthCheck: !If [C, {Command: [curl, localhost]}, {}]}]", web, []string{
			"ContainerDefinitions[0].HealthCheck.Interval: found 1; want 5 to 300", "ContainerDefinitions[0].HealthCheck.Timeout: found 90; want 2 to 60",
			"ContainerDefinitions[0].HealthCheck.Retries: found 11; want 1 to 10", "ContainerDefinitions[0].HealthCheck.StartPeriod: found 301; want 0 to 300",
			`ContainerDefinitions[1].HealthCheck.Command: found "CMD-SHELL true"; want a list that begins with CMD, CMD-SHELL or NONE`,
			"ContainerDefinitions[2].HealthCheck.Command: found a list; want a list that begins with CMD", "ContainerDefinitions[2].HealthCheck.Command: found nothing; want a list",
		}},
		{"too soon an end of the start", small + "ContainerDefinitions: [{Name: ecsmesh-init, StartTimeout: 10}, {Name: web, Image: w}]", web, []string{"ContainerDefinitions[0].StartTimeout: found 10; want more than 10 seconds: ecsmesh-init gives up so much sooner than ECS"}},
		{"a refresh that is no time", small + app, "{service: web, port: 8080, refreshInterval: 30}", []string{"EcsMesh.refreshInterval: found 30; want a time such as 30s or 1m, 1s at the least"}},
		{"too short a refresh", small + app, "{service: web, port: 8080, refreshInterval: 10ms}", []string{`EcsMesh.refreshInterval: found "10ms"; want a time such as 30s`}},
		{"a log configuration with a mistake", small + app, "{service: web, port: 8080, logConfiguration: {logDrivr: awslogs, options: {}}}", []string{
			"EcsMesh.logConfiguration.logDrivr: found an unknown field; remove it, or use one of LogDriver, Options, SecretOptions", "EcsMesh.logConfiguration.LogDriver: found nothing; want the driver",
		}},
		{"a mount within ours", small + "Volumes: [{Name: v}]\nContainerDefinitions: [{Name: web, Image: w, MountPoints: [{SourceVolume: v, ContainerPath: /ecsmesh/cache}]}]", web, []string{`ContainerDefinitions[0].MountPoints[0].ContainerPath: found "/ecsmesh/cache"; want another path`}},
		{"containers that are to be split", small + app, "{service: web, port: 8080, containers: !Split [',', !Ref Waiting]}", []string{`EcsMesh.containers: found {"Fn::Split":[",",{"Ref":"Waiting"}]}; want a list of the names`}},
		{"nobody who waits", small + app, "{service: web, port: 8080, containers: []}", []string{"EcsMesh.containers: found an empty list; remove it, or name at least one that waits for Envoy: there are web"}},
		{"the health of who has a check at times", small + "ContainerDefinitions: [{Name: web, Image: w, HealthCheck: !If [C, {Command: [CMD, 'true']}, !Ref AWS::NoValue]}]", "{service: web, port: 8080, healthSyncContainers: [web]}", []string{
			`EcsMesh.healthSyncContainers[0]: found "web"; remove it, or give the container a health check under every condition`,
		}},
		{"a field twice", small + "ContainerDefinitions: [{Name: web, Image: w, Image: v}]", web, []string{"ContainerDefinitions[0].Image: found the field twice in the task definition; keep one of them"}},
		{"what awsvpc doesn't take", small + "ContainerDefinitions: [{Name: web, Image: w, Hostname: shop, ExtraHosts: [{Hostname: db, IpAddress: 10.0.0.1}], PortMappings: [{ContainerPort: 8080, HostPort: 80}, {ContainerPort: 9090, HostPort: 0}, {ContainerPort: 9091, HostPort: 9091}, {ContainerPort: !Ref P, HostPort: 80}]}, {Name: b, Image: b, Essential: false, ExtraHosts: []}]", web, []string{
			`ContainerDefinitions[0].Hostname: found "shop"; remove it: ECS takes none with awsvpc`,
			"ContainerDefinitions[0].ExtraHosts: found hosts of web; remove them: ECS takes none with awsvpc",
			"ContainerDefinitions[0].PortMappings[0].HostPort: found 80; want 8080 as for ContainerPort, or none: with awsvpc a task has its ports to itself",
		}},
		{"containers in the API's names", small + "ContainerDefinitions: [{name: web, image: w}, {Image: v}]", web, []string{
			"ContainerDefinitions[0].Name: found name; want the names of one form: those of CloudFormation begin with a capital letter", "ContainerDefinitions[1].Name: found nothing; want the container's name",
		}},
		{"a merge key", small + "ContainerDefinitions: [&a {Name: web, Image: w}, {<<: *a, Name: b}]", web, []string{"read the task definition: YAML's merge key << is nothing that CloudFormation or ECS knows"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			definition := parse(t, test.definition)
			before := dump(t, definition)
			_, err := meshtask.Expand(definition, parse(t, test.block), meshtask.CloudFormation, meshtask.Defaults{InitImage: "init:1"}, nil)
			if err == nil {
				t.Fatalf("it is taken:\n%s", dump(t, definition))
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error has no %q:\n%v", want, err)
				}
			}
			if found := strings.Count(err.Error(), "\n") + 1; found > len(test.want) {
				t.Errorf("the error says more than expected:\n%v", err)
			}
			if dump(t, definition) != before {
				t.Errorf("a definition that is refused was changed:\n%s", dump(t, definition))
			}
		})
	}
}

func TestTheLeastRefreshIsThatOfTheCheck(t *testing.T) {
	for interval, taken := range map[time.Duration]bool{check.LeastRefresh: true, check.LeastRefresh - 1: false} {
		_, err := meshtask.Expand(parse(t, small+app), parse(t, "{service: web, port: 8080, refreshInterval: "+interval.String()+"}"), meshtask.CloudFormation, meshtask.Defaults{InitImage: "init:1"}, nil)
		if (err == nil) != taken {
			t.Errorf("of %s the error is %v", interval, err)
		}
	}
}

func TestRefusalsOfTheAPI(t *testing.T) {
	for _, test := range []struct{ definition, block, want string }{
		{"{family: !Ref Family}", "{service: web}", "the task definition: found a function of CloudFormation; want values alone"},
		{"{networkMode: host, containerDefinitions: [{name: web, image: w}]}", "{service: web, port: 1}", `networkMode: found "host"; want awsvpc`},
		{"{networkMode: awsvpc, containerDefinitions: [{name: web, image: w, links: [db]}]}", "{service: {Ref: Name}, port: 1}", "EcsMesh.service.Ref: found an unknown field"},
		{"{ContainerDefinitions: [{Name: web, Image: w}]}", "{service: web, port: 1}", "containerDefinitions: found nothing, and ContainerDefinitions; want the names of one form"},
		{"{networkMode: awsvpc, containerDefinitions: [{name: web, image: w}]}", "{service: web, port: 1, initImage: null}", ""},
	} {
		_, err := meshtask.Expand(parse(t, test.definition), parse(t, test.block), meshtask.API, meshtask.Defaults{InitImage: "init:1"}, nil)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("the error is %v and should have %q", err, test.want)
		}
	}
	_, err := meshtask.Expand(parse(t, small+app), parse(t, web), meshtask.CloudFormation, meshtask.Defaults{}, nil)
	if err == nil || !strings.Contains(err.Error(), "EcsMesh.initImage: found nothing; want the image of ecsmesh-init") {
		t.Errorf("without an image of ecsmesh-init the error is %v", err)
	}
	_, err = meshtask.Expand(parse(t, strings.Replace(small, "Family: web", "Family: !Ref F", 1)+app), parse(t, "{port: 8080}"), meshtask.CloudFormation, stack, nil)
	if err == nil || !strings.Contains(err.Error(), "EcsMesh.service.name: found nothing; want its name in Consul: with consulLogin a tag of the task role has to say the same") {
		t.Errorf("without a name for the role's tag the error is %v", err)
	}
}
