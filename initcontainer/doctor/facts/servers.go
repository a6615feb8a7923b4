package facts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"ecsmesh/initcontainer/config"
	"ecsmesh/initcontainer/discovery"
	"ecsmesh/shared/consul"
	"ecsmesh/shared/parameter"
)

// securing is how the servers' interfaces are secured; nil is not at all.
type securing struct {
	http, grpc *tls.Config
	httpTLS    *consul.TLS
}

// servers finds where the servers are, and tries their ports.
func (g *gathering) servers(ctx context.Context) {
	found := &g.facts.Servers
	source, known := g.source()
	var list []netip.Addr
	var reading sync.WaitGroup
	if known {
		reading.Go(func() { list = g.readList(ctx, source) })
	}
	reading.Go(func() { g.secured = g.readSecuring(ctx) })
	reading.Wait()
	switch cfg, ok := g.configured(); {
	case g.facts.State.Task != nil:
		task := g.facts.State.Task
		found.Agent = task.Agent != nil
		found.HTTPPort, found.GRPCPort = task.HTTPPort, task.GRPCPort
		found.Addrs = g.readAddrs(task)
	case ok && cfg.Topology == config.ClientAgent:
		agent := cfg.LocalAgent()
		found.Agent = true
		found.HTTPPort, found.GRPCPort = agent.HTTP.Port, agent.GRPC.Port
		found.Addrs, _ = agent.Addresses() // an IP address, or nothing to ask
	case ok:
		found.HTTPPort, found.GRPCPort = cfg.ConsulServers.HTTP.Port, cfg.ConsulServers.GRPC.Port
		found.Addrs = list
	default:
		return
	}
	if found.CA != nil && found.CA.Err != nil && g.secured.http == nil {
		return // without a CA there is nobody to trust
	}
	g.tryPorts(ctx)
}

// readList reads where the addresses are from, and remembers what came of it.
func (g *gathering) readList(ctx context.Context, source discovery.Source) []netip.Addr {
	ctx, cancel := context.WithTimeout(ctx, parameterTime)
	defer cancel()
	list, err := source.Open()
	var addrs []netip.Addr
	if err == nil {
		addrs, err = list.Read(ctx)
	}
	if len(source.Hosts) > 0 {
		g.facts.Servers.Hosts, g.facts.Servers.HostsErr = source.Hosts, err
	} else {
		g.facts.Servers.Parameter = &Parameter{source.Parameter, addrs, err}
	}
	return addrs
}

// readSecuring finds the CAs: those that the init container has used or, before
// it did, those of its configuration.
func (g *gathering) readSecuring(ctx context.Context) securing {
	var http, grpc *consul.TLS
	if task := g.facts.State.Task; task != nil {
		http = task.TLS
		grpc = g.bootstrapTLS()
		if task.Agent != nil {
			http, grpc = nil, nil // within the task
		}
	} else if cfg, ok := g.configured(); ok && cfg.Topology != config.ClientAgent {
		http = g.configuredTLS(ctx, cfg.ConsulServers.HTTP.TLS)
		grpc = g.configuredTLS(ctx, cfg.ConsulServers.GRPC.TLS)
	}
	found := securing{httpTLS: http}
	g.facts.Servers.TLS, g.facts.Servers.XDS = http != nil, grpc != nil
	for _, each := range []struct {
		from *consul.TLS
		into **tls.Config
	}{{http, &found.http}, {grpc, &found.grpc}} {
		secured, err := each.from.Config()
		if err != nil || secured == nil {
			continue // of a CA that can't be used, CA.Err says more
		}
		secured.Time = g.Now
		*each.into = secured
	}
	return found
}

func (g *gathering) configuredTLS(ctx context.Context, configured *config.TLS) *consul.TLS {
	if configured == nil {
		return nil
	}
	ca := configured.CA
	if name := configured.CAParameter; ca == "" {
		known := g.facts.Servers.CA
		if known == nil || known.Parameter != name {
			text, err := g.readCA(ctx, name)
			if known == nil || known.Err == nil { // of two faults, the first is shown
				g.facts.Servers.CA = &CA{name, err, text}
			}
			ca = text
		} else {
			ca = known.text // once is enough
		}
	}
	return &consul.TLS{CA: ca, ServerName: configured.ServerName}
}

func (g *gathering) readCA(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, parameterTime)
	defer cancel()
	text, err := g.readParameter(ctx, name, g.region())
	if err != nil {
		return "", err
	}
	ca, err := consul.Certificates(text)
	if err != nil {
		return "", fmt.Errorf("read the CA in SSM parameter %s: %w", name, err)
	}
	return ca, nil
}

func (g *gathering) readParameter(ctx context.Context, name, region string) (string, error) {
	sdk, err := discovery.AWS(region)
	if err != nil {
		return "", err
	}
	return parameter.Read(ctx, parameter.NewStore(sdk), name)
}

