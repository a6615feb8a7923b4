package meshtask

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/initcontainer/config"
)

// Tags by which Consul knows as what a role's tasks may register.
const (
	serviceNameTag = "consul.hashicorp.com.service-name"
	gatewayKindTag = "consul.hashicorp.com.gateway-kind"
	namespaceTag   = "consul.hashicorp.com.namespace"
)

// RoleTagKeys are the keys of the tags that a task role may have to have.
var RoleTagKeys = []string{serviceNameTag, gatewayKindTag, namespaceTag}

// What statements of a task role's policy are called.
const (
	readServers  = "ReadConsulServers"
	readSecrets  = "ReadSecrets"
	findPublicIP = "FindPublicIp"
	showTags     = "ShowConsulItsTags"
)

// StatementIDs are the Sids that a Result's Statements may have.
var StatementIDs = []string{readServers, readSecrets, findPublicIP, showTags}

const secretParameters = "/aws/reference/secretsmanager/" // where SSM has the secrets of Secrets Manager

// role says what the task role has to allow, and which tags it has to have.
func (e *expansion) role() {
	settings := e.block.settings
	servers := get(settings, "consulServers")
	parameters := []*yaml.Node{get(servers, "tokenParameter"), get(get(settings, "consulClient"), "gossipKeyParameter")}
	for _, name := range []string{"defaults", "http", "grpc"} {
		parameters = append(parameters, get(get(servers, name), "caCertParameter"))
	}
	if get(servers, "hosts") == nil {
		parameters = slices.Insert(parameters, 0, get(servers, "parameter"))
	}
	var readable, secrets []any
	for _, parameter := range parameters {
		for _, node := range e.outcomes(parameter) {
			found, known := e.text(node)
			if known && found == "" {
				continue
			}
			if name, ok := strings.CutPrefix(found, secretParameters); ok {
				secrets = append(secrets, e.secretARN(name))
			}
			if !known {
				e.report.note("Where the parameter %s is a secret (%s…), the task role needs secretsmanager:GetSecretValue on it, too.", show(node), secretParameters)
			}
			if known && !strings.HasPrefix(found, "/") && !strings.HasPrefix(found, "arn:") {
				found = "/" + found // the ARN of a name without one has it
				node = text(found)
			}
			readable = append(readable, e.arn("ssm", "parameter", node))
		}
	}
	e.allow(readServers, "ssm:GetParameter", readable, nil)
	e.allow(readSecrets, "secretsmanager:GetSecretValue", secrets, nil)
	if get(get(get(settings, "gateway"), "wanAddress"), "source") != nil {
		region := any("REGION")
		if e.form == CloudFormation {
			region = map[string]any{"Ref": "AWS::Region"}
		} else if found := e.region(); found != "" {
			region = found
		}
		e.allow(findPublicIP, "ec2:DescribeNetworkInterfaces", []any{"*"}, map[string]any{"StringEquals": map[string]any{"aws:RequestedRegion": region}})
	}
	login := get(settings, "consulLogin")
	if login == nil {
		return
	}
	if enabled, known := e.boolean(get(login, "enabled")); isMap(login) && known && !enabled || isMap(login) && get(login, "enabled") == nil {
		return
	}
	if include, known := e.boolean(get(login, "includeEntity")); !known || include {
		e.result.Statements = append(e.result.Statements, Statement{Sid: showTags, Action: "iam:GetRole", TaskRole: true})
		e.tags()
	}
}

func (e *expansion) allow(sid, action string, resources []any, condition map[string]any) {
	var each []any
	for _, resource := range resources {
		if !slices.ContainsFunc(each, func(earlier any) bool { return compact(earlier) == compact(resource) }) {
			each = append(each, resource)
		}
	}
	if len(each) > 0 {
		e.result.Statements = append(e.result.Statements, Statement{Sid: sid, Action: action, Resource: each, Condition: condition})
	}
}

