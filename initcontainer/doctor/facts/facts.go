// Package facts gathers what can be seen of a task from within one of its
// containers. It judges nothing, changes nothing, and keeps no secret: a token is
// used for questions to Consul, and one that had to be got for them is given back.
package facts

import (
	"net/netip"
	"time"

	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/envoy/admin"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"
)

// Facts are all that was found out. What was not asked, since it has no meaning
// for the task or since what it needs is missing, is nil or zero.
type Facts struct {
	Now time.Time // by this host's clock

	// Redirected is why this user's connections go through the task's Envoy,
	// where that is so: nothing that they meet is certain then.
	Redirected error

	Configuration Configuration
	Metadata      Metadata
	Volume        Volume
	State         State

	Servers      Servers
	Token        Token
	Registration Registration
	Upstreams    []Upstream
	Envoy        *Envoy // nil: it isn't known where its admin interface is
	Application  Application
}

// Configuration is that of the init container, which other containers don't have.
type Configuration struct {
	Given  bool
	Config config.Config
	Err    error // an *config.InvalidError
}

// Metadata is what ECS says of the task.
type Metadata struct {
	Missing   bool // there is no such endpoint: this is no ECS task
	Task      taskmeta.Task
	Container string // in which this runs; "" is not known
	Address   netip.Addr
	AddrErr   error
	Err       error
}

// Known tells whether ECS has said something.
func (m Metadata) Known() bool { return !m.Missing && m.Err == nil }

// Volume is the one that the containers share, as this container sees it.
type Volume struct {
	Path      volume.Volume
	Err       error // of looking at it
	ReadOnly  bool  // in this container
	Free      uint64
	Size      uint64 // bytes, as Free
	FreeFiles uint64 // how many more there can be; meaningless where Files is 0
	Files     uint64

	// StateOpen tells that everybody may write to the folders of what Envoy's
	// health check keeps, of which the first that isn't so is Closed.
	StateOpen bool
	Closed    string
}

// State is what the init container left for the others.
type State struct {
	Task      *check.Task // nil: nothing that can be used
	Missing   bool        // nothing at all
	Err       error
	Memory    check.Memory
	MemoryErr error
}

// Servers are Consul's, or the task's own agent where Agent is set.
type Servers struct {
	Agent     bool
	Parameter *Parameter // nil: the addresses are from elsewhere
	Hosts     []string   // of the configuration, where the addresses are from there
	HostsErr  error
	CA        *CA // nil: none is read from a parameter here
	HTTPPort  int
	GRPCPort  int
	Addrs     []netip.Addr // those that the task uses; none where they are not known

	HTTP []Port // in the order of Addrs, as the following
	GRPC []Port
	TLS  bool // of HTTP
	XDS  bool // TLS of gRPC, as far as it is known
}

// Parameter is SSM's with the addresses of the servers.
type Parameter struct {
	Name  string
	Addrs []netip.Addr
	Err   error
}

// CA is that of the servers, where it is in a parameter.
type CA struct {
	Parameter string
	Err       error
	text      string
}

// Port is one of a server's.
type Port struct {
	Address   string // host:port
	Connected bool
	Err       error // of the connection, of TLS, or of the question

	// The following are of HTTP.
	Status int       // of its answer
	Leader string    // host:port of the server that leads; "" is none
	Date   time.Time // by the server's clock; zero: it didn't say
}

// Answered tells whether a Consul server answered the question who leads.
func (p Port) Answered() bool { return p.Err == nil && p.Status == 200 }

// Token is the task's ACL token, without what is secret of it.
type Token struct {
	Wanted bool  // the task has one, or is to have one
	Held   bool  // the task's own was read
	Err    error // of reading it; of a login see Login
	Source TokenSource

	Login *Login // nil: nobody had to log in

	Asked    bool  // Consul was asked what it is
	AskErr   error // what Consul said instead
	Accessor string
	Expires  time.Time // zero: never
	Services []string  // that it is for, by its service identities
	Policies []string  // with what is given by roles
	Method   string    // by which it was had

	// Rights are those that the task needs, and whether it has them. They are
	// nil where they are not known.
	Rights []Right
}

// TokenSource is where the task has its token from.
type TokenSource struct {
	Method    string // the auth method of logins
	Parameter string // SSM's
}

// Login is one that was made to see whether it works, and given back.
type Login struct {
	Err       error
	LogoutErr error
}

// Right is one that the task's token has to have.
type Right struct {
	Resource, Access, Segment string // service, write, api
	Allowed                   bool   `json:"-"`
}

// Registration is what Consul has of the task.
type Registration struct {
	Asked  bool
	Err    error
	Found  registration.Found
	Damage string // what differs from what was registered; "" is nothing
	Gone   bool   // the node or a part of it is

	Neighbours    []Neighbour // other tasks' nodes with the task's address
	NeighboursErr error

	Roots    []string // serial numbers of the mesh's certificate authorities, as Envoy writes them
	RootsErr error
}

// Neighbour is another task's node that has this task's address.
type Neighbour struct {
	Node    string
	TaskARN string
	Since   time.Time // when it registered; zero: not known
	Distant bool      // it is known to be in another VPC, where the address is another
}

// Upstream is a service that the task calls.
type Upstream struct {
	Name       string
	Elsewhere  string // why the local catalog doesn't know it: "peer x", "datacenter y"; "" where it does
	Err        error
	Instances  int // in the mesh: with a sidecar
	Passing    int
	Outside    int      // instances without a sidecar
	Configured bool     // routes, splits or redirections say where calls go
	Targets    []string // … by the names of Envoy's clusters
	Similar    string   // a service of the catalog with nearly that name

	// Allowed is what the intentions say; PerRequest that they decide by what is
	// in a request.
	Allowed, PerRequest bool
	IntentionErr        error
}

// Envoy is the task's.
type Envoy struct {
	Admin string
	Err   error // it does not answer
	Part  error // it answers, and not all questions
	State admin.State

	PublicListener string // host:port; "" is not known, or there is none
	ListenerErr    error
}

// Application is the service itself.
type Application struct {
	Port    string // host:port; "": it has none
	PortErr error

	Results []check.Result // of the service's checks, now
	Err     error          // what this user may not read of them
}

// Live tells whether Envoy has all of its configuration.
func (e Envoy) Live() bool { return e.State.State == admin.Live }
