// Package meshtask turns a plain task definition into that of a mesh task.
package meshtask

import (
	"errors"

	"go.yaml.in/yaml/v3"
)

// Form is how a task definition is written down.
type Form int

const (
	// CloudFormation has names such as ContainerDefinitions, and values may be
	// intrinsic functions: maps such as {Ref: X} or {Fn::Sub: …}, or short tags.
	CloudFormation Form = iota
	// API has names such as containerDefinitions, as the input of
	// register-task-definition and the output of describe-task-definition.
	API
)

// Defaults are what a block needn't say, since it is the same for all tasks of a
// stack. Empty texts leave it to the block, or to ecsmesh-init's own defaults.
type Defaults struct {
	InitImage      string // of ecsmesh-init; must come from here or from the block
	EnvoyImage     string // "" is DefaultEnvoyImage
	ConsulImage    string // of the topology client-agent; "" is DefaultConsulImage
	DataplaneImage string // of the topology dataplane; "" is DefaultDataplaneImage

	ServersParameter string // "" is /ecsmesh/consul-servers

	TLS           bool   // to the Consul servers
	CAParameter   string // SSM parameter with the CA of their certificates
	CASecretARN   string // the secret behind it, where it is one in Secrets Manager
	TLSServerName string

	Login         bool // to Consul, by the task's role
	LoginMethod   string
	LoginServerID string
	STSEndpoint   string
}

// Images that are taken where nobody names others: those of examples.
const (
	DefaultEnvoyImage     = "envoyproxy/envoy:v1.34.1"
	DefaultConsulImage    = "hashicorp/consul:1.21.5"
	DefaultDataplaneImage = "hashicorp/consul-dataplane:1.6.7"
)

// Statement is one of an IAM policy: what the task role has to allow.
type Statement struct {
	Sid    string // letters and digits, unique among those of a Result
	Action string
	// Resource are ARNs: strings, or in the form CloudFormation also intrinsic
	// functions as maps, such as {"Fn::Sub": "arn:${AWS::Partition}:…"}. In the
	// form API, REGION and ACCOUNT stand for what the definition doesn't tell.
	Resource []any
	// TaskRole is set where the role itself is the resource. Resource is empty
	// then, since whoever has the template knows the role's ARN.
	TaskRole  bool
	Condition map[string]any // nil is none
}

// Tag is one that the task role must have: with login, Consul reads from it as
// what a task may register.
type Tag struct {
	Key   string
	Value any // a string, or in the form CloudFormation also an intrinsic function as a map
}

// Result is what Expand found beside the task definition.
type Result struct {
	Statements []Statement // what the task role has to allow
	RoleTags   []Tag       // which tags it must have; none without login
	// RoleIsReady is the block's `taskRole: NONE`: whoever wrote it says that the
	// role allows the Statements and has the RoleTags.
	RoleIsReady bool
	Notes       []string // what whoever deploys it should know, a sentence each
}

// Expand turns a task definition's properties, in place, into those of a mesh
// task, as the block has it: the value of Metadata: EcsMesh. Doing so again
// changes nothing. parameters are the values of a template's parameters, to look
// at what a Ref gives; nil where they aren't known. The error has every fault,
// each with its path in the definition or in the block, and properties are as
// they were then.
func Expand(properties, block *yaml.Node, form Form, defaults Defaults, parameters map[string]any) (Result, error) {
	_, _, _, _, _ = properties, block, form, defaults, parameters
	return Result{}, errors.New("expand the task definition: nothing is done yet")
}
