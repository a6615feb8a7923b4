package expand

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"ecsmesh/functions/mesh-task/document"
	"ecsmesh/functions/mesh-task/meshtask"
)

const (
	roleType   = "AWS::IAM::Role"
	policyType = "AWS::IAM::Policy"

	// A task definition's logical ID with one of these is that of a resource of
	// ours. It stays the same, so that a stack's update changes it and makes no
	// other.
	roleSuffix   = "EcsMeshRole"
	policySuffix = "EcsMeshPolicy"
)

// grant lets the task role do what a mesh task's has to. A role in the template
// gets a policy of ours beside what it has; where there is no role, one is made;
// of a role from elsewhere the error says what it needs.
func (t *task) grant(result meshtask.Result, parameters map[string]any) error {
	if result.RoleIsReady {
		return nil
	}
	if len(result.Statements) == 0 {
		t.revoke(len(result.RoleTags) == 0)
	}
	if len(result.Statements)+len(result.RoleTags) == 0 {
		return nil
	}
	arn := get(t.properties, "TaskRoleArn")
	if isNoValue(arn) || isEmpty(arn) {
		arn = nil
	}
	if t.scope == nil {
		where := "there is nothing to put a role or a policy into, since the resource is all there is"
		return errors.New(instructions(where, arn, result))
	}
	id, outside := t.role(arn)
	if outside != "" {
		return errors.New(instructions(outside, arn, result))
	}
	ours := t.id + roleSuffix
	if id == "" {
		if t.scope.find(ours) != nil {
			return fmt.Errorf("it has no TaskRoleArn, and the one to be made for it is there already: set TaskRoleArn to !GetAtt %s.Arn, or give %s another name", ours, ours)
		}
		id = ours
		set(t.properties, "TaskRoleArn", short("GetAtt", id+".Arn"))
		t.put(id, t.id, t.newRole(result))
	}
	if id == ours {
		t.update(id, t.newRole(result))
	} else if err := checkTags(id, t.scope.find(id), result.RoleTags, parameters); err != nil {
		return err
	}
	if len(result.Statements) == 0 {
		return nil
	}
	policy := t.id + policySuffix
	if found := t.scope.find(policy); found != nil && valueOf(get(found, "Type")) != policyType {
		return fmt.Errorf("%s is the name of the %s to be made for it, and there is another resource of that name: give that one another", policy, policyType)
	}
	after := t.id
	if id == ours {
		after = id
	}
	t.put(policy, after, t.newPolicy(id, result.Statements))
	if t.resource != nil {
		t.dependOn(policy)
	}
	return nil
}

// revoke takes our policy out of the template where there is nothing to allow any
// more, and from our role the tags where none is needed.
func (t *task) revoke(tags bool) {
	if t.scope == nil {
		return
	}
	id := t.id + policySuffix
	policy := get(t.scope.resources, id)
	isOurs := valueOf(get(policy, "Type")) == policyType && valueOf(get(policy, "Properties", "PolicyName")) == policyName(t.id)
	if isOurs && !setStatements(get(policy, "Properties", "PolicyDocument"), nil) {
		remove(t.scope.resources, id)
		t.dependNoMore(id)
	}
	if role := t.scope.find(t.id + roleSuffix); tags && valueOf(get(role, "Type")) == roleType {
		setTags(get(role, "Properties"), nil)
	}
}

// policyName is that of our policy: a role has one of each name.
func policyName(task string) string { return "ecsmesh-" + task }

// role is the logical ID of the task role in the template; "" where the task has
// none. outside says of any other what it is.
func (t *task) role(arn *yaml.Node) (id, outside string) {
	if arn == nil {
		return "", ""
	}
	function, argument := document.Function(arn)
	if function == "" && arn.Kind == yaml.ScalarNode {
		return "", fmt.Sprintf("TaskRoleArn is %s, a role from outside of the template", arn.Value)
	}
	var roles []string
	for _, name := range references(arn) {
		if valueOf(get(t.scope.find(name), "Type")) == roleType {
			roles = append(roles, name)
		}
	}
	roles = slices.Compact(slices.Sorted(slices.Values(roles)))
	switch {
	case function == "Fn::If":
		return "", "TaskRoleArn is chosen by Fn::If, which may give it different roles"
	case len(roles) == 1:
		return roles[0], ""
	case len(roles) > 1:
		return "", "TaskRoleArn names several roles: " + strings.Join(roles, ", ")
	case function == "Ref" && get(t.scope.parameters, argument.Value) != nil:
		return "", "TaskRoleArn is the parameter " + argument.Value + ", a role from outside of the template"
	}
	return "", "TaskRoleArn is " + oneLine(arn) + ", which is no role in the template"
}

