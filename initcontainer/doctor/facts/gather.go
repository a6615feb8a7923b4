package facts

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"ecsmesh/initcontainer/check"
	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/initcontainer/envoy"
	"ecsmesh/initcontainer/envoy/admin"
	"ecsmesh/initcontainer/redirect"
	"ecsmesh/initcontainer/registration"
	"ecsmesh/initcontainer/taskmeta"
	"ecsmesh/initcontainer/volume"

	"github.com/hashicorp/consul/api"
)

// Budget is how long it may all take. Whoever waits for the answer has other
// things to do, and nothing here takes long where it works.
const Budget = 10 * time.Second

const (
	// logoutTime is kept of the budget for giving a token back.
	logoutTime = 1500 * time.Millisecond

	// metadataTime bounds the questions to ECS's metadata endpoint.
	metadataTime = time.Second

	// parameterTime bounds one reading of a parameter.
	parameterTime = 2 * time.Second

	// portTime bounds what is tried at one port of a server: to connect, TLS,
	// and a question. A server on the same network takes milliseconds.
	portTime = 1500 * time.Millisecond

	// localTime bounds what is tried within the task.
	localTime = 2 * time.Second

	// attemptTime and askTime bound a question to one server, and to all.
	attemptTime = 800 * time.Millisecond
	askTime     = 2 * time.Second

	// loginTime bounds a login, for which Consul asks AWS.
	loginTime = 2500 * time.Millisecond

	// Overdue is how long after its time a token may be renewed before somebody
	// should look why it isn't.
	Overdue = 10 * time.Minute
)

// Source is where facts are gathered from.
type Source struct {
	Volume volume.Volume // on which this program lies, if it lies on one
	Getenv func(string) string
	Now    func() time.Time // nil is time.Now
}

// Gather finds out all it can within the Budget.
func (s Source) Gather(ctx context.Context) Facts {
	if s.Now == nil {
		s.Now = time.Now
	}
	ctx, cancel := context.WithTimeout(ctx, Budget-logoutTime)
	defer cancel()
	g := &gathering{Source: s}
	g.facts.Now = s.Now()
	g.configuration()
	g.state()
	back := g.becomeEnvoy()
	g.volume()
	g.metadata(ctx)
	g.register()

	var work sync.WaitGroup
	work.Go(func() { g.envoy(ctx) })
	work.Go(func() { g.application(ctx) })
	g.servers(ctx)
	if asking, answered := g.openConsul(); answered {
		logout := asking.token(ctx)
		work.Go(func() { asking.registration(ctx) })
		work.Go(func() { asking.upstreams(ctx) })
		work.Wait()
		logout(context.WithoutCancel(ctx))
	}
	work.Wait()
	back()
	return g.facts
}

// gathering is one run.
type gathering struct {
	Source
	facts Facts

	// registered is what the task has in Consul, or is to have; nil where that
	// isn't known.
	registered *registration.Registration
	secured    securing
}

func (g *gathering) configuration() {
	found := &g.facts.Configuration
	if g.Getenv(config.Variable) == "" && g.Getenv(config.LegacyVariable) == "" {
		return
	}
	found.Given = true
	found.Config, found.Err = config.Read(g.Getenv)
}

// configured is the init container's configuration, where this container has it.
func (g *gathering) configured() (config.Config, bool) {
	found := g.facts.Configuration
	return found.Config, found.Given && found.Err == nil
}

// state looks where this program lies and, where there is nothing, where the
// configuration has the volume: the init container's own program isn't on it.
func (g *gathering) state() {
	g.facts.Volume.Path = g.Volume
	task, err := check.ReadTask(g.Volume)
	if cfg, ok := g.configured(); ok && errors.Is(err, fs.ErrNotExist) && cfg.BootstrapDir != string(g.Volume) {
		g.facts.Volume.Path = volume.Volume(cfg.BootstrapDir)
		task, err = check.ReadTask(g.facts.Volume.Path)
	}
	found := &g.facts.State
	if found.Err = err; err != nil {
		found.Missing = errors.Is(err, fs.ErrNotExist)
		return
	}
	found.Task = &task
	found.Memory, found.MemoryErr = check.Remember(g.facts.Volume.Path, task)
}

// becomeEnvoy has root act as Envoy's user where all others' connections are
// redirected to Envoy.
func (g *gathering) becomeEnvoy() (back func()) {
	task := g.facts.State.Task
	if task == nil || task.Registration.Sidecar.Service.Proxy == nil || task.Registration.Sidecar.Service.Proxy.Mode != api.ProxyModeTransparent {
		return func() {}
	}
	user, err := volume.OwnerOf(g.facts.Volume.Path.Task())
	if err == nil && user == os.Geteuid() {
		return func() {}
	}
	var restore func() error
	if err == nil {
		restore, err = redirect.As(user)
	}
	if err != nil {
		g.facts.Redirected = err
		return func() {}
	}
	return func() { _ = restore() } // the program is about to end
}

