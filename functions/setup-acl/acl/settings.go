package acl

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// The functions that may talk to Consul, by the names of their policies.
const (
	DeploymentHook  = "deployment-hook"
	DeregisterTasks = "deregister-tasks"
	PublishServers  = "publish-servers"
	Sweep           = "sweep"
)

// Consul's limits for MaxTokenTTL, unless its own configuration says otherwise.
const (
	minTokenTTL = time.Minute
	maxTokenTTL = 24 * time.Hour
)

// Settings say who may log in to Consul, and how.
type Settings struct {
	TasksMethod  string        // name of the auth method for tasks
	TaskRoles    []string      // ARNs of the IAM roles that tasks may have; a * at the end stands for anything
	TaskTokenTTL time.Duration // how long a task's token lives

	// ClientAgents gives what Consul agents in tasks need, and functions that
	// force dead ones to leave.
	ClientAgents bool

	FunctionsMethod string            // name of the auth method for functions
	FunctionRoles   map[string]string // ARN of the IAM role of each function that logs in

	// ShiftedServices are those whose traffic deployment-hook may shift.
	ShiftedServices []string

	ServerID    string // what a login's signature has to name, so that it serves no other cluster; "" for nothing
	STSEndpoint string // URL by which the Consul servers reach AWS STS; "" for AWS's own
	IAMEndpoint string // and IAM
}

// Validate finds all that Consul would refuse, or would take and not mean.
func (s Settings) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for what, name := range map[string]string{"tasks": s.TasksMethod, "functions": s.FunctionsMethod} {
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`).MatchString(name) {
			fault("the auth method for %s is called %q, want up to 100 letters, digits, - and _", what, name)
		}
	}
	if s.TasksMethod == s.FunctionsMethod {
		fault("the auth methods for tasks and for functions are both called %q, want two names", s.TasksMethod)
	}
	if len(s.TaskRoles) == 0 {
		fault("no IAM role of tasks is given, want the ARN of one at least")
	}
	for _, role := range s.TaskRoles {
		if !isRole(strings.TrimSuffix(role, "*")) {
			fault("the IAM role of tasks %q is no role's ARN, want arn:PARTITION:iam::ACCOUNT:role/NAME, with a * at most at the end", role)
		}
	}
	if s.TaskTokenTTL < minTokenTTL || s.TaskTokenTTL > maxTokenTTL {
		fault("the tokens of tasks are to live for %s, want %s to %s", s.TaskTokenTTL, minTokenTTL, maxTokenTTL)
	}
	for name, role := range s.FunctionRoles {
		if _, known := functionRules[name]; !known {
			fault("the function %q needs nothing of Consul", name)
		}
		if !isRole(role) || strings.HasSuffix(role, "/") {
			fault("the IAM role %q of the function %s is no role's ARN, want arn:PARTITION:iam::ACCOUNT:role/NAME", role, name)
		}
	}
	for _, name := range s.ShiftedServices {
		if !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`).MatchString(name) {
			fault("the service %q, of which traffic is to be shifted, is no name in Consul, want lower-case letters, digits and -", name)
		}
	}
	for what, endpoint := range map[string]string{"STS": s.STSEndpoint, "IAM": s.IAMEndpoint} {
		if endpoint != "" && !isEndpoint(endpoint) {
			fault("the endpoint of %s is %q, want a URL without a path, such as https://sts.eu-west-1.amazonaws.com", what, endpoint)
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

// isRole holds for the ARN of an IAM role, or of a path of roles.
func isRole(text string) bool {
	role, err := arn.Parse(text)
	return err == nil && role.Service == "iam" && role.AccountID != "" && strings.HasPrefix(role.Resource, "role/") &&
		!strings.Contains(text, "*")
}

// isEndpoint holds for a URL to which Consul can append a request's path.
func isEndpoint(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.Path == "" && u.RawQuery == "" && u.User == nil
}