func isNoValue(node *yaml.Node) bool {
	if node == nil {
		return false
	}
	function, argument := document.Function(node)
	return function == "Ref" && argument.Value == "AWS::NoValue"
}

// isEmpty recognises the empty text, and null.
func isEmpty(node *yaml.Node) bool {
	return node != nil && node.Kind == yaml.ScalarNode && (node.Value == "" || node.ShortTag() == "!!null")
}

// put adds a resource of ours after another one, or brings the one that is there
// up to date.
func (t *task) put(id, after string, resource *yaml.Node) {
	if t.scope.find(id) != nil {
		t.update(id, resource)
		return
	}
	insertAfter(t.scope.resources, after, id, resource)
}

// update sets what a resource of ours has to have, and leaves what someone else
// gave it.
func (t *task) update(id string, resource *yaml.Node) {
	found := t.scope.find(id)
	for key, value := range pairs(resource) {
		if key != "Properties" {
			setIfOther(found, key, value)
			continue
		}
		properties := get(found, key)
		if properties == nil {
			set(found, key, value)
			continue
		}
		for name, property := range pairs(value) {
			if name != "Tags" && (name != "PolicyDocument" || !setStatements(get(properties, name), property)) {
				setIfOther(properties, name, property)
			}
		}
		if valueOf(get(resource, "Type")) == roleType {
			setTags(properties, get(value, "Tags"))
		}
	}
}

// setStatements gives a policy of ours the statements that tasks need, no other of
// those, and leaves the statements that someone else gave it. It says whether
// there are any then.
func setStatements(policy, wanted *yaml.Node) bool {
	statements := get(policy, "Statement")
	if statements == nil || statements.Kind != yaml.SequenceNode {
		return false
	}
	if function, _ := document.Function(statements); function != "" {
		return false
	}
	var needed []*yaml.Node
	if wanted != nil {
		needed = get(wanted, "Statement").Content
	}
	named := func(among []*yaml.Node, sid string) int {
		return slices.IndexFunc(among, func(s *yaml.Node) bool { return valueOf(get(s, "Sid")) == sid })
	}
	var all []*yaml.Node
	for _, there := range statements.Content {
		sid := valueOf(get(there, "Sid"))
		at := named(needed, sid)
		switch {
		case !slices.Contains(meshtask.StatementIDs, sid):
			all = append(all, there)
		case at < 0 || named(all, sid) >= 0: // not needed, or a second time
		case same(there, needed[at]):
			all = append(all, there)
		default:
			all = append(all, needed[at])
		}
	}
	after := 0 // where the next goes, if it is missing
	for _, statement := range needed {
		at := named(all, valueOf(get(statement, "Sid")))
		if at < 0 {
			at = after
			all = slices.Insert(all, at, statement)
		}
		after = at + 1
	}
	statements.Content = all
	return len(all) > 0
}

// setTags gives a role of ours the tags that logins need, no other of those, and
// leaves the tags that someone else gave it.
func setTags(properties, wanted *yaml.Node) {
	tags := get(properties, "Tags")
	isList := tags != nil && tags.Kind == yaml.SequenceNode
	if isList {
		function, _ := document.Function(tags)
		isList = function == ""
	}
	if !isList {
		if wanted != nil {
			setIfOther(properties, "Tags", wanted)
		}
		return
	}
	tags.Content = slices.DeleteFunc(tags.Content, func(tag *yaml.Node) bool {
		key := valueOf(get(tag, "Key"))
		return slices.Contains(meshtask.RoleTagKeys, key) && tagged(wanted, key) == nil
	})
	if wanted != nil {
		for _, tag := range wanted.Content {
			key := valueOf(get(tag, "Key"))
			at := slices.IndexFunc(tags.Content, func(there *yaml.Node) bool { return valueOf(get(there, "Key")) == key })
			if at >= 0 {
				setIfOther(tags.Content[at], "Value", get(tag, "Value"))
			} else {
				tags.Content = append(tags.Content, tag)
			}
		}
	}
	if len(tags.Content) == 0 {
		remove(properties, "Tags")
	}
}

func setIfOther(mapping *yaml.Node, key string, value *yaml.Node) {
	if found := get(mapping, key); found == nil || !same(found, value) {
		set(mapping, key, value)
	}
}

func (t *task) newRole(result meshtask.Result) *yaml.Node {
	properties := mapping("AssumeRolePolicyDocument", policyDocument(mapping(
		"Effect", "Allow",
		"Principal", inOneLine(mapping("Service", "ecs-tasks.amazonaws.com")),
		"Action", "sts:AssumeRole",
		// Keeps ECS from assuming the role on behalf of another account.
		"Condition", inOneLine(mapping("StringEquals", mapping("aws:SourceAccount", short("Ref", "AWS::AccountId")))),
	)))
	if len(result.RoleTags) > 0 {
		tags := list()
		for _, tag := range result.RoleTags {
			tags.Content = append(tags.Content, inOneLine(mapping("Key", tag.Key, "Value", tag.Value)))
		}
		set(properties, "Tags", tags)
	}
	return t.conditional(roleType, properties)
}

