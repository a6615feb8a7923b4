package acl

import (
	"fmt"
	"strings"

	"github.com/hashicorp/consul/api"
)

// kind is one of the four kinds of objects of which Consul's ACL system is made.
type kind struct {
	name   string
	list   func(*api.ACL, *api.QueryOptions) ([]object, error)
	delete func(*api.ACL, string, *api.WriteOptions) (*api.WriteMeta, error) // by ID
}

// object is what Consul has.
type object struct {
	id          string // an auth method's is its name
	name        string // a binding rule's is its description
	description string
	method      string       // of a binding rule
	role        *api.ACLRole // all of a role
}

// kinds are in the order in which objects can be made: a role names policies, a
// binding rule its auth method and a role.
func kinds() []*kind { return []*kind{policies, roles, methods, rules} }

var policies = &kind{
	name: "policy",
	list: func(acl *api.ACL, q *api.QueryOptions) ([]object, error) {
		found, _, err := acl.PolicyList(q)
		return each(found, func(p *api.ACLPolicyListEntry) object {
			return object{id: p.ID, name: p.Name, description: p.Description}
		}), err
	},
	delete: (*api.ACL).PolicyDelete,
}

var roles = &kind{
	name: "role",
	list: func(acl *api.ACL, q *api.QueryOptions) ([]object, error) {
		found, _, err := acl.RoleList(q)
		return each(found, func(r *api.ACLRole) object {
			return object{id: r.ID, name: r.Name, description: r.Description, role: r}
		}), err
	},
	delete: (*api.ACL).RoleDelete,
}

var methods = &kind{
	name: "auth method",
	list: func(acl *api.ACL, q *api.QueryOptions) ([]object, error) {
		found, _, err := acl.AuthMethodList(q)
		return each(found, func(m *api.ACLAuthMethodListEntry) object {
			return object{id: m.Name, name: m.Name, description: m.Description}
		}), err
	},
	delete: (*api.ACL).AuthMethodDelete,
}

var rules = &kind{
	name: "binding rule",
	list: func(acl *api.ACL, q *api.QueryOptions) ([]object, error) {
		found, _, err := acl.BindingRuleList("", q)
		return each(found, func(r *api.ACLBindingRule) object {
			return object{id: r.ID, name: r.Description, description: r.Description, method: r.AuthMethod}
		}), err
	},
	delete: (*api.ACL).BindingRuleDelete,
}

func each[T any](found []T, convert func(T) object) []object {
	objects := make([]object, len(found))
	for i, f := range found {
		objects[i] = convert(f)
	}
	return objects
}

// wish is an object that Consul is to have.
type wish struct {
	kind *kind
	name string

	// put creates the object, or, where Consul has it, changes that one.
	put func(acl *api.ACL, has *object, w *api.WriteOptions) error
}

func (w wish) String() string { return w.kind.name + " " + w.name }

// grants tells whether an object that Consul has is the one that is wished for,
// if only by its name. Consul's names are the same in either case.
func (w wish) grants(kind *kind, has object) bool {
	return w.kind == kind && strings.EqualFold(w.name, has.name)
}

// wishes collects what a stack wants, all of it under its mark.
type wishes struct {
	mark string
	all  []wish
}

func (w *wishes) describe(what string) string { return what + ". " + w.mark }

// role wants a role with a policy of the same name, or with none where there
// are no rules. What others have added to the role stays.
func (w *wishes) role(name, what, rules string) {
	description := w.describe(what)
	if rules != "" {
		w.all = append(w.all, wish{policies, name, func(acl *api.ACL, has *object, q *api.WriteOptions) (err error) {
			policy := &api.ACLPolicy{Name: name, Description: description, Rules: rules}
			if has == nil {
				_, _, err = acl.PolicyCreate(policy, q)
				return err
			}
			policy.ID = has.id
			_, _, err = acl.PolicyUpdate(policy, q)
			return err
		}})
	}
	w.all = append(w.all, wish{roles, name, func(acl *api.ACL, has *object, q *api.WriteOptions) (err error) {
		role := &api.ACLRole{Name: name}
		if has != nil {
			role = has.role
		}
		role.Description = description
		if rules != "" {
			role.Policies = append(role.Policies, &api.ACLLink{Name: name}) // Consul keeps each once
		}
		if has == nil {
			_, _, err = acl.RoleCreate(role, q)
			return err
		}
		_, _, err = acl.RoleUpdate(role, q)
		return err
	}})
}

// method wants an auth method for IAM roles.
func (w *wishes) method(method *api.ACLAuthMethod) {
	method.Type = "aws-iam"
	method.Description = w.describe(method.Description)
	w.all = append(w.all, wish{methods, method.Name, func(acl *api.ACL, has *object, q *api.WriteOptions) (err error) {
		if has == nil {
			_, _, err = acl.AuthMethodCreate(method, q)
			return err
		}
		_, _, err = acl.AuthMethodUpdate(method, q)
		return err
	}})
}

// rule wants a binding rule: whoever logs in by the method and fits the
// selector, gets what is bound.
func (w *wishes) rule(method, what string, bind api.BindingRuleBindType, name, selector string) {
	rule := api.ACLBindingRule{
		Description: w.describe(fmt.Sprintf("%s, for the auth method %s", what, method)),
		AuthMethod:  method, BindType: bind, BindName: name, Selector: selector,
	}
	w.all = append(w.all, wish{rules, rule.Description, func(acl *api.ACL, has *object, q *api.WriteOptions) (err error) {
		if has == nil {
			_, _, err = acl.BindingRuleCreate(&rule, q)
			return err
		}
		changed := rule
		changed.ID = has.id
		_, _, err = acl.BindingRuleUpdate(&changed, q)
		return err
	}})
}
