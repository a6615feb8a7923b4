package bench

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"

	"ecsmesh/e2e/bench/script"
	"ecsmesh/e2e/consultest"
)

const (
	benchTaskID  = "0f2ff1f7f2c24a4f8f9b7cc1b0cbf1f7"
	benchTaskARN = "arn:aws:ecs:eu-west-1:123456789012:task/prod/" + benchTaskID
)

// surroundings are what one task has around it: ECS's metadata endpoint and SSM,
// which count what they are asked, and a real Consul.
type surroundings struct {
	consul  *consultest.Server
	counter netip.Addr // Consul's interfaces as well, where requests are counted
	address netip.Addr // the task's
	volume  string
	env     []string

	mu       sync.Mutex
	servers  netip.Addr       // what SSM answers
	requests []script.Request // that came
}

func surround(b *testing.B) *surroundings {
	b.Helper()
	s := &surroundings{
		consul:  consultest.Start(b),
		address: netip.AddrFrom4([4]byte{127, 6, byte(rand.IntN(256)), byte(1 + rand.IntN(254))}),
		volume:  b.TempDir(),
	}
	s.servers = s.consul.Addr
	aws := httptest.NewServer(http.HandlerFunc(s.answer))
	b.Cleanup(aws.Close)
	s.countConsul(b)
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "AWS_ENDPOINT_URL=" + aws.URL, "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench",
		"ECS_CONTAINER_METADATA_URI_V4=" + aws.URL + "/v4",
		fmt.Sprintf(`ECSMESH_CONFIG={"bootstrapDir": %q, "consulServers": {"defaults": {"tls": false}}, "service": {"name": "api", "port": 8080}, "proxy": {"adminBindAddress": %q, "localServiceAddress": %q}}`,
			s.volume, s.address, s.address),
	}
	return s
}

// answer is what ECS's metadata endpoint and SSM say.
func (s *surroundings) answer(w http.ResponseWriter, r *http.Request) {
	path, metadata := strings.CutPrefix(r.URL.Path, "/v4")
	if metadata {
		s.note(script.Metadata, r, path)
		fmt.Fprintf(w, `{"TaskARN": %q, "Cluster": "prod", "Family": "api", "DesiredStatus": "RUNNING", "VPCID": "vpc-1", "Containers": [{"Name": "app", "Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": [%q]}]}]}`, benchTaskARN, s.address)
		return
	}
	servers := s.note(script.SSM, r, path)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if target := r.Header.Get("X-Amz-Target"); target != "AmazonSSM.GetParameter" {
		http.Error(w, `{"__type": "UnknownOperationException", "message": "only GetParameter is here"}`, http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, `{"Parameter": {"Name": "/ecsmesh/consul-servers", "Type": "StringList", "Value": %q}}`, servers)
}

// note writes a request down and returns the servers of the moment.
func (s *surroundings) note(to string, r *http.Request, path string) netip.Addr {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, script.Request{To: to, Method: r.Method, Path: path, Body: string(body)})
	return s.servers
}

// countConsul has Consul at a second address, which is slower than its own. It is
// what Consul calls itself there.
func (s *surroundings) countConsul(b *testing.B) {
	b.Helper()
	s.counter = netip.AddrFrom4([4]byte{127, 7, byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
	listen := func(port uint16) net.Listener {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(s.counter, port).String())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = listener.Close() })
		return listener
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: netip.AddrPortFrom(s.consul.Addr, consultest.HTTPPort).String()})
	proxy.ModifyResponse = func(r *http.Response) error {
		content, err := io.ReadAll(r.Body)
		content = bytes.ReplaceAll(content, []byte(s.consul.Addr.String()), []byte(s.counter.String()))
		r.Body = io.NopCloser(bytes.NewReader(content))
		r.Header.Set("Content-Length", strconv.Itoa(len(content)))
		return err
	}
	counting := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.note(script.Consul, r, r.URL.RequestURI())
		r.Header.Del("Accept-Encoding") // as plain text it can be changed
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = counting.Serve(listen(consultest.HTTPPort)) }()
	b.Cleanup(func() { _ = counting.Close() })
	go forward(listen(consultest.GRPCPort), netip.AddrPortFrom(s.consul.Addr, consultest.GRPCPort).String())
}

// forward connects each connection to another address, until the listener is closed.
func forward(listener net.Listener, to string) {
	for {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer from.Close()
			behind, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer behind.Close()
			go func() { _, _ = io.Copy(behind, from); _ = behind.Close() }()
			_, _ = io.Copy(from, behind)
		}()
	}
}

// during returns the requests that come while something is done, in which SSM
// tells of the counted Consul.
func (s *surroundings) during(do func()) []script.Request {
	set := func(servers netip.Addr) []script.Request {
		s.mu.Lock()
		defer s.mu.Unlock()
		came := s.requests
		s.servers, s.requests = servers, nil
		return came
	}
	set(s.counter)
	do()
	return set(s.consul.Addr)
}

// byKind counts requests.
func byKind(requests []script.Request) map[string]int {
	counts := map[string]int{}
	for _, r := range requests {
		counts[r.Kind()]++
	}
	return counts
}

// reset is before the task's start: it is neither in Consul, nor is anything on
// its volume.
func (s *surroundings) reset(b *testing.B) {
	b.Helper()
	if _, err := s.consul.Client.Catalog().Deregister(&api.CatalogDeregistration{Node: "ecs-" + benchTaskID}, nil); err != nil {
		b.Fatal(err)
	}
	if err := os.RemoveAll(s.volume); err != nil {
		b.Fatal(err)
	}
	if err := os.Mkdir(s.volume, 0o755); err != nil {
		b.Fatal(err)
	}
}

// expectRegistered holds a task's start to what it is for.
func (s *surroundings) expectRegistered(b *testing.B, by string) {
	b.Helper()
	node, _, err := s.consul.Client.Catalog().NodeServiceList("ecs-"+benchTaskID, nil)
	if err != nil {
		b.Fatal(err)
	}
	if node == nil || len(node.Services) != 2 {
		b.Fatalf("%s: Consul has of the task %+v, want its service and its sidecar", by, node)
	}
	for _, file := range []string{"envoy-bootstrap.json", "consul-servers.json", "bin/ecsmesh-init", "state/task.json"} {
		if _, err := os.Stat(s.volume + "/" + file); err != nil {
			b.Fatalf("%s: %v", by, err)
		}
	}
}