// bootstrapTLS is what Envoy, or consul-dataplane, knows the servers by.
func (g *gathering) bootstrapTLS() *consul.TLS {
	shared := g.facts.Volume.Path
	if content, err := os.ReadFile(shared.Dataplane()); err == nil {
		var dataplane struct {
			Consul struct {
				TLS struct {
					CA         string `json:"caCertsPath"`
					ServerName string `json:"serverName"`
				} `json:"tls"`
			} `json:"consul"`
		}
		ca, unreadable := os.ReadFile(shared.CA())
		if json.Unmarshal(content, &dataplane) != nil || dataplane.Consul.TLS.CA == "" || unreadable != nil {
			return nil
		}
		return &consul.TLS{CA: string(ca), ServerName: dataplane.Consul.TLS.ServerName}
	}
	var bootstrap struct {
		Static struct {
			Clusters []struct {
				Socket *struct {
					Config struct {
						SNI    string `json:"sni"`
						Common struct {
							Validation struct {
								CA struct {
									Inline string `json:"inline_string"`
								} `json:"trusted_ca"`
							} `json:"validation_context"`
						} `json:"common_tls_context"`
					} `json:"typed_config"`
				} `json:"transport_socket"`
			} `json:"clusters"`
		} `json:"static_resources"`
	}
	content, err := os.ReadFile(shared.Bootstrap())
	if err != nil || json.Unmarshal(content, &bootstrap) != nil || len(bootstrap.Static.Clusters) == 0 || bootstrap.Static.Clusters[0].Socket == nil {
		return nil
	}
	secured := bootstrap.Static.Clusters[0].Socket.Config
	return &consul.TLS{CA: secured.Common.Validation.CA.Inline, ServerName: secured.SNI}
}

// tryPorts tries both ports of every server, all at once.
func (g *gathering) tryPorts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, portTime)
	defer cancel()
	found := &g.facts.Servers
	found.HTTP, found.GRPC = make([]Port, len(found.Addrs)), make([]Port, len(found.Addrs))
	var trying sync.WaitGroup
	for i, addr := range found.Addrs {
		trying.Go(func() {
			found.HTTP[i] = tryPort(ctx, addr, found.HTTPPort, g.secured.http, nil)
			port := &found.HTTP[i]
			switch {
			case port.Err == nil:
				askLeader(ctx, port, g.secured.http)
			case outOfTime(port.Err):
				readClock(ctx, port)
			}
		})
		trying.Go(func() { found.GRPC[i] = tryPort(ctx, addr, found.GRPCPort, withHTTP2(g.secured.grpc), greet) })
	}
	trying.Wait()
}

// withHTTP2 has a server of gRPC go on after the handshake.
func withHTTP2(secured *tls.Config) *tls.Config {
	if secured == nil {
		return nil
	}
	secured = secured.Clone()
	secured.NextProtos = []string{"h2"}
	return secured
}

// tryPort connects as ecsmesh and Envoy do, and then may say something.
func tryPort(ctx context.Context, addr netip.Addr, number int, secured *tls.Config, say func(net.Conn) error) Port {
	port := Port{Address: net.JoinHostPort(addr.String(), strconv.Itoa(number))}
	var conn net.Conn
	if conn, port.Err = (&net.Dialer{}).DialContext(ctx, "tcp", port.Address); port.Err != nil {
		return port
	}
	defer conn.Close()
	port.Connected = true
	if end, bounded := ctx.Deadline(); bounded {
		_ = conn.SetDeadline(end) // of a connection that is open
	}
	if secured != nil {
		secured = secured.Clone()
		if secured.ServerName == "" {
			secured.ServerName = addr.String() // which VerifyConnection doesn't look at
		}
		safe := tls.Client(conn, secured)
		if port.Err = safe.HandshakeContext(ctx); port.Err != nil {
			return port
		}
		conn = safe
	}
	if say != nil {
		port.Err = say(conn)
	}
	return port
}

// greet begins HTTP/2, in which gRPC travels, and waits for the server to do so,
// too: both begin with their settings. Who accepts connections may still not be
// there.
func greet(conn net.Conn) error {
	const (
		preface    = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		noSettings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // length, type, flags, stream
	)
	if _, err := io.WriteString(conn, preface+noSettings); err != nil {
		return err
	}
	var frame [len(noSettings)]byte
	if _, err := io.ReadFull(conn, frame[:]); err != nil {
		return err
	}
	if frame[3] != noSettings[3] {
		return errors.New("it does not speak HTTP/2, and so no gRPC")
	}
	return nil
}

// askLeader asks a server who leads, as anybody may, and for the time.
func askLeader(ctx context.Context, port *Port, secured *tls.Config) {
	answer, err := ask(ctx, http.MethodGet, port.Address, "/v1/status/leader", secured, "", nil)
	if err != nil {
		port.Err = err
		return
	}
	port.Status = answer.status
	port.Date, _ = http.ParseTime(answer.date)
	if answer.status == http.StatusOK {
		_ = json.Unmarshal(answer.body, &port.Leader) // "" is none
	}
}

// outOfTime tells whether a certificate isn't valid now, which may be this host's
// fault.
func outOfTime(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.Expired
}

// readClock asks a server that can't be trusted for the time, and for nothing else.
func readClock(ctx context.Context, port *Port) {
	anybody := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // nothing is told, and the time is no secret
	if answer, err := ask(ctx, http.MethodGet, port.Address, "/v1/status/leader", anybody, "", nil); err == nil {
		port.Date, _ = http.ParseTime(answer.date) // zero is not known
	}
}

type answer struct {
	status int
	date   string
	body   []byte
}

// ask is one request to one server, for what Consul's client can't ask.
func ask(ctx context.Context, method, address, path string, secured *tls.Config, token string, body io.Reader) (answer, error) {
	scheme := "http"
	if secured != nil {
		scheme = "https"
	}
	request, err := http.NewRequestWithContext(ctx, method, scheme+"://"+address+path, body)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		request.Header.Set("X-Consul-Token", token)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: secured, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	const largest = 1 << 20
	content, err := io.ReadAll(io.LimitReader(response.Body, largest))
	return answer{response.StatusCode, response.Header.Get("Date"), content}, err
}
