package acl

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// Tags of a task's IAM role, as users of consul-ecs have them. They say as
// which service the task may register, and as which kind of gateway.
const (
	serviceNameTag = "consul.hashicorp.com.service-name"
	gatewayKindTag = "consul.hashicorp.com.gateway-kind"
	namespaceTag   = "consul.hashicorp.com.namespace"
)

// functionTokenTTL is longer than a function uses a token. What a token does
// after its function was deleted, it does for that long at most.
const functionTokenTTL = 15 * time.Minute

// Every task has a node of its own in Consul, which a service identity can't
// create.
const taskRules = `node_prefix "ecs-" { policy = "write" }
`

// A task with a Consul agent of its own gives that a new token.
const agentRules = `agent_prefix "ecs-" { policy = "write" }
`

// To force another agent to leave takes the right to operate Consul as a whole,
// the mesh's certificate authority included, for which there is no rule of its
// own. Consul would derive from it what is denied here.
const forceLeaveRules = `operator = "write"
mesh = "deny"
peering = "deny"
`

// gatewayRules are what gateways need beside being a task and a service, which
// may write itself and read all others. A gateway with none gets a role all the
// same, to which policies of the user's own can be added: a terminating gateway
// has to write the services behind it.
var gatewayRules = []struct{ kind, rules string }{
	// Consul signs a mesh gateway's certificate for mesh:write only.
	{"mesh-gateway", "mesh = \"write\"\npeering = \"read\"\n"},
	// Routes and their certificates.
	{"api-gateway", "mesh = \"read\"\n"},
	{"terminating-gateway", ""},
}

// functionRules are what each function needs.
var functionRules = map[string]string{
	DeregisterTasks: `node_prefix "ecs-" { policy = "write" }
`,
	// It needs all of the mesh's nodes and all critical checks, since a part
	// would pass for the whole, and gets from Consul 1.20 on only with the right
	// to read everything the word that nothing was hidden.
	Sweep: `node_prefix "" { policy = "read" }
node_prefix "ecs-" { policy = "write" }
service_prefix "" { policy = "read" }
`,
	// It reads tasks, and changes none. shiftRules come in addition.
	DeploymentHook: `node_prefix "ecs-" { policy = "read" }
service_prefix "" { policy = "read" }
`,
	PublishServers: `node_prefix "" { policy = "read" }
service "consul" { policy = "read" }
`,
}

// wanted is all that the mesh needs, in an order in which it can be made: what
// names something comes after it, and who may log in comes last.
func wanted(s Settings, stack Stack) []wish {
	w := wishes{mark: stack.mark()}
	tasks, functions := s.TasksMethod, s.FunctionsMethod

	w.role(tasks+"-task", "What every task of the mesh may do", s.taskRules())
	for _, gateway := range gatewayRules {
		w.role(tasks+"-"+gateway.kind, "What gateways of the kind "+gateway.kind+" may do beside", gateway.rules)
	}
	names := slices.Sorted(maps.Keys(s.FunctionRoles))
	for _, function := range names {
		w.role(functions+"-"+function, "What the function "+function+" may do", s.functionRules(function))
	}

	w.method(&api.ACLAuthMethod{
		Name:        tasks,
		Description: "Tasks of the mesh, by their IAM roles",
		MaxTokenTTL: s.TaskTokenTTL,
		Config: s.login(stack, map[string]any{
			"BoundIAMPrincipalARNs":  s.TaskRoles,
			"EnableIAMEntityDetails": true,
			"IAMEntityTags":          []string{gatewayKindTag, namespaceTag, serviceNameTag},
		}),
	})
	w.rule(tasks, "The service that the IAM role's tag names", api.BindingRuleBindTypeService, "${entity_tags."+serviceNameTag+"}",
		hasTag(serviceNameTag))
	w.rule(tasks, "All tasks, by either of the IAM role's tags", api.BindingRuleBindTypeRole, tasks+"-task",
		hasTag(serviceNameTag)+" or "+hasTag(gatewayKindTag))
	for _, gateway := range gatewayRules {
		w.rule(tasks, "Gateways of the kind "+gateway.kind+", by the IAM role's tag", api.BindingRuleBindTypeRole, tasks+"-"+gateway.kind,
			fmt.Sprintf("entity_tags[%q] == %q", gatewayKindTag, gateway.kind))
	}

	if len(names) == 0 {
		return w.all
	}
	w.method(&api.ACLAuthMethod{
		Name:        functions,
		Description: "Functions of the mesh, by their IAM roles",
		MaxTokenTTL: functionTokenTTL,
		Config:      s.login(stack, map[string]any{"BoundIAMPrincipalARNs": slices.Sorted(maps.Values(s.FunctionRoles))}),
	})
	for _, function := range names {
		w.rule(functions, "The function "+function, api.BindingRuleBindTypeRole, functions+"-"+function,
			fmt.Sprintf("entity_name == %q", roleName(s.FunctionRoles[function])))
	}
	return w.all
}

func (s Settings) taskRules() string {
	if s.ClientAgents {
		return taskRules + agentRules
	}
	return taskRules
}

// shiftRules let a service's splitter and resolver be written. Consul would derive
// from it the right to read who may call the service.
const shiftRules = `service %q { policy = "write" intentions = "deny" }
`

func (s Settings) functionRules(function string) string {
	if function == DeploymentHook {
		rules := functionRules[function]
		for _, service := range s.ShiftedServices {
			rules += fmt.Sprintf(shiftRules, service)
		}
		return rules
	}
	if s.ClientAgents && (function == DeregisterTasks || function == Sweep) {
		return functionRules[function] + forceLeaveRules
	}
	return functionRules[function]
}

func hasTag(tag string) string { return fmt.Sprintf("entity_tags[%q] != \"\"", tag) }

// roleName is an IAM role's name, the last part of its ARN.
func roleName(arn string) string { return arn[strings.LastIndex(arn, "/")+1:] }

// login adds to an auth method's configuration what is the same for all of them.
func (s Settings) login(stack Stack, config map[string]any) map[string]any {
	sts, iam := stack.endpoints()
	for field, value := range map[string]string{
		"ServerIDHeaderValue": s.ServerID,
		"STSEndpoint":         cmp.Or(s.STSEndpoint, sts),
		"IAMEndpoint":         cmp.Or(s.IAMEndpoint, iam),
	} {
		if value != "" {
			config[field] = value
		}
	}
	return config
}
