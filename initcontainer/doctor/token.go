package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/doctor/facts"
	"ecsmesh/shared/awsapi"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/login"
)

const (
	// serviceTag is that of a task's IAM role; see setup-acl.
	serviceTag = "consul.hashicorp.com.service-name"

	renewedByCheck = "check renews it by itself within a few minutes. If it doesn't: the health check of Envoy's container has to be check, and its log says what hinders it"
)

func (e *examination) token() {
	if !e.reached() {
		if e.Token.Wanted || e.State.Task != nil && e.State.Task.Token != nil {
			e.unknown("no Consul server answered")
		}
		return
	}
	e.login()
	found := e.Token
	switch {
	case !found.Wanted && e.State.Task == nil && !e.Configuration.Given:
	case !found.Wanted:
		e.withoutToken()
		return
	case found.Err != nil && errors.Is(found.Err, fs.ErrPermission):
		e.unknown("this user may not read it: run this as root or as Envoy's user")
		return
	case found.Err != nil:
		e.wrong(TokenUnreadable, found.Err.Error(), e.mendToken())
		return
	case consul.TokenUnknown(found.AskErr):
		e.wrong(TokenUnknown, "it has ended, was deleted, or was lost with a snapshot"+e.lastRenewal(), e.mendToken())
	case found.AskErr != nil:
		e.unknown("Consul was asked what it is: %s", found.AskErr)
	case found.Asked:
		e.ok("%s", e.describe())
	}
	e.rights()
	e.renewal()
}

// mendToken is how the task gets another token.
func (e *examination) mendToken() string {
	if name := e.Token.Source.Parameter; name != "" {
		return "put one that Consul knows into the SSM parameter " + name + ", which the task's role may read; check takes it from there"
	}
	if e.Token.Source.Method != "" {
		return renewedByCheck
	}
	return "give the init container another one as " + config.TokenVariable + ", and deploy anew; or set consulLogin.enabled, by which tasks get tokens themselves"
}

// lastRenewal is when the task tried last to get another token.
func (e *examination) lastRenewal() string {
	if at := e.State.Memory.RenewTriedAt; !at.IsZero() {
		return "; the task tried to get another one " + e.ago(at)
	}
	return ""
}

func (e *examination) describe() string {
	found := e.Token
	text := "accessor " + found.Accessor
	if !found.Held && found.Login != nil {
		text = "a login works; its token"
	}
	if found.Expires.IsZero() {
		text += ", without an end"
	} else {
		text += ", which ends " + e.in(found.Expires)
	}
	if len(found.Services) > 0 {
		text += ", for the service " + strings.Join(found.Services, ", ")
	}
	if len(found.Policies) > 0 {
		text += ", with " + strings.Join(found.Policies, ", ")
	}
	return text
}

// login is about one that was made to see whether it works.
func (e *examination) login() {
	tried := e.Token.Login
	if tried == nil {
		return
	}
	if tried.LogoutErr != nil {
		e.ok("the token of the login that was tried stays until it ends: %s", tried.LogoutErr)
	}
	err := tried.Err
	if err == nil {
		e.ok("a login by the auth method %s works", e.Token.Source.Method)
		return
	}
	valid := e.Token.Held && e.Token.AskErr == nil
	var refused api.StatusError
	switch {
	case login.MethodUnknown(err):
		e.later(valid, MethodUnknown, err.Error(), "correct consulLogin.method, or see whether setup-acl made it: consul acl auth-method list")
	case errors.Is(err, awsapi.ErrCredentials):
		e.later(valid, CredentialsMissing, err.Error(), "give the task definition a taskRoleArn: logins are signed by the task's role")
	case errors.As(err, &refused) && refused.Code == http.StatusForbidden:
		e.later(valid, LoginRefused, err.Error(), "see whether the task's role is among the stack's TaskRoleArns, has the tag "+serviceTag+", may read itself by iam:GetRole, and whether consulLogin.serverIdHeaderValue is the stack's LoginServerId")
	default:
		e.later(valid, LoginFails, err.Error(), "see whether the task and the Consul servers reach AWS STS and IAM, and the log of the servers")
	}
}

// withoutToken is about a task that has none, and needs none where there are no
// ACLs, or where they let everybody.
func (e *examination) withoutToken() {
	for _, right := range e.Token.Rights {
		if !right.Allowed {
			e.wrong(TokenMissing, fmt.Sprintf("without one, Consul doesn't allow %s:%s of %s", right.Resource, right.Access, right.Segment), "set consulLogin.enabled in the task's configuration, and what else docs/security.md wants")
			return
		}
	}
	e.ok("the task has none, and needs none")
}

// rights are about what the token may do.
func (e *examination) rights() {
	found := e.Token
	if found.AskErr != nil && found.Login == nil {
		return // nothing is known of a token that Consul doesn't know
	}
	lacks := slices.ContainsFunc(found.Rights, func(r facts.Right) bool { return !r.Allowed })
	if !lacks {
		return
	}
	var missing []string
	for _, right := range found.Rights {
		if !right.Allowed {
			missing = append(missing, right.Resource+":"+right.Access+" of "+right.Segment)
		}
	}
	service := found.Rights[0].Segment // as which the task registers
	if len(found.Services) > 0 && !slices.Contains(found.Services, service) {
		e.wrong(OtherService, fmt.Sprintf("it is for %s, and the task's service is %s", strings.Join(found.Services, ", "), service),
			fmt.Sprintf("have service.name and the tag %s of the task's role name the same service; without service.name it is the task family in lower case. Then deploy anew", serviceTag))
		return
	}
	e.wrong(RightsMissing, "it lacks "+strings.Join(missing, ", "), "give it the service identity of "+service+`, and node:write for nodes that begin with ecs-, as setup-acl does; a gateway's role has the tag consul.hashicorp.com.gateway-kind`)
}

// renewal is about a token that is still good, and for how long.
func (e *examination) renewal() {
	at := e.State.Memory.RenewAt
	if !e.Token.Held || e.Token.AskErr != nil || at.IsZero() {
		return
	}
	if late := e.Now.Sub(at); late > facts.Overdue {
		e.later(true, TokenNotRenewed, "that was to be "+e.ago(at)+e.lastRenewal(), "see the log of Envoy's container health check; when the token ends, the task is cut off from Consul")
		return
	}
	if at.After(e.Now) {
		e.ok("it is renewed %s", e.in(at))
	}
}
