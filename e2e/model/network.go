package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"ecsmesh/e2e/consultest"
	"ecsmesh/shared/consul"

	"github.com/hashicorp/consul/api"
)

// front is how one of ours reaches Consul. That each has one of its own tells
// whose request it is.
type front struct {
	server  *httptest.Server
	addr    netip.AddrPort
	process atomic.Pointer[process] // the one at work behind it
}

func (m *model) newFront() *front {
	f := &front{}
	f.server = unshared(func(w http.ResponseWriter, r *http.Request) { m.serve(f, w, r) })
	f.addr = netip.MustParseAddrPort(f.server.Listener.Addr().String())
	m.fronts = append(m.fronts, f)
	return f
}

// busy tells whether one of ours is at work behind it.
func (f *front) busy() bool { return f.process.Load() != nil }

// addrs are two servers, both of them the same one: after a failure the other is
// tried at once, and only after both there is a pause, which takes real time.
func (f *front) addrs() []netip.Addr { return []netip.Addr{f.addr.Addr(), f.addr.Addr()} }

func (m *model) servers(f *front) *consul.Servers {
	servers, err := consul.NewServers(f.addrs(), consul.Options{Port: int(f.addr.Port())})
	if err != nil {
		m.fail("%v", err)
	}
	return servers
}

// request is one to Consul.
type request struct {
	method, path string
	header       http.Header
	body         []byte
}

func (c *call) changes() bool { return c.request != nil && c.request.method != http.MethodGet }

// serve takes a process's request and does with it what the run decides. Every
// fault is Consul's answer that it has no leader: what can be said of a
// connection that breaks depends on the moment, and this doesn't.
func (m *model) serve(f *front, w http.ResponseWriter, r *http.Request) {
	p := f.process.Load()
	body, err := io.ReadAll(r.Body)
	if p == nil || err != nil {
		http.Error(w, "nobody is at work here", http.StatusInternalServerError)
		return
	}
	c := &call{process: p, request: &request{r.Method, r.URL.RequestURI(), r.Header, body}}
	c.what = c.request.describe()
	fate := p.ask(c, m.over)
	defer func() {
		c.gaveUp = r.Context().Err() != nil
		close(c.done)
	}()
	var (
		answer *http.Response
		text   []byte
	)
	if fate.arrives() {
		if answer, text, err = m.pass(c.request); err != nil {
			m.t.Errorf("%s: %v", c.what, err)
		}
	}
	if fate != carryOut || err != nil {
		http.Error(w, "No cluster leader", http.StatusInternalServerError)
		return
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(text) // who asked may have given up
}

// pass passes a request on to Consul.
func (m *model) pass(r *request) (*http.Response, []byte, error) {
	host := net.JoinHostPort(m.consul.Addr.String(), strconv.Itoa(consultest.HTTPPort))
	request, err := http.NewRequest(r.method, "http://"+host+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, nil, err
	}
	request.Header = r.header
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer, text, err
}

// describe says in short what a request is.
func (r *request) describe() string {
	path, _, _ := strings.Cut(r.path, "?")
	switch path {
	case "/v1/txn":
		var (
			ops  api.TxnOps
			says []string
		)
		_ = json.Unmarshal(r.body, &ops) // what can't be read says nothing
		for _, op := range ops {
			switch {
			case op.Node != nil:
				says = append(says, fmt.Sprintf("%s %s", op.Node.Verb, op.Node.Node.Node))
			case op.Check != nil:
				says = append(says, fmt.Sprintf("%s %s of %s %s", op.Check.Verb, op.Check.Check.CheckID, op.Check.Check.Node, op.Check.Check.Status))
			}
		}
		return fmt.Sprintf("txn [%s]", strings.Join(says, ", "))
	case "/v1/catalog/register":
		var registration api.CatalogRegistration
		_ = json.Unmarshal(r.body, &registration)
		return fmt.Sprintf("register %s with %s", registration.Node, registration.Service.ID)
	case "/v1/catalog/deregister":
		var gone api.CatalogDeregistration
		_ = json.Unmarshal(r.body, &gone)
		return "deregister " + gone.Node
	}
	return r.method + " " + path
}