func (t *task) newPolicy(role string, statements []meshtask.Statement) *yaml.Node {
	var allowed []*yaml.Node
	for _, s := range statements {
		allowed = append(allowed, statement(s, short("GetAtt", role+".Arn")))
	}
	return t.conditional(policyType, mapping(
		"PolicyName", policyName(t.id),
		"Roles", inOneLine(list(short("Ref", role))),
		"PolicyDocument", policyDocument(allowed...),
	))
}

// conditional is a resource that is there when the task definition is.
func (t *task) conditional(kind string, properties *yaml.Node) *yaml.Node {
	resource := mapping("Type", kind)
	if condition := get(t.resource, "Condition"); condition != nil {
		set(resource, "Condition", scalar(condition.Value))
	}
	set(resource, "Properties", properties)
	return resource
}

func policyDocument(statements ...*yaml.Node) *yaml.Node {
	version := scalar("2012-10-17")
	version.Style = yaml.DoubleQuotedStyle
	return mapping("Version", version, "Statement", list(statements...))
}

// statement writes one; role is the task role's own ARN.
func statement(s meshtask.Statement, role *yaml.Node) *yaml.Node {
	node := mapping("Sid", s.Sid, "Effect", "Allow", "Action", s.Action)
	switch {
	case s.TaskRole:
		set(node, "Resource", role)
	case len(s.Resource) == 1:
		set(node, "Resource", nodeOf(s.Resource[0]))
	default:
		set(node, "Resource", nodeOf(s.Resource))
	}
	if s.Condition != nil {
		set(node, "Condition", nodeOf(s.Condition))
	}
	return node
}

// checkTags finds tags that a role in the template lacks, or has with another
// value. A value that isn't known yet is believed.
func checkTags(id string, role *yaml.Node, wanted []meshtask.Tag, parameters map[string]any) error {
	tags := get(role, "Properties", "Tags")
	if tags != nil && tags.Kind != yaml.SequenceNode {
		return nil // of a function
	}
	var faults []error
	for _, tag := range wanted {
		value := nodeOf(tag.Value)
		add := oneLine(mapping("Key", tag.Key, "Value", value))
		found := tagged(tags, tag.Key)
		if found == nil {
			faults = append(faults, fmt.Errorf("its role %s lacks a tag, from which Consul knows what the task may register; add to the role's Tags %s", id, add))
			continue
		}
		has, known := literal(found, parameters)
		want, wantKnown := literal(value, parameters)
		if known && wantKnown && has != want {
			faults = append(faults, fmt.Errorf("its role %s has the tag %s with the value %s, and Consul would refuse the task, which needs %s: tasks of another service need a role of their own", id, tag.Key, has, want))
		}
	}
	return errors.Join(faults...)
}

// tagged is a tag's value, or nil.
func tagged(tags *yaml.Node, key string) *yaml.Node {
	if tags == nil {
		return nil
	}
	for _, tag := range tags.Content {
		if valueOf(get(tag, "Key")) == key {
			return get(tag, "Value")
		}
	}
	return nil
}

// literal is the text that a value has, and whether that is known.
func literal(value *yaml.Node, parameters map[string]any) (string, bool) {
	function, argument := document.Function(value)
	if function == "" && value.Kind == yaml.ScalarNode {
		return value.Value, true
	}
	if given, known := parameters[argument.Value]; known && function == "Ref" {
		return fmt.Sprint(given), true
	}
	return "", false
}

// instructions say what a role needs that can't be changed here, and how to say
// that it is done.
func instructions(why string, role *yaml.Node, result meshtask.Result) string {
	if role == nil {
		role = scalar("arn:aws:iam::ACCOUNT:role/NAME")
	} else if function, _ := document.Function(role); function == "" && !strings.HasPrefix(role.Value, "arn:") {
		role = scalar("arn:aws:iam::ACCOUNT:role/" + strings.TrimPrefix(role.Value, "/"))
	}
	var parts []string
	if len(result.Statements) > 0 {
		statements := list()
		for _, s := range result.Statements {
			statements.Content = append(statements.Content, statement(s, role))
		}
		parts = append(parts, "has a policy with the statements "+oneLine(statements))
	}
	for _, tag := range result.RoleTags {
		parts = append(parts, "has the tag "+oneLine(mapping("Key", tag.Key, "Value", tag.Value)))
	}
	return why + ". See to it that the task role " + strings.Join(parts, " and ") + "; then say so with taskRole: NONE in the block"
}
