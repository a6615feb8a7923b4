package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Check is one of the service's health checks; exactly one of TCP, HTTP and
// GRPC is set. It is kept on the shared volume as JSON, for the runs of check.
type Check struct {
	Name          string
	TCP           string              `json:",omitempty"` // host:port
	HTTP          string              `json:",omitempty"` // URL
	GRPC          string              `json:",omitempty"` // host:port or host:port/service
	Method        string              `json:",omitempty"` // of HTTP
	Header        map[string][]string `json:",omitempty"` // of HTTP
	Body          string              `json:",omitempty"` // of HTTP
	TLSSkipVerify bool                `json:",omitempty"` // of HTTP with https://
	Timeout       time.Duration
}

// httpToken is what HTTP allows for methods and the names of headers (RFC 9110).
var httpToken = pattern("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

var checkName = pattern(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// withoutUser is a URL, which need not be a good one, with "…" in the place of
// its user and password.
func withoutUser(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	scheme, _, found := strings.Cut(address[:at], "//")
	if !found {
		return "…" + address[at:]
	}
	return scheme + "//…" + address[at:]
}

// Shown is the URL of HTTP as everybody may read it, in Consul and in logs: without
// a user, a password and what is asked for, each of which may be a secret.
func (c Check) Shown() string {
	u, err := url.Parse(c.HTTP)
	if err != nil || u.User == nil && u.RawQuery == "" {
		return c.HTTP
	}
	query := ""
	if u.RawQuery != "" {
		query = "?…"
	}
	u.User, u.RawQuery = nil, ""
	return u.String() + query
}

// Private tells whether a check has what is for Envoy's user alone. A query is not:
// most have no secret, and the task's other containers may know it.
func (c Check) Private() bool {
	u, err := url.Parse(c.HTTP)
	return len(c.Header) > 0 || c.Body != "" || err == nil && u.User != nil
}

// longestCheck is the most that ECS lets Envoy's health check take, within
// which all of the service's checks run.
const longestCheck = 60 * time.Second

func readCheck(d *document) Check {
	check := Check{
		Name:          d.text("name", ""),
		TCP:           d.text("tcp", ""),
		HTTP:          d.text("http", ""),
		GRPC:          d.text("grpc", ""),
		Method:        d.text("method", ""),
		Body:          d.text("body", ""),
		TLSSkipVerify: d.boolean("tlsSkipVerify", false),
		Timeout:       d.duration("timeout", DefaultCheckTimeout, longestCheck),
	}
	if !checkName().MatchString(check.Name) {
		d.fault("name", show(check.Name), "want a name of letters, digits, ., - and _: it ends the check's ID in Consul")
	}
	if header := d.object("header"); header != nil {
		header.hides = true // Authorization among them
		check.Header = map[string][]string{}
		for _, name := range header.names() {
			check.Header[name] = header.texts(name)
		}
	}
	kinds := 0
	for _, target := range []string{check.TCP, check.HTTP, check.GRPC} {
		if target != "" {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		d.report.faults = append(d.report.faults, Fault{Path: d.path, Found: fmt.Sprintf("%d of tcp, http and grpc", kinds), Want: "want exactly one of them"})
	case check.TCP != "":
		d.hostPort("tcp", check.TCP)
	case check.GRPC != "":
		target, _, _ := strings.Cut(check.GRPC, "/")
		d.hostPort("grpc", target)
	default:
		u, err := url.Parse(check.HTTP)
		if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.Port() != "" && !isPort(u.Port()) {
			d.fault("http", show(withoutUser(check.HTTP)), "want a URL such as http://127.0.0.1:8080/health")
		}
	}
	if check.Method != "" && !httpToken().MatchString(check.Method) {
		d.fault("method", show(check.Method), "want an HTTP method such as GET or POST")
	}
	for name := range check.Header {
		if !httpToken().MatchString(name) {
			d.fault("header", show(name), "want the names of HTTP headers")
		}
	}
	if check.HTTP == "" {
		for _, name := range []string{"method", "header", "body", "tlsSkipVerify"} {
			if d.has(name) {
				d.fault(name, show(d.fields[name]), "it goes with http only; remove it")
			}
		}
	}
	d.refuseOlder(olderCheckFields)
	d.end()
	return check
}

func defaultCheck(cfg Config) Check {
	return Check{
		Name:    "tcp",
		TCP:     net.JoinHostPort(cfg.Proxy.LocalServiceAddress, strconv.Itoa(cfg.Service.Port)),
		Timeout: DefaultCheckTimeout,
	}
}

// initContainer has exited by the time at which containers' health counts.
const initContainer = "ecsmesh-init"

// readHealthSyncContainers reads names of containers, whose checks must not
// have the IDs of the service's own.
func readHealthSyncContainers(root *document, checks []Check) []string {
	taken := map[string]string{}
	for i, check := range checks {
		taken[check.Name] = fmt.Sprintf("service.checks[%d]", i)
	}
	names := root.texts("healthSyncContainers")
	for i, name := range names {
		field := fmt.Sprintf("healthSyncContainers[%d]", i)
		switch {
		case !checkName().MatchString(name):
			root.fault(field, show(name), "want the name of a container of the task definition that has a health check")
		case name == initContainer:
			root.fault(field, show(name), "remove it: the init container exits, and is never healthy")
		case taken[name] != "":
			root.fault(field, show(name), "want a name of its own: "+taken[name]+" has the same")
		}
		taken[name] = field
	}
	return names
}
