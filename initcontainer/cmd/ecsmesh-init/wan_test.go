package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/consultest"
)

// publicAddress plays EC2, which throttles at first.
func publicAddress(t *testing.T, status int, body string) (url string) {
	t.Helper()
	var asked atomic.Int32
	ec2 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>")
			return
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(ec2.Close)
	return ec2.URL
}

func TestAGatewayIsKnownByItsPublicAddress(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		code   int
		want   string // the WAN address, or part of the log's last line
	}{
		"found": {200, `<DescribeNetworkInterfacesResponse><networkInterfaceSet><item><privateIpAddressesSet><item><privateIpAddress>10.0.1.5</privateIpAddress>
			<association><publicIp>198.51.100.7</publicIp></association></item></privateIpAddressesSet></item></networkInterfaceSet></DescribeNetworkInterfacesResponse>`, 0, "198.51.100.7"},
		"denied":      {403, "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>", 1, "give the task role ec2:DescribeNetworkInterfaces"},
		"out of time": {500, "", 1, "gave up after 4s"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.env["AWS_ENDPOINT_URL"] = publicAddress(t, test.status, test.body)
			w.configure(fmt.Sprintf(`"consulServers": {"hosts": %q, "defaults": {"tls": false}}, "gateway": {"kind": "mesh-gateway", "name": "edge", "wanAddress": {"source": "public-ip", "port": 443}}`, w.consul.Addr))
			code, log := w.register(t, "-timeout=4s")
			if code != test.code {
				t.Fatalf("exit %d:\n%s", code, log)
			}
			if code != 0 {
				if nodes := w.nodes(t); !strings.Contains(lastLine(log), test.want) || len(nodes) > 0 {
					t.Errorf("nodes %v, the log is\n%s", nodes, log)
				}
				return
			}
			instances, _, err := w.consul.Client.Catalog().Service("edge", "", nil)
			if err != nil || len(instances) != 1 {
				t.Fatalf("%+v, %v", instances, err)
			}
			got := instances[0].ServiceTaggedAddresses
			if got["wan"] != (api.ServiceAddress{Address: test.want, Port: 443}) || got["lan"] != (api.ServiceAddress{Address: "10.0.1.5", Port: 8443}) {
				t.Errorf("the addresses are %+v", got)
			}
		})
	}
}

// TestAMeshGatewayBehindAName has another cluster reach a gateway by the name of
// a load balancer alone.
func TestAMeshGatewayBehindAName(t *testing.T) {
	west, east := consultest.StartPeer(t), consultest.StartPeer(t)
	peer(t, west, east)
	configure(t, east, `{"Kind": "exported-services", "Name": "default", "Services": [{"Name": "api", "Consumers": [{"Peer": "west"}]}]}`)
	startService(t, east, "api", "")
	balancer, passed := balance(t)
	gateway := startGateway(t, east, "mesh-gateway", fmt.Sprintf(`, "wanAddress": {"address": "localhost", "port": %d}`, balancer.port))
	balancer.to.Store(net.JoinHostPort(gateway.address, "8443"))
	startGateway(t, west, "mesh-gateway", "")
	web := startService(t, west, "web", `"destinationName": "api", "destinationPeer": "east", "meshGateway": {"mode": "local"}`)
	awaitAnswer(t, "http://"+web.address+":9001/", "api")
	if passed.Load() == 0 {
		t.Error("nothing passed the load balancer")
	}
}

// loadBalancer passes connections on.
type loadBalancer struct {
	port int
	to   atomic.Value
}

// balance starts a load balancer at localhost, and counts what passes it.
func balance(t *testing.T) (*loadBalancer, *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	balancer, passed := &loadBalancer{port: listener.Addr().(*net.TCPAddr).Port}, &atomic.Int32{}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			target, _ := balancer.to.Load().(string)
			to, err := net.Dial("tcp", target)
			if err != nil {
				_ = from.Close()
				continue
			}
			passed.Add(1)
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			go pass(to, from)
			go pass(from, to)
		}
	}()
	return balancer, passed
}