// secretARN is that of a secret, which ends with six characters that AWS chose.
func (e *expansion) secretARN(name string) any {
	if e.defaults.CASecretARN != "" && e.defaults.CAParameter == secretParameters+name {
		return e.defaults.CASecretARN
	}
	return e.arn("secretsmanager", "secret:", text(name+"-??????"))
}

// arn is that of something in the task's account and Region.
func (e *expansion) arn(service, kind string, name *yaml.Node) any {
	if found, known := e.text(name); known && strings.HasPrefix(found, "arn:") {
		return found
	}
	if e.form == API {
		partition, account := e.account()
		return fmt.Sprintf("arn:%s:%s:%s:%s:%s%s", partition, service, or(e.region(), "REGION"), account, kind, name.Value)
	}
	w := writer{lookup: e.lookup, report: e.report, where: e.block.where, taken: map[string]bool{}}
	w.inlined = true
	prefix := "arn:${AWS::Partition}:" + service + ":${AWS::Region}:${AWS::AccountId}:" + kind
	fn, argument, ok := e.function(name)
	if !ok {
		return map[string]any{"Fn::Sub": prefix + strings.ReplaceAll(name.Value, "${", "${!")}
	}
	inner := strings.ReplaceAll(w.inline(name, fn, argument, "name"), open, "${!")
	return long(w.finish(prefix + inner))
}

// account is what the definition's own ARNs tell.
func (e *expansion) account() (partition, account string) {
	for _, name := range []string{"TaskRoleArn", "ExecutionRoleArn", "TaskDefinitionArn"} {
		found, _ := e.text(e.get(e.definition.node, name))
		if parts := strings.Split(found, ":"); len(parts) > 5 && parts[0] == "arn" {
			return parts[1], parts[4]
		}
	}
	return "aws", "ACCOUNT"
}

// region is the one that logs go to.
func (e *expansion) region() string {
	for _, c := range e.definition.containers {
		if found, ok := e.text(get(e.get(e.get(c.node, "LogConfiguration"), "Options"), "awslogs-region")); ok {
			return found
		}
	}
	return ""
}

// tags are those of the role: what Consul lets it register.
func (e *expansion) tags() {
	what, name := get(e.block.settings, "service"), "service.name"
	if e.block.isGateway {
		what, name = get(e.block.settings, "gateway"), "gateway.name"
		if kind := get(what, "kind"); kind != nil {
			e.result.RoleTags = append(e.result.RoleTags, Tag{gatewayKindTag, long(kind)})
		}
	}
	called := get(what, "name")
	value, known := e.text(called)
	switch {
	case called != nil && (!known || value != ""):
		e.result.RoleTags = append(e.result.RoleTags, Tag{serviceNameTag, long(called)})
	default:
		family, known := e.text(e.get(e.definition.node, "Family"))
		if !known || family == "" {
			e.report.fault(e.block.where(name), "nothing", "want its name in Consul: with consulLogin a tag of the task role has to say the same, and the task family isn't known here")
			break
		}
		e.result.RoleTags = append(e.result.RoleTags, Tag{serviceNameTag, strings.ToLower(family)})
	}
	if namespace := get(what, "namespace"); namespace != nil {
		if value, known := e.text(namespace); !known || value != "" && value != "default" {
			e.result.RoleTags = append(e.result.RoleTags, Tag{namespaceTag, long(namespace)})
		}
	}
}

// checkName refuses a task family that is no name for a service.
func (e *expansion) checkName() {
	part := "service"
	if e.block.isGateway {
		part = "gateway"
	}
	name := get(get(e.block.settings, part), "name")
	given, known := e.text(name)
	family, familyKnown := e.text(e.get(e.definition.node, "Family"))
	if (name == nil || known && given == "") && familyKnown && !config.ValidServiceName(strings.ToLower(family)) {
		e.report.fault(e.block.where(part+".name"), "nothing", fmt.Sprintf("want its name in Consul: the task family %q is none that Consul takes", family))
	}
}
