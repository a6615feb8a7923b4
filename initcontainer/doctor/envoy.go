package doctor

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"ecsmesh/initcontainer/doctor/facts"
	"ecsmesh/initcontainer/envoy/admin"
)

// newestNeeded is the Envoy that ACL tokens need: its minor version of 1.
const newestNeeded = 34

// expiringShare is the part of a certificate's life, one in so many, that is left
// when somebody should look why Consul has not sent another: it does when six to
// nine tenths are over.
const expiringShare = 10

func (e *examination) envoy() {
	found := e.Envoy
	if found == nil {
		e.unknown("nothing here says where its admin interface is")
		return
	}
	if found.Err != nil {
		// One that isn't registered yet can't start.
		do := "look at the log of Envoy's container: it says why it ended, or waits for the init container"
		if e.Token.Wanted {
			do += ". With ACL tokens it has to be 1.34 or newer"
		}
		e.wrong(EnvoyDown, fmt.Sprintf("its admin interface at %s: %s", found.Admin, innermost(found.Err)), do)
		return
	}
	if found.Part != nil {
		e.unknown("%s", found.Part)
	}
	state := found.State
	e.version()
	e.stream()
	switch {
	case state.State == admin.Draining:
		e.wrong(EnvoyDraining, "it was told to fail its health checks, so its own check in Consul is critical",
			"see who did: POST /healthcheck/fail at "+found.Admin+", as a script that stops a task may; POST /healthcheck/ok there takes it back")
	case !found.Live():
		e.wrong(EnvoyWaits, fmt.Sprintf("it is %s since %s", state.State, about(state.Uptime)), "it waits for its listeners and clusters from Consul: see the log of Envoy's container, and of the Consul servers for this proxy's ID")
	}
	e.listener()
	e.certificates()
	if state.Refused > 0 {
		e.ok("it turned %d connections or requests of others away, as intentions have it", state.Refused)
	}
}

func (e *examination) version() {
	state := e.Envoy.State
	parts := strings.Split(state.Version, ".")
	if e.Token.Wanted && len(parts) > 1 && parts[0] == "1" {
		if minor, err := strconv.Atoi(parts[1]); err == nil && minor < newestNeeded && !e.dataplane() {
			e.wrong(EnvoyTooOld, "it is "+state.Version+", and ACL tokens need 1.34 or newer", "take a newer image for Envoy's container")
			return
		}
	}
	e.ok("version %s is %s since %s, with %d listeners and %d clusters", state.Version, state.State, about(state.Uptime), len(state.Listeners), len(state.Clusters))
}

// dataplane tells whether consul-dataplane stands between Envoy and Consul, which
// hands in the token.
func (e *examination) dataplane() bool {
	return !slices.ContainsFunc(e.Envoy.State.Clusters, func(c admin.Cluster) bool { return c.Name == serversCluster })
}

func (e *examination) stream() {
	stream := e.Envoy.State.Stream
	updated := "it never had an update"
	if !stream.Updated.IsZero() {
		updated = "the last update was " + e.ago(stream.Updated)
	}
	switch {
	case stream.Connected && stream.Updated.IsZero():
		e.ok("it is connected to Consul, which has sent nothing yet")
	case stream.Connected:
		e.ok("it is connected to Consul; %s", updated)
	case stream.Known:
		e.wrong(EnvoyDisconnected, fmt.Sprintf("%s; %d attempts have failed", updated, stream.Failures), "see the log of Envoy's container, which has Consul's words: a token that it refuses, or a server that takes no more streams. Requests go on with the configuration that there is")
	}
	for _, rejected := range e.Envoy.State.Rejected {
		e.wrong(EnvoyRejects, rejected, "correct what the words above name: proxy.config, or a configuration entry of Consul's; an address that is taken is another program's in this task")
	}
}

func (e *examination) listener() {
	found := e.Envoy
	switch {
	case found.PublicListener == "":
	case found.ListenerErr == nil:
		e.ok("its public listener %s is open", found.PublicListener)
	default:
		fact := fmt.Sprintf("%s: %s", found.PublicListener, innermost(found.ListenerErr))
		do := "see who closed it: POST /drain_listeners at " + found.Admin + " does, and nothing takes that back, so replace the task"
		if !slices.ContainsFunc(found.State.Listeners, func(l admin.Listener) bool { return l.Address == found.PublicListener }) {
			fact += "; Consul has sent no such listener"
			do = "see whether Consul can sign certificates (consul connect ca get-config) and has this proxy in its catalog; the log of the servers names the proxy"
		}
		e.wrong(ListenerClosed, fact, do)
	}
}

func (e *examination) certificates() {
	var known []string
	leaf := false
	for _, certificate := range e.Envoy.State.Certificates {
		if certificate.Authority {
			known = append(known, facts.Serial(certificate.Serial))
			continue
		}
		leaf = true
		e.leaf(certificate)
	}
	roots := e.Registration.Roots
	if !leaf || len(roots) == 0 {
		return
	}
	if slices.ContainsFunc(roots, func(root string) bool { return slices.Contains(known, root) }) {
		e.ok("it trusts the mesh's certificate authority that Consul has")
		return
	}
	e.wrong(RootReplaced, fmt.Sprintf("it trusts %s, and Consul has %s", strings.Join(known, ", "), strings.Join(roots, ", ")),
		"let Envoy reach Consul, which sends the new ones; tasks that have them can't call those that don't")
}

func (e *examination) leaf(certificate admin.Certificate) {
	whose := strings.Join(certificate.URIs, ", ")
	life, left := certificate.Until.Sub(certificate.From), certificate.Until.Sub(e.Now)
	const do = "let Envoy reach Consul, which sends another one long before the end: see whether it is connected, and whether Consul can sign (consul connect ca get-config)"
	switch {
	case left <= 0:
		e.wrong(CertificateExpired, fmt.Sprintf("that of %s ended %s", whose, e.ago(certificate.Until)), do)
	case e.Now.Before(certificate.From):
		e.wrong(ClockWrong, fmt.Sprintf("the certificate of %s is valid only %s", whose, e.in(certificate.From)), "set the clock of the EC2 instance right, or that of the Consul servers")
	case left < life/expiringShare:
		e.wrong(CertificateExpiring, fmt.Sprintf("that of %s ends %s", whose, e.in(certificate.Until)), do)
	default:
		e.ok("its certificate of %s ends %s", whose, e.in(certificate.Until))
	}
}

// serversCluster is Envoy's name for the Consul servers, where it reaches them
// itself.
const serversCluster = "consul_servers"

// clusterOf is the service of a cluster, by the name that Consul gives it.
func clusterOf(name, service string) bool {
	_, after, found := strings.Cut(name, "~") // a chain of its own
	if !found {
		after = name
	}
	return strings.HasPrefix(after, service+".")
}

// port is the port of host:port.
func port(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return port
}