func (g *gathering) volume() {
	found := &g.facts.Volume
	shared := found.Path
	var room syscall.Statfs_t
	if found.Err = syscall.Statfs(string(shared), &room); found.Err != nil {
		return
	}
	const readOnly = 1 // ST_RDONLY, which Linux says of the mount as of the file system
	found.ReadOnly = room.Flags&readOnly != 0
	found.Free, found.Size = room.Bavail*uint64(room.Bsize), room.Blocks*uint64(room.Bsize)
	found.FreeFiles, found.Files = room.Ffree, room.Files
	if g.facts.State.Task == nil {
		return
	}
	// Whoever runs the health check has to write there.
	found.StateOpen = true
	for _, folder := range shared.Open() {
		info, err := os.Stat(folder)
		if err == nil && info.Mode().Perm() == volume.OpenMode {
			continue
		}
		found.StateOpen, found.Closed = false, folder
		return
	}
}

func (g *gathering) metadata(ctx context.Context) {
	found := &g.facts.Metadata
	endpoint, err := taskmeta.FromEnvironment(g.Getenv)
	if err != nil {
		found.Missing, found.Err = true, err
		return
	}
	ctx, cancel := context.WithTimeout(ctx, metadataTime)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { found.Task, found.Err = endpoint.Task(ctx) })
	work.Go(func() {
		if name, err := endpoint.ContainerName(ctx); err == nil { // else it stays unknown
			found.Container = name
		}
	})
	work.Wait()
	if found.Err == nil {
		found.Address, found.AddrErr = found.Task.Address()
	}
}

// register is what the task has in Consul by what the init container left or,
// without that, what it would register now.
func (g *gathering) register() {
	if task := g.facts.State.Task; task != nil {
		g.registered = &task.Registration
		return
	}
	cfg, ok := g.configured()
	meta := g.facts.Metadata
	if !ok || !meta.Known() || meta.AddrErr != nil {
		return
	}
	if r, err := registration.New(cfg, meta.Task, meta.Address, g.facts.Now); err == nil {
		g.registered = &r
	}
}

func (g *gathering) envoy(ctx context.Context) {
	found := &Envoy{}
	if task := g.facts.State.Task; task != nil {
		found.Admin, found.PublicListener = task.Envoy.Admin, task.Envoy.PublicListener
	} else if cfg, ok := g.configured(); ok {
		found.Admin = net.JoinHostPort(cfg.Proxy.AdminBindAddress, strconv.Itoa(cfg.Proxy.AdminBindPort))
	} else {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, localTime)
	defer cancel()
	found.State, found.Err = admin.Read(ctx, found.Admin)
	if found.State.State != "" {
		found.Part, found.Err = found.Err, nil
	}
	if found.PublicListener != "" {
		found.ListenerErr = dial(ctx, found.PublicListener)
	}
	g.facts.Envoy = found
}

func (g *gathering) application(ctx context.Context) {
	task := g.facts.State.Task
	if task == nil || task.Registration.Service.Service == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, localTime)
	defer cancel()
	found := &g.facts.Application
	var work sync.WaitGroup
	if port := task.Registration.Service.Service.Port; port != 0 {
		host := config.DefaultLocalServiceAddr
		if proxy := task.Registration.Sidecar.Service.Proxy; proxy != nil && proxy.LocalServiceAddress != "" {
			host = proxy.LocalServiceAddress
		}
		found.Port = net.JoinHostPort(host, strconv.Itoa(port))
		work.Go(func() { found.PortErr = dial(ctx, found.Port) })
	}
	var meta *taskmeta.Task
	if g.facts.Metadata.Known() {
		meta = &g.facts.Metadata.Task
	}
	found.Results, found.Err = check.Look(ctx, g.facts.Volume.Path, *task, meta)
	work.Wait()
}

func dial(ctx context.Context, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// source is where the task has the servers' addresses from; false is not known.
func (g *gathering) source() (discovery.Source, bool) {
	if task := g.facts.State.Task; task != nil {
		if task.Agent != nil {
			return task.Agent.Source, true
		}
		return task.Source, true
	}
	cfg, ok := g.configured()
	if !ok {
		return discovery.Source{}, false
	}
	servers := cfg.ConsulServers
	return discovery.Source{Hosts: servers.Hosts, Parameter: servers.Parameter, Region: g.region()}, true
}

func (g *gathering) region() string { return g.facts.Metadata.Task.ARN.Region }

// readAddrs are the servers that Envoy has, by the file that it reads.
func (g *gathering) readAddrs(task *check.Task) []netip.Addr {
	if task.Agent != nil {
		return task.Servers
	}
	if addrs, err := envoy.ReadEndpoints(g.facts.Volume.Path.Servers()); err == nil {
		return addrs
	}
	if len(g.facts.State.Memory.Servers) > 0 {
		return g.facts.State.Memory.Servers
	}
	return task.Servers
}
