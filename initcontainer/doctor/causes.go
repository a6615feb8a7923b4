package doctor

// Cause is something that can be wrong. Causes come before what follows from
// them: of several, the first is the one to mend.
type Cause int

// The causes, in the order in which they explain each other.
const (
	none Cause = iota

	ConfigurationInvalid
	TaskStopping
	AddressMissing
	VolumeMissing
	VolumeFull
	VolumeUnwritable
	MetadataMissing
	MetadataSilent

	// What a task needs of AWS.
	CredentialsMissing
	ListForbidden
	ListMissing
	ListUnusable
	ListUnread
	HostsUnresolved
	CAUnread

	// The servers' HTTP interface.
	AgentUnreachable
	ServersUnreachable
	ClockWrong
	TLSMissing
	TLSUnwanted
	CAWrong
	ServerNameWrong
	ServerCertificateInvalid
	ConsulFails
	LeaderMissing

	// The ACL token.
	TokenUnreadable
	MethodUnknown
	LoginRefused
	LoginFails
	TokenMissing
	OtherService
	HealthCheckIdle
	TokenUnknown
	RightsMissing
	TokenNotRenewed

	// What the init container left, and Consul has.
	StateMissing
	StateUnusable
	AddressTaken
	Drained
	TaskUnregistered
	RegistrationDamaged

	// Envoy.
	XDSUnreachable
	EnvoyDown
	EnvoyTooOld
	EnvoyRejects
	EnvoyDisconnected
	CertificateExpired
	RootReplaced
	EnvoyDraining
	EnvoyWaits
	ListenerClosed
	CertificateExpiring

	// The service, and what it calls.
	PortClosed
	CheckFails
	ContainerUnhealthy
	ConsulUntold
	UpstreamUnknown
	UpstreamUnhealthy
	UpstreamForbidden

	causes // how many there are
)

// String is what is wrong, in the words of the runbook's heading.
func (c Cause) String() string { return words[c] }

// words are short, and never change with what was found.
var words = [causes]string{ //nolint:gosec // they name credentials, and are none
	ConfigurationInvalid: "the configuration is invalid",
	TaskStopping:         "ECS is stopping the task",
	AddressMissing:       "the task has no address of its own",
	VolumeMissing:        "the shared volume can't be looked at",
	VolumeFull:           "the shared volume is full",
	VolumeUnwritable:     "the shared volume can't be written to",
	MetadataMissing:      "there is no task metadata endpoint",
	MetadataSilent:       "the task metadata endpoint does not answer",

	CredentialsMissing: "there are no AWS credentials",
	ListForbidden:      "the task may not read the list of Consul servers",
	ListMissing:        "there is no list of Consul servers",
	ListUnusable:       "the list of Consul servers can't be used",
	ListUnread:         "the list of Consul servers can't be read",
	HostsUnresolved:    "the names of the Consul servers can't be resolved",
	CAUnread:           "the CA of the Consul servers can't be read",

	AgentUnreachable:         "the task's Consul client can't be reached",
	ServersUnreachable:       "no Consul server can be reached",
	ClockWrong:               "the clock is wrong",
	TLSMissing:               "the Consul servers speak no TLS",
	TLSUnwanted:              "the Consul servers want TLS",
	CAWrong:                  "the Consul servers' certificates are of another CA",
	ServerNameWrong:          "the Consul servers' certificates have another name",
	ServerCertificateInvalid: "the Consul servers' certificates are not valid",
	ConsulFails:              "Consul does not answer as it should",
	LeaderMissing:            "Consul has no leader",

	TokenUnreadable: "the ACL token can't be read",
	MethodUnknown:   "Consul has no such auth method",
	LoginRefused:    "Consul refuses the login",
	LoginFails:      "the login to Consul fails",
	TokenMissing:    "Consul wants an ACL token, and the task has none",
	OtherService:    "the ACL token is for another service",
	HealthCheckIdle: "Envoy's health check does not run",
	TokenUnknown:    "Consul does not know the ACL token",
	RightsMissing:   "the ACL token lacks rights",
	TokenNotRenewed: "the ACL token is not renewed",

	StateMissing:        "the init container has not registered the task",
	StateUnusable:       "what the init container left can't be used",
	AddressTaken:        "another node has the task's address",
	Drained:             "the task is drained",
	TaskUnregistered:    "the task is not in Consul's catalog",
	RegistrationDamaged: "Consul has another registration of the task",

	XDSUnreachable:      "no Consul server can be reached at the xDS port",
	EnvoyDown:           "Envoy does not run",
	EnvoyTooOld:         "Envoy is too old",
	EnvoyRejects:        "Envoy rejects its configuration",
	EnvoyDisconnected:   "Envoy has no connection to Consul",
	CertificateExpired:  "Envoy's certificate has expired",
	RootReplaced:        "Envoy trusts another certificate authority than Consul has",
	EnvoyDraining:       "Envoy is draining",
	EnvoyWaits:          "Envoy waits for its configuration",
	ListenerClosed:      "Envoy's public listener is not open",
	CertificateExpiring: "Envoy's certificate is about to expire",

	PortClosed:         "the application's port is not open",
	CheckFails:         "a check of the service fails",
	ContainerUnhealthy: "a container is not healthy",
	ConsulUntold:       "Consul was not told that the task is healthy",
	UpstreamUnknown:    "there is no such upstream service",
	UpstreamUnhealthy:  "an upstream service has no healthy instance",
	UpstreamForbidden:  "an intention denies the call of an upstream service",
}
