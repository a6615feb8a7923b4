package setup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"ecsmesh/functions/setup-acl/acl"
)

// properties are those of the custom resource. CloudFormation makes every number
// a text.
type properties struct {
	ServiceToken, ServiceTimeout string // CloudFormation's own
	Revision                     string // changes with what is made, so that CloudFormation asks for it

	DryRun string // true, false or nothing: whether nothing is to be changed

	ManagementTokenSecretARN string // ARN of the secret with a token that may write ACLs

	TasksAuthMethod     string
	TaskRoleARNs        []string
	TaskTokenTTLMinutes string

	ClientAgents    string   // true or false
	ShiftedServices []string // the one "" stands for none

	FunctionsAuthMethod string
	FunctionRoleARNs    map[string]string

	ServerIDHeaderValue, STSEndpoint, IAMEndpoint string
}

func parseProperties(text json.RawMessage) (properties, error) {
	var p properties
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return properties{}, fmt.Errorf("read the resource's properties: %w", err)
	}
	return p, nil
}

// secretARN and whether it is a dry run are all that is read of the properties of
// a resource that goes. They may be those of another version.
func secretARN(text json.RawMessage) (arn, dryRun string, err error) {
	var p struct{ ManagementTokenSecretARN, DryRun string }
	if err := json.Unmarshal(text, &p); err != nil {
		return "", "", fmt.Errorf("read the resource's properties: %w", err)
	}
	return p.ManagementTokenSecretARN, p.DryRun, nil
}

// settings are what the properties say of the ACL, and valid.
func (p properties) settings() (acl.Settings, error) {
	minutes, err := strconv.ParseUint(p.TaskTokenTTLMinutes, 10, 16)
	if err != nil {
		return acl.Settings{}, fmt.Errorf("read the resource's properties: TaskTokenTtlMinutes is %q, want a number", p.TaskTokenTTLMinutes)
	}
	clientAgents, err := strconv.ParseBool(p.ClientAgents)
	if err != nil {
		return acl.Settings{}, fmt.Errorf("read the resource's properties: ClientAgents is %q, want true or false", p.ClientAgents)
	}
	s := acl.Settings{
		TasksMethod:     p.TasksAuthMethod,
		TaskRoles:       p.TaskRoleARNs,
		TaskTokenTTL:    time.Duration(minutes) * time.Minute,
		ClientAgents:    clientAgents,
		FunctionsMethod: p.FunctionsAuthMethod,
		FunctionRoles:   p.FunctionRoleARNs,
		ShiftedServices: slices.DeleteFunc(slices.Clone(p.ShiftedServices), func(name string) bool { return name == "" }),
		ServerID:        p.ServerIDHeaderValue,
		STSEndpoint:     p.STSEndpoint,
		IAMEndpoint:     p.IAMEndpoint,
	}
	if err := s.Validate(); err != nil {
		return acl.Settings{}, fmt.Errorf("read the resource's properties: %w", err)
	}
	return s, nil
}
